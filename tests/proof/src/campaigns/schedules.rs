//! The engine's threads under a scheduler (shuttle) that tries one interleaving after another: watermarks, commit
//! groups, receipts of threads and of tasks, waiting for room, failures, ends, and bodies held while their segment is
//! recycled. The scenarios are in `tests/schedules`, a program built with `--cfg shuttle`. Cannot see what
//! only weakly ordered memory does, since there every thread sees every store at once, nor more than four
//! threads of a user.

use crate::campaign::{Campaign, Width, none};
use crate::ledger::root;
use anyhow::{Context, bail};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Schedules of one seed.
const SCHEDULES: u64 = 100;
/// How much of what a failing run said is told.
const TOLD_SIZE_MAX: usize = 6_000;

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "schedules",
    promise: "threads that share the engine get the answers, the order and the end they were promised, and none \
              waits for ever",
    fault: "any interleaving of threads and tasks that post, wait, sync, claim, compact, close and see the disk fail",
    unit: "schedules",
    in_tests: 20_000,
    in_ledger: 1_000_000,
    // A write that waited for a segment nobody was going to make; syncs and tasks left waiting by a close.
    once_failed: &[15, 27, 54, 90, 330, 402],
    width: Width::Processors,
    trial,
    obstacle: none,
};

/// The schedules of one seed, which names the scenario and the scheduler, too.
fn trial(seed: u64) -> anyhow::Result<u64> {
    let program = program()?;
    let output = Command::new(program)
        .args([seed.to_string(), SCHEDULES.to_string()])
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", program.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let told: String = text.chars().take(TOLD_SIZE_MAX).collect();
        bail!(
            "{}: {told}\n  this schedule alone: {} replay SCENARIO SCHEDULE",
            output.status,
            program.display()
        );
    }
    Ok(SCHEDULES)
}

/// The program, built once.
fn program() -> anyhow::Result<&'static PathBuf> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// Builds it in a folder of its own: the flag changes the engine for everything that is built with it.
fn build() -> anyhow::Result<PathBuf> {
    let folder = root().join("target/shuttle");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    let status = command
        .current_dir(root())
        .args(["build", "--quiet", "--package", "marconi-schedules", "--target-dir"])
        .arg(&folder)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "--cfg shuttle")
        .status()
        .context("run cargo")?;
    if !status.success() {
        bail!("cargo could not build the schedules: {status}");
    }
    Ok(folder.join("debug/schedules"))
}
