//! The real program as a child process, for tests that are hard on it: started on free ports, sent
//! signals, weighed, ended. Knows no requests but those of the admin listener.

use crate::client::{Reply, Request};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

pub use rustix::process::Signal;

/// How long anything a test waits for may take.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Looks at a condition until it gives a value; names it when the deadline passes first.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "waited too long for: {what}");
        thread::park_timeout(LOOK_INTERVAL);
    }
}

/// The program, built in the profile of the test that calls.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = crate::program::build(&["--bin", "marconi-server"]);
        folder.unwrap_or_else(|cause| panic!("{cause:#}")).join("marconi-server")
    })
}

/// The program's command without what the environment of the test would tell it.
fn command() -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MARCONI_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs the program to its end, which it is expected to come to by itself.
pub fn run_to_end(options: &[&str]) -> Output {
    let mut child = command()
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let ended = wait_for("the program's end", || child.try_wait().expect("it is a child"));
    let output = child.wait_with_output().expect("its output");
    assert_eq!(output.status, ended);
    output
}

/// The program running on a folder. Killed when dropped.
#[derive(Debug)]
pub struct Binary {
    /// Where it serves.
    pub address: SocketAddr,
    /// Where its admin API is.
    pub admin: SocketAddr,
    /// The line it printed once it served.
    pub start_line: String,
    log: PathBuf,
    child: Child,
}

impl Binary {
    /// Starts the program with its data in `folder`, which is there, and waits until it serves.
    pub fn start(folder: &Path, options: &[&str]) -> Binary {
        let log = folder.join("log");
        let log_file = File::create(&log).expect("the folder takes a log");
        let mut child = command()
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--segment-size-bytes", "1MiB"])
            .arg(format!("--folder={}", folder.join("data").display()))
            .args(options)
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("it was piped");
        let (told, tells) = mpsc::sync_channel(1);
        let reader = thread::spawn(move || {
            let mut line = String::new();
            let _ = told.send(BufReader::new(stdout).read_line(&mut line).map(|_| line));
        });
        let line = tells.recv_timeout(DEADLINE).ok().and_then(Result::ok).unwrap_or_default();
        let mut addresses = line.split("http").skip(1).filter_map(address);
        let (Some(address), Some(admin)) = (addresses.next(), addresses.next()) else {
            let _ = child.kill();
            let _ = child.wait();
            let log = fs::read_to_string(&log).unwrap_or_default();
            panic!("the program does not start: {line:?}; its log says\n{log}");
        };
        // The line was the only thing it prints, so the reader is done.
        let _ = reader.join();
        Binary { address, admin, start_line: line, log, child }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the child is not waited for yet");
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self) -> ExitStatus {
        wait_for("the server's end", || self.child.try_wait().expect("it is a child"))
    }

    /// Stops it in good order.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended();
        assert!(status.success(), "{status}; its log says\n{}", self.log());
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Memory of its own in bytes, mapped files not counted.
    pub fn memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let size = line.and_then(|line| line.trim().strip_suffix(" kB"));
        size.and_then(|size| size.parse::<u64>().ok()).expect("Linux says so") << 10
    }

    /// Asks the admin API.
    pub fn admin(&self, method: &str, path: &str) -> Reply {
        Request::new(method, path).send(self.admin).expect("the admin API answers")
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> u64 {
        let reply = self.admin("GET", "/metrics");
        let text = String::from_utf8(reply.body).expect("metrics are text");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.and_then(|value| value.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no metric {name} in\n{text}")) as u64
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address behind `http` in the start line.
fn address(rest: &str) -> Option<SocketAddr> {
    let rest = rest.trim_start_matches('s').strip_prefix("://")?;
    rest.split([' ', ')']).next()?.parse().ok()
}
