//! The tail of the log: frames in the order of their LSNs, in buffers that are still to be written. Knows
//! neither who writes them nor what they hold.

use super::frame::{HEAD_SIZE, Head, Kind, padded};
use super::segment::Segment;
use crate::checksum;
use crate::domain::{Durability, Lsn};
use crate::error::Error;
use crate::files::format::SEGMENT_HEADER_SIZE;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

/// Bytes of a page of memory, or a multiple where pages are smaller.
const PAGE_SIZE: u64 = 4096;

/// A frame to be appended: all but what only the tail knows.
#[derive(Debug)]
pub(crate) struct NewFrame<'a> {
    pub(crate) kind: Kind,
    pub(crate) at_ms: u64,
    pub(crate) queue: u64,
    pub(crate) seq: u64,
    pub(crate) payload: &'a [u8],
    /// The checksum over the payload.
    pub(crate) crc: crc32fast::Hasher,
}

/// Where a frame was appended.
#[derive(Debug, Clone)]
pub(crate) struct Appended {
    pub(crate) head: Head,
    /// The LSN behind it: it is durable once the watermark has come so far.
    pub(crate) end: Lsn,
    pub(crate) segment: Arc<Segment>,
    /// Where in the segment it begins.
    pub(crate) position: u64,
    /// It is the first of its segment: the log wants another.
    pub(crate) is_first: bool,
}

/// Why a frame could not be appended.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The next segment is not there yet: wait for it, with no lock held, and try again.
    NoRoom,
    /// No use in trying again.
    For(Error),
}

#[derive(Debug)]
pub(super) struct Tail {
    pub(super) active: Arc<Segment>,
    pub(super) position: u64,
    pub(super) next: Option<Arc<Segment>>,
    pub(super) chunks: VecDeque<Chunk>,
    pub(super) spare_buffers: Vec<Vec<u8>>,
    pub(super) frame_count: u64,
    /// Frames that want a sync, ever.
    pub(super) wanting_count: u64,
    /// Full segments whose frames may still be on their way.
    pub(super) sealed: Vec<Arc<Segment>>,
    /// Tasks that wait for room, as threads do on the condition.
    pub(super) room_wakers: Vec<Waker>,
    pub(super) thread_sleeps: bool,
    /// It sleeps no longer than until the next sync in mode `Interval` is due.
    pub(super) thread_has_alarm: bool,
    /// What lies here is for the commit thread: nobody else attends to it.
    pub(super) is_for_thread: bool,
    pub(super) ending: Option<Ending>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Write what is there, then end.
    Orderly,
    /// End at once, as in a crash.
    Abrupt,
}

/// Frames that lie together in one segment.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) segment: Arc<Segment>,
    pub(super) position: u64,
    pub(super) bytes: Vec<u8>,
    /// The LSN behind it.
    pub(super) end: Lsn,
    /// Frames that want a sync, ever, up to its end.
    pub(super) wanting_count: u64,
    /// The strongest demand among its frames.
    pub(super) demand: Durability,
    /// Nothing may be added: it is to be synced on its own.
    pub(super) closed: bool,
}

impl Chunk {
    /// Adds zeros up to the end of the last page. A page written in part is read from the disk first when
    /// the system does not have it, as with a segment that was just made; what is behind the last frame
    /// means nothing, and is written again with the next.
    pub(super) fn pad(&mut self) {
        let end = self.position + self.bytes.len() as u64;
        let padded = end.next_multiple_of(PAGE_SIZE).min(self.segment.size());
        let padding = usize::try_from(padded - end).expect("less than a page");
        self.bytes.resize(self.bytes.len() + padding, 0);
    }
}

/// All that was to be written at one moment.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) chunks: VecDeque<Chunk>,
    pub(super) frame_count: u64,
}

impl Tail {
    pub(super) fn new(active: Arc<Segment>) -> Tail {
        Tail {
            active,
            position: SEGMENT_HEADER_SIZE,
            next: None,
            chunks: VecDeque::new(),
            spare_buffers: Vec::new(),
            frame_count: 0,
            wanting_count: 0,
            sealed: Vec::new(),
            room_wakers: Vec::new(),
            thread_sleeps: false,
            thread_has_alarm: false,
            is_for_thread: false,
            ending: None,
        }
    }

    /// The LSN that the next frame gets.
    pub(super) fn lsn(&self) -> Lsn {
        self.active.lsn_at(self.position)
    }

