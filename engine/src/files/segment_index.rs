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
use crate::log::record::{Location, MessageRecord};
use bytes::Bytes;
use rkyv::util::AlignedVec;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How an index begins.
pub const MAGIC: [u8; 8] = *b"MARCOIDX";

/// Where one message lies, and when it dies. All else is read with its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
#[rkyv(derive(Debug))]
pub struct Entry {
    /// Its number less that of the run's first.
    pub seq_delta: u32,
    /// Where it begins in the segment, and (the highest bit) whether that is a frame of its own.
    pub location: u32,
    /// When it dies, if no claim extends its life, in the low 48 bits; [`Entry::cost`], packed, above.
    pub expires_and_cost: u64,
}

const _: () = assert!(size_of::<Entry>() == 16);
const _: () = assert!(size_of::<ArchivedEntry>() == 16);

/// What a message costs on disk besides its body: a frame of its own with what fills it up, and its entry.
pub const OVERHEAD: u64 = 40 + 20 + 7 + 16;

/// Bits of a packed cost that are a part of it as it is; those above say by how many it is shifted.
const COST_BITS: u32 = 11;
/// Bits of the time of death.
const EXPIRES_BITS: u32 = 48;

impl Entry {
    /// That of a message in a frame that begins at `frame_position`, and that was made at `at_ms`.
    pub(crate) fn new(message: &MessageRecord<'_>, frame_position: u64, at_ms: u64) -> Entry {
        let expires_ms = at_ms.saturating_add(u64::from(message.ttl_s) * 1000);
        let expires_ms = expires_ms.min((1 << EXPIRES_BITS) - 1);
        let cost = pack_cost(message.body.len() as u64 + OVERHEAD);
        Entry {
            seq_delta: 0,
            location: Location::new(frame_position, message.offset).bits(),
            expires_and_cost: expires_ms | u64::from(cost) << EXPIRES_BITS,
        }
    }

    /// Where it lies.
    pub(crate) fn at(&self) -> Location {
        Location::from_bits(self.location)
    }

    /// When it dies, if no claim extends its life.
    pub fn expires_ms(&self) -> u64 {
        self.expires_and_cost & ((1 << EXPIRES_BITS) - 1)
    }

    /// When it was posted, of one with this ttl.
    pub(crate) fn created_ms(&self, ttl_s: u32) -> u64 {
        self.expires_ms().saturating_sub(u64::from(ttl_s) * 1000)
    }

    /// What keeping it costs on disk at the most, rewritten alone: what *live bytes* count. From 2 KiB on it is
    /// rounded up, by a thousandth at the most.
    pub fn cost(&self) -> u64 {
        let packed = self.expires_and_cost >> EXPIRES_BITS;
        (packed & ((1 << COST_BITS) - 1)) << (packed >> COST_BITS)
    }

    fn le_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.seq_delta.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.location.to_le_bytes());
        bytes[8..].copy_from_slice(&self.expires_and_cost.to_le_bytes());
        bytes
    }
}

/// The least number that is not below `cost` and has no more than [`COST_BITS`] bits before its zeros.
fn pack_cost(cost: u64) -> u16 {
    if cost < 1 << COST_BITS {
        return cost as u16;
    }
    let mut shift = (u64::BITS - cost.leading_zeros()).saturating_sub(COST_BITS);
    let mut part = (cost + (1 << shift) - 1) >> shift;
    if part >> COST_BITS != 0 {
        (part, shift) = (part / 2, shift + 1);
    }
    u16::try_from(u64::from(shift) << COST_BITS | part).expect("a message is smaller than 4 GiB")
}

impl ArchivedEntry {
    /// The entry as the program reads it.
    pub(crate) fn read(&self) -> Entry {
        Entry {
            seq_delta: self.seq_delta.to_native(),
            location: self.location.to_native(),
            expires_and_cost: self.expires_and_cost.to_native(),
        }
    }
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
    /// Who posted all of them, the lower half; 0 in both where that was more than one.
    pub client_low: u64,
    /// The upper half.
    pub client_high: u64,
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

impl Run {
    /// Who posted all of its messages; `None` where the index does not tell.
    pub(crate) fn client(&self) -> Option<ClientId> {
        let client = u128::from(self.client_high) << 64 | u128::from(self.client_low);
        (client != 0).then_some(ClientId(client))
    }
}

/// Collects the entries of a segment, frame by frame.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    messages: Vec<Indexed>,
}

/// A message to be indexed.
#[derive(Debug, Clone, Copy)]
struct Indexed {
    queue: QueueId,
    seq: u64,
    entry: Entry,
    client: ClientId,
}

