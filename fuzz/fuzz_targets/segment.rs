//! Fuzzes `marconi_fuzz::segment`.
#![cfg_attr(fuzzing, no_main)]
marconi_fuzz::target!(segment);
