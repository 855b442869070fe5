//! Fuzzes `marconi_fuzz::document`.
#![cfg_attr(fuzzing, no_main)]
marconi_fuzz::target!(document);
