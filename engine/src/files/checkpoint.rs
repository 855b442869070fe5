//! A checkpoint: every queue with its claims, counters and dead, as of its own LSN. Written aside in
//! sections, synced, renamed; read through a map, or why not. Knows neither state nor replay.
//!
//! A section is `length u64, CRC-32 u32, zero u32`, then an rkyv archive of some queues, padded to
//! 16 bytes. Sections bound the memory that writing needs, and how long a shard is looked at.

use super::archive::Archived;
use super::format::{self, HEADER_SIZE};
use crate::checksum;
use crate::domain::Lsn;
use crate::env::{Disk, File};
use crate::error::{Error, Result};
use crate::log::frame::{u32_at, u64_at};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a checkpoint begins.
pub const MAGIC: [u8; 8] = *b"MARCOCKP";
/// Bytes of a section before its archive.
pub const SECTION_HEADER_SIZE: usize = 16;
const ALIGNMENT: usize = 16;

/// A queue as a checkpoint keeps it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct QueueShape {
    /// Its id.
    pub id: u64,
    /// Records that end at or before this LSN are part of what follows.
    pub as_of: u64,
    /// Number of the next message.
    pub next_seq: u64,
    /// No message at or behind this was ever claimed.
    pub cursor: u64,
    /// Its key, as stored.
    pub key: Vec<u8>,
    /// Its metadata.
    pub metadata: Vec<u8>,
    /// Its durability floor; 0 for none.
    pub floor: u8,
    /// Live claims.
    pub claims: Vec<ClaimShape>,
    /// Messages that came back, as runs: first and last number.
    pub returned: Vec<[u64; 2]>,
    /// Lives that a claim extended.
    pub lives: Vec<LifeShape>,
    /// The ranges in which something lives. What a checkpoint could know of and does not list is dead.
    pub ranges: Vec<RangeShape>,
    /// For later needs: empty now.
    pub extra: Vec<u8>,
}

impl QueueShape {
    /// Bytes it takes in an archive, about.
    pub(crate) fn size(&self) -> usize {
        let ranges: usize = self.ranges.iter().map(|range| 32 + range.bits.len() * 8).sum();
        let claims: usize = self.claims.iter().map(|claim| 32 + claim.seqs.len() * 8).sum();
        let lists = self.returned.len() * 16 + self.lives.len() * 24;
        96 + self.key.len() + self.metadata.len() + ranges + claims + lists
    }
}

/// A claim as a checkpoint keeps it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct ClaimShape {
    /// Its id: the LSN of its frame.
    pub id: u64,
    /// When it was made or last renewed.
    pub renewed_ms: u64,
    /// Seconds it lives from then.
    pub ttl_s: u32,
    /// Seconds by which its messages outlive it.
    pub grace_s: u32,
    /// The messages it holds.
    pub seqs: Vec<u64>,
}

/// An extended life as a checkpoint keeps it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct LifeShape {
    /// Which message.
    pub seq: u64,
    /// When it dies.
    pub expires_ms: u64,
    /// The ttl it shows.
    pub ttl_s: u32,
}

/// One range, and its dead.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct RangeShape {
    /// The segment.
    pub segment: u64,
    /// Its generation: the bits are void once it was rewritten.
    pub generation: u64,
    /// Number of the range's first message.
    pub first_seq: u64,
    /// One bit an entry, set when it is dead; entries beyond the end live.
    pub bits: Vec<u64>,
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize)]
struct Section {
    queues: Vec<QueueShape>,
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointHeader {
    /// Its number; the highest is the newest.
    pub number: u64,
    /// The log is replayed from here.
    pub lsn: Lsn,
    /// The log ended here, in good order.
    pub clean: bool,
    /// How many sections follow.
    pub section_count: u64,
    /// Bytes of the whole file.
    pub size: u64,
    /// When it was begun.
    pub created_ms: u64,
}

impl CheckpointHeader {
    fn encode(&self) -> [u8; HEADER_SIZE] {
        let fields = [
            self.number,
            self.lsn.0,
            u64::from(self.clean),
            self.section_count,
            self.size,
            self.created_ms,
        ];
        format::encode_fields(MAGIC, &fields)
    }

