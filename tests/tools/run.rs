//! Runs the real program `marconi` to its end, or beside a test. Knows no subcommand.

use crate::programs;
use marconi_tests::binary::{Signal, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(programs().join("marconi"));
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MARCONI_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a run ended and what it printed.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// What it printed, once it ended well and silently.
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self.stdout
    }

    /// The document it printed, once it ended well.
    pub(crate) fn document(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|cause| panic!("{cause}: {text}"))
    }

    /// The documents it printed, one a line, once it ended well.
    pub(crate) fn documents(self) -> Vec<Value> {
        documents(&self.ok())
    }

    /// What it said went wrong.
    pub(crate) fn refused(self) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""), "{self:?}");
        self.stderr
    }
}

/// The documents in a text, one a line.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    text.lines().map(parse).collect()
}

/// Runs the program to its end.
pub(crate) fn marconi(arguments: &[&str]) -> Ran {
    marconi_reading(arguments, b"")
}

/// Runs it to its end with something on its standard input.
pub(crate) fn marconi_reading(arguments: &[&str], input: &[u8]) -> Ran {
    let mut command = command(arguments);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("it was piped");
    let input = input.to_vec();
    // It may end before it has read everything.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("its output");
    let _ = writer.join();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

/// The program at work beside a test. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    reader: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Running {
        let mut child = command(arguments).stderr(Stdio::null()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("it was piped"));
        let (told, lines) = mpsc::sync_channel(1000);
        let reader = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    break;
                }
            }
        });
        Running { child, lines, reader: Some(reader) }
    }

    /// The next line it prints.
    pub(crate) fn line(&self, what: &str) -> String {
        wait_for(what, || self.lines.try_recv().ok())
    }
}

/// The first line it prints, and how it ends when nobody reads the others.
pub(crate) fn first_line(arguments: &[&str]) -> (String, ExitStatus) {
    let mut child = command(arguments).spawn().expect("the program starts");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("it was piped"));
    stdout.read_line(&mut line).expect("it prints");
    drop(stdout);
    let status = wait_for("the program's end", || child.try_wait().expect("it is a child"));
    let stderr = std::io::read_to_string(child.stderr.take().expect("it was piped"));
    assert_eq!(stderr.expect("text"), "");
    (line, status)
}

impl Running {
    /// Asks it to stop, as Ctrl-C does; how it ends.
    pub(crate) fn interrupted(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::INT).expect("it is not waited for yet");
        wait_for("the program's end", || self.child.try_wait().expect("it is a child"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
