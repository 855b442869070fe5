//! The engine against the reference model: random sequences of operations, with checkpoints,
//! compactions, restarts and crashes in between, after which both have to give the same answers.
//!
//! `MARCONI_MODEL_CASES` says how many sequences are run, `MARCONI_MODEL_SEED` with which one they
//! begin; sequence n of a run has the seed of the first plus n. A failure is shrunk and prints the
//! command that repeats it.

mod operation;
mod pair;

use operation::sequence;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const CASES_DEFAULT: u64 = 500;
const SEED_DEFAULT: u64 = 1;
const SHRINK_STEPS_MAX: u32 = 2_000;

#[test]
fn the_engine_does_what_the_model_does() {
    let cases_count = setting("MARCONI_MODEL_CASES", CASES_DEFAULT);
    let first_seed = setting("MARCONI_MODEL_SEED", SEED_DEFAULT);
    let taken = AtomicU64::new(0);
    let worker = || {
        loop {
            let number = taken.fetch_add(1, Ordering::Relaxed);
            if number >= cases_count {
                return Ok(());
            }
            // One failure is enough for everyone.
            run(first_seed.wrapping_add(number))
                .inspect_err(|_| taken.store(cases_count, Ordering::Relaxed))?;
        }
    };
    let failures: Vec<String> = thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(worker)).collect();
        let ended = workers.into_iter().map(|worker| worker.join().expect("a worker returns"));
        ended.filter_map(Result::err).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Runs the sequence of one seed; if it fails, the smallest one that fails alike is told.
fn run(seed: u64) -> Result<(), String> {
    let mut seed_bytes = [0; 32];
    seed_bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: SHRINK_STEPS_MAX,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed_bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let tree = sequence().new_tree(&mut runner).map_err(|reason| reason.to_string())?;
    let outcome = runner.run_one(tree, |sequence| {
        pair::run(&sequence).map_err(|cause| TestCaseError::fail(format!("{cause:#}")))
    });
    match outcome {
        Ok(_) => Ok(()),
        Err(TestError::Fail(reason, smallest)) => Err(format!(
            "{smallest}\n{reason}\nagain: MARCONI_MODEL_SEED={seed} MARCONI_MODEL_CASES=1 \
             cargo test -p marconi-tests --test model"
        )),
        Err(TestError::Abort(reason)) => Err(reason.to_string()),
    }
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is {text}, not a number")),
        Err(_) => default,
    }
}
