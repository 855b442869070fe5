//! `marconi bench`: hands over to the crate that measures.

use crate::output::Output;
use marconi_bench::{Options, Surroundings};
use std::io::{self, Write};
use std::process::ExitCode;

pub(crate) fn run(options: &Options, quiet: bool, output: &mut Output) -> anyhow::Result<ExitCode> {
    let around = Surroundings { program: std::env::current_exe().ok(), quiet };
    let json = output.json;
    marconi_bench::run(options, &around, json, &mut Through(output))?;
    Ok(ExitCode::SUCCESS)
}

/// The program's output as a writer.
struct Through<'a>(&'a mut Output);

impl Write for Through<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.bytes(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
