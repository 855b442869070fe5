//! The ways to harm a file, and every place at which that can be done. Knows bytes and files, and nothing of what
//! they mean but where a file is more than zeros.

use super::folder::Image;
use crate::random::Random;
use std::ops::Range;

/// What disks and their caches lose, and what file systems do.
pub(super) const BLOCKS: [usize; 2] = [512, 4096];

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One bit of this byte flips.
    Flip,
    /// This byte becomes another.
    Set,
    /// The file ends here.
    Cut,
    /// A block becomes zeros.
    Zero(usize),
    /// A block becomes noise.
    Garble(usize),
    /// A block becomes a copy of another one of the file.
    Copy(usize),
    /// Two blocks of the file change places.
    Swap(usize),
    /// A block becomes a copy of one of another file: a write that went astray.
    Stray(usize),
}

/// A place of a folder, and what is done there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) kind: Kind,
    pub(super) offset: usize,
}

/// What a file has become.
#[derive(Debug)]
pub(super) struct Harmed {
    pub(super) bytes: Vec<u8>,
    /// From the first byte that changed to behind the last; empty where all is as before.
    pub(super) changed: Range<usize>,
}

/// Every place of a folder: each byte that means something, each block of it, and one byte in each block of
/// the zeros behind.
pub(super) fn places(image: &Image) -> Vec<Place> {
    let mut places = Vec::new();
    for (file, stored) in image.files.iter().enumerate() {
        let mut place = |kind, offset| places.push(Place { file, kind, offset });
        let size = stored.bytes.len();
        for offset in stored.meant.clone().into_iter().flatten() {
            place(Kind::Flip, offset);
            place(Kind::Set, offset);
            place(Kind::Cut, offset);
        }
        for block in BLOCKS {
            for offset in (0..size).step_by(block) {
                let is_meant = stored
                    .meant
                    .iter()
                    .any(|meant| meant.start < offset + block && offset < meant.end);
                if is_meant {
                    place(Kind::Zero(block), offset);
                    place(Kind::Garble(block), offset);
                    place(Kind::Copy(block), offset);
                    place(Kind::Swap(block), offset);
                    place(Kind::Stray(block), offset);
                } else if block == BLOCKS[0] {
                    place(Kind::Set, offset);
                } else {
                    place(Kind::Garble(block), offset);
                    place(Kind::Copy(block), offset);
                }
            }
        }
    }
    places
}

/// Harms a file at a place.
pub(super) fn harm(image: &Image, place: &Place, random: &mut Random) -> Harmed {
    let before = &image.files[place.file].bytes;
    let mut bytes = before.clone();
    let size = bytes.len();
    let at = place.offset;
    let block_at = |block: usize, random: &mut Random| {
        let number = random.below(size.div_ceil(block) as u64) as usize;
        let start = number * block;
        start..(start + block).min(size)
    };
    match place.kind {
        Kind::Flip => bytes[at] ^= 1 << random.below(8),
        Kind::Set => {
            let is_meant = image.files[place.file].meant.iter().any(|meant| meant.contains(&at));
            // In the zeros one byte stands for all of its block.
            let at = if is_meant { at } else { (at + random.below(512) as usize).min(size - 1) };
            bytes[at] = bytes[at].wrapping_add(1 + random.below(255) as u8);
        }
        Kind::Cut => bytes.truncate(at),
        Kind::Zero(block) => bytes[at..(at + block).min(size)].fill(0),
        Kind::Garble(block) => {
            bytes[at..(at + block).min(size)].fill_with(|| random.word() as u8);
        }
        Kind::Copy(block) => {
            let from = block_at(block, random);
            put(&mut bytes, &before[from], at);
        }
        Kind::Swap(block) => {
            let other = block_at(block, random);
            put(&mut bytes, &before[other.clone()], at);
            put(&mut bytes, &before[at..(at + block).min(size)], other.start);
        }
        Kind::Stray(block) => {
            let count = image.files.len();
            let alike: Vec<usize> = (0..count)
                .filter(|other| *other != place.file)
                .filter(|other| image.files[*other].is_of_kind(&image.files[place.file]))
                .collect();
            // Mostly from a file of its own kind, where it could be mistaken.
            let other = match random.pick(&alike) {
                Some(other) if !random.one_in(4) => *other,
                _ => random.below(count as u64) as usize,
            };
            let source = &image.files[other].bytes;
            let from = if random.one_in(2) { at } else { random.below(16) as usize * block };
            if from < source.len() {
                put(&mut bytes, &source[from..(from + block).min(source.len())], at);
            }
        }
    }
    let changed = changed(before, &bytes);
    Harmed { bytes, changed }
}

/// Writes over what is there, as far as the file reaches.
fn put(bytes: &mut [u8], piece: &[u8], at: usize) {
    let size = piece.len().min(bytes.len() - at);
    bytes[at..at + size].copy_from_slice(&piece[..size]);
}

fn changed(before: &[u8], after: &[u8]) -> Range<usize> {
    let common = before.len().min(after.len());
    let first = (0..common).find(|at| before[*at] != after[*at]).unwrap_or(common);
    if first == before.len() && before.len() == after.len() {
        return 0..0;
    }
    let last = if before.len() == after.len() {
        (0..common).rev().find(|at| before[*at] != after[*at]).map_or(common, |last| last + 1)
    } else {
        before.len().max(after.len())
    };
    first..last
}
