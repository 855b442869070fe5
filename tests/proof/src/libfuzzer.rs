//! libFuzzer over the fuzz targets: builds them instrumented, runs each for its share of the time, and counts. Knows
//! nothing of what a target reads.

use crate::ledger::root;
use anyhow::{Context, bail, ensure};
use marconi_fuzz::TARGETS;
use marconi_fuzz::change::corpus;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The campaign whose executions these are, too.
pub const CAMPAIGN: &str = "fuzz";

/// What makes the compiler tell libFuzzer which branches ran. It works on the stable one, without address checking.
const RUSTFLAGS: &str = "--cfg fuzzing -Clink-dead-code -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// What became of one target.
#[derive(Debug)]
pub struct Outcome {
    /// The target.
    pub target: &'static str,
    /// How many inputs it was given.
    pub executions: u64,
    /// Files with inputs that it did not survive.
    pub crashes: Vec<PathBuf>,
}

/// Where all of it lies that is made by fuzzing: a build of its own, what was found, what failed.
pub fn folder() -> PathBuf {
    root().join("target/fuzz")
}

/// The command that gives a file to a target again.
pub fn again(target: &str, file: &Path) -> String {
    format!("cargo run -p marconi-fuzz --bin fuzz-{target} -- {}", file.display())
}

/// The target of this name, or all.
///
/// # Errors
/// When there is no such target; names those there are.
pub fn chosen(name: Option<&str>) -> anyhow::Result<Vec<&'static str>> {
    let names = TARGETS.map(|(name, _)| name);
    match name {
        None => Ok(names.to_vec()),
        Some(name) => {
            let found = names.into_iter().find(|one| *one == name);
            let found = found.with_context(|| {
                format!("there is no target {name}; there are {}", names.join(", "))
            });
            found.map(|name| vec![name])
        }
    }
}

/// The machine's own kind, as the compiler calls it.
fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("run rustc")?;
    let text = String::from_utf8(output.stdout).context("rustc speaks text")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// Builds all targets, instrumented.
///
/// # Errors
/// When they cannot be built.
pub fn build() -> anyhow::Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Naming the machine keeps build scripts out of the instrumentation.
    cargo.args(["build", "-p", "marconi-fuzz", "--bins", "--target", &host()?, "--target-dir"]);
    let status = cargo.arg(folder()).env("RUSTFLAGS", RUSTFLAGS).current_dir(root()).status();
    ensure!(status.context("run cargo")?.success(), "the targets could not be built");
    Ok(())
}

/// Runs targets for so long together, as many beside each other as there are processors.
///
/// # Errors
/// When one cannot be run. What it finds is no error.
pub fn run(targets: &[&'static str], time: Duration) -> anyhow::Result<Vec<Outcome>> {
    let width = thread::available_parallelism().map_or(1, NonZero::get).min(targets.len());
    let share = time.mul_f64(width as f64 / targets.len() as f64).max(Duration::from_secs(1));
    let programs = folder().join(host()?).join("debug");
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let work = || {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = run_one(&programs, target, share);
            outcomes.lock().expect("nobody panics with it").push(outcome);
        }
    };
    thread::scope(|scope| {
        for _ in 0..width {
            scope.spawn(work);
        }
    });
    let outcomes: anyhow::Result<Vec<Outcome>> =
        outcomes.into_inner().expect("nobody panics with it").into_iter().collect();
    let mut outcomes = outcomes?;
    outcomes.sort_by_key(|outcome| outcome.target);
    Ok(outcomes)
}

fn run_one(programs: &Path, target: &'static str, time: Duration) -> anyhow::Result<Outcome> {
    let (found, failed) = (folder().join("found").join(target), folder().join("failed"));
    for folder in [&found, &failed] {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let prefix = format!("{}/{target}-", failed.display());
    let before = files(&prefix)?;
    let output = Command::new(programs.join(format!("fuzz-{target}")))
        .arg(format!("-max_total_time={}", time.as_secs().max(1)))
        .args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048"])
        .arg(format!("-artifact_prefix={prefix}"))
        .args([&found, &corpus(target)])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run fuzz-{target}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let executions = executions(&said).with_context(|| {
        let end: Vec<&str> = said.lines().rev().take(10).collect();
        format!("fuzz-{target} did not say what it did: {end:?}")
    })?;
    let mut crashes = files(&prefix)?;
    crashes.retain(|file| !before.contains(file));
    if !output.status.success() && crashes.is_empty() {
        bail!("fuzz-{target} ended with {}, and left no file: {said}", output.status);
    }
    Ok(Outcome { target, executions, crashes })
}

/// What libFuzzer says at its end, or, where it crashed, before.
fn executions(said: &str) -> Option<u64> {
    let stat = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    stat?.trim().parse().ok()
}

/// The files that libFuzzer left of a target's crashes.
fn files(prefix: &str) -> anyhow::Result<Vec<PathBuf>> {
    let folder = Path::new(prefix).parent().expect("a prefix lies in a folder");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().starts_with(prefix) {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_did_is_counted_from_what_it_says() {
        let said =
            "#1\tINITED\nDone\nstat::number_of_executed_units: 4711\nstat::new_units_added: 3\n";
        assert_eq!(executions(said), Some(4711));
        assert_eq!(executions("killed"), None);
    }

    #[test]
    fn targets_are_chosen_by_name() {
        assert_eq!(chosen(Some("json")).expect("there is"), ["json"]);
        assert_eq!(chosen(None).expect("all").len(), TARGETS.len());
        let text = chosen(Some("xml")).expect_err("there is none").to_string();
        assert!(text.starts_with("there is no target xml; there are frame, "), "{text}");
    }
}
