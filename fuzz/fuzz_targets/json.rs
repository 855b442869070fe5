//! Fuzzes `marconi_fuzz::json`.
#![cfg_attr(fuzzing, no_main)]
marconi_fuzz::target!(json);
