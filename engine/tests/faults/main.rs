//! The guarantees of the engine, held against a disk that loses, tears, reorders and refuses.
//! Each test is named for the guarantee. Random ones print their seed and how to run it again;
//! `MARCONI_SIM_SEEDS` (a count, or `from..to`) runs more of them.

mod every_step;
mod guarantees;
mod random;
mod record;
mod world;
