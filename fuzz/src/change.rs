//! Seeds of a target, and inputs made of them by small changes, as numbers decide. Knows no target.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// An input is made by so many changes at the most.
const CHANGES_MAX: u64 = 6;

/// Where the seeds of a target lie.
pub fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The seeds of one target.
#[derive(Debug)]
pub struct Seeds(Vec<Vec<u8>>);

impl Seeds {
    /// Reads them, in the order of their names.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be read.
    pub fn of(target: &str) -> io::Result<Seeds> {
        let entries = fs::read_dir(corpus(target))?.collect::<io::Result<Vec<_>>>()?;
        let mut files: Vec<PathBuf> = entries.iter().map(|entry| entry.path()).collect();
        files.sort();
        files.iter().map(fs::read).collect::<io::Result<_>>().map(Seeds)
    }

    /// Those given, of which there is one at least.
    pub fn given(seeds: Vec<Vec<u8>>) -> Seeds {
        assert!(!seeds.is_empty(), "there is nothing to change");
        Seeds(seeds)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Makes `input` one of the seeds, changed a little; `next` gives numbers of 64 bits.
    pub fn fill(&self, input: &mut Vec<u8>, next: &mut impl FnMut() -> u64) {
        input.clear();
        input.extend_from_slice(self.pick(next));
        for _ in 0..=next() % CHANGES_MAX {
            self.change(input, next);
        }
    }

    fn pick(&self, next: &mut impl FnMut() -> u64) -> &[u8] {
        &self.0[(next() % self.0.len() as u64) as usize]
    }

    /// One change: a bit, a byte, a cut, a repetition, a piece taken out, a number moved a little, or a piece of
    /// another seed or of what is often at the edge.
    fn change(&self, bytes: &mut Vec<u8>, next: &mut impl FnMut() -> u64) {
        const EDGES: [&[u8]; 12] = [
            &[0xff; 8],
            &[0; 8],
            &[0x7f],
            b"\\u",
            b"%",
            b"\n",
            b"\"",
            b"{\"",
            b"[[",
            b"-1",
            b"18446744073709551616",
            "\u{1f600}".as_bytes(),
        ];
        let size = bytes.len();
        let at = (next() % (size as u64 + 1)) as usize;
        match next() % 8 {
            0 if at < size => bytes[at] ^= 1 << (next() % 8),
            1 if at < size => bytes[at] = next() as u8,
            2 if at < size => {
                bytes[at] = bytes[at].wrapping_add((next() % 9) as u8).wrapping_sub(4)
            }
            // Most cuts are short: what is left of a long one says little.
            3 => bytes.truncate(at.max(size.saturating_sub((next() % 64) as usize))),
            4 => {
                let end = (at + (next() % 16) as usize).min(size);
                bytes.drain(at..end);
            }
            5 => {
                let piece = at..(at + 16).min(size);
                let copy: Vec<u8> = bytes[piece].to_vec();
                bytes.splice(at..at, copy);
            }
            6 => {
                let other = self.pick(next);
                let start = (next() % (other.len() as u64 + 1)) as usize;
                let piece = &other[start..(start + 32).min(other.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => {
                let edge = EDGES[(next() % EDGES.len() as u64) as usize];
                bytes.splice(at..at, edge.iter().copied());
            }
        }
    }
}