impl IndexBuilder {
    /// Adds a message: its queue, its number, where it lies, and who posted it.
    pub(crate) fn push(&mut self, queue: QueueId, seq: u64, entry: Entry, client: ClientId) {
        self.messages.push(Indexed { queue, seq, entry, client });
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
        let place = |one: &Indexed| (one.queue, one.seq);
        if !self.messages.is_sorted_by_key(place) {
            self.messages.sort_by_key(place);
        }
        pause();
        for mut rest in self.messages.chunk_by(|one, other| one.queue == other.queue) {
            while let Some(first) = rest.first() {
                // A run ends where a number no longer fits an entry.
                let fits = |one: &Indexed| one.seq - first.seq <= u64::from(u32::MAX);
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
    fn push_run(&mut self, messages: &[Indexed], pause: &mut dyn FnMut()) {
        let first = messages[0];
        let mut client = first.client.0;
        let start = self.entries.len();
        let mut crc = checksum::begin();
        // Many at once: the checksum likes long pieces.
        let mut piece = [0; 64 * size_of::<Entry>()];
        let mut filled = 0;
        let (mut due_ms, mut cost) = (u64::MAX, 0);
        for one @ Indexed { seq, entry, .. } in messages {
            if one.client != first.client {
                client = 0;
            }
            let seq_delta = u32::try_from(seq - first.seq).expect("runs are split where it ends");
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
            queue: first.queue.0,
            first_seq: first.seq,
            last_seq: messages[messages.len() - 1].seq,
            due_ms,
            cost,
            client_low: client as u64,
            client_high: (client >> 64) as u64,
            start: u32::try_from(start).expect("a segment is smaller than 4 GiB"),
            count: u32::try_from(messages.len()).expect("a segment is smaller than 4 GiB"),
            crc: crc.finalize(),
            reserved: 0,
        });
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
        let Run { queue, first_seq, last_seq, due_ms, cost, client_low, client_high, .. } = *run;
        for word in [queue, first_seq, last_seq, due_ms, cost, client_low, client_high] {
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

    /// Where the last message of all begins, in the segment.
    pub(crate) fn reach(&self) -> u64 {
        let runs = (0..self.run_count()).filter_map(|number| self.entries(number));
        let entries = runs.flatten().map(ArchivedEntry::read);
        entries.map(|entry| u64::from(entry.at().position())).max().unwrap_or(0)
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
                        .is_none_or(|found| found.location != entry.location)
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
            client_low: self.client_low.to_native(),
            client_high: self.client_high.to_native(),
            start: self.start.to_native(),
            count: self.count.to_native(),
            crc: self.crc.to_native(),
            reserved: self.reserved.to_native(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(body: &[u8], offset: usize, ttl_s: u32, at_ms: u64) -> Entry {
        let message = MessageRecord { offset, ttl_s, bytes: body, body };
        Entry::new(&message, 4096, at_ms)
    }

    #[test]
    fn an_entry_tells_where_a_message_lies_and_when_it_dies() {
        let alone = entry(b"body", 0, 60, 1000);
        assert_eq!((alone.at().position(), alone.at().is_frame()), (4096, true));
        assert_eq!((alone.expires_ms(), alone.created_ms(60)), (61_000, 1000));
        assert_eq!(alone.cost(), 4 + OVERHEAD);
        let among = entry(b"body", 60, 60, 1000);
        assert_eq!((among.at().position(), among.at().is_frame()), (4156, false));
        // A clock that is far off moves no other field.
        let late = entry(b"body", 0, u32::MAX, u64::MAX);
        assert_eq!((late.expires_ms(), late.cost()), ((1 << 48) - 1, 4 + OVERHEAD));
    }

    #[test]
    fn a_run_tells_who_posted_where_that_was_one() {
        let mut builder = IndexBuilder::default();
        let (one, other) = (ClientId(7 << 64 | 5), ClientId(6));
        for (queue, client) in [(1, one), (1, one), (2, one), (2, other)] {
            builder.push(
                QueueId(queue),
                builder.messages.len() as u64,
                entry(b"", 0, 1, 1),
                client,
            );
        }
        let archive = builder.finish(&mut || {});
        let clients: Vec<_> = archive.runs.iter().map(Run::client).collect();
        assert_eq!(clients, [Some(one), None]);
    }

    proptest! {
        #[test]
        fn a_cost_is_rounded_up_and_by_little(cost in 1u64..(2 << 30)) {
            let packed = pack_cost(cost);
            let told = Entry {
                seq_delta: 0,
                location: 0,
                expires_and_cost: u64::from(packed) << EXPIRES_BITS,
            };
            prop_assert!(told.cost() >= cost && told.cost() - cost <= cost / 1024);
            prop_assert!(cost >= 2048 || told.cost() == cost);
        }
    }
}
