//! The ledger: one line of JSON for each run of a campaign, kept with the documentation. Lines are added, never
//! changed. Knows nothing of how trials are run.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One run of one campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The day it ran, as `2026-11-24`.
    pub date: String,
    /// What was tried: the commit, with `+` behind it where files had changed since.
    pub commit: String,
    /// The campaign's name.
    pub campaign: String,
    /// The first seed, and the one behind the last.
    pub seeds: (u64, u64),
    /// Units tried.
    pub tried: u64,
    /// Seeds that failed.
    pub failed: u64,
    /// Seconds of processor time, of the programs it started too.
    pub cpu_s: u64,
    /// What was found, in a sentence, and what became of it. Written in by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// Where the tree's ledger lies.
pub fn path() -> PathBuf {
    root().join("docs/reliability/ledger.jsonl")
}

/// The top of the tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All lines of a ledger, oldest first; none where there is no file.
///
/// # Errors
/// When a line is not one of a ledger; says which.
pub fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let text = if path.exists() {
        fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
    } else {
        String::new()
    };
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("line {} of the ledger", number + 1))
    };
    text.lines().enumerate().map(line).collect()
}

/// Adds a line.
///
/// # Errors
/// When the file cannot be written.
pub fn append(path: &Path, line: &Line) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let text = serde_json::to_string(line)? + "\n";
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

/// The first seed that no run of this campaign had.
pub fn next_seed(lines: &[Line], campaign: &str) -> u64 {
    let of_it = lines.iter().filter(|line| line.campaign == campaign);
    of_it.map(|line| line.seeds.1).max().unwrap_or(0)
}

/// The commit that is checked out, as [`Line::commit`] has it.
///
/// # Errors
/// When git does not say.
pub fn commit() -> anyhow::Result<String> {
    let git = |words: &[&str]| -> anyhow::Result<String> {
        let output = Command::new("git").args(words).current_dir(root()).output()?;
        anyhow::ensure!(output.status.success(), "git {words:?} failed");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // What runs are written into is no change of what is tried.
    let changed = git(&["status", "--porcelain", "--", ".", ":!docs"])?;
    Ok(if changed.is_empty() { commit } else { commit + "+" })
}

/// Seconds of processor time this process and those it started and waited for have had.
pub fn cpu_seconds() -> u64 {
    // Fields 14 to 17 of proc(5), in ticks of a hundredth of a second.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_the_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = behind_the_name
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    ticks / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_were_added_and_seeds_go_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger.jsonl");
        assert_eq!(read(&path).expect("none yet"), vec![]);
        let line = Line {
            date: "2026-11-24".into(),
            commit: "0123456789ab".into(),
            campaign: "model".into(),
            seeds: (5, 9),
            tried: 1000,
            failed: 0,
            cpu_s: 3,
            found: None,
        };
        let other = Line { seeds: (9, 12), found: Some("a comma".into()), ..line.clone() };
        append(&path, &line).expect("it is written");
        append(&path, &other).expect("it is written");
        let lines = read(&path).expect("two");
        assert_eq!(lines, vec![line, other]);
        assert_eq!((next_seed(&lines, "model"), next_seed(&lines, "crash")), (12, 0));
    }

    #[test]
    fn the_kept_ledger_names_campaigns_there_are() {
        for line in read(&path()).expect("it can be read") {
            let names = crate::campaigns::ALL.iter().map(|campaign| campaign.name);
            assert!(names.into_iter().any(|name| name == line.campaign), "{line:?}");
        }
    }
}
