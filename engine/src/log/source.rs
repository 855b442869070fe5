//! The bytes of a segment as a scan looks at them: all of a map, or one window of the file at a time,
//! so that a walk over any number of files takes the memory of a window. Knows no frames.

use crate::env::File;
use std::io;
use std::sync::Arc;

/// A window takes so many bytes at least: reading ahead in large pieces is what disks like.
const WINDOW_SIZE: usize = 1 << 20;

/// Where a scan finds its bytes.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    /// In memory, all of them.
    Mapped(&'a [u8]),
    /// In the file; a window of them in memory.
    File(Window),
}

impl Source<'_> {
    /// How many bytes there are.
    pub(crate) fn size(&self) -> usize {
        match self {
            Source::Mapped(bytes) => bytes.len(),
            Source::File(window) => window.size,
        }
    }

    /// Forgets what was read: the file may have more to give now.
    pub(crate) fn forget(&mut self) {
        if let Source::File(window) = self {
            window.bytes.clear();
        }
    }

    /// The `size` bytes at `position`, fewer where the file ends.
    ///
    /// # Errors
    /// What the system said; of a map there are none.
    pub(crate) fn at(&mut self, position: usize, size: usize) -> io::Result<&[u8]> {
        let end = position.saturating_add(size).min(self.size());
        let start = position.min(end);
        match self {
            Source::Mapped(bytes) => Ok(&bytes[start..end]),
            Source::File(window) => window.at(start, end),
        }
    }
}

/// A window over a file.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn File>,
    size: usize,
    start: usize,
    bytes: Vec<u8>,
}

impl Window {
    /// A window over the first `size` bytes of a file.
    pub(crate) fn new(file: Arc<dyn File>, size: u64) -> Window {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        Window { file, size, start: 0, bytes: Vec::new() }
    }

    fn at(&mut self, start: usize, end: usize) -> io::Result<&[u8]> {
        if start < self.start || end > self.start + self.bytes.len() {
            self.move_to(start, end)?;
        }
        Ok(&self.bytes[start - self.start..end - self.start])
    }

    /// Keeps what the old window has of the new one, and reads the rest.
    fn move_to(&mut self, start: usize, end: usize) -> io::Result<()> {
        let kept = match start.checked_sub(self.start) {
            Some(passed) if passed < self.bytes.len() => {
                self.bytes.drain(..passed);
                self.bytes.len()
            }
            _ => 0,
        };
        let size = (end - start).max(WINDOW_SIZE).min(self.size - start);
        self.start = start;
        self.bytes.resize(size.max(kept), 0);
        if let Err(error) = read_exact(&*self.file, &mut self.bytes[kept..], (start + kept) as u64)
        {
            self.bytes.clear();
            return Err(error);
        }
        Ok(())
    }
}

/// Reads until `buffer` is full.
///
/// # Errors
/// `UnexpectedEof` where the file ends before.
pub(crate) fn read_exact(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => done += count,
        }
    }
    Ok(())
}
