//! The real server as a process that is meant to be killed: started on a folder, perhaps by way of a command that
//! becomes it, on the same addresses each time. Knows neither requests nor faults.

use anyhow::{Context, bail, ensure};
use marconi_tests::binary;
use marconi_tests::program::free_address;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a start may take, recovery included.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How much of the log is shown.
const SHOWN_LOG_SIZE_MAX: usize = 4000;

/// How a server is started, again and again.
#[derive(Debug)]
pub struct Starter {
    data: PathBuf,
    log: PathBuf,
    options: Vec<String>,
    address: SocketAddr,
    admin: SocketAddr,
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it serves.
    pub address: SocketAddr,
    /// Where its admin API is.
    pub admin: SocketAddr,
    log: PathBuf,
    child: Child,
    ended: Option<ExitStatus>,
}

impl Starter {
    /// Servers with their data in `data`, which log to the file `log`, on addresses that are free now.
    ///
    /// # Errors
    /// When no address is free.
    pub fn new(data: &Path, log: &Path, options: Vec<String>) -> anyhow::Result<Starter> {
        let (address, admin) = (free_address()?, free_address()?);
        Ok(Starter { data: data.to_owned(), log: log.to_owned(), options, address, admin })
    }

    /// Starts one and waits until it serves. `launcher` is a command that becomes the program. `Err` inside when it
    /// ended before it served.
    ///
    /// # Errors
    /// When it cannot be started, and when it neither serves nor ends.
    pub fn start(&self, launcher: &[String]) -> anyhow::Result<Result<Server, Ended>> {
        let words: Vec<&std::ffi::OsStr> =
            launcher.iter().map(AsRef::as_ref).chain([binary::program().as_os_str()]).collect();
        let mut command = Command::new(words[0]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MARCONI_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(&words[1..])
            .arg(format!("--listen={}", self.address))
            .arg(format!("--admin-listen={}", self.admin))
            .arg(format!("--folder={}", self.data.display()))
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&self.log).context("make the log")?)
            .spawn()
            .with_context(|| format!("start {}", words[0].display()))?;
        let stdout = child.stdout.take().context("its output is a pipe")?;
        let (told, tells) = mpsc::sync_channel(1);
        let reader = thread::spawn(move || {
            let mut line = String::new();
            let _ = told.send(BufReader::new(stdout).read_line(&mut line).map(|_| line));
        });
        let line = tells.recv_timeout(START_DEADLINE);
        let mut server = Server {
            address: self.address,
            admin: self.admin,
            log: self.log.clone(),
            child,
            ended: None,
        };
        let outcome = match line {
            Ok(Ok(line)) if line.contains(" serves ") => Ok(Ok(server)),
            // Its output ended, so it is about to.
            Ok(Ok(line)) if line.is_empty() => {
                let status = server.child.wait().context("wait for its end")?;
                server.ended = Some(status);
                Ok(Err(Ended { status, log: server.log() }))
            }
            Ok(line) => bail!("the server says {line:?}; its log ends with\n{}", server.log()),
            Err(_) => {
                server.kill();
                bail!("the server neither serves nor ends; its log ends with\n{}", server.log())
            }
        };
        // What it waits for has come, or its writer has ended.
        let _ = reader.join();
        outcome
    }
}

/// How a server ended that never served.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// The end of its log.
    pub log: String,
}

impl Server {
    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_some()
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<ExitStatus> {
        self.ended
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as `kill -9` does, and waits for that.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            // It may have ended already.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Asks it to stop in good order.
    pub fn terminate(&self) {
        if self.ended.is_none() {
            let pid = rustix::process::Pid::from_child(&self.child);
            // It may have ended already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// Stops it in good order.
    ///
    /// # Errors
    /// When it does not end well, or not in a minute.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.terminate();
        let status = binary::wait_for("the server's end", || {
            self.has_ended().then_some(self.ended).flatten()
        });
        ensure!(status.success(), "a stop ended with {status}; its log says\n{}", self.log());
        Ok(())
    }

    /// The end of what it logged in this life.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(SHOWN_LOG_SIZE_MAX);
        text.get(from..).unwrap_or(&text).to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
