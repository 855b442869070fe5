//! Segments' files whose headers say that they are others, as a disk leaves them that wrote a block astray. Knows what a
//! replay found; reads nothing.

use super::known::Known;
use super::replay::{Replay, Tail};
use super::survey::segment_name;
use crate::domain::QueueId;
use crate::error::Result;
use crate::log::segment::{self, Segment};
use std::path::PathBuf;

/// One of them.
pub(super) struct Misnamed {
    pub(super) path: PathBuf,
    /// By its name.
    number: u64,
    /// The name it has by its header.
    pub(super) header: String,
    /// Another file says so, too.
    is_twice: bool,
}

impl Misnamed {
    /// The worst of them. A file made ready for reuse may have its old name still, but its header is not that of a
    /// file that is there as well.
    pub(super) fn among(found: &[Segment]) -> Option<Misnamed> {
        let all = found.iter().filter(|segment| !segment.has_its_name()).filter_map(|segment| {
            let (number, _) = segment_name(segment.path.file_name()?.to_str()?)?;
            let same = found.iter().filter(|other| other.header == segment.header);
            let (path, header) = (segment.path.clone(), segment.header.file_name());
            Some(Misnamed { path, number, header, is_twice: same.count() > 1 })
        });
        all.max_by_key(|misnamed| misnamed.is_twice)
    }
}

/// Fails where a segment passes for one that is there as well, and with it what lives in it would vanish without a
/// word.
pub(super) fn check(replay: &Replay, tail: &Tail) -> Result<()> {
    let Some(Misnamed { path, number, header, is_twice: true }) = &replay.misnamed else {
        return Ok(());
    };
    let mut standing =
        tail.segments.iter().map(|segment| segment.number()..=segment.header.last_number);
    if replay.retired.contains(number) || standing.any(|numbers| numbers.contains(number)) {
        return Ok(());
    }
    let is_missed = |(queue, known): (&QueueId, &Known)| {
        let lives = known.ranges.iter().any(|range| range.segment == *number);
        lives && replay.state.key_of(*queue).is_some()
    };
    if !replay.known.iter().any(is_missed) {
        return Ok(());
    }
    let what = format!("by its header this is {header}, which is there as well");
    Err(segment::damaged(path, 0, what))
}
