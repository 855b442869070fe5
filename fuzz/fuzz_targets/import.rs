//! Fuzzes `marconi_fuzz::id`.
#![cfg_attr(fuzzing, no_main)]
marconi_fuzz::target!(import);
