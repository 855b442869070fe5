//! Fuzzes `marconi_fuzz::config`.
#![cfg_attr(fuzzing, no_main)]
marconi_fuzz::target!(config);
