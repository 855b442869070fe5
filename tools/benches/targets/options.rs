//! The words on the command line.

use crate::targets::{Section, Target};
use clap::Parser;
use std::path::PathBuf;

/// This server against the limits of the machine and against other servers
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Times that everything is measured; a table has the middle of them
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// What counts of each cell
    #[arg(long, default_value_t = 1.5)]
    pub(crate) seconds: f64,
    /// Only targets and peers with one of these words in their names, a comma between them
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Without other servers
    #[arg(long)]
    pub(crate) no_peers: bool,
    /// Without what takes minutes: 10 million messages, 100,000 queues
    #[arg(long)]
    pub(crate) no_long: bool,
    /// Servers and load on whichever cores the system chooses, instead of one each
    #[arg(long)]
    pub(crate) unpinned: bool,
    /// The program `marconi` to measure, such as one of another state of the source or another build
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_marconi"), hide_default_value = true)]
    pub(crate) program: PathBuf,
    /// Also writes every figure of every round to this file, as lines of JSON
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// `cargo bench` says so
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// Whether something of this name is asked for.
    pub(crate) fn takes(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }

    /// Whether a target is asked for.
    pub(crate) fn takes_target(&self, target: &Target) -> bool {
        let is_left_out = |section: &Section| {
            (self.no_long && section.is_long()) || (self.no_peers && *section == Section::Peers)
        };
        self.takes(target.what) && !target.needs.iter().any(is_left_out)
    }
}
