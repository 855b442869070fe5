//! The processes of a server: where their programs are, what they print, how they start and end. Knows no
//! server in particular.

use super::ready;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take until it answers.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a process that was asked to end may take.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Servers are often where no search path of a user leads.
const MORE_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Starts a command, perhaps on certain cores.
pub(super) type Spawn<'a> = &'a dyn Fn(&mut Command) -> io::Result<Child>;

/// Finds a program by its name, or where it lies if the name is a path.
pub(super) fn program(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&search).chain(MORE_FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(name.as_ref())).find(|path| path.is_file())
}

/// A port of the loopback where nobody listens.
///
/// # Errors
/// When there is none left.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Where a server is that listens on this port.
pub(super) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Processes of one server. They end when this goes, the last one first.
pub(super) struct Processes<'a> {
    folder: &'a Path,
    spawn: Spawn<'a>,
    started: Started,
}

/// Processes that run.
#[derive(Debug, Default)]
pub(super) struct Started {
    children: Vec<(Child, Signal)>,
}

impl<'a> Processes<'a> {
    /// None yet; their files go to `folder`, which is made where it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(super) fn new(folder: &'a Path, spawn: Spawn<'a>) -> io::Result<Processes<'a>> {
        fs::create_dir_all(folder)?;
        Ok(Processes { folder, spawn, started: Started::default() })
    }

    /// The folder of the server's files. It is absolute.
    pub(super) fn folder(&self) -> &'a Path {
        self.folder
    }

    /// Writes a file into the folder and tells its path.
    ///
    /// # Errors
    /// When the disk refuses it.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Starts a process that stays, and ends by the signal `end`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(&mut self, mut command: Command, end: Signal) -> io::Result<()> {
        self.quiet(&mut command)?;
        let child = (self.spawn)(&mut command).map_err(|error| named(&command, error))?;
        self.started.children.push((child, end));
        Ok(())
    }

    /// Lets a command do its job.
    ///
    /// # Errors
    /// When it cannot be started, fails, or takes too long; the error has the end of what it printed.
    pub(super) fn finish(&self, mut command: Command) -> io::Result<()> {
        self.quiet(&mut command)?;
        let mut child = (self.spawn)(&mut command).map_err(|error| named(&command, error))?;
        let ended = ended_within(&mut child, START_TIMEOUT)?;
        if ended.is_some_and(|status| status.success()) {
            return Ok(());
        }
        if ended.is_none() {
            child.kill()?;
            child.wait()?;
        }
        Err(named(&command, io::Error::other(format!("failed:\n{}", self.tail()))))
    }

    /// Waits until a server answers: `speak` succeeds.
    ///
    /// # Errors
    /// When one of the processes ended, or none answered in time; the error has the end of what they
    /// printed.
    pub(super) fn wait(&mut self, mut speak: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let Err(error) = speak() else { return Ok(()) };
            for (child, _) in &mut self.started.children {
                if let Some(status) = child.try_wait()? {
                    let text = format!("it ended at once ({status}):\n{}", self.tail());
                    return Err(io::Error::other(text));
                }
            }
            if Instant::now() >= deadline {
                let seconds = START_TIMEOUT.as_secs();
                let text = format!("no answer in {seconds} s ({error}):\n{}", self.tail());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            ready::pause(LOOK_EVERY);
        }
    }

    /// The processes, which now run on their own.
    pub(super) fn into_started(self) -> Started {
        self.started
    }

    fn log(&self) -> PathBuf {
        self.folder.join("output.log")
    }

    fn quiet(&self, command: &mut Command) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(())
    }

    fn tail(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

fn named(command: &Command, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", command.get_program().display()))
}

fn ended_within(child: &mut Child, time: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + time;
    loop {
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() >= deadline {
            return Ok(ended);
        }
        ready::pause(LOOK_EVERY);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for (child, end) in self.children.iter_mut().rev() {
            // One that ended was waited for by this, and its number may be another's now.
            if !matches!(child.try_wait(), Ok(None)) {
                continue;
            }
            let _ = kill_process(Pid::from_child(child), *end);
            if !matches!(ended_within(child, END_TIMEOUT), Ok(Some(_))) {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
