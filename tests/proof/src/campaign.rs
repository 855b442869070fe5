//! What a campaign is: a promise, the fault that threatens it, and a trial that a seed decides. Knows neither
//! how trials are run nor where their numbers are kept.

/// One promise, tried again and again.
#[derive(Debug)]
pub struct Campaign {
    /// What it is called on the command line and in the ledger.
    pub name: &'static str,
    /// What is promised, as a user would say it.
    pub promise: &'static str,
    /// What threatens it here.
    pub fault: &'static str,
    /// What is counted, in the plural.
    pub unit: &'static str,
    /// The least that a run of the tests tries, in units.
    pub in_tests: u64,
    /// The least that all runs in the ledger have to have tried together, in units.
    pub in_ledger: u64,
    /// Seeds that once found something: the tests try them first, for ever.
    pub once_failed: &'static [u64],
    /// How many trials run at the same time. Those that start programs leave room for these.
    pub width: Width,
    /// Tries what the seed says, and returns how many units that were. The same seed does the same again,
    /// as far as the campaign rules its world: one that starts programs does not rule their timing.
    ///
    /// Fails, or panics, where the promise was broken; the message says what a user would have seen.
    pub trial: fn(seed: u64) -> anyhow::Result<u64>,
    /// Says why this machine cannot run it, if so: no right to mount, a tool that is missing.
    pub obstacle: fn() -> Option<String>,
}

/// How many trials of a campaign run beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// One for each processor.
    Processors,
    /// One, which has the machine to itself.
    One,
}

impl Campaign {
    /// The command that tries one seed again.
    pub fn again(&self, seed: u64) -> String {
        format!("cargo run --release -p marconi-proof -- one {} {seed}", self.name)
    }
}

/// No obstacle: for campaigns that need nothing but memory and a disk.
pub fn none() -> Option<String> {
    None
}
