//! The folder that a command is about: how it is named, opened and spoken of. Knows nothing of what
//! is looked for in it.

use marconi_engine::Error;
use marconi_engine::env::Environment;
use marconi_engine::files::format::LOCK_FILE;
use marconi_engine::inspect::View;
use std::fmt;
use std::path::PathBuf;
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// The least the system has.
const NICENESS: i32 = 19;

/// Which folder.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Folder {
    /// The data folder of a server: the one that holds FORMAT.
    #[arg(value_name = "DIR")]
    pub(crate) path: PathBuf,
}

impl Folder {
    /// Lets a server that works on the folder go first, on processor and disk: called before a
    /// command begins to read, so that the server does not feel it.
    pub(crate) fn step_back(&self) {
        if self.is_free() {
            return;
        }
        // A system that refuses costs the server speed and nothing else. Threads started later inherit
        // both. Niceness alone would not do: to the scheduler a core that runs a nice thread is busy, one
        // that runs an idle thread is free. Of reads and writes niceness sets the priority.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    }

    /// Whether nobody has the folder open. Where that cannot be told, somebody might.
    fn is_free(&self) -> bool {
        let lock = self.path.join(LOCK_FILE);
        matches!(Environment::system().disk.lock_holder(&lock), Ok(None))
    }

    /// The state as a server would see it.
    pub(crate) fn view(&self) -> anyhow::Result<View> {
        View::open(&self.path).map_err(|error| self.explain(error))
    }

    /// What is wrong, with the command that helps.
    pub(crate) fn explain(&self, error: Error) -> anyhow::Error {
        match error {
            // What a server rewrites while it is read looks like damage.
            Error::Damaged { .. } if !self.is_free() => anyhow::anyhow!(
                "{error}. A server works on the folder, which may be why: try again. \
                 Then: marconi log verify {self}"
            ),
            Error::Damaged { .. } => anyhow::anyhow!("{error}. Next: marconi log verify {self}"),
            error => error.into(),
        }
    }
}

/// As it is written on a command line.
impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.path.to_string_lossy();
        let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+,:@%".contains(letter);
        if !text.is_empty() && text.chars().all(is_plain) && !text.starts_with('-') {
            return f.write_str(&text);
        }
        write!(f, "'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_so_that_a_shell_takes_it() {
        for (path, shown) in [("data", "data"), ("my data", "'my data'"), ("a'b", r"'a'\''b'")] {
            assert_eq!(Folder { path: path.into() }.to_string(), shown);
        }
    }
}
