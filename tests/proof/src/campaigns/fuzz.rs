//! Every parser of what comes from outside or from the disk, given kept inputs that were changed a little, by the
//! thousand: none may panic, and what it takes has to hold what its target in `fuzz/src/lib.rs` asks. Cannot see
//! which branches are reached: `proof fuzz` has libFuzzer look for those.

use crate::campaign::{Campaign, Width, none};
use crate::random::Random;
use anyhow::Context;
use marconi_fuzz::TARGETS;
use marconi_fuzz::change::Seeds;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::Duration;

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: crate::libfuzzer::CAMPAIGN,
    promise: "no bytes from outside or from the disk bring it down, or are taken for something else",
    fault: "kept inputs of every parser, changed at random",
    unit: "executions",
    in_tests: 500_000,
    in_ledger: 200_000_000,
    once_failed: &[],
    width: Width::Processors,
    trial,
    obstacle: none,
};

/// What one trial executes.
const EXECUTIONS: u64 = 2_000;
/// What one execution may take of a processor: they take microseconds, and some kilobytes that take seconds are an attack.
const TIME_MAX: Duration = Duration::from_secs(5);

/// The seeds of every target.
fn seeds() -> &'static [Seeds] {
    static SEEDS: OnceLock<Vec<Seeds>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let of = |(name, _): &(&str, _)| Seeds::of(name).expect("every target has seeds");
        TARGETS.iter().map(of).collect()
    })
}

/// What this thread has had of a processor: how long it waits for one says nothing of a parser.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a thread has run for some time")
}

/// Gives one target a batch of inputs.
fn trial(seed: u64) -> anyhow::Result<u64> {
    let place = (seed % TARGETS.len() as u64) as usize;
    let ((name, target), seeds) = (TARGETS[place], &seeds()[place]);
    let mut random = Random::new(seed);
    let mut input = Vec::new();
    let batch = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..EXECUTIONS {
            seeds.fill(&mut input, &mut || random.word());
            let started = processor_time();
            target(&input);
            let took = processor_time().saturating_sub(started);
            assert!(took < TIME_MAX, "{} bytes took {took:?}", input.len());
        }
    }));
    let Err(panic) = batch else { return Ok(EXECUTIONS) };
    let folder = crate::libfuzzer::folder().join("failed");
    let file = folder.join(format!("{name}-{seed}"));
    fs::create_dir_all(&folder).context("a folder for what failed")?;
    fs::write(&file, &input).with_context(|| format!("write {}", file.display()))?;
    anyhow::bail!(
        "{name} on {}: {}\n  again: {}",
        file.display(),
        crate::runner::said(&*panic),
        crate::libfuzzer::again(name, &file)
    )
}
