//! `marconi queue`, `message`, `claim`, `work`: the v1 API from the command line, by way of
//! `marconi_client`. Knows no HTTP.

mod child;
mod claim;
mod message;
mod pool;
mod post;
mod queue;
mod server;
mod show;
mod time;
mod work;

pub(crate) use claim::ClaimCommand;
pub(crate) use message::MessageCommand;
pub(crate) use queue::QueueCommand;
pub(crate) use work::WorkOptions;

use crate::output::Output;
use anyhow::Context;
use marconi_client::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

/// The server refused, or there is nothing such.
const REFUSED: u8 = 1;

pub(crate) fn queue(command: QueueCommand, output: &mut Output) -> anyhow::Result<ExitCode> {
    run(queue::run(command, output))
}

pub(crate) fn message(command: MessageCommand, output: &mut Output) -> anyhow::Result<ExitCode> {
    run(message::run(command, output))
}

pub(crate) fn claim(command: ClaimCommand, output: &mut Output) -> anyhow::Result<ExitCode> {
    run(claim::run(command, output))
}

pub(crate) fn work(options: WorkOptions, output: &mut Output) -> anyhow::Result<ExitCode> {
    run(work::run(options, output))
}

/// Runs a command to its end. A refusal of the server is told here, and has a code of its own.
fn run(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().context("cannot start")?;
    match runtime.block_on(command) {
        Err(error) if error.downcast_ref().is_some_and(is_refusal) => {
            log(format_args!("{error:#}"));
            Ok(ExitCode::from(REFUSED))
        }
        ended => ended,
    }
}

/// Whether the server was reached and said no.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound { .. }
            | Error::Refused { .. }
            | Error::Claimed { .. }
            | Error::ClaimMismatch { .. }
            | Error::Unavailable { .. }
    )
}

/// A line on standard error.
fn log(text: impl fmt::Display) {
    // Where nobody can be told, so be it.
    let _ = writeln!(io::stderr(), "marconi: {text}");
}

#[cfg(test)]
mod tests {
    use crate::Cli;
    use clap::CommandFactory;

    /// The commands of a server, with the words that lead there.
    fn commands() -> Vec<(String, clap::Command)> {
        let mut all = Vec::new();
        let mut rest: Vec<_> = Cli::command()
            .get_subcommands()
            .filter(|command| ["queue", "message", "claim", "work"].contains(&command.get_name()))
            .map(|command| (command.get_name().to_owned(), command.clone()))
            .collect();
        while let Some((words, command)) = rest.pop() {
            let below = command.get_subcommands();
            rest.extend(below.map(|one| (format!("{words} {}", one.get_name()), one.clone())));
            all.push((words, command));
        }
        all
    }

    #[test]
    fn every_flag_is_explained_and_every_command_has_two_examples() {
        Cli::command().debug_assert();
        let commands = commands();
        assert!(commands.len() > 15, "{} commands", commands.len());
        for (words, command) in commands {
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty(), "{words}: {} is not explained", argument.get_id());
            }
            if command.has_subcommands() {
                continue;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("marconi {words}");
            let count = help.lines().filter(|line| line.contains(&example)).count();
            assert!(count >= 2, "{words} has {count} examples");
        }
    }
}
