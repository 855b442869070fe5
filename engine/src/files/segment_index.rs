//! The `.idx` beside a sealed segment: per queue, where its messages lie. Made from the segment's
//! frames alone, archived with rkyv, viewed through a map. Knows neither state nor liveness.
//!
//! * A *run* is what one queue has in one segment: entries in the order of their numbers, together.
//! * Entries hold integers only, so that validating an archive never visits them; each run carries
//!   the checksum of its entries, checked when the run is first looked at.

use super::archive::Archived;
use super::format::{self, BadHeader, HEADER_SIZE, SegmentHeader};
use crate::checksum;
use crate::domain::{ClientId, QueueId};
use crate::env::{Disk, PIECE_SIZE};
use crate::error::{Error, Result};
use crate::log::record::MessageRecord;
use bytes::Bytes;
use rkyv::util::AlignedVec;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How an index begins.
pub const MAGIC: [u8; 8] = *b"MARCOIDX";

/// Where one message lies, and what a listing has to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
#[rkyv(derive(Debug))]
pub struct Entry {
    /// Its number less that of the run's first.
    pub seq_delta: u32,
    /// Where its record begins in the segment.
    pub position: u32,
    /// Bytes of the record: head, extensions, body.
    pub size: u32,
    /// Seconds to live, as posted.
    pub ttl_s: u32,
    /// When it was posted, in the low 48 bits; flags for later needs, 0 now, above.
    pub created_and_flags: u64,
    /// [`client_hash`] of the poster.
    pub client: u64,
}

const _: () = assert!(size_of::<Entry>() == 32);
const _: () = assert!(size_of::<ArchivedEntry>() == 32);

/// What a message costs on disk besides its record: a frame of its own, and its entry.
pub const OVERHEAD: u64 = 48 + 16 + 7 + 32;

impl Entry {
    /// When it was posted.
    pub fn created_ms(&self) -> u64 {
        self.created_and_flags & ((1 << 48) - 1)
    }

    /// When it dies, if no claim extends its life.
    pub fn expires_ms(&self) -> u64 {
        self.created_ms() + u64::from(self.ttl_s) * 1000
    }

    /// What keeping it costs on disk at the most, rewritten alone: what *live bytes* count.
    pub fn cost(&self) -> u64 {
        u64::from(self.size) + OVERHEAD
    }

    fn le_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (place, word) in
            [self.seq_delta, self.position, self.size, self.ttl_s].into_iter().enumerate()
        {
            bytes[place * 4..place * 4 + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes[16..24].copy_from_slice(&self.created_and_flags.to_le_bytes());
        bytes[24..].copy_from_slice(&self.client.to_le_bytes());
        bytes
    }
}

impl ArchivedEntry {
    /// The entry as the program reads it.
    pub(crate) fn read(&self) -> Entry {
        Entry {
            seq_delta: self.seq_delta.to_native(),
            position: self.position.to_native(),
            size: self.size.to_native(),
            ttl_s: self.ttl_s.to_native(),
            created_and_flags: self.created_and_flags.to_native(),
            client: self.client.to_native(),
        }
    }
}

/// 64 bits of a client's id, mixed with the folder's own, so that nobody outside can look for two
/// ids that share them. Equal hashes count as equal clients when a listing leaves out a client's own
/// messages (`docs/decisions` says why that is enough).
pub fn client_hash(client: ClientId, engine_id: u128) -> u64 {
    let mix = |word: u64, key: u64| {
        let product =
            u128::from(word ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        (product ^ (product >> 64)) as u64
    };
    let low = mix(client.0 as u64, engine_id as u64 | 1);
    let high = mix((client.0 >> 64) as u64, (engine_id >> 64) as u64 | 1);
    mix(low.rotate_left(32) ^ high, 0x2545_f491_4f6c_dd1d)
}

/// What one queue has in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
#[rkyv(derive(Debug))]
pub struct Run {
    /// The queue.
    pub queue: u64,
    /// Number of its first message here.
    pub first_seq: u64,
    /// Number of its last message here.
    pub last_seq: u64,
    /// No message here expires before, unless extended.
    pub due_ms: u64,
    /// The costs of all its entries, added up.
    pub cost: u64,
    /// The first of its entries.
    pub start: u32,
    /// How many entries.
    pub count: u32,
    /// CRC-32 of the entries.
    pub crc: u32,
    /// Zero.
    pub reserved: u32,
}

/// What an index says, before it is one.
#[derive(Debug, Default, rkyv::Archive, rkyv::Serialize)]
#[rkyv(derive(Debug))]
pub(crate) struct Archive {
    runs: Vec<Run>,
    entries: Vec<Entry>,
}

/// Collects the entries of a segment, frame by frame.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    messages: Vec<(QueueId, u64, Entry)>,
}

impl IndexBuilder {
    /// Adds a message: its queue, its number, and where it lies.
    pub(crate) fn push(&mut self, queue: QueueId, seq: u64, entry: Entry) {
        self.messages.push((queue, seq, entry));
    }

