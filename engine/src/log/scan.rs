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
    /// A frame says that the segment ends here, and where the log goes on.
    Sealed(Lsn),
    /// The file ends right behind a frame, as one that was rewritten does.
    Eof,
    /// What follows is no frame.
    Invalid(Invalid),
}

/// What lies behind an invalid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beyond {
    /// A later frame proves that the invalid one had been durable.
    pub proves_damage: bool,
    /// Where the last whole frame found ends; the invalid frame's own place where there is none.
    pub end: u64,
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
        let is_rewritten = self.segment.header.generation > 0;
        if is_rewritten && self.position >= self.bytes.len() {
            self.end = Some(ScanEnd::Eof);
            return None;
        }
        // Rewritten segments keep each frame's first LSN, which is no longer its place.
        let lsn = (!is_rewritten).then(|| self.lsn_of(self.position));
        match frame::decode(self.bytes.get(self.position..).unwrap_or_default(), lsn) {
            Ok((head, _)) if head.kind == Kind::SegmentEnd => {
                self.position += head.padded_size();
                self.end = Some(ScanEnd::Sealed(Lsn(head.seq)));
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

    /// After a walk that ended in an invalid frame: whether a later frame proves that the invalid one
    /// had been durable, so that it is damage and not a torn tail; and where the last frame ends that
    /// is still whole behind it.
    ///
    /// Every frame says how far the log was durable when it was appended. A whole frame behind the
    /// hole that says "all before me, beyond the hole, was on stable storage" can only stand there if
    /// the hole was once a frame. Without such a witness nothing behind the hole was acknowledged as
    /// durable *and* the hole itself may be what a power cut tore.
    pub fn beyond(&self) -> Beyond {
        let hole = self.lsn().0;
        let mut position = self.position + ALIGNMENT;
        let mut end = self.position as u64;
        while position + HEAD_SIZE <= self.bytes.len() {
            let lsn = self.lsn_of(position);
            // A cheap look first: almost nothing has the right LSN by chance.
            if frame::u64_at(self.bytes, position + 8) == lsn.0
                && let Ok((head, _)) = frame::decode(&self.bytes[position..], Some(lsn))
            {
                // The largest distance says "so far, or farther": it proves nothing.
                if head.behind != u32::MAX && lsn.0.saturating_sub(u64::from(head.behind)) > hole {
                    return Beyond { proves_damage: true, end };
                }
                position += head.padded_size();
                end = position as u64;
            } else {
                position += ALIGNMENT;
            }
        }
        Beyond { proves_damage: false, end }
    }

    /// An error for damage at `position`.
    pub(crate) fn damaged(&self, position: u64, what: String) -> Error {
        segment::damaged(&self.segment.path, position, what)
    }
}
