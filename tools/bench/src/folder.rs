//! The files of a run: where data lies meanwhile, what is kept. All that touches files but the
//! measurements of the disk is here.

use anyhow::Context as _;
use serde::Serialize;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// A folder of results being written.
#[derive(Debug)]
pub(crate) struct Folder {
    lines: File,
}

impl Folder {
    /// Makes the folder, and an empty file of lines in it.
    ///
    /// # Errors
    /// When it holds results already, or cannot be made.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Folder> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let file = path.join(crate::results::FILE_NAME);
        let lines = File::create_new(&file).with_context(|| {
            format!("cannot make {}; give another folder with --out", file.display())
        })?;
        Ok(Folder { lines })
    }

    /// Adds a line; it is there even if the run ends early.
    ///
    /// # Errors
    /// When the disk refuses it.
    pub(crate) fn add(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.lines.write_all(&text).context("cannot write results")
    }
}

/// Writes a whole file into a folder, which is made where it is not there.
///
/// # Errors
/// When the disk refuses it.
pub(crate) fn put(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a file of text.
///
/// # Errors
/// When it is not there, or not text; the error names it.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A file for what a server prints.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("cannot make {}", path.display()))
}

/// The last lines of a file, for an error; empty where there is none.
pub(crate) fn tail(path: &Path, count: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
