//! The rounds of upkeep one by one, on the parts of an engine whose background threads were not started.

use super::{recover, segments};
use crate::checksum;
use crate::config::Config;
use crate::core::{Core, Milestone};
use crate::domain::Durability;
use crate::env::{Environment, ManualClock};
use crate::log::frame::Kind;
use crate::log::tail::NewFrame;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const SEGMENT_SIZE: u64 = 1 << 20;

fn open(folder: &Path, disk_reserve_bytes: u64) -> Core {
    let config = Config {
        segment_size_bytes: SEGMENT_SIZE,
        disk_reserve_bytes,
        ..Config::new(folder.join("data"))
    };
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let env = Environment { clock, ..Environment::system() };
    recover::open(config, env).expect("it opens").0
}

/// Appends until the log goes on in its next segment.
fn fill_segment(core: &Core) {
    let frame = || NewFrame {
        kind: Kind::SegmentRetired,
        at_ms: 1,
        queue: 0,
        seq: 1_000,
        payload: &[],
        crc: checksum::begin(),
    };
    while !core.log.append(frame(), Durability::Os).expect("there is a next segment").is_first {}
}

/// A round, as if the log had got its last segment so long ago.
fn prepare(core: &Core, since: Duration) {
    let mut last = Milestone::of(core);
    last.at = last.at.checked_sub(since).expect("the machine has run for so long");
    *core.preparing.lock().expect("nobody else has it") = Some(last);
    segments::round(core).expect("a round");
}

#[test]
fn a_log_that_is_quick_has_the_segment_after_the_next_made_ready() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = open(folder.path(), 0);
    segments::round(&core).expect("a round");
    assert!(core.spares().is_empty(), "nobody knows yet how quick it is");
    fill_segment(&core);
    prepare(&core, Duration::ZERO);
    let spares = core.spares().clone();
    let [spare] = &spares[..] else { panic!("one is made in advance: {spares:?}") };
    assert_eq!(spare.metadata().expect("it is there").len(), SEGMENT_SIZE);
    // Once it is needed it is there, and a log that was slow since gets no other.
    let made_count = core.spare_ticket.load(Ordering::Relaxed);
    fill_segment(&core);
    prepare(&core, Duration::from_secs(11));
    assert!(core.log.wants_next().is_none());
    assert!(core.spares().is_empty());
    assert!(!spare.exists(), "it has become the next segment");
    assert_eq!(core.spare_ticket.load(Ordering::Relaxed), made_count, "no file was made");
}

#[test]
fn nothing_is_made_in_advance_on_a_disk_that_has_no_room_to_spare() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = open(folder.path(), 1 << 60);
    segments::round(&core).expect("a round");
    fill_segment(&core);
    prepare(&core, Duration::ZERO);
    assert!(core.log.wants_next().is_none(), "the next one is needed whatever the disk has");
    assert!(core.spares().is_empty());
}