    /// Whether `size` bytes fit the active segment, the frame that ends it included.
    pub(super) fn fits(&self, size: usize) -> bool {
        self.position + (size + HEAD_SIZE) as u64 <= self.active.size()
    }

    /// The chunk to append to.
    pub(super) fn chunk(&mut self) -> &mut Chunk {
        if self.chunks.back().is_none_or(|chunk| chunk.closed) {
            self.chunks.push_back(Chunk {
                segment: self.active.clone(),
                position: self.position,
                bytes: self.spare_buffers.pop().unwrap_or_default(),
                end: self.lsn(),
                wanting_count: self.wanting_count,
                demand: Durability::Memory,
                closed: false,
            });
        }
        self.chunks.back_mut().expect("one was just added")
    }

    /// Copies a frame in; its length and checksum are right.
    pub(super) fn push(&mut self, head: &[u8; HEAD_SIZE], payload: &[u8]) {
        let size = padded(HEAD_SIZE + payload.len());
        let chunk = self.chunk();
        let end = chunk.bytes.len() + size;
        chunk.bytes.extend_from_slice(head);
        chunk.bytes.extend_from_slice(payload);
        chunk.bytes.resize(end, 0);
        self.position += size as u64;
        self.frame_count += 1;
        let end = self.lsn();
        self.chunk().end = end;
    }

    /// Ends the active segment and goes on in the next one.
    pub(super) fn roll(&mut self, next: Arc<Segment>, at_ms: u64) {
        let head = Head {
            length: HEAD_SIZE as u32,
            lsn: self.lsn(),
            at_ms,
            queue: 0,
            seq: next.header.base.0,
            behind: u32::MAX,
            kind: Kind::SegmentEnd,
        };
        self.push(&head.encode(checksum::begin()), &[]);
        self.active.seal(self.lsn());
        let chunk = self.chunk();
        chunk.closed = true;
        chunk.end = next.header.base;
        self.sealed.push(std::mem::replace(&mut self.active, next));
        self.position = SEGMENT_HEADER_SIZE;
    }

    /// Takes all there is to write; `None` when there is nothing, or nothing is to be written any more.
    pub(super) fn take(&mut self) -> Option<Group> {
        if self.chunks.is_empty() || self.ending == Some(Ending::Abrupt) {
            return None;
        }
        self.is_for_thread = false;
        Some(Group {
            chunks: std::mem::take(&mut self.chunks),
            frame_count: std::mem::take(&mut self.frame_count),
        })
    }

    /// Bytes in the piece being filled.
    pub(super) fn waiting_size(&self) -> usize {
        self.chunks.back().map_or(0, |chunk| chunk.bytes.len())
    }

    /// Whether all there is to write lies in one piece of the active segment.
    pub(super) fn is_simple(&self) -> bool {
        self.chunks.len() == 1 && Arc::ptr_eq(&self.chunks[0].segment, &self.active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{Disk as _, OsDisk};
    use crate::files::format::SegmentHeader;

    #[test]
    fn a_chunk_is_padded_to_its_page_and_not_beyond_its_segment() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("segment");
        let file = OsDisk.create(&path).expect("a file");
        let size = 3 * PAGE_SIZE + 2000;
        file.set_size(size).expect("room");
        let header = SegmentHeader {
            engine_id: 1,
            number: 1,
            last_number: 1,
            generation: 0,
            base: Lsn(0),
            span: size - SEGMENT_HEADER_SIZE,
            created_ms: 0,
            after_checkpoint: 0,
        };
        let segment = Arc::new(Segment::salvage(&path, file, header, false).expect("a segment"));
        let padded = |position: u64, count: usize| {
            let mut chunk = Chunk {
                segment: segment.clone(),
                position,
                bytes: vec![1; count],
                end: Lsn(0),
                wanting_count: 0,
                demand: Durability::Os,
                closed: false,
            };
            chunk.pad();
            assert!(chunk.bytes[..count].iter().all(|byte| *byte == 1));
            assert!(chunk.bytes[count..].iter().all(|byte| *byte == 0));
            chunk.bytes.len()
        };
        assert_eq!(padded(4096, 1), 4096);
        assert_eq!(padded(4096, 4096), 4096, "it ends where a page does");
        assert_eq!(padded(4096 + 152, 152), 4096 - 152, "it begins within a page");
        assert_eq!(padded(4096 + 152, 3952), 2 * 4096 - 152, "it goes on in the next page");
        assert_eq!(padded(3 * 4096, 8), 2000, "the segment ends within the page");
    }
}
