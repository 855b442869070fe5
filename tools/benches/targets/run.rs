//! What is known of a run besides its figures: program, machine, settings.

use crate::options::Options;
use crate::{pin, process};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    commit: String,
    /// Only of one that was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<PathBuf>,
    date: String,
    cpu: String,
    cores: usize,
    kernel: String,
    rounds: usize,
    seconds: f64,
    pinned: bool,
}

impl Run {
    /// As it is now.
    pub(crate) fn new(options: &Options) -> Run {
        let (cpu, kernel) = process::machine();
        let commit = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
        let commit = commit.ok().filter(|output| output.status.success());
        let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        let is_own = options.program == Path::new(env!("CARGO_BIN_EXE_marconi"));
        Run {
            program: (!is_own).then(|| options.program.clone()),
            commit: commit.unwrap_or_else(|| "unknown".to_owned()),
            date: jiff::Timestamp::now().strftime("%F").to_string(),
            cpu,
            cores: pin::count(),
            kernel,
            rounds: options.rounds,
            seconds: options.seconds,
            pinned: !options.unpinned,
        }
    }

    /// In a line for people.
    pub(crate) fn text(&self) -> String {
        let Run { program, commit, date, cpu, cores, kernel, rounds, seconds, pinned } = self;
        let place = if *pinned {
            "servers on one core, the load on another"
        } else {
            "servers and load wherever the system put them"
        };
        let program = program
            .as_ref()
            .map_or_else(String::new, |path| format!(", program {}", path.display()));
        format!(
            "{date}, commit {commit}{program}; {cores} cores of {cpu}, Linux {kernel}; {rounds} rounds, {seconds} s a cell, {place}."
        )
    }
}
