//! Fuzzes `marconi_fuzz::index`.
#![cfg_attr(fuzzing, no_main)]
marconi_fuzz::target!(index);
