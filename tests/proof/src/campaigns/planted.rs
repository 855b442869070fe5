//! Bugs planted by hand: each file in `tests/planted/` is a small mistake in the engine, as somebody may make it one
//! day. A copy of the sources gets it, the program `proof` is built there, and the simulated campaigns are run one
//! after the other until one fails. A mistake that none of them finds is a gap in them.
//!
//! Cannot see mistakes that nobody thought of, nor those that only the system or a real disk bring to light:
//! `kill` and `power` are not run here, nor `syncs`, which looks for what is superfluous. It takes a
//! minute or more for each mistake, so the tests only look whether every patch still fits the sources.

use crate::campaign::{Campaign, Width, none};
use crate::ledger::root;
use anyhow::{Context, bail, ensure};
use marconi_tests::program::profile_folder;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "planted",
    promise: "a mistake in the engine is found by the simulated campaigns within minutes",
    fault: "small mistakes of many kinds, planted one at a time",
    unit: "planted mistakes",
    in_tests: 0,
    in_ledger: 20,
    once_failed: &[],
    width: Width::One,
    trial,
    obstacle: none,
};

/// Who looks for a mistake, in this order, each with how much it tries at the most, in its own units.
const HUNTERS: [(&str, u64); 9] = [
    ("model", 60_000),
    ("clock", 1_000),
    ("crash", 12_000),
    ("nested", 2_000),
    ("io-faults", 500),
    ("tenants", 5_000),
    ("schedules", 20_000),
    // A seed that starts the real program has it built first: there is none among so few.
    ("history", 10_000),
    ("damage", 1_000),
];
/// No seed of a hunter is begun after this.
const HUNT_MINUTES: &str = "5";
/// A hunter that takes so long hangs, which is a way of finding something.
const HUNT_MAX: Duration = Duration::from_secs(600);
/// Pause between two looks at whether it is through.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How much of what a program said is told.
const TOLD_SIZE_MAX: usize = 4_000;
/// The packages of this tree that `proof` is made of.
const OURS: [&str; 6] = [
    "marconi-engine",
    "marconi-export",
    "marconi-fuzz",
    "marconi-proof",
    "marconi-server",
    "marconi-tests",
];
/// What is no source.
const MADE: [&str; 6] = ["target", "data", ".git", ".venv", "__pycache__", "node_modules"];

fn trial(seed: u64) -> anyhow::Result<u64> {
    let all = patches()?;
    ensure!(!all.is_empty(), "there are no patches");
    let patch = &all[usize::try_from(seed % all.len() as u64)?];
    let name = patch.file_stem().unwrap_or_default().to_string_lossy();
    let scratch = scratch()?;
    let tree = scratch.join("tree");
    copy_changed(&root(), &tree)?;
    apply(patch, &tree)?;
    let program = build(&tree, &scratch.join("target"))?;
    let mut passed = Vec::new();
    for (hunter, units) in HUNTERS {
        let started = Instant::now();
        match hunt(&program, hunter, units, &scratch)? {
            Outcome::Passed => passed.push(hunter),
            Outcome::Found(trials) => {
                let seconds = started.elapsed().as_secs_f64();
                writeln!(
                    std::io::stdout(),
                    "{name}: found by {hunter}, trial {trials}, after {seconds:.1} s, passed by {passed:?}"
                )?;
                return Ok(1);
            }
        }
    }
    bail!("nobody found {name}; looked for by {passed:?}")
}

/// The patches, in order of their numbers.
fn patches() -> anyhow::Result<Vec<PathBuf>> {
    let folder = root().join("tests/planted");
    let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        found.push(entry?.path());
    }
    found.retain(|path| path.extension().is_some_and(|ending| ending == "patch"));
    found.sort();
    Ok(found)
}

/// Where the copy of the sources and all that is built of it lie: kept, so that the next mistake builds little.
fn scratch() -> anyhow::Result<PathBuf> {
    let profile = profile_folder()?;
    Ok(profile.parent().context("a profile lies in the target folder")?.join("planted"))
}

/// Makes `to` the same as `from`, leaving alone what is the same already: cargo builds what is newer.
fn copy_changed(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if MADE.iter().any(|made| name == *made) {
            continue;
        }
        let to = to.join(&name);
        if entry.file_type()?.is_dir() {
            copy_changed(&path, &to)?;
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        if !fs::read(&to).is_ok_and(|old| old == bytes) {
            fs::write(&to, bytes).with_context(|| format!("write {}", to.display()))?;
        }
    }
    Ok(())
}

/// `git apply` in a folder.
fn git_apply(patch: &Path, tree: &Path, options: &[&str]) -> anyhow::Result<()> {
    let (patch, tree) = (fs::canonicalize(patch)?, fs::canonicalize(tree)?);
    let output = Command::new("git")
        .arg("apply")
        .args(options)
        .arg(&patch)
        .current_dir(&tree)
        // In a folder within somebody's repository it would pass over all files, and call that a success.
        .env("GIT_CEILING_DIRECTORIES", tree.parent().context("a tree lies in a folder")?)
        .output()
        .context("run git")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} does not apply: {said}", patch.display());
    Ok(())
}

/// Plants a mistake in a copy of the sources.
fn apply(patch: &Path, tree: &Path) -> anyhow::Result<()> {
    git_apply(patch, tree, &[])?;
    // What was applied can be taken back: so it is there.
    git_apply(patch, tree, &["--check", "--reverse"])
}

