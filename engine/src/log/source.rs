//! The bytes of a segment as a scan looks at them: all of a map, or one window of the file at a time,
//! so that a walk over any number of files takes the memory of a window. Knows no frames.

use crate::env::File;
use std::io;
use std::sync::Arc;

/// Zeros are looked for in so many bytes at a time.
const ZEROS_LOOK_SIZE: usize = 4096;
/// And compared so many at a time.
const ZEROS: [u8; 64] = [0; 64];

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

    /// The first place, of those that lie whole steps behind `position`, with a byte in its step that is not zero; or one
    /// that cannot be read, or none before the end.
    pub(crate) fn behind_zeros(&mut self, position: usize, step: usize) -> usize {
        let mut at = position;
        while let Ok(bytes) = self.at(at, ZEROS_LOOK_SIZE)
            && !bytes.is_empty()
        {
            let pieces = bytes.chunks(ZEROS.len());
            let zeros: usize =
                pieces.take_while(|piece| **piece == ZEROS[..piece.len()]).map(<[u8]>::len).sum();
            let rest = bytes[zeros..].iter().take_while(|byte| **byte == 0).count();
            let is_all = zeros + rest == bytes.len();
            at += zeros + rest;
            if !is_all {
                break;
            }
        }
        position + (at - position) / step * step
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn zeros_are_passed_over_in_whole_steps(
            runs in vec((0..9000_usize, 1..20_usize), 0..4),
            tail in 0..200_usize,
            from in 0..100_usize,
        ) {
            let mut bytes = Vec::new();
            for (zeros, others) in runs {
                bytes.resize(bytes.len() + zeros, 0);
                bytes.resize(bytes.len() + others, 1);
            }
            bytes.resize(bytes.len() + tail, 0);
            let from = from.min(bytes.len());
            let one_by_one = (from..bytes.len())
                .step_by(8)
                .find(|at| bytes[*at..bytes.len().min(at + 8)].iter().any(|byte| *byte != 0));
            let found = Source::Mapped(&bytes).behind_zeros(from, 8);
            match one_by_one {
                Some(place) => prop_assert_eq!(found, place),
                None => prop_assert!(found + 8 > bytes.len() && found <= bytes.len()),
            }
        }
    }
}
