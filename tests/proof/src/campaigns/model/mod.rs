//! The engine against the reference model: random sequences of operations, with checkpoints, compactions,
//! restarts and crashes in between, after which both have to give the same answers. A failure is shrunk.
//! Cannot see what the model and the engine get wrong alike, nor what only threads do to each other.

pub(super) mod operation;
mod pair;

use crate::campaign::{Campaign, Width, none};
use marconi_engine::env::Background;
use operation::{Operation, Sequence, sequence};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::cell::Cell;

const SHRINK_STEPS_MAX: u32 = 2_000;
/// Says otherwise, for whoever only wants to know whether anything fails.
pub(super) const SHRINK_STEPS_VARIABLE: &str = "MARCONI_SHRINK_STEPS_MAX";
/// One in so many sequences runs with the engine's own threads, on a disk.
const WITH_THREADS: u64 = 64;

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "model",
    promise: "every answer is the one that a plain model of queues, messages and claims gives",
    fault: "any sequence of operations, checkpoints, compactions, restarts and crashes of the process",
    unit: "operations compared",
    in_tests: 1_000_000,
    in_ledger: 50_000_000,
    once_failed: &[],
    width: Width::Processors,
    trial,
    obstacle: none,
};

fn shrink_steps_max() -> u32 {
    let told = std::env::var(SHRINK_STEPS_VARIABLE).ok().and_then(|text| text.parse().ok());
    told.unwrap_or(SHRINK_STEPS_MAX)
}

fn trial(seed: u64) -> anyhow::Result<u64> {
    run(seed, sequence(), |_| true)
}

/// Runs the sequence of one seed, and counts what `counts` of it; if it fails, the smallest one that fails alike is
/// told.
pub(super) fn run(
    seed: u64,
    sequences: impl Strategy<Value = Sequence>,
    counts: fn(&Operation) -> bool,
) -> anyhow::Result<u64> {
    let mut seed_bytes = [0; 32];
    seed_bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: shrink_steps_max(),
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed_bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let tree = sequences.new_tree(&mut runner).map_err(|reason| anyhow::anyhow!("{reason}"))?;
    // One thread without a disk does fifty times as much; threads and a disk get a share all the same.
    let background =
        if seed.is_multiple_of(WITH_THREADS) { Background::Threads } else { Background::Caller };
    let count = Cell::new(0);
    let outcome = runner.run_one(tree, |sequence| {
        let counted = sequence.operations.iter().filter(|operation| counts(operation));
        count.set(counted.count() as u64);
        pair::run(&sequence, background).map_err(|cause| TestCaseError::fail(format!("{cause:#}")))
    });
    match outcome {
        Ok(_) => Ok(count.get()),
        Err(TestError::Fail(reason, smallest)) => anyhow::bail!("{smallest}\n{reason}"),
        Err(TestError::Abort(reason)) => anyhow::bail!("{reason}"),
    }
}
