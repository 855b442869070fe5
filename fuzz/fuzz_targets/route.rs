//! Fuzzes `marconi_fuzz::route`.
#![cfg_attr(fuzzing, no_main)]
marconi_fuzz::target!(route);