    fn decode(bytes: &[u8]) -> std::result::Result<CheckpointHeader, format::BadHeader> {
        let fields = format::decode(MAGIC, bytes)?;
        Ok(CheckpointHeader {
            number: u64_at(fields, 0),
            lsn: Lsn(u64_at(fields, 8)),
            clean: u64_at(fields, 16) == 1,
            section_count: u64_at(fields, 24),
            size: u64_at(fields, 32),
            created_ms: u64_at(fields, 40),
        })
    }
}

/// A checkpoint being written aside.
pub(crate) struct Writer {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    aside: PathBuf,
    file: Arc<dyn File>,
    header: CheckpointHeader,
}

impl Writer {
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        folder: &Path,
        number: u64,
        lsn: Lsn,
        created_ms: u64,
    ) -> Result<Writer> {
        let aside =
            folder.join(format!("{}.{}", format::checkpoint_name(number), format::UNFINISHED));
        let file =
            disk.create(&aside).map_err(|cause| Error::io("making", aside.as_path(), cause))?;
        let size = HEADER_SIZE as u64;
        let header =
            CheckpointHeader { number, lsn, clean: false, section_count: 0, size, created_ms };
        Ok(Writer { disk, folder: folder.to_path_buf(), aside, file, header })
    }

    /// Adds some queues.
    pub(crate) fn section(&mut self, queues: Vec<QueueShape>) -> Result<()> {
        let archive = rkyv::to_bytes::<rkyv::rancor::Error>(&Section { queues })
            .expect("an archive of plain data can always be written");
        let mut header = [0u8; SECTION_HEADER_SIZE];
        header[..8].copy_from_slice(&(archive.len() as u64).to_le_bytes());
        header[8..12].copy_from_slice(&checksum::of(&archive).to_le_bytes());
        let padded = archive.len().next_multiple_of(ALIGNMENT);
        let write = || -> std::io::Result<()> {
            self.file.write_at(&header, self.header.size)?;
            let at = self.header.size + SECTION_HEADER_SIZE as u64;
            self.file.write_at(&archive, at)?;
            self.file.write_at(&[0; ALIGNMENT][..padded - archive.len()], at + archive.len() as u64)
        };
        write().map_err(|cause| Error::io("writing", self.aside.as_path(), cause))?;
        self.header.size += (SECTION_HEADER_SIZE + padded) as u64;
        self.header.section_count += 1;
        Ok(())
    }

    /// Says that the log is replayed from elsewhere than it seemed when this was begun.
    pub(crate) fn set_lsn(&mut self, lsn: Lsn) {
        self.header.lsn = lsn;
    }

    /// Makes it durable and gives it its name.
    pub(crate) fn finish(mut self, clean: bool) -> Result<CheckpointHeader> {
        self.header.clean = clean;
        let path = self.folder.join(format::checkpoint_name(self.header.number));
        let finish = || -> std::io::Result<()> {
            self.file.write_at(&self.header.encode(), 0)?;
            self.file.sync()?;
            self.disk.rename(&self.aside, &path)?;
            self.disk.sync_folder(&self.folder)
        };
        finish().map_err(|cause| Error::io("writing", self.aside.as_path(), cause))?;
        Ok(self.header)
    }

    /// Gives up: removes what was written.
    pub(crate) fn abandon(self) {
        // It has no name that anybody looks for; the next start removes it too.
        let _ = self.disk.remove(&self.aside);
    }
}

/// A whole checkpoint, mapped.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its header.
    pub header: CheckpointHeader,
    bytes: Bytes,
}

