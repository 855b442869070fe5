//! The real server as a process of its own: built, started on a free port of the loopback interface,
//! killed, started again on the same folder and port. Knows no requests.

use anyhow::{Context, bail};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a start may take, recovery included.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How much of the server's log is shown when it does not start.
const SHOWN_LOG_SIZE_MAX: usize = 4000;
/// Ports to choose from. They lie below those that systems hand to connections: a client that
/// calls a stopped server at such a port may be given that very port, and be connected to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The folder cargo builds this profile into: `target/debug`, `target/release` and so on. For a program that was
/// copied out of there, the one where cargo would have built it for release.
pub fn profile_folder() -> anyhow::Result<PathBuf> {
    // A test is target/<profile>/deps/<name>-<hash>, a program target/<profile>/<name>.
    let file = std::env::current_exe().context("find this program's own file")?;
    let folder = file.parent().context("a file lies in a folder")?;
    let is_test = folder.ends_with("deps");
    let folder = if is_test { folder.parent().context("deps lies in a profile")? } else { folder };
    // Cargo marks its folders so that backups leave them out.
    let is_cargos = folder.parent().is_some_and(|target| target.join("CACHEDIR.TAG").exists());
    if is_cargos {
        return Ok(folder.to_owned());
    }
    let of_workspace = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(of_workspace, PathBuf::from);
    Ok(target.join("release"))
}

/// Builds `targets` (such as `--bin marconi-server`) in the profile of the test that calls, and
/// gives the folder they are in. Cargo names a binary only to tests of its own package.
pub fn build(targets: &[&str]) -> anyhow::Result<PathBuf> {
    let folder = profile_folder()?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo told this test about its package is no setting of the build. Build scripts that
    // watch these names would run again, and everything after them, here and in the next test.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    let status = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--profile", profile])
        // With this package beside it, features are as they are here, and nothing is built twice.
        .args(["--package", "marconi-server", "--package", "marconi-tools"])
        .args(["--package", "marconi-tests"])
        .args(targets)
        .arg("--target-dir")
        .arg(folder.parent().context("a profile lies in the target folder")?)
        .status()
        .context("run cargo")?;
    if !status.success() {
        bail!("cargo could not build {targets:?}: {status}");
    }
    Ok(folder)
}

/// A server process on a folder. Killed when dropped.
#[derive(Debug)]
pub struct ServerProgram {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    address: SocketAddr,
    child: Child,
}

impl ServerProgram {
    /// Starts `program` with its data in `folder`, which is there and empty, and waits until it
    /// serves.
    pub fn start(program: &Path, folder: &Path, options: &[&str]) -> anyhow::Result<ServerProgram> {
        let address = free_address()?;
        let mut arguments: Vec<String> = vec![
            format!("--listen={address}"),
            "--admin-listen=off".to_owned(),
            // A nearly full disk is not what is tested.
            "--disk-reserve-bytes=0".to_owned(),
            format!("--folder={}", folder.join("data").display()),
        ];
        arguments.extend(options.iter().map(|&option| option.to_owned()));
        let log = folder.join("log");
        let child = spawn(program, &arguments, &log)?;
        Ok(ServerProgram { program: program.to_owned(), arguments, log, address, child })
    }

    /// Where it listens, now and after every restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as clients take it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("kill the server")?;
        self.child.wait().context("wait for the server's end")?;
        Ok(())
    }

    /// Starts it again after its end, and waits until it serves.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.program, &self.arguments, &self.log)?;
        Ok(())
    }
}

impl Drop for ServerProgram {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

/// Starts the process and waits for the line it prints once it serves.
fn spawn(program: &Path, arguments: &[String], log: &Path) -> anyhow::Result<Child> {
    let log_file = File::options().create(true).append(true).open(log).context("open the log")?;
    let mut command = Command::new(program);
    // The server's configuration is what the test says; the environment speaks to the test.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MARCONI_") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let stdout = child.stdout.take().context("the server's output is a pipe")?;
    let (told, tells) = mpsc::sync_channel(1);
    let reader = thread::spawn(move || {
        let mut line = String::new();
        let _ = told.send(BufReader::new(stdout).read_line(&mut line).map(|_| line));
    });
    let line = tells.recv_timeout(START_DEADLINE);
    let serves = matches!(&line, Ok(Ok(line)) if line.contains(" serves "));
    if !serves {
        // It may have ended already. Its end is the end of the reader, too.
        let _ = child.kill();
        let _ = child.wait();
    }
    let _ = reader.join();
    if !serves {
        let text = fs::read_to_string(log).unwrap_or_default();
        let shown_size = text.len().saturating_sub(SHOWN_LOG_SIZE_MAX);
        let end = text.get(shown_size..).unwrap_or(&text);
        bail!("the server does not start: {line:?}; its log ends with\n{end}");
    }
    Ok(child)
}

/// An address nobody listens on.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side begin at different places.
    let start = (std::process::id() % u32::from(PORTS.end - PORTS.start)) as u16;
    for _ in PORTS {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + offset % (PORTS.end - PORTS.start);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port of {PORTS:?} is free");
}
