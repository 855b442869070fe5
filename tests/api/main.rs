//! The conformance suite: every numbered case of the v1 API, over a real socket, against every
//! store there is.
//!
//! `cargo test -p marconi-tests --test api` runs all; `-- 142 model` runs case 142 over the store
//! named. It fails when a case fails, is missing, or is skipped without a reason.

mod cases;
mod check;
mod deeds;
mod run;
mod text;

use anyhow::{Context, ensure};
use cases::Case;
use marconi_engine::Config;
use marconi_engine::env::Environment;
use marconi_server::store::{EngineStore, Store};
use marconi_tests::model_store::ModelStore;
use run::Make;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;
use tokio::runtime::{Handle, Runtime};

/// The least there is: every case opens a store.
const SEGMENT_SIZE_BYTES: u64 = 1 << 20;
const V1: &str = include_str!("v1.cases");
const V1_NUMBERS: std::ops::RangeInclusive<u32> = 1..=454;

fn main() -> ExitCode {
    match start() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(cause) => {
            eprintln!("{cause:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what the arguments name; whether everything passed.
fn start() -> anyhow::Result<bool> {
    let cases = cases::parse(V1).context("v1.cases")?;
    check_numbers(&cases)?;
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let numbers: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let is_asked = |store: &str| {
        let stores = words.iter().filter(|word| word.parse::<u32>().is_err());
        let mut stores = stores.peekable();
        stores.peek().is_none() || stores.any(|word| word == store)
    };
    let runtime = Runtime::new().context("start the runtime")?;
    let mut is_whole = true;
    if is_asked("model") {
        let make: Make<'_, ModelStore> = &|clock| Ok(ModelStore::new(clock));
        is_whole &= run_all("model", &cases, &numbers, runtime.handle(), make);
    }
    if is_asked("engine") {
        // One folder for the run; each case has a data folder of its own in it.
        let folder = tempfile::tempdir().context("make a folder")?;
        let opened_count = Cell::new(0);
        let make: Make<'_, EngineStore> = &|clock| {
            opened_count.set(opened_count.get() + 1);
            let config = Config {
                segment_size_bytes: SEGMENT_SIZE_BYTES,
                disk_reserve_bytes: 0,
                ..Config::new(folder.path().join(format!("{}", opened_count.get())))
            };
            let environment = Environment { clock, ..Environment::system() };
            EngineStore::open(config, environment).context("open the engine")
        };
        is_whole &= run_all("engine", &cases, &numbers, runtime.handle(), make);
    }
    Ok(is_whole)
}

/// Every number is there, once, in order; whatever is skipped says why.
fn check_numbers(cases: &[Case]) -> anyhow::Result<()> {
    let found: Vec<u32> = cases.iter().map(|case| case.number).collect();
    let missing: Vec<u32> = V1_NUMBERS.filter(|number| !found.contains(number)).collect();
    ensure!(missing.is_empty(), "v1.cases lacks the cases {missing:?}");
    ensure!(found.is_sorted_by(|one, next| one < next), "v1.cases is out of order");
    for case in cases {
        let number = case.number;
        ensure!(case.skip.as_deref() != Some(""), "case {number} is skipped without a reason");
        ensure!(
            case.skip.is_some() != case.steps.iter().any(cases::Step::is_checked),
            "case {number} checks nothing"
        );
    }
    Ok(())
}

/// Runs the cases over one store and says how it went.
fn run_all<S: Store>(
    store: &str,
    cases: &[Case],
    numbers: &[u32],
    runtime: &Handle,
    make: Make<'_, S>,
) -> bool {
    let started = Instant::now();
    let mut passed_count = 0;
    let mut failed = Vec::new();
    let mut skipped: Vec<&Case> = Vec::new();
    let is_asked = |case: &&Case| numbers.is_empty() || numbers.contains(&case.number);
    let asked: Vec<&Case> = cases.iter().filter(is_asked).collect();
    for case in &asked {
        if case.skip.is_some() {
            skipped.push(case);
            continue;
        }
        match run::run(case, cases, runtime, make) {
            Ok(()) => passed_count += 1,
            Err(cause) => {
                eprintln!("\nFAILED case {} ({store}): {}", case.number, case.title);
                for reason in cause.chain().collect::<Vec<_>>().iter().rev() {
                    eprintln!("{reason}");
                }
                eprintln!(
                    "again: cargo test -p marconi-tests --test api -- {} {store}",
                    case.number
                );
                failed.push(case.number);
            }
        }
    }
    println!(
        "conformance v1: {passed_count} passed / {} ({}) over {store}, {:.1} s",
        asked.len(),
        skips(&skipped),
        started.elapsed().as_secs_f64()
    );
    if !failed.is_empty() {
        println!("failed: {failed:?}");
    }
    failed.is_empty()
}

fn skips(skipped: &[&Case]) -> String {
    let mut numbers_by_reason: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for case in skipped {
        let reason = case.skip.as_deref().unwrap_or_default();
        numbers_by_reason.entry(reason).or_default().push(case.number);
    }
    let mut text = format!("{} skipped", skipped.len());
    for (reason, numbers) in numbers_by_reason {
        text += &format!(": {numbers:?} {reason}");
    }
    text
}
