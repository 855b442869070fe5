//! `marconi log`: a data folder as people and programs look at it, over the engine's own readers.
//! Knows no byte layouts.

use crate::output::Output;
use std::process::ExitCode;

/// What can be done with a data folder.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {}

/// Does it.
pub(crate) fn run(command: Command, _: &mut Output) -> anyhow::Result<ExitCode> {
    match command {}
}