/// Builds `proof`, and what of ours is in it without optimizations: they would take longer than most hunts.
fn build(tree: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    for package in OURS {
        for setting in ["opt-level=0", "debug=false"] {
            command.arg("--config").arg(format!("profile.dev.package.{package}.{setting}"));
        }
    }
    let output = command
        .current_dir(tree)
        .args(["build", "--quiet", "--package", "marconi-proof", "--bin", "proof", "--target-dir"])
        .arg(target)
        .stdin(Stdio::null())
        .output()
        .context("run cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it does not build: {said}");
    Ok(target.join("debug/proof"))
}

/// What became of a hunt.
enum Outcome {
    /// Nothing was found.
    Passed,
    /// It was, in this trial, the first being 1.
    Found(u64),
}

/// Runs one campaign of the changed program until it fails, or has tried enough.
fn hunt(program: &Path, hunter: &str, units: u64, scratch: &Path) -> anyhow::Result<Outcome> {
    let [out, log] = ["out", "log"].map(|kind| scratch.join(format!("hunt.{kind}")));
    let mut child = Command::new(program)
        .args(["run", hunter, "--no-ledger", "--seed", "0", "--failures", "1"])
        .args(["--minutes", HUNT_MINUTES, "--units", &units.to_string()])
        .env("RUST_BACKTRACE", "0")
        .env(super::model::SHRINK_STEPS_VARIABLE, "0")
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(&log)?)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let started = Instant::now();
    let ended: Option<ExitStatus> = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if started.elapsed() > HUNT_MAX {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::park_timeout(LOOK_INTERVAL);
    };
    let said = fs::read_to_string(&out)?;
    match ended {
        Some(status) if status.success() => Ok(Outcome::Passed),
        Some(status) if status.code().is_some() => {
            let trial = failed_trial(&said, hunter).with_context(|| {
                let text = said.clone() + &fs::read_to_string(&log).unwrap_or_default();
                let told: String = text.chars().take(TOLD_SIZE_MAX).collect();
                format!("{hunter} ended with {status} and names no seed: {told}")
            })?;
            Ok(Outcome::Found(trial))
        }
        // Killed by a signal, as after a panic within a panic; or hung. In which trial nobody knows.
        _ => Ok(Outcome::Found(0)),
    }
}

/// The trial that a run says has failed, the first being 1.
fn failed_trial(said: &str, hunter: &str) -> Option<u64> {
    let prefix = format!("{hunter}: seed ");
    let seed = said.lines().find_map(|line| line.strip_prefix(&prefix)?.split_once(" failed"))?.0;
    Some(seed.parse::<u64>().ok()? + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sentences before a patch's diff, on one line.
    fn said(patch: &Path) -> String {
        let text = fs::read_to_string(patch).expect("a patch is text");
        let head = text.lines().take_while(|line| !line.starts_with("diff --git "));
        head.collect::<Vec<_>>().join(" ").trim().to_owned()
    }

    #[test]
    fn every_patch_fits_the_sources_and_the_page_tells_of_it() {
        let page = fs::read_to_string(root().join("docs/reliability/planted.md")).expect("a page");
        let all = patches().expect("they are there");
        assert!(all.len() as u64 >= CAMPAIGN.in_ledger, "only {} patches", all.len());
        for (number, patch) in all.iter().enumerate() {
            let name = patch.file_stem().expect("a name").to_string_lossy();
            assert!(name.starts_with(&format!("{number:02}-")), "{name} is patch {number}");
            git_apply(patch, &root(), &["--check"]).unwrap_or_else(|cause| panic!("{cause:#}"));
            let row = format!("| `{name}` | {} |", said(patch));
            assert!(page.contains(&row), "docs/reliability/planted.md has no row {row}");
        }
    }

    #[test]
    fn a_patch_that_does_not_fit_is_refused_and_a_copy_follows_its_original() {
        let folder = tempfile::tempdir().expect("a folder");
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::create_dir_all(from.join("target")).expect("made");
        fs::write(from.join("target/made"), "no source").expect("written");
        fs::write(from.join("file"), "one\ntwo\n").expect("written");
        let patch = folder.path().join("00-three.patch");
        let text = "A sentence.\n\ndiff --git a/file b/file\n--- a/file\n+++ b/file\n\
                    @@ -1,2 +1,2 @@\n one\n-two\n+three\n";
        fs::write(&patch, text).expect("written");
        assert_eq!(said(&patch), "A sentence.");
        copy_changed(&from, &to).expect("copied");
        apply(&patch, &to).expect("it fits");
        assert_eq!(fs::read_to_string(to.join("file")).expect("there"), "one\nthree\n");
        apply(&patch, &to).expect_err("it is in already");
        copy_changed(&from, &to).expect("copied");
        assert_eq!(fs::read_to_string(to.join("file")).expect("there"), "one\ntwo\n");
        assert!(!to.join("target").exists());
    }

    #[test]
    fn the_trial_that_failed_is_taken_from_what_a_run_says() {
        let text = "model: seed 41 failed: the engine says\n  again: x\nmodel: 7 tried";
        assert_eq!(failed_trial(text, "model"), Some(42));
        assert_eq!(failed_trial("model: 7 tried", "model"), None);
    }
}
