//! The program `marconi`: its subcommands, one arm each. Anything in detail is elsewhere.

mod admin_client;
mod bench;
mod completions;
mod files;
mod log;
mod man;
mod output;
mod remote;
#[cfg(test)]
mod tests;
mod top;

use clap::{CommandFactory, Parser, Subcommand};
use output::{Output, OutputOptions};
use std::ffi::OsString;
use std::process::ExitCode;

/// Care for the data folders of Marconi, speak to its servers, compare what its durability modes cost.
#[derive(Debug, Parser)]
#[command(name = "marconi", version, arg_required_else_help = true, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    output: OutputOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look at, verify, compact, export and repair a data folder.
    #[command(subcommand)]
    Log(log::Command),
    /// Queues of a server.
    #[command(subcommand)]
    Queue(remote::QueueCommand),
    /// Messages of a server's queue.
    #[command(subcommand)]
    Message(remote::MessageCommand),
    /// Claims of a server's queue.
    #[command(subcommand)]
    Claim(remote::ClaimCommand),
    /// Run a command for each message of a queue.
    Work(remote::WorkOptions),
    /// A running server at a glance.
    Top(top::Options),
    /// Print what a shell needs to complete commands and options.
    Completions(completions::Options),
    /// Write a page of the manual for each command.
    #[command(hide = true)]
    Man(man::Options),
    /// Run the server: the very program `marconi-server`, with its options.
    #[command(
        disable_help_flag = true,
        disable_version_flag = true,
        after_help = "\
Examples:
  marconi serve --folder data
  marconi serve --config /etc/marconi.toml --listen 0.0.0.0:8888"
    )]
    Serve {
        /// Options of the server; `marconi serve --help` lists them.
        #[arg(value_name = "OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Measure what each durability mode costs here, and what a power cut takes in it.
    Bench(Box<marconi_bench::Options>),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::new(&cli.output);
    let ended = match cli.command {
        Command::Log(command) => log::run(command, &mut output),
        Command::Queue(command) => remote::queue(command, &mut output),
        Command::Message(command) => remote::message(command, &mut output),
        Command::Claim(command) => remote::claim(command, &mut output),
        Command::Work(options) => remote::work(options, &mut output),
        Command::Top(options) => top::run(options, &mut output),
        Command::Completions(options) => completions::run(options, Cli::command(), &mut output),
        Command::Man(options) => man::run(options, Cli::command(), &mut output),
        // Ends with the server's own code, which `Ok` hands on.
        Command::Serve { options } => Ok(serve(options)),
        Command::Bench(options) => bench::run(&options, cli.output.quiet, &mut output),
    };
    output.finish(ended)
}

fn serve(options: Vec<OsString>) -> ExitCode {
    // The name is what its usage line shows.
    let arguments = std::iter::once(OsString::from("marconi serve")).chain(options);
    marconi_server::program::run(arguments, std::env::vars_os())
}
