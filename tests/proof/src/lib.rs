//! Proof by trial. A campaign tries one promise against the fault that threatens it, seed by seed; the ledger
//! keeps what was tried and what failed; a page of the documentation is made of the two. Knows nothing of how
//! the engine does what it promises.

pub mod campaign;
pub mod campaigns;
pub mod ledger;
pub mod libfuzzer;
pub mod load;
pub mod page;
pub mod power_disk;
pub mod random;
pub mod runner;
#[allow(missing_docs, reason = "steps and states, whose names say what they are")]
pub mod simulated;
