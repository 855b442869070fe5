//! Walks the frames of one segment in order, and tells a torn tail from damage.
//! Knows frames; knows neither state nor what records mean.

use super::frame::{self, ALIGNMENT, HEAD_SIZE, Head, Invalid, Kind, LsnHint};
use super::segment::Segment;
use super::source::Source;
use crate::domain::Lsn;
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
    source: Source<'a>,
    position: usize,
    end: Option<ScanEnd>,
}

impl<'a> Scanner<'a> {
    /// Starts at the segment's first frame. Nobody may be writing to the segment, or what he writes
    /// now may be missed.
    pub fn new(segment: &'a Segment) -> Scanner<'a> {
        Scanner::from(segment, SEGMENT_HEADER_SIZE)
    }

    /// Starts at a place where a frame begins.
    pub(crate) fn from(segment: &'a Segment, position: u64) -> Scanner<'a> {
        Scanner { segment, source: segment.source(), position: position as usize, end: None }
    }

    /// The next frame, with its place in the file and its payload; `None` at the end.
    pub fn next_frame(&mut self) -> Option<(u64, Head, &[u8])> {
        self.next_whole().map(|(position, head, frame)| (position, head, &frame[HEAD_SIZE..]))
    }

    /// As [`Scanner::next_frame`], with the frame's bytes, head and payload.
    pub(crate) fn next_whole(&mut self) -> Option<(u64, Head, &[u8])> {
        if self.end.is_some() {
            return None;
        }
        if self.is_rewritten() && self.position >= self.source.size() {
            self.end = Some(ScanEnd::Eof);
            return None;
        }
        let at = self.position;
        match self.decode(at) {
            Ok(head) if head.kind == Kind::SegmentEnd => {
                self.position += head.padded_size();
                self.end = Some(ScanEnd::Sealed(Lsn(head.seq)));
                None
            }
            Ok(head) => {
                self.position += head.padded_size();
                // It was just read whole.
                let frame = self.source.at(at, head.length as usize).ok()?;
                Some((at as u64, head, frame))
            }
            Err(why) => {
                self.end = Some(ScanEnd::Invalid(why));
                None
            }
        }
    }

    fn is_rewritten(&self) -> bool {
        self.segment.header.generation > 0
    }

    /// Reads the frame at a position.
    fn decode(&mut self, position: usize) -> Result<Head, Invalid> {
        let unreadable = |_| Invalid::Unreadable;
        let length = frame::length(self.source.at(position, HEAD_SIZE).map_err(unreadable)?)?;
        if length as usize > self.source.size() {
            return Err(Invalid::Length);
        }
        let bytes = self.source.at(position, length as usize).map_err(unreadable)?;
        let lsn_of = |hint| self.segment.lsn_of(position as u64, hint);
        frame::decode(bytes, lsn_of).map(|(head, _)| head)
    }

    /// After a walk that ended in bytes that are no frame: looks at them once more. Who reads beside the
    /// engine that writes may have seen a frame half written.
    pub(crate) fn look_again(&mut self) {
        self.source.forget();
        self.end = None;
    }

    /// After a walk that ended in bytes that are no frame: goes on behind them, at the next whole
    /// frame of this segment. Returns how many bytes were passed over; `None` where no frame follows,
    /// and the walk is over for good.
    pub(crate) fn resume(&mut self) -> Option<u64> {
        let Some(ScanEnd::Invalid(_)) = self.end else { return None };
        let mut position = self.position + ALIGNMENT;
        while position + HEAD_SIZE <= self.source.size() {
            if self.may_begin(position) && self.decode(position).is_ok() {
                let passed = position - self.position;
                self.position = position;
                self.end = None;
                return Some(passed as u64);
            }
            // No frame begins with zeros, and a segment has many where nothing was written yet.
            position = self.source.behind_zeros(position + ALIGNMENT, ALIGNMENT);
        }
        None
    }

    /// A cheap look before the checksum: almost nothing has the right LSN by chance.
    fn may_begin(&mut self, position: usize) -> bool {
        let is_rewritten = self.is_rewritten();
        let Ok(head) = self.source.at(position, HEAD_SIZE) else { return false };
        let lsn = LsnHint::of(head).and_then(|hint| self.segment.lsn_of(position as u64, hint));
        lsn.is_some()
            && (!is_rewritten || frame::unproved_kind(head).is_some_and(Kind::has_messages))
    }

    /// `size` bytes at a position, fewer where the file ends or cannot be read.
    pub(crate) fn bytes_at(&mut self, position: u64, size: usize) -> &[u8] {
        self.source.at(position as usize, size).unwrap_or_default()
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
    pub fn beyond(&mut self) -> Beyond {
        let hole = self.lsn().0;
        let mut position = self.position + ALIGNMENT;
        let mut end = self.position as u64;
        while position + HEAD_SIZE <= self.source.size() {
            if self.may_begin(position)
                && let Ok(head) = self.decode(position)
            {
                // The largest distance says "so far, or farther": it proves nothing.
                let is_told = head.behind != u32::MAX;
                if is_told && head.lsn.0.saturating_sub(u64::from(head.behind)) > hole {
                    return Beyond { proves_damage: true, end };
                }
                position += head.padded_size();
                // A file that was cut may end within what fills up its last frame.
                end = end.max(position.min(self.source.size()) as u64);
            } else {
                position = self.source.behind_zeros(position + ALIGNMENT, ALIGNMENT);
            }
        }
        Beyond { proves_damage: false, end }
    }
}
