//! A disk of a few MiB that fills quickly: a file system in memory, mounted in a world of its own that a process
//! holds, so that it outlives whoever works on it and leaves nothing behind. Knows nothing of what is stored on it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Mounts `$2` with `$1` bytes, says so, and holds it until its input ends.
const HOLD: &str = r#"mount -t tmpfs -o size="$1" none "$2" && echo mounted && exec cat"#;

/// A mounted disk; gone when dropped, and with the process that mounted it.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    holder: Child,
    /// What it is mounted on.
    _folder: TempDir,
}

impl SmallDisk {
    /// Mounts an empty disk of this size.
    ///
    /// # Errors
    /// Why this system does not let us.
    pub fn mount(size_bytes: u64) -> Result<SmallDisk, String> {
        let folder = tempfile::tempdir().map_err(|cause| format!("no folder: {cause}"))?;
        let (size, on) = (size_bytes.to_string(), folder.path().display().to_string());
        // As root, or as the root of a world in which we are the only user.
        for flags in ["-m", "-Urm"] {
            let mut holder = Command::new("unshare")
                .args([flags, "sh", "-c", HOLD, "sh", &size, &on])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|cause| format!("no program unshare: {cause}"))?;
            let mut line = String::new();
            if let Some(output) = holder.stdout.take() {
                // Nothing comes where nothing was mounted.
                let _ = BufReader::new(output).read_line(&mut line);
            }
            if line == "mounted\n" {
                // Others see it by way of the process that holds it.
                let path = PathBuf::from(format!("/proc/{}/root{on}", holder.id()));
                return Ok(SmallDisk { path, holder, _folder: folder });
            }
            let _ = holder.wait();
        }
        Err("no file system can be mounted; it takes root, or a kernel that gives users a world of \
             their own"
            .to_owned())
    }

    /// Its folder, for any process of this user.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are free.
    pub fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.path).expect("it is mounted");
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
