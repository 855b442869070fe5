//! The examples as a newcomer runs them: with a server of their own, and against one that runs.

use anyhow::{Context, ensure};
use marconi_tests::program::ServerProgram;
use std::path::Path;
use std::process::{Command, Stdio};

/// Each example, and how its last line begins when all went well.
const EXAMPLES: [(&str, &str); 3] = [
    ("worker_pool", "boss  sees an empty queue"),
    ("broadcast", "all 3 heard all 6"),
    ("metering", "both books agree on 131"),
];

/// `programs` is the folder cargo builds into.
pub(crate) fn run(programs: &Path) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = programs.join("marconi-server");
    let server = ServerProgram::start(&server, folder.path(), &["--min-claim-ttl=1"])?;
    let url = server.url();
    for (name, end) in EXAMPLES {
        let program = programs.join("examples").join(name);
        check(&program, &[], end)?;
        check(&program, &["--url", &url], end)?;
        let wrong = call(&program, &["--url"])?;
        ensure!(!wrong.status.success(), "{name} takes a command line that means nothing");
    }
    Ok(())
}

fn check(program: &Path, arguments: &[&str], end: &str) -> anyhow::Result<()> {
    let output = call(program, arguments)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let is_whole = said.lines().last().is_some_and(|line| line.starts_with(end));
    ensure!(
        output.status.success() && is_whole,
        "{} {arguments:?}: {}\n{said}{errors}",
        program.display(),
        output.status
    );
    Ok(())
}

fn call(program: &Path, arguments: &[&str]) -> anyhow::Result<std::process::Output> {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {}", program.display()))
}
