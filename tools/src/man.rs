//! `marconi man`: a page of the manual for each command, for who packages the program. Knows no
//! command; all comes from the definition that parses the command line.

use crate::files::make_folder;
use crate::output::Output;
use anyhow::Context;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  marconi man target/man
  marconi man /usr/local/share/man/man1";

/// Where to.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The folder for the pages; those of the same names are replaced.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(crate) fn run(
    options: Options,
    program: clap::Command,
    output: &mut Output,
) -> anyhow::Result<ExitCode> {
    let folder = &options.folder;
    make_folder(folder)?;
    clap_mangen::generate_to(program.disable_help_subcommand(true), folder)
        .with_context(|| format!("cannot write pages into {}", folder.display()))?;
    output.line(format_args!("{}: read one with man -l", folder.join("marconi.1").display()))?;
    Ok(ExitCode::SUCCESS)
}
