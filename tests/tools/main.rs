//! The program `marconi` as people and scripts use it, against the real server.
//!
//! `cargo test -p marconi-tests --test tools`. `MARCONI_WORK_MESSAGES`, `MARCONI_WORK_KILLS` and
//! `MARCONI_WORK_SEED` set the size and the course of the test of workers that are killed; the full
//! one is 10000 and 50.

mod cli;
mod log;
mod run;
mod work;

use marconi_tests::binary::wait_for;
use marconi_tests::program::{ServerProgram, build};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

/// The folder with the programs, built once for all tests here.
fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let targets = ["--bin", "marconi-server", "--bin", "marconi"];
    FOLDER.get_or_init(|| build(&targets).unwrap_or_else(|cause| panic!("{cause:#}")))
}

/// A server of its own, and a folder beside it.
struct Place {
    server: ServerProgram,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        // A killed worker's messages are to come back soon.
        let options = ["--min-claim-ttl=1"];
        let server =
            ServerProgram::start(&programs().join("marconi-server"), folder.path(), &options);
        Place { server: server.expect("the server starts"), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with these arguments, told of the server by its environment and of nothing else.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs().join("marconi"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MARCONI_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .env("MARCONI_URL", self.server.url())
            .env("XDG_CONFIG_HOME", self.folder.path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::new(self.command(arguments).output().expect("the program runs"))
    }

    /// Runs it to its end with this on its standard input.
    fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().expect("it runs");
        let mut stdin = child.stdin.take().expect("it was piped");
        // It may end before it has read everything.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        Ended::new(child.wait_with_output().expect("it ends"))
    }

    /// Starts it, to be ended by the test.
    fn start(&self, arguments: &[&str]) -> Started {
        Started(Some(self.command(arguments).spawn().expect("the program runs")))
    }

    /// The messages of a queue that are free, and all of them.
    fn counts(&self, queue: &str) -> (u64, u64) {
        let stats = self.run(&["queue", "stats", queue, "--json"]).document();
        let number = |name: &str| stats[name].as_u64().expect("a number");
        (number("free"), number("total"))
    }
}

/// What a run left behind.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    errors: String,
}

impl Ended {
    fn new(output: Output) -> Ended {
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            errors: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// What it printed, if all went well.
    #[track_caller]
    fn out(self) -> String {
        assert_eq!((self.code, self.errors.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    /// The one document it printed, if all went well.
    #[track_caller]
    fn document(self) -> serde_json::Value {
        serde_json::from_str(&self.out()).expect("a document")
    }

    /// What it said when it did not do as asked.
    #[track_caller]
    fn failed(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{self:?}");
        let is_one_line = self.errors.starts_with("marconi: ") && self.errors.lines().count() == 1;
        assert!(is_one_line, "{self:?}");
        self.errors
    }
}

/// The program running. Killed when dropped.
struct Started(Option<Child>);

impl Started {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it was not waited for yet")
    }

    fn signal(&mut self, signal: marconi_tests::binary::Signal) {
        let pid = rustix::process::Pid::from_child(self.child());
        rustix::process::kill_process(pid, signal).expect("it was not waited for yet");
    }

    fn has_ended(&mut self) -> bool {
        self.child().try_wait().expect("it is a child").is_some()
    }

    /// Waits until it ends by itself.
    fn ended(mut self) -> Ended {
        wait_for("the program's end", || self.has_ended().then_some(()));
        let child = self.0.take().expect("it was not waited for yet");
        Ended::new(child.wait_with_output().expect("its output"))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Says how it went also where nothing failed: what counts is how much was done.
fn report(text: &str) {
    // Not `println`, which the test harness keeps to itself. Where nobody reads it, so be it.
    let _ = writeln!(std::io::stderr(), "{text}");
}
