//! `marconi top`: a running server at a glance, over its admin API.

use crate::output::Output;
use std::process::ExitCode;

/// Which server, and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

pub(crate) fn run(_: Options, _: &mut Output) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
