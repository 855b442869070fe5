//! Every campaign, as much of it as a run of the tests has time for: first the seeds that once failed, then new
//! ones. Says on one line each what was tried. Names as arguments choose some of them.

use marconi_proof::campaign::Campaign;
use marconi_proof::campaigns::ALL;
use marconi_proof::page::grouped;
use marconi_proof::runner::{self, Bounds};
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut out = std::io::stdout();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let names: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let mut is_well = true;
    for campaign in ALL {
        if !names.is_empty() && !names.iter().any(|name| *name == campaign.name) {
            continue;
        }
        let started = Instant::now();
        let (said, passed) = try_one(campaign);
        let _ = writeln!(out, "{}: {said} ({} s)", campaign.name, started.elapsed().as_secs());
        is_well &= passed;
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tries a campaign; returns what to say, and whether all went well.
fn try_one(campaign: &Campaign) -> (String, bool) {
    if let Some(obstacle) = (campaign.obstacle)() {
        return (format!("NOT TRIED: {obstacle}"), true);
    }
    let mut failures = Vec::new();
    for seed in campaign.once_failed {
        let outcome = runner::one(campaign, *seed);
        failures.extend(outcome.err().map(|why| (*seed, why)));
    }
    // No run of the tests tries what another did not: a failure here is for everybody.
    let bounds = Bounds {
        seeds: 0..u64::MAX,
        units: campaign.in_tests,
        deadline: None,
        failures: runner::FAILURES_MAX,
    };
    let tally = runner::run(campaign, &bounds, |_| {});
    failures.extend(tally.failures);
    if failures.is_empty() {
        return (format!("{} {} tried", grouped(tally.tried), campaign.unit), true);
    }
    let told: Vec<String> = failures
        .iter()
        .map(|(seed, why)| format!("\nseed {seed}: {why}\n  again: {}", campaign.again(*seed)))
        .collect();
    (format!("{} seeds FAILED{}", failures.len(), told.concat()), false)
}
