//! Where and how it is measured: folders, cores, times. Knows no targets.

use crate::conversation::Conversation;
use crate::load::{self, Outcome, Plan};
use crate::pin::{self, Cores};
use crate::server::{Server, Setting};
use crate::{process, server};
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What holds for all cells.
#[derive(Debug)]
pub(crate) struct Site {
    /// On the disk that the build is on, not on one in memory.
    pub(crate) root: tempfile::TempDir,
    /// Those of the servers.
    pub(crate) server_cores: Cores,
    /// Those of the load.
    pub(crate) load_cores: Cores,
    /// The program `marconi` that is measured.
    pub(crate) program: PathBuf,
    /// What counts of a cell.
    pub(crate) time: Duration,
}

impl Site {
    /// The servers on the first core and the load on the second, or both wherever the system likes.
    ///
    /// # Errors
    /// When there is no folder to be had.
    pub(crate) fn new(program: PathBuf, time: Duration, is_pinned: bool) -> io::Result<Site> {
        let is_pinned = is_pinned && pin::count() > 1;
        let cores = |number| if is_pinned { Cores::of(&[number]) } else { Cores::any() };
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        Ok(Site { root, server_cores: cores(0), load_cores: cores(1), program, time })
    }

    /// A new empty folder, which goes with what is returned.
    ///
    /// # Errors
    /// When there is none to be had.
    pub(crate) fn folder(&self) -> io::Result<tempfile::TempDir> {
        tempfile::tempdir_in(self.root.path())
    }

    /// How a server is started on the servers' cores, a thread for each.
    pub(crate) fn setting<'a>(&'a self, durability: &'a str) -> Setting<'a> {
        let threads = self.server_cores.numbers().len();
        Setting {
            program: &self.program,
            durability,
            threads,
            with_admin: false,
            segment_size: None,
            cores: &self.server_cores,
        }
    }

    /// Some connections that all do the like, over a cell's time.
    ///
    /// # Errors
    /// When a request fails.
    pub(crate) fn load<C: Conversation + 'static>(
        &self,
        server: &Server,
        connections: usize,
        talk: impl Fn(usize) -> C,
    ) -> io::Result<Outcome> {
        self.load_with(server.address, connections, Plan::closed(self.time), talk)
    }

    /// The same by any plan.
    ///
    /// # Errors
    /// When a request fails.
    pub(crate) fn load_with<C: Conversation + 'static>(
        &self,
        address: SocketAddr,
        connections: usize,
        plan: Plan,
        talk: impl Fn(usize) -> C,
    ) -> io::Result<Outcome> {
        let boxed = |number| Box::new(talk(number)) as Box<dyn Conversation>;
        self.load_talks(address, (0..connections).map(boxed).collect(), plan)
    }

    /// What each connection says is its own.
    ///
    /// # Errors
    /// When a request fails.
    pub(crate) fn load_talks(
        &self,
        address: SocketAddr,
        talks: Vec<Box<dyn Conversation>>,
        plan: Plan,
    ) -> io::Result<Outcome> {
        self.load_cores.run(|| load::run(address, talks, plan))
    }

    /// Has a child process fill `folder`/data through the engine, and kills it.
    ///
    /// # Errors
    /// When it does not come to its end.
    pub(crate) fn fill(&self, folder: &Path, kind: &str, count: u64) -> io::Result<()> {
        let data = folder.join("data");
        let words: [OsString; 4] =
            ["fill".into(), kind.into(), data.into(), count.to_string().into()];
        let mut child = Command::new(std::env::current_exe()?)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().expect("it was asked for");
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(output), &mut line)?;
        child.kill()?;
        child.wait()?;
        match line.trim() {
            "filled" => Ok(()),
            _ => Err(io::Error::other(format!("the folder was not filled: {line}"))),
        }
    }
}

/// Bytes of a process's own memory, once it is at rest.
///
/// # Errors
/// When the process is gone.
pub(crate) fn memory_at_rest(server: &server::Server) -> io::Result<f64> {
    process::wait_idle(server.pid())?;
    Ok(process::anonymous_bytes(server.pid())? as f64)
}
