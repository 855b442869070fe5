//! `marconi log`: a data folder as people and programs look at it, over the engine's own readers.
//! Knows no byte layouts.

mod claims;
mod compact;
mod compact_server;
mod export;
mod findings;
mod folder;
mod frame_lines;
mod hex;
mod import;
mod inspect;
mod kind;
mod messages;
mod progress;
mod queue_name;
mod queues;
mod repair;
mod runs;
mod stat;
mod table;
mod tail;
mod verify;

use crate::output::Output;
use std::process::ExitCode;

/// What can be done with a data folder.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show a data folder on one screen: segments, queues, messages, checkpoints, space to gain.
    Stat(stat::Options),
    /// Walk through the log frame by frame.
    Inspect(inspect::Options),
    /// List the queues.
    Queues(queues::Options),
    /// List the living messages of a queue.
    Messages(messages::Options),
    /// List the live claims and what they hold.
    Claims(claims::Options),
    /// Check every checksum, index, checkpoint and counter.
    Verify(verify::Options),
    /// Give disk space back that nothing living needs.
    Compact(compact::Options),
    /// Write queues, messages and claims as lines of JSON.
    Export(export::Options),
    /// Make a new data folder out of an export.
    Import(import::Options),
    /// Mend a damaged folder so that a server starts on it; say first what would be lost.
    Repair(repair::Options),
    /// Follow a queue on disk, also while a server writes it.
    Tail(tail::Options),
}

/// Does it.
pub(crate) fn run(command: Command, output: &mut Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Stat(options) => stat::run(&options, output),
        Command::Inspect(options) => inspect::run(&options, output),
        Command::Queues(options) => queues::run(&options, output),
        Command::Messages(options) => messages::run(&options, output),
        Command::Claims(options) => claims::run(&options, output),
        Command::Verify(options) => verify::run(&options, output),
        Command::Compact(options) => compact::run(&options, output),
        Command::Export(options) => export::run(&options, output),
        Command::Import(options) => import::run(&options, output),
        Command::Repair(options) => repair::run(&options, output),
        Command::Tail(options) => tail::run(&options, output),
    }
}