    /// The archive of all that was added. `pause` is called now and then.
    pub(crate) fn finish(mut self, pause: &mut dyn FnMut()) -> Archive {
        let mut archive = Archive::default();
        archive.entries.reserve_exact(self.messages.len());
        self.fill(&mut archive, pause);
        archive
    }

    /// Turns all that was added into an archive, in the place of what that held. Both keep their memory,
    /// for the next segment. `pause` is called now and then.
    pub(crate) fn fill(&mut self, archive: &mut Archive, pause: &mut dyn FnMut()) {
        archive.runs.clear();
        archive.entries.clear();
        // One list to sort, instead of one for each of what may be as many queues as messages.
        let place = |(queue, seq, _): &(QueueId, u64, Entry)| (*queue, *seq);
        if !self.messages.is_sorted_by_key(place) {
            self.messages.sort_by_key(place);
        }
        pause();
        for mut rest in self.messages.chunk_by(|(one, ..), (other, ..)| one == other) {
            while let Some((_, first_seq, _)) = rest.first().copied() {
                // A run ends where a number no longer fits an entry.
                let fits = |(_, seq, _): &_| seq - first_seq <= u64::from(u32::MAX);
                let (here, after) = rest.split_at(rest.partition_point(fits));
                archive.push_run(here, pause);
                rest = after;
            }
        }
        self.messages.clear();
    }
}

impl Archive {
    /// Adds a run of one queue's messages, in the order of their numbers.
    fn push_run(&mut self, messages: &[(QueueId, u64, Entry)], pause: &mut dyn FnMut()) {
        let (queue, first_seq, _) = messages[0];
        let start = self.entries.len();
        let mut crc = checksum::begin();
        // Many at once: the checksum likes long pieces.
        let mut piece = [0; 64 * size_of::<Entry>()];
        let mut filled = 0;
        let (mut due_ms, mut cost) = (u64::MAX, 0);
        for (_, seq, entry) in messages {
            let seq_delta = u32::try_from(seq - first_seq).expect("runs are split where it ends");
            let entry = Entry { seq_delta, ..*entry };
            piece[filled..filled + size_of::<Entry>()].copy_from_slice(&entry.le_bytes());
            filled += size_of::<Entry>();
            if filled == piece.len() {
                crc.update(&piece);
                filled = 0;
                pause();
            }
            due_ms = due_ms.min(entry.expires_ms());
            cost += entry.cost();
            self.entries.push(entry);
        }
        crc.update(&piece[..filled]);
        self.runs.push(Run {
            queue: queue.0,
            first_seq,
            last_seq: messages[messages.len() - 1].1,
            due_ms,
            cost,
            start: u32::try_from(start).expect("a segment is smaller than 4 GiB"),
            count: u32::try_from(messages.len()).expect("a segment is smaller than 4 GiB"),
            crc: crc.finalize(),
            reserved: 0,
        });
    }
}

/// Makes the entry of a message in a `Posted` frame that begins at `frame_position`.
pub(crate) fn entry_of(
    message: &MessageRecord<'_>,
    frame_position: u64,
    at_ms: u64,
    client: u64,
) -> Entry {
    let position = frame_position + message.offset as u64;
    Entry {
        seq_delta: 0,
        position: u32::try_from(position).expect("a segment is at most 1 GiB"),
        size: u32::try_from(message.bytes.len()).expect("a message fits a segment"),
        ttl_s: message.ttl_s,
        created_and_flags: at_ms & ((1 << 48) - 1),
        client,
    }
}

/// The bytes of the index of this segment: aligned as a map would be.
fn encode(archive: &Archive, segment: &SegmentHeader) -> AlignedVec<16> {
    let body = rkyv::to_bytes::<rkyv::rancor::Error>(archive)
        .expect("an archive of integers can always be written");
    let [size, run_count] = [body.len() as u64, archive.runs.len() as u64];
    let [low, high, number, generation] = segment.identity();
    let crc = u64::from(runs_crc(&archive.runs));
    let fields = [size, run_count, crc, low, high, number, generation];
    let mut bytes = AlignedVec::with_capacity(HEADER_SIZE + body.len());
    bytes.extend_from_slice(&format::encode_fields(MAGIC, &fields));
    bytes.extend_from_slice(&body);
    bytes
}

/// Writes the index of the segment with this header, beside `path`. `pause` is called now and then.
pub(crate) fn write(
    disk: &dyn Disk,
    path: &Path,
    segment: &SegmentHeader,
    builder: IndexBuilder,
    pause: &mut dyn FnMut(),
) -> Result<()> {
    let archive = builder.finish(pause);
    pause();
    let bytes = encode(&archive, segment);
    drop(archive);
    pause();
    store(disk, path, &bytes)
}

/// Writes these bytes of an index aside, syncs them, and gives them the name that belongs to `segment`.
pub(crate) fn store(disk: &dyn Disk, segment: &Path, bytes: &[u8]) -> Result<()> {
    let path = format::index_path(segment);
    let aside = path.with_extension("idx.tmp");
    let store = || -> std::io::Result<()> {
        let file = disk.create(&aside)?;
        // In pieces, since a sync of the log would wait for all of it.
        let mut at = 0;
        for piece in bytes.chunks(PIECE_SIZE) {
            file.write_at(piece, at)?;
            file.sync()?;
            at += piece.len() as u64;
        }
        disk.rename(&aside, &path)?;
        disk.sync_folder(path.parent().expect("a file lies in a folder"))
    };
    store().map_err(|cause| Error::io("writing", path.as_path(), cause))
}

fn runs_crc(runs: &[Run]) -> u32 {
    let mut crc = checksum::begin();
    for run in runs {
        for word in [run.queue, run.first_seq, run.last_seq, run.due_ms, run.cost] {
            crc.update(&word.to_le_bytes());
        }
        for word in [run.start, run.count, run.crc, run.reserved] {
            crc.update(&word.to_le_bytes());
        }
    }
    crc.finalize()
}

/// An index, mapped and validated.
#[derive(Debug)]
pub struct SegmentIndex {
    archive: Archived<ArchivedArchive>,
    /// One bit a run: its entries' checksum was found right.
    checked: Box<[AtomicU64]>,
    /// Some entries were found not to match their checksum.
    damaged: AtomicBool,
    /// The file's bytes; the archive is a slice of them.
    bytes: Bytes,
}

impl SegmentIndex {
    /// An index that is kept in memory alone.
    pub(crate) fn of(archive: &Archive, segment: &SegmentHeader) -> SegmentIndex {
        let bytes = Bytes::from_owner(encode(archive, segment));
        SegmentIndex::read(bytes, segment).expect("it was just encoded")
    }

