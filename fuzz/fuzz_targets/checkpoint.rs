//! Fuzzes `marconi_fuzz::checkpoint`.
#![cfg_attr(fuzzing, no_main)]
marconi_fuzz::target!(checkpoint);
