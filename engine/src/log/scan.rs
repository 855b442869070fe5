//! Walks the frames of one segment in order, and tells a torn tail from damage.
//! Knows frames; knows neither state nor what records mean.

use super::frame::{self, ALIGNMENT, HEAD_SIZE, Head, Invalid, Kind};
use super::segment::{self, Segment};
use crate::domain::Lsn;
use crate::error::Error;
use crate::files::format::SEGMENT_HEADER_SIZE;

/// Why a scan came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanEnd {
    /// A frame says that the segment ends here.
    Sealed,
    /// The file ends right behind a frame: it was cut there, or rewritten.
    Eof,
    /// What follows is no frame.
    Invalid(Invalid),
}

/// A walk over a segment.
#[derive(Debug)]
pub struct Scanner<'a> {
    segment: &'a Segment,
    bytes: &'a [u8],
    position: usize,
    end: Option<ScanEnd>,
}

impl<'a> Scanner<'a> {
    /// Starts at the segment's first frame. Nobody may be writing to the segment.
    pub fn new(segment: &'a Segment) -> Scanner<'a> {
        Scanner {
            segment,
            bytes: segment.bytes(),
            position: SEGMENT_HEADER_SIZE as usize,
            end: None,
        }
    }

    /// The next frame, with its place in the file; `None` at the end.
    pub fn next_frame(&mut self) -> Option<(u64, Head, &'a [u8])> {
        if self.end.is_some() {
            return None;
        }
        if self.position >= self.bytes.len() {
            self.end = Some(ScanEnd::Eof);
            return None;
        }
        // Rewritten segments keep each frame's first LSN, which is no longer its place.
        let lsn = (self.segment.header.generation == 0).then(|| self.lsn_of(self.position));
        match frame::decode(&self.bytes[self.position..], lsn) {
            Ok((head, _)) if head.kind == Kind::SegmentEnd => {
                self.position += head.padded_size();
                self.end = Some(ScanEnd::Sealed);
                None
            }
            Ok((head, payload)) => {
                let at = self.position as u64;
                self.position += head.padded_size();
                Some((at, head, payload))
            }
            Err(why) => {
                self.end = Some(ScanEnd::Invalid(why));
                None
            }
        }
    }

    fn lsn_of(&self, position: usize) -> Lsn {
        Lsn(self.segment.header.base.0 + position as u64 - SEGMENT_HEADER_SIZE)
    }

    /// Why the walk ended; call it after [`Scanner::next_frame`] gave `None`.
    pub fn end(&self) -> ScanEnd {
        self.end.expect("the walk is over")
    }

    /// Where the next frame would begin.
    pub fn position(&self) -> u64 {
        self.position as u64
    }

    /// The LSN of that place, in a segment that was not rewritten.
    pub fn lsn(&self) -> Lsn {
        self.lsn_of(self.position)
    }

    /// After a walk that ended in an invalid frame: the place of a later frame which proves that the
    /// invalid one had been durable, so that it is damage and not a torn tail.
    ///
    /// Every frame says how far the log was durable when it was appended. A whole frame behind the
    /// hole that says "all before me, beyond the hole, was on stable storage" can only stand there if
    /// the hole was once a frame. Without such a witness nothing behind the hole was acknowledged as
    /// durable *and* the hole itself may be what a power cut tore.
    pub fn witness_of_damage(&self) -> Option<u64> {
        let hole = self.lsn().0;
        let mut position = self.position + ALIGNMENT;
        while position + HEAD_SIZE <= self.bytes.len() {
            let lsn = self.lsn_of(position);
            // A cheap look first: almost nothing has the right LSN by chance.
            if frame::u64_at(self.bytes, position + 8) == lsn.0
                && let Ok((head, _)) = frame::decode(&self.bytes[position..], Some(lsn))
            {
                // The largest distance says "so far, or farther": it proves nothing.
                if head.behind != u32::MAX && lsn.0.saturating_sub(u64::from(head.behind)) > hole {
                    return Some(position as u64);
                }
                position += head.padded_size();
            } else {
                position += ALIGNMENT;
            }
        }
        None
    }

    /// An error for damage at `position`.
    pub(crate) fn damaged(&self, position: u64, what: String) -> Error {
        segment::damaged(&self.segment.path, position, what)
    }
}
