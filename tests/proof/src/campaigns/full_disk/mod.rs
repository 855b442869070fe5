//! A disk that is full for a while, and then has room again. Mostly simulated (`simulated.rs`): the room ends at any
//! byte of any file the engine makes, in the midst of whatever it does, or no file gets a name any more; work, restarts
//! and power cuts go on; then there is room. Each answer is held against a plain record of what was acknowledged.
//! One seed in some is real (`real.rs`): the server on a disk of a few MiB, which clients and a stranger's file fill.
//!
//! Cannot see a file system that refuses a write within a file whose room was taken before, as those that copy on
//! write may: that counts as a disk that fails (`io-faults`).

mod real;
mod simulated;

use crate::campaign::{Campaign, Width};
use marconi_tests::small_disk::SmallDisk;

/// One seed in so many is tried with the real server.
const REAL_EACH: u64 = 64;

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "full-disk",
    promise: "a full disk stops posts whole and nothing else, loses nothing, and once there is room posting resumes \
              by itself",
    fault: "no room, from any byte on that anything would write, for a while that restarts and power cuts fall into",
    unit: "moments without room",
    in_tests: 500,
    in_ledger: 20_000,
    once_failed: &[1500, 2149],
    // A program that is being started holds for a moment what its parent has open, and so the lock of a folder that
    // another trial wants to open again.
    width: Width::One,
    trial,
    obstacle,
};

fn obstacle() -> Option<String> {
    SmallDisk::mount(1 << 20).err()
}

fn trial(seed: u64) -> anyhow::Result<u64> {
    if seed.is_multiple_of(REAL_EACH) { real::trial(seed) } else { simulated::trial(seed) }
}
