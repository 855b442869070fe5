//! The door for fuzzers: parsers of what lies on disk, over bytes instead of files. No promise holds
//! for anything here; programs go through [`Engine`](crate::Engine).

use crate::checksum;
use crate::domain::Lsn;
use crate::env::{File, Mapping};
use crate::files::checkpoint::{Checkpoint, QueueShape};
use crate::files::format::SegmentHeader;
use crate::files::segment_index::SegmentIndex;
use crate::log::frame::{self, Head, Invalid, LsnHint};
use crate::log::segment::Segment;
use bytes::Bytes;
use std::io;
use std::path::Path;
use std::sync::Arc;

#[cfg(shuttle)]
pub mod journal;

/// As recovery reads a frame in a place that has this LSN; without one, where LSNs are still small.
pub fn decode_frame(bytes: &[u8], lsn: Option<Lsn>) -> Result<(Head, &[u8]), Invalid> {
    let is_its = |hint: LsnHint, lsn: &Lsn| lsn.low() == hint.low;
    frame::decode(bytes, |hint| {
        Some(lsn.unwrap_or(Lsn(u64::from(hint.low)))).filter(|lsn| is_its(hint, lsn))
    })
}

/// A frame as the log writes it, without its padding. The head's length is set.
pub fn encode_frame(head: Head, payload: &[u8]) -> Vec<u8> {
    let size = frame::HEAD_SIZE + payload.len();
    let head = Head { length: u32::try_from(size).unwrap_or(u32::MAX), ..head };
    let mut crc = checksum::begin();
    crc.update(payload);
    let mut bytes = head.encode(crc).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// As recovery opens a segment that holds these bytes; scans take it from there.
pub fn open_segment(bytes: Vec<u8>, engine_id: u128) -> crate::Result<Segment> {
    Segment::open_file(Path::new("segment"), Arc::new(Memory(bytes.into())), engine_id)
}

/// A file that is only read, and lies in memory.
#[derive(Debug)]
struct Memory(Bytes);

impl File for Memory {
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).map_or(self.0.len(), |start| start.min(self.0.len()));
        let size = buffer.len().min(self.0.len() - start);
        buffer[..size].copy_from_slice(&self.0[start..start + size]);
        Ok(size)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn set_size(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn map(&self) -> io::Result<Mapping> {
        Ok(Mapping::of(self.0.clone()))
    }
}

/// As a start reads the index of the segment that it names: how many messages the runs that are whole have.
/// `None` when it would be made anew.
pub fn read_index(bytes: &[u8]) -> Option<usize> {
    let index = SegmentIndex::read(aligned(bytes), &SegmentHeader::named_by_index(bytes)?).ok()?;
    let runs = (0..index.run_count()).filter_map(|number| {
        let entries = index.entries(number)?;
        assert_eq!(entries.len(), index.run(number).count as usize);
        Some(entries.iter().filter(|entry| entry.read().cost() > 0).count())
    });
    Some(runs.sum())
}

/// As a start reads a checkpoint: its queues, or why it cannot be used.
pub fn read_checkpoint(bytes: &[u8]) -> Result<Vec<QueueShape>, String> {
    let checkpoint = Checkpoint::read(aligned(bytes))?;
    let mut queues = Vec::new();
    let read = checkpoint.for_each_queue(|queue| {
        queues.push(queue);
        Ok(())
    })?;
    read.map(|()| queues).map_err(|cause| cause.to_string())
}

/// The bytes where a map would have them: archives are read in place.
fn aligned(bytes: &[u8]) -> Bytes {
    let mut copy = rkyv::util::AlignedVec::<16>::with_capacity(bytes.len());
    copy.extend_from_slice(bytes);
    Bytes::from_owner(copy)
}
