//! Replays the corpus, and seeds that were changed a little: some thousands a target, the same each
//! time.

use super::change::{Seeds, corpus};
use super::{TARGETS, replay};
use std::time::{Duration, Instant};

/// Changed seeds a target.
const CHANGED_COUNT: u64 = 20_000;
/// What a slow machine spends on one target at the most.
const TIME_MAX: Duration = Duration::from_millis(800);

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
        let seeds = Seeds::of(name).expect("the corpus is there");
        let mut input = Vec::new();
        let started = Instant::now();
        for number in 1..=CHANGED_COUNT {
            let mut dice = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            seeds.fill(&mut input, &mut || next(&mut dice));
            target(&input);
            if started.elapsed() > TIME_MAX {
                break;
            }
        }
    }
}
