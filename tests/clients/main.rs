//! Clients that were not made by us, and programs that were made for people, against the real
//! server: the official Python client, unchanged, and the examples.
//!
//! `cargo test -p marconi-tests --test clients`. Needs `python3` (or what `PYTHON` names) and, the
//! first time, a package index: the client is installed into an environment under `target/`.
//! `MARCONI_CLIENT_LINES` and `MARCONI_CLIENT_KILLS` set the size of the test of lines; the full one
//! is 100000 and 24.

mod examples;
mod lines;
mod python;
mod record;

use anyhow::ensure;
use marconi_tests::program::{ServerProgram, build};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The folder with the server and the examples, built once for all tests here.
fn programs() -> anyhow::Result<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let targets = ["--bin", "marconi-server", "--examples"];
    match FOLDER.get_or_init(|| build(&targets).map_err(|cause| format!("{cause:#}"))) {
        Ok(folder) => Ok(folder),
        Err(cause) => anyhow::bail!("{cause}"),
    }
}

/// Says how it went also where nothing failed: what counts is how much was done.
fn report(text: &str) {
    // Not `println`, which the test harness keeps to itself. Where nobody reads it, so be it.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn the_official_client_finds_all_of_v1() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = ServerProgram::start(&programs()?.join("marconi-server"), folder.path(), &[])?;
    let output = python::script("api.py")?.arg(server.url()).output()?;
    let (said, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "api.py: {}\n{said}{errors}", output.status);
    report(said.trim_end());
    Ok(())
}

#[test]
fn no_acknowledged_line_is_lost_while_server_and_workers_die() -> anyhow::Result<()> {
    lines::run(&programs()?.join("marconi-server"), &lines::Plan::from_environment()?)
}

#[test]
fn the_examples_do_what_they_say() -> anyhow::Result<()> {
    examples::run(programs()?)
}
