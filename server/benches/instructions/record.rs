//! The counts of former commits: a file of JSON lines, one a run. Knows no case.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::Command;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance/instructions.jsonl");

/// A run: a line of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The day, in UTC.
    date: String,
    /// The commit; with `-dirty` behind it where the tree held more.
    commit: String,
    /// Compilers and processors count differently, too.
    rustc: String,
    /// Instructions by the case's name.
    counts: BTreeMap<String, u64>,
}

impl Record {
    /// A run that is to be kept: it knows its commit.
    ///
    /// # Errors
    /// When the build was not the one that all counts are of.
    pub(crate) fn to_be_kept() -> io::Result<Record> {
        let other = std::env::vars().map(|(name, _)| name).find(|name| {
            name.starts_with("CARGO_PROFILE_")
                || name == "RUSTFLAGS"
                || name == "CARGO_BUILD_RUSTFLAGS"
        });
        if let Some(name) = other {
            let text = format!("--record keeps counts of the ordinary build: unset {name}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let commit = first_line("git", &["describe", "--always", "--dirty", "--exclude=*"])?;
        let rustc = first_line("rustc", &["--version"])?;
        let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
        Ok(Record { date, commit, rustc, counts: BTreeMap::new() })
    }

    /// Takes a count down, and prints it beside the last one.
    pub(crate) fn add(&mut self, name: &str, count: u64, last: &BTreeMap<String, u64>) {
        let (before, change) = match last.get(name) {
            Some(before) => {
                let change = (count as f64 / *before as f64 - 1.0) * 100.0;
                (before.to_string(), format!("{change:+.1} %"))
            }
            None => ("–".to_owned(), "–".to_owned()),
        };
        println!("{name:<52} {count:>13} {before:>13} {change:>9}");
        self.counts.insert(name.to_owned(), count);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Appends the run to the file.
    pub(crate) fn keep(&self) -> io::Result<()> {
        let line = serde_json::to_string(self)?;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(FILE)?;
        writeln!(file, "{line}")
    }
}

/// The last count of each case; none without a file.
pub(crate) fn last_counts() -> io::Result<BTreeMap<String, u64>> {
    let text = match std::fs::read_to_string(FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let mut counts = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let record: Record = serde_json::from_str(line).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{FILE}, line {number}: {error}"))
        })?;
        counts.extend(record.counts);
    }
    Ok(counts)
}

fn first_line(program: &str, words: &[&str]) -> io::Result<String> {
    let output =
        Command::new(program).args(words).current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.to_owned()),
        _ => Err(io::Error::other(format!("{program} {words:?} gave no answer"))),
    }
}
