//! Programs under callgrind. Knows how it is started and where its total stands, not what is counted.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Fails when there is no valgrind.
pub(crate) fn check() -> io::Result<()> {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    match found {
        Ok(status) if status.success() => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "valgrind is not installed: it is in the package valgrind (apt-get install valgrind)",
        )),
    }
}

/// Callgrind, with its files in `folder`; the program and its words are to follow.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind");
    command.arg(format!("--callgrind-out-file={}", out(folder).display()));
    command.arg(format!("--log-file={}", log(folder).display()));
    command
}

/// Runs it to its end; the instructions that were counted.
pub(crate) fn total(command: &mut Command, folder: &Path) -> io::Result<u64> {
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(failed(folder, &text));
    }
    read_total(folder)
}

/// The total of a program that has ended.
pub(crate) fn read_total(folder: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(out(folder))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.and_then(|total| total.trim().parse().ok()).filter(|total| *total > 0);
    total.ok_or_else(|| failed(folder, "nothing was counted"))
}

fn failed(folder: &Path, what: &str) -> io::Error {
    let log = std::fs::read_to_string(log(folder)).unwrap_or_default();
    io::Error::other(format!("callgrind: {what}\n{log}"))
}

fn out(folder: &Path) -> PathBuf {
    folder.join("callgrind.out")
}

fn log(folder: &Path) -> PathBuf {
    folder.join("callgrind.log")
}
