//! Measures what each durability mode costs and what a power cut takes in it, shows both in a table
//! and a report, and compares measurements. The program `marconi` offers it as `marconi bench`.
//!
//! `measure` goes through a `plan`: cells (a `workload` in a mode over some connections, put on a
//! server by `load`), and beside them the `limits` of the disk and a bare server (`hello`). `loss`
//! cuts the power on the engine's simulated disk. All of it becomes lines of `results`, from which
//! `report` and `compare` make what people read, without measuring again.

mod compare;
mod folder;
// What the bench `targets` holds the server against, too.
#[doc(hidden)]
pub mod hello;
mod http;
#[doc(hidden)]
pub mod limits;
mod load;
mod loss;
mod machine;
mod measure;
mod options;
mod plan;
mod progress;
mod report;
mod results;
mod scenario;
mod schedule;
mod server;
mod site;
mod stats;
mod workload;

pub use measure::Surroundings;
pub use options::{Command, CompareOptions, Options, RunOptions};
pub use workload::Workload;

use std::io::Write;

/// Does what the options say, and writes the outcome to `out`: text for people, or one JSON document
/// where `json` says so.
///
/// # Errors
/// When what is to be measured does not work, results cannot be read or written, or the run was
/// stopped.
pub fn run(
    options: &Options,
    around: &Surroundings,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match &options.command {
        None => match &options.run.scenario {
            Some(name) => scenario::run(name, &options.run, around, json, out),
            None => {
                let (results, folder) = measure::run(&options.run, around)?;
                report::write_files(&results, &folder)?;
                report::print(&results, Some(&folder), json, out)
            }
        },
        Some(Command::Compare(options)) => compare::run(options, json, out),
        Some(Command::Scenarios { name }) => scenario::list(name.as_deref(), json, out),
        Some(Command::Report { results, out: to }) => {
            let read = results::Results::read(results)?;
            let beside = if results.is_dir() { Some(results.as_path()) } else { results.parent() };
            let folder = to.as_deref().or(beside).unwrap_or(std::path::Path::new("."));
            report::write_files(&read, folder)?;
            report::print(&read, Some(folder), json, out)
        }
        Some(Command::HelloServer) => hello::serve(hello::Threads::Many, None, out),
    }
}
