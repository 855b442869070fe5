//! Fuzzes `marconi_fuzz::frame`.
#![cfg_attr(fuzzing, no_main)]
marconi_fuzz::target!(frame);
