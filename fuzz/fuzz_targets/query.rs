//! Fuzzes `marconi_fuzz::query`.
#![cfg_attr(fuzzing, no_main)]
marconi_fuzz::target!(query);
