//! A server in a child process: started on a folder, found by the line it prints, ended by its handle.

use anyhow::{Context as _, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a server may take until it says that it serves.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// What to start.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The program.
    pub(crate) path: PathBuf,
    /// Its first arguments.
    pub(crate) arguments: Vec<String>,
}

impl Program {
    /// This program itself, by one of its commands.
    pub(crate) fn own(path: &Path, arguments: &[&str]) -> Program {
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        Program { path: path.to_path_buf(), arguments }
    }
}

/// A server that runs, and ends when this goes.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// `host:port`, where it serves.
    pub(crate) address: String,
    /// From the start of the process until it served.
    pub(crate) started_in: Duration,
}

impl Server {
    /// Starts a Marconi server on `folder/data`, with what it logs in `folder/server.log`.
    ///
    /// # Errors
    /// When it does not start; the error has the last lines of its log.
    pub(crate) fn start(program: &Program, folder: &Path) -> anyhow::Result<Server> {
        let mut command = Command::new(&program.path);
        command.args(&program.arguments);
        command.arg("--folder").arg(folder.join("data"));
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "off"]);
        command.args(["--disk-reserve-bytes", "0"]);
        Server::run(command, &folder.join("server.log"))
    }

    /// Starts the bare server.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start_hello(program: &Path, folder: &Path) -> anyhow::Result<Server> {
        let mut command = Command::new(program);
        command.args(["bench", crate::hello::COMMAND]);
        Server::run(command, &folder.join("hello.log"))
    }

    fn run(mut command: Command, log: &Path) -> anyhow::Result<Server> {
        // What is measured are defaults, not what somebody has set for another server.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"MARCONI_") {
                command.env_remove(name);
            }
        }
        let began = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(crate::folder::create(log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let stdout = child.stdout.take().expect("it was asked for");
        let mut server = Server { child, address: String::new(), started_in: Duration::ZERO };
        match first_address(stdout) {
            Some(address) => {
                server.address = address;
                server.started_in = began.elapsed();
                Ok(server)
            }
            None => {
                let program = command.get_program().display().to_string();
                let ended = server.child.try_wait().ok().flatten();
                let how = ended.map_or_else(
                    || format!("said nothing for {} s", START_TIMEOUT.as_secs()),
                    |status| format!("ended at once ({status})"),
                );
                let tail = crate::folder::tail(log, 5);
                bail!("{program} {how} instead of serving. What it said last:\n{tail}")
            }
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// The address in the first line that has one. The rest is read and thrown away.
fn first_address(stdout: std::process::ChildStdout) -> Option<String> {
    let (found, address) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = address_in(&line) {
                // Nobody waits for a second one.
                let _ = found.send(address.to_owned());
            }
        }
    });
    address.recv_timeout(START_TIMEOUT).ok()
}

fn address_in(line: &str) -> Option<&str> {
    line.split_once("http://")?.1.split([' ', '/', ',', ')']).next()
}

impl Drop for Server {
    fn drop(&mut self) {
        // It only held what is thrown away now; and it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_line_tells_the_address() {
        let line = "marconi-server 0.1.0 serves http://127.0.0.1:4711 (admin: off) from /x";
        assert_eq!(address_in(line), Some("127.0.0.1:4711"));
        assert_eq!(address_in("nothing"), None);
    }

    #[test]
    fn a_program_that_is_no_server_is_told_with_what_it_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = Program::own(Path::new("/bin/sh"), &["-c", "echo oh no >&2; exit 3"]);
        let error = Server::start(&program, folder.path()).expect_err("it ends").to_string();
        assert!(error.contains("oh no"), "{error}");
    }
}