    /// Opens the index beside a segment. `None` when it is not there, not whole or not this segment's: it can
    /// be made again from the segment.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        segment: &SegmentHeader,
    ) -> Option<SegmentIndex> {
        let file = disk.open_to_read(&format::index_path(path)).ok()?;
        SegmentIndex::read(file.map().ok()?.bytes, segment).ok()
    }

    /// Checks the bytes of a segment's index, which have to be aligned as a map is.
    pub(crate) fn read(
        bytes: Bytes,
        segment: &SegmentHeader,
    ) -> std::result::Result<SegmentIndex, BadHeader> {
        let fields = format::decode(MAGIC, &bytes)?;
        let field = |place: usize| crate::log::frame::u64_at(fields, place * 8);
        let (size, run_count, crc) = (field(0), field(1), field(2));
        if (3..).zip(segment.identity()).any(|(place, wanted)| field(place) != wanted) {
            return Err(BadHeader::Segment);
        }
        let end = usize::try_from(size).ok().and_then(|size| size.checked_add(HEADER_SIZE));
        let end = end.filter(|end| *end <= bytes.len()).ok_or(BadHeader::Short)?;
        let archive: Archived<ArchivedArchive> =
            Archived::new(bytes.slice(HEADER_SIZE..end)).map_err(|_| BadHeader::Numbers)?;
        let runs: Vec<Run> = archive.get().runs.iter().map(ArchivedRun::read).collect();
        let entry_count = archive.get().entries.len() as u64;
        let within =
            runs.iter().all(|run| u64::from(run.start) + u64::from(run.count) <= entry_count);
        if u64::from(runs_crc(&runs)) != crc || runs.len() as u64 != run_count || !within {
            return Err(BadHeader::Checksum);
        }
        let checked = (0..runs.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let damaged = AtomicBool::new(false);
        Ok(SegmentIndex { archive, checked, damaged, bytes: bytes.slice(..end) })
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// How many runs it has.
    pub fn run_count(&self) -> usize {
        self.archive.get().runs.len()
    }

    /// Run `number`, which has to be below [`SegmentIndex::run_count`].
    pub fn run(&self, number: usize) -> Run {
        self.archive.get().runs[number].read()
    }

    /// The entries of run `number`, in the order of their messages' numbers. The first look at a run
    /// checks its checksum; `None` when it does not match.
    pub(crate) fn entries(&self, number: usize) -> Option<&[ArchivedEntry]> {
        let archive = self.archive.get();
        let run = &archive.runs[number];
        let start = run.start.to_native() as usize;
        // Runs were checked when the index was opened, and a disk may say something else since.
        let whole = archive.entries.get(start..start + run.count.to_native() as usize);
        let (word, bit) = (&self.checked[number / 64], 1u64 << (number % 64));
        if word.load(Ordering::Relaxed) & bit != 0 {
            return whole;
        }
        let crc = run.crc.to_native();
        let right = whole.filter(|entries| checksum::of(self.bytes_of(entries)) == crc);
        match right {
            Some(_) => word.fetch_or(bit, Ordering::Relaxed),
            None => {
                self.damaged.store(true, Ordering::Relaxed);
                0
            }
        };
        right
    }
}

impl SegmentIndex {
    /// Whether a look at some entries found them damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// The bytes of some of its entries: they lie in the file as the checksum takes them.
    fn bytes_of(&self, entries: &[ArchivedEntry]) -> &[u8] {
        if entries.is_empty() {
            // An empty list may claim to lie anywhere.
            return &[];
        }
        let start = entries.as_ptr().addr() - self.bytes.as_ptr().addr();
        &self.bytes[start..start + size_of_val(entries)]
    }

    /// Its bytes, as they lie in a file.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Checks the entries of every run.
    pub(crate) fn check_entries(&self) -> std::result::Result<(), String> {
        match (0..self.run_count()).find(|number| self.entries(*number).is_none()) {
            Some(number) => Err(format!("the entries of run {number} do not match their checksum")),
            None => Ok(()),
        }
    }

    /// Behind the last message of all, in the segment.
    pub(crate) fn reach(&self) -> u64 {
        let runs = (0..self.run_count()).filter_map(|number| self.entries(number));
        let entries = runs.flatten().map(ArchivedEntry::read);
        entries.map(|entry| u64::from(entry.position) + u64::from(entry.size)).max().unwrap_or(0)
    }

    /// What this one says otherwise than what was made of the frames; `None` when they agree. With holes
    /// in the segment this one may have more entries, and no others.
    pub(crate) fn difference(&self, made: &Archive, has_holes: bool) -> Option<String> {
        let (here, there) = (self.run_count(), made.runs.len());
        if here != there && !has_holes {
            return Some(format!("it has {here} runs, and the frames make {there}"));
        }
        made.runs.iter().enumerate().find_map(|(number, wanted)| {
            let entries = &made.entries[wanted.start as usize..][..wanted.count as usize];
            if has_holes {
                let lacks = |entry: &Entry| {
                    let seq = wanted.first_seq + u64::from(entry.seq_delta);
                    self.find(wanted.queue, seq)
                        .is_none_or(|found| found.position != entry.position)
                };
                let what = || format!("it lacks messages of queue {}", wanted.queue);
                return entries.iter().any(lacks).then(what);
            }
            let is_same = self.run(number) == *wanted
                && self.entries(number).is_some_and(|found| {
                    found.iter().zip(entries).all(|(found, wanted)| found.read() == *wanted)
                });
            let what =
                || format!("run {number}, queue {}, is not what the frames make", wanted.queue);
            (!is_same).then(what)
        })
    }

    /// The entry of a message.
    fn find(&self, queue: u64, seq: u64) -> Option<Entry> {
        let runs = &self.archive.get().runs;
        let start = runs.partition_point(|run| run.queue.to_native() < queue);
        let mut number = start;
        while number < runs.len() && runs[number].queue.to_native() == queue {
            let run = self.run(number);
            if (run.first_seq..=run.last_seq).contains(&seq) {
                let entries = self.entries(number)?;
                let delta = seq - run.first_seq;
                let place = entries
                    .binary_search_by_key(&delta, |entry| u64::from(entry.seq_delta.to_native()))
                    .ok()?;
                return Some(entries[place].read());
            }
            number += 1;
        }
        None
    }
}

impl ArchivedRun {
    fn read(&self) -> Run {
        Run {
            queue: self.queue.to_native(),
            first_seq: self.first_seq.to_native(),
            last_seq: self.last_seq.to_native(),
            due_ms: self.due_ms.to_native(),
            cost: self.cost.to_native(),
            start: self.start.to_native(),
            count: self.count.to_native(),
            crc: self.crc.to_native(),
            reserved: self.reserved.to_native(),
        }
    }
}
