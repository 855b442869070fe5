//! `marconi queue`, `message`, `claim`, `work`: the v1 API from the command line, by way of
//! `marconi_client`. Knows no HTTP.

use crate::output::Output;
use std::process::ExitCode;

/// What can be done with queues.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum QueueCommand {}

/// What can be done with messages.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum MessageCommand {}

/// What can be done with claims.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ClaimCommand {}

/// How to work.
#[derive(Debug, clap::Args)]
pub(crate) struct WorkOptions {}

pub(crate) fn queue(command: QueueCommand, _: &mut Output) -> anyhow::Result<ExitCode> {
    match command {}
}

pub(crate) fn message(command: MessageCommand, _: &mut Output) -> anyhow::Result<ExitCode> {
    match command {}
}

pub(crate) fn claim(command: ClaimCommand, _: &mut Output) -> anyhow::Result<ExitCode> {
    match command {}
}

pub(crate) fn work(_: WorkOptions, _: &mut Output) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
