//! What was done to a simulated disk, in order: pure data. Knows neither what of it lasts nor how it is done.

use std::fmt;
use std::path::{Path, PathBuf};

/// One change of the disk. Paths count from the disk's root; files have numbers, since a file outlives its name.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// A new folder.
    Folder(PathBuf),
    /// A new, empty file under a name that may have been another's.
    Create {
        path: PathBuf,
        id: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove(PathBuf),
    Write {
        id: u64,
        offset: u64,
        data: Data,
    },
    Resize {
        id: u64,
        size: u64,
    },
    /// All that was done to the file before is safe; with `failed`, what is not safe never will be.
    Sync {
        id: u64,
        failed: bool,
    },
    SyncFolder(PathBuf),
}

/// Bytes written; segments are filled with many zeros.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Zeros(u64),
    Bytes(Vec<u8>),
}

impl Data {
    pub(crate) fn of(bytes: &[u8]) -> Data {
        if bytes.len() >= 512 && bytes.iter().all(|byte| *byte == 0) {
            Data::Zeros(bytes.len() as u64)
        } else {
            Data::Bytes(bytes.to_vec())
        }
    }

    pub(crate) fn size(&self) -> u64 {
        match self {
            Data::Zeros(size) => *size,
            Data::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Puts the part `from..to` of it into a file that the data is written to at `offset`.
    pub(crate) fn put(&self, file: &mut Vec<u8>, offset: u64, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (start, end) = ((offset + from) as usize, (offset + to) as usize);
        if file.len() < end {
            file.resize(end, 0);
        }
        match self {
            Data::Zeros(_) => file[start..end].fill(0),
            Data::Bytes(bytes) => {
                file[start..end].copy_from_slice(&bytes[from as usize..to as usize]);
            }
        }
    }
}

/// One line of the trace: what was asked for, where, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) verb: Verb,
    pub(crate) name: String,
    pub(crate) detail: String,
    pub(crate) failed: bool,
}

/// The kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// A new folder.
    Folder,
    /// A new file.
    Create,
    /// Another name for a file.
    Rename,
    /// A name taken away.
    Remove,
    /// Bytes written.
    Write,
    /// A file cut or lengthened.
    Resize,
    /// A file synced.
    Sync,
    /// A folder synced.
    SyncFolder,
    /// A look at what is there; no change, and in no trace.
    Read,
    /// The power went and came back.
    Crash,
}

impl Verb {
    /// What the trace calls it.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Folder => "folder",
            Verb::Create => "create",
            Verb::Rename => "rename",
            Verb::Remove => "remove",
            Verb::Write => "write",
            Verb::Resize => "resize",
            Verb::Sync => "sync",
            Verb::SyncFolder => "sync-folder",
            Verb::Read => "read",
            Verb::Crash => "crash",
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { verb, name, detail, failed, .. } = self;
        write!(f, "{} {name}{detail}{}", verb.name(), if *failed { " failed" } else { "" })
    }
}

/// The last part of a path.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
