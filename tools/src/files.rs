//! Files that people name: what is exported, and where to. Every one is made new; none that is there
//! is written over. Knows nothing of what stands in them.

use anyhow::Context;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Stands for standard input or output.
const STANDARD: &str = "-";

/// Whether the name stands for standard input or output.
pub(crate) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == STANDARD
}

/// A file to be read from its beginning, and its size where it has one.
pub(crate) fn read(path: &Path) -> anyhow::Result<(Box<dyn BufRead>, Option<u64>)> {
    if is_standard(path) {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let about = file.metadata().with_context(cannot)?;
    let size = about.is_file().then_some(about.len());
    Ok((Box::new(BufReader::with_capacity(1 << 20, file)), size))
}

/// A file that is being written and was not there before.
pub(crate) struct NewFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl NewFile {
    pub(crate) fn create(path: &Path) -> anyhow::Result<NewFile> {
        let file = File::create_new(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                anyhow::anyhow!("{} is there already: name a new file", path.display())
            }
            _ => anyhow::anyhow!("cannot make {}: {error}", path.display()),
        })?;
        Ok(NewFile { path: path.to_owned(), file: BufWriter::with_capacity(1 << 20, file) })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Makes it durable.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Makes a folder, with those above it, if it is not there.
pub(crate) fn make_folder(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Writes a small file, in place of one that is there.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
