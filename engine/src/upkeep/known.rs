//! What a checkpoint says of a queue's messages: which of a segment's may live. Reads nothing.

use crate::files::checkpoint::RangeShape;
use crate::log::segment::Segment;

/// What a checkpoint says of a queue's messages.
pub(crate) struct Known {
    pub(super) next_seq: u64,
    /// The checkpoint that says so, by number.
    pub(super) checkpoint: u64,
    /// In the order of their segments.
    pub(crate) ranges: Box<[RangeShape]>,
}

impl Known {
    pub(super) fn range(&self, segment: u64, generation: u64) -> Option<&RangeShape> {
        let place = self.ranges.binary_search_by_key(&segment, |range| range.segment).ok()?;
        Some(&self.ranges[place]).filter(|range| range.generation == generation)
    }

    /// Whether the checkpoint says that a message, in a segment as it was appended, is dead.
    pub(super) fn is_dead(&self, segment: &Segment, seq: u64) -> bool {
        match self.range(segment.number(), 0) {
            // What it could know of and does not list is dead.
            None => seq < self.next_seq,
            Some(range) => {
                let ordinal = seq.saturating_sub(range.first_seq);
                let word = usize::try_from(ordinal / 64).ok().and_then(|word| range.bits.get(word));
                seq < range.first_seq || word.is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
            }
        }
    }
}
