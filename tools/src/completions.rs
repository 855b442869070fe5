//! `marconi completions`: what a shell needs to complete this program's commands and options. Knows
//! no command; all comes from the definition that parses the command line.

use crate::output::Output;
use clap_complete::Shell;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  marconi completions bash > ~/.local/share/bash-completion/completions/marconi
  marconi completions fish > ~/.config/fish/completions/marconi.fish";

/// For which shell.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The shell that is to complete.
    shell: Shell,
}

pub(crate) fn run(
    options: Options,
    mut program: clap::Command,
    output: &mut Output,
) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut program, "marconi", &mut script);
    output.bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}
