//! Child processes that serve: started on their cores, found by the line they print, ended when dropped.
//! Also single requests to them. Knows nothing of load.

use crate::http;
use crate::pin::Cores;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to a single answer, to end, or to come to rest.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server in a process of its own.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Held open, so that what it prints goes somewhere.
    _output: BufReader<ChildStdout>,
    /// Where it serves.
    pub(crate) address: SocketAddr,
    /// Where its administration is, if anywhere.
    pub(crate) admin: Option<SocketAddr>,
    /// From the start of the process to its first answer.
    pub(crate) started_in: Duration,
}

/// How a Marconi server is started; the rest is as it comes.
#[derive(Debug, Clone)]
pub(crate) struct Setting<'a> {
    /// The program `marconi`.
    pub(crate) program: &'a Path,
    /// `os`, `group`, ...
    pub(crate) durability: &'a str,
    /// Threads that serve requests.
    pub(crate) threads: usize,
    /// Whether there is an administration.
    pub(crate) with_admin: bool,
    /// Bytes of a segment of the log, where they are not the default.
    pub(crate) segment_size: Option<u64>,
    /// On which cores.
    pub(crate) cores: &'a Cores,
}

impl Server {
    /// A Marconi server on `folder`/data.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn marconi(folder: &Path, setting: &Setting<'_>) -> io::Result<Server> {
        let mut command = Command::new(setting.program);
        // Defaults are measured, not what somebody set for another server.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"MARCONI_") {
                command.env_remove(name);
            }
        }
        command.arg("serve").arg("--folder").arg(folder.join("data"));
        command.args(["--listen", "127.0.0.1:0", "--disk-reserve-bytes", "0"]);
        command.args(["--admin-listen", if setting.with_admin { "127.0.0.1:0" } else { "off" }]);
        command.args(["--durability", setting.durability, "--connections-max", "20000"]);
        if let Some(size) = setting.segment_size {
            command.args(["--segment-size-bytes", &size.to_string()]);
        }
        command.args(["--worker-threads", &setting.threads.to_string()]);
        command.stderr(File::create(folder.join("server.log"))?);
        let began = Instant::now();
        let mut server = Server::run(command, setting.cores)?;
        let health = "GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n";
        server.ask(health.as_bytes(), &[204])?;
        server.started_in = began.elapsed();
        Ok(server)
    }

    /// This program itself, by one of its hidden words.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn own(words: &[OsString], cores: &Cores) -> io::Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(words);
        Server::run(command, cores)
    }

    fn run(mut command: Command, cores: &Cores) -> io::Result<Server> {
        // Held open by the handle: some end with it.
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = cores.run(|| command.spawn())?;
        let mut output = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut line = String::new();
        output.read_line(&mut line)?;
        let mut addresses = line
            .split("http://")
            .skip(1)
            .filter_map(|rest| rest.split([' ', ')', '\n']).next()?.parse().ok());
        let Some(address) = addresses.next() else {
            // It said something else, or ended.
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::Error::other(format!("{command:?} does not serve: {line}")));
        };
        let admin = addresses.next();
        Ok(Server { child, _output: output, address, admin, started_in: Duration::ZERO })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one request, and gives the whole answer.
    ///
    /// # Errors
    /// When there is none, or its status is not among `statuses`.
    pub(crate) fn ask(&self, request: &[u8], statuses: &[u16]) -> io::Result<Vec<u8>> {
        ask(self.address, request, statuses)
    }

    /// Tells it to stop, and waits until it did.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a child has an id");
        kill_process(pid, Signal::TERM)?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("a server does not stop"));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It only held what is thrown away now; and it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says on standard output where this process serves, and ends with its parent from now on.
///
/// # Errors
/// When nobody listens.
pub(crate) fn announce(address: SocketAddr) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut out = io::stdout();
    writeln!(out, "serves http://{address}")?;
    out.flush()
}

/// Sends one request on a connection of its own, and gives the whole answer.
///
/// # Errors
/// When there is none, or its status is not among `statuses`.
pub(crate) fn ask(address: SocketAddr, request: &[u8], statuses: &[u16]) -> io::Result<Vec<u8>> {
    exchange(&mut connect(address)?, request, statuses)
}

/// A connection for single requests.
///
/// # Errors
/// When there is none to be had.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends one request, and gives the whole answer.
///
/// # Errors
/// When there is none, or its status is not among `statuses`.
pub(crate) fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    statuses: &[u16],
) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    loop {
        if let Some((status, _, end)) = http::whole(&answer)? {
            answer.truncate(end);
            if statuses.contains(&status) {
                return Ok(answer);
            }
            let text = String::from_utf8_lossy(&answer[..end.min(400)]).into_owned();
            return Err(io::Error::other(format!("status {status}: {text}")));
        }
        let mut piece = [0; 16 << 10];
        let size = stream.read(&mut piece)?;
        if size == 0 {
            return Err(io::Error::other("the server closed the connection"));
        }
        answer.extend_from_slice(&piece[..size]);
    }
}
