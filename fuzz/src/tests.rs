//! Replays the corpus, and seeds that were changed a little: some thousands a target, the same each
//! time.

use super::{TARGETS, replay};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Changed seeds a target.
const CHANGED_COUNT: u64 = 20_000;
/// What a slow machine spends on one target at the most.
const TIME_MAX: Duration = Duration::from_millis(800);

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn every_target_has_seeds_and_survives_them() {
    for (name, target) in TARGETS {
        let count = replay(vec![corpus(name)], target).expect("the corpus is there");
        assert!(count >= 2, "{name} has {count} seeds");
    }
}

#[test]
fn seeds_changed_a_little_are_survived() {
    for (name, target) in TARGETS {
        let entries = fs::read_dir(corpus(name)).expect("the corpus is there");
        let mut files: Vec<PathBuf> =
            entries.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        let seeds: Vec<Vec<u8>> =
            files.iter().map(|file| fs::read(file).expect("a seed")).collect();
        let started = Instant::now();
        for number in 1..=CHANGED_COUNT {
            let mut dice = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut bytes = seeds[(next(&mut dice) % seeds.len() as u64) as usize].clone();
            for _ in 0..=next(&mut dice) % 4 {
                change(&mut bytes, &mut dice, &seeds);
            }
            target(&bytes);
            if started.elapsed() > TIME_MAX {
                break;
            }
        }
    }
}

/// One change: a bit, a byte, a cut, a repetition, or a piece of another seed.
fn change(bytes: &mut Vec<u8>, dice: &mut u64, seeds: &[Vec<u8>]) {
    let size = bytes.len() as u64;
    let at = (next(dice) % (size + 1)) as usize;
    match next(dice) % 6 {
        0 if size > 0 => bytes[at % size as usize] ^= 1 << (next(dice) % 8),
        1 if size > 0 => bytes[at % size as usize] = next(dice) as u8,
        2 => bytes.truncate(at),
        3 => {
            let piece = bytes[at..(at + 16).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        4 => {
            let other = &seeds[(next(dice) % seeds.len() as u64) as usize];
            let start = (next(dice) % (other.len() as u64 + 1)) as usize;
            bytes.splice(at..at, other[start..(start + 32).min(other.len())].iter().copied());
        }
        _ => {
            let edges: [&[u8]; 6] = [&[0xff; 8], &[0; 8], &[0x7f], b"\\u", b"%", b"\n"];
            bytes.splice(at..at, edges[(next(dice) % 6) as usize].iter().copied());
        }
    }
}