impl Checkpoint {
    /// Opens and checks a checkpoint; an error says why it cannot be used.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> std::result::Result<Checkpoint, String> {
        let file = disk.open_to_read(path).map_err(|error| error.to_string())?;
        let bytes = file.map().map_err(|error| error.to_string())?.bytes;
        Checkpoint::read(bytes)
    }

    /// Checks the bytes of a checkpoint.
    pub fn read(bytes: Bytes) -> std::result::Result<Checkpoint, String> {
        let header = CheckpointHeader::decode(&bytes).map_err(|error| error.to_string())?;
        if header.size != bytes.len() as u64 {
            return Err(format!("{} bytes where {} were written", bytes.len(), header.size));
        }
        let checkpoint = Checkpoint { header, bytes };
        let mut count = 0;
        for section in checkpoint.sections() {
            section?;
            count += 1;
        }
        if count != header.section_count {
            return Err(format!("{count} sections where {} were written", header.section_count));
        }
        Ok(checkpoint)
    }

    /// What can be read of a checkpoint that is not whole: the queues of those of its first sections that
    /// are.
    pub(crate) fn pieces(bytes: Bytes) -> Vec<QueueShape> {
        let header = CheckpointHeader {
            number: 0,
            lsn: Lsn(0),
            clean: false,
            section_count: 0,
            size: bytes.len() as u64,
            created_ms: 0,
        };
        let checkpoint = Checkpoint { header, bytes };
        let mut queues = Vec::new();
        for section in checkpoint.sections().map_while(std::result::Result::ok) {
            let Ok(archive) = Archived::<ArchivedSection>::new(section) else { break };
            queues.extend(archive.get().queues.iter().map(ArchivedQueueShape::read));
        }
        queues
    }

    /// The archives, each checked against its checksum.
    fn sections(&self) -> impl Iterator<Item = std::result::Result<Bytes, String>> + '_ {
        let mut at = HEADER_SIZE;
        std::iter::from_fn(move || {
            if at >= self.bytes.len() {
                return None;
            }
            let start = at + SECTION_HEADER_SIZE;
            let Some(head) = self.bytes.get(at..start) else {
                at = self.bytes.len();
                return Some(Err("a section is cut off".to_owned()));
            };
            let length = usize::try_from(u64_at(head, 0)).unwrap_or(usize::MAX);
            let end = start.checked_add(length).filter(|end| *end <= self.bytes.len());
            let Some(end) = end else {
                at = self.bytes.len();
                return Some(Err("a section is cut off".to_owned()));
            };
            if checksum::of(&self.bytes[start..end]) != u32_at(head, 8) {
                let what = format!("the checksum of the section at byte {at} does not match");
                at = self.bytes.len();
                return Some(Err(what));
            }
            at = end.next_multiple_of(ALIGNMENT);
            Some(Ok(self.bytes.slice(start..end)))
        })
    }

    /// Visits every queue.
    pub(crate) fn for_each_queue(
        &self,
        mut visit: impl FnMut(QueueShape) -> Result<()>,
    ) -> std::result::Result<Result<()>, String> {
        for section in self.sections() {
            let archive: Archived<ArchivedSection> =
                Archived::new(section?).map_err(|error| error.to_string())?;
            for queue in archive.get().queues.iter() {
                if let Err(error) = visit(queue.read()) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(()))
    }
}

impl ArchivedQueueShape {
    fn read(&self) -> QueueShape {
        let numbers = |list: &rkyv::vec::ArchivedVec<rkyv::rend::u64_le>| {
            list.iter().map(|number| number.to_native()).collect::<Vec<u64>>()
        };
        QueueShape {
            id: self.id.to_native(),
            as_of: self.as_of.to_native(),
            next_seq: self.next_seq.to_native(),
            cursor: self.cursor.to_native(),
            key: self.key.to_vec(),
            metadata: self.metadata.to_vec(),
            floor: self.floor,
            claims: self
                .claims
                .iter()
                .map(|claim| ClaimShape {
                    id: claim.id.to_native(),
                    renewed_ms: claim.renewed_ms.to_native(),
                    ttl_s: claim.ttl_s.to_native(),
                    grace_s: claim.grace_s.to_native(),
                    seqs: numbers(&claim.seqs),
                })
                .collect(),
            returned: self
                .returned
                .iter()
                .map(|[first, last]| [first.to_native(), last.to_native()])
                .collect(),
            lives: self
                .lives
                .iter()
                .map(|life| LifeShape {
                    seq: life.seq.to_native(),
                    expires_ms: life.expires_ms.to_native(),
                    ttl_s: life.ttl_s.to_native(),
                })
                .collect(),
            ranges: self
                .ranges
                .iter()
                .map(|range| RangeShape {
                    segment: range.segment.to_native(),
                    generation: range.generation.to_native(),
                    first_seq: range.first_seq.to_native(),
                    bits: numbers(&range.bits),
                })
                .collect(),
            extra: self.extra.to_vec(),
        }
    }
}
