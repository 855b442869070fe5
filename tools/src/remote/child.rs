//! The command that does the work of one message, as a process. Knows nothing of claims.

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child, Command};

/// A command under way.
pub(super) struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    /// Starts a command, program first, with `input` on its standard input and these variables in
    /// its environment. It gets a process group of its own: what a terminal sends to ours on Ctrl-C
    /// is not for it.
    pub(super) fn start(
        command: &[OsString],
        variables: &[(&str, &str)],
        input: &[u8],
    ) -> io::Result<Running> {
        let (program, arguments) = command.split_first().expect("the command line asks for one");
        // A file of memory and not a pipe: should we be killed, the command still reads all of it,
        // and does not take a part for the whole.
        let mut file = File::from(memfd_create("marconi-message", MemfdFlags::CLOEXEC)?);
        file.write_all(input)?;
        file.rewind()?;
        let child = Command::new(program)
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::from(file))
            .process_group(0)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Running { child, group })
    }

    /// Waits for its end. May be given up and asked for again.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends it and what it has started, at once.
    pub(super) fn kill(&self) {
        if let Some(group) = self.group {
            // It may have ended just now.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// How a command ended, in words.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
