//! Gives space back: segments in which nothing lives are emptied and reused, those in which little
//! lives are rewritten with what does. The bound on disk use, and how it is held.
//!
//! *Bound.* A sealed segment whose live messages cost less than half of what it takes is rewritten as
//! soon as both checkpoints lie above it. So
//!
//! ```text
//! disk <= 2 * live + open segments + what was written since the older checkpoint + checkpoints
//! ```
//!
//! where *live* counts each living message's record and [`Entry::cost`]'s overhead. Neighbours that
//! have become small are joined, so that their number stays bounded as well.
//!
//! Nothing is removed before it is certain that a recovery will not look for it: both checkpoints
//! lie above the segment's last frame, and the log is durable up to the records by which its
//! messages died.
//!
//! [`Entry::cost`]: crate::files::segment_index::Entry::cost

use super::segments::{SPARES_MAX, spare_ticket};
use crate::core::Core;
use crate::domain::{Lsn, QueueId};
use crate::error::{Error, Result};
use crate::files::format::{self, SEGMENT_HEADER_SIZE, SegmentHeader, UNFINISHED};
use crate::files::segment_index::{self, Entry, IndexBuilder, SegmentIndex, client_hash, entry_of};
use crate::log::frame::{HEAD_SIZE, Head, Kind, padded};
use crate::log::record::{Payload, Record};
use crate::log::segment::{self, Segment};
use crate::metrics::{UnderWay, add};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// A segment is small when what lives in it would fit so many times into a whole one.
const SMALL_SHARE: u64 = 8;
/// So many small neighbours are joined.
const JOIN_COUNT: usize = 8;
/// Frames are written out in pieces of about this size.
const PIECE_SIZE: usize = 1 << 20;
/// A frame of a rewritten segment holds at most so many messages.
const FRAME_COUNT_MAX: usize = 1024;
/// Overlong pauses for the rate's sake are cut into steps, so that closing need not wait.
const PAUSE_STEP: Duration = Duration::from_millis(20);

/// One look over all segments; rewrites what is due. Returns how many bytes of disk it freed.
pub(crate) fn round(core: &Core) -> Result<u64> {
    let _turn = core.turn.lock().unwrap_or_else(PoisonError::into_inner);
    core.check_writable()?;
    let mut freed = remove_dead(core)?;
    while !core.is_closing() {
        let Some(group) = choose(core) else { break };
        freed += rewrite(core, group)?;
    }
    Ok(freed)
}

/// The sealed segments in order: those that are indexed, well, and below both checkpoints, and
/// `None` in the place of any other. What counts is where their LSNs end and not their frames: the
/// segment in which a checkpoint ends is looked for by the next start, even when an orderly end left
/// nothing behind that place.
fn eligible(core: &Core) -> Vec<Option<Arc<Segment>>> {
    let limit = {
        let kept = core.checkpoints();
        if kept.len() < super::checkpoint::KEPT { Lsn(0) } else { kept[0].lsn }
    };
    let is_ready = |segment: &&Arc<Segment>| {
        let is_below = segment.sealed_end().is_some() && segment.lsn_limit() <= limit;
        is_below && segment.index().is_some() && !segment.is_damaged()
    };
    core.segments().values().map(|segment| Some(segment).filter(is_ready).cloned()).collect()
}

/// Empties segments in which nothing lives.
fn remove_dead(core: &Core) -> Result<u64> {
    let all = eligible(core).into_iter().flatten();
    let dead: Vec<Arc<Segment>> = all.filter(|segment| segment.live_count() == 0).collect();
    if dead.is_empty() {
        return Ok(0);
    }
    core.log.sync_to(core.log.end())?;
    let mut freed = 0;
    for segment in dead {
        freed += segment.disk_size();
        add(&core.counters.freed_bytes, segment.disk_size());
        core.segments().remove(&segment.number());
        retire(core, segment)?;
    }
    Ok(freed)
}

/// Removes a segment's files, or keeps the large one as a spare.
fn retire(core: &Core, segment: Arc<Segment>) -> Result<()> {
    let mut spares = core.spares.lock().expect("no code panics while it holds the spares");
    let reuse = (spares.len() < SPARES_MAX).then(|| {
        let name = format!("spare-{}.{UNFINISHED}", spare_ticket(core));
        (core.config.segment_size_bytes, core.log_folder().join(name))
    });
    spares.extend(Segment::retire(segment, &*core.env.disk, reuse)?);
    Ok(())
}

/// The next segments to be rewritten into one: neighbours of which the first is mostly dead, or many
/// small ones.
fn choose(core: &Core) -> Option<Vec<Arc<Segment>>> {
    let all = eligible(core);
    let room = core.config.segment_size_bytes - SEGMENT_HEADER_SIZE;
    let is_small = |segment: &Segment| segment.live_cost() < room / SMALL_SHARE;
    for start in 0..all.len() {
        let mut cost = 0;
        let fits = |segment: &&Arc<Segment>| {
            cost += segment.live_cost();
            (is_wasteful(segment) || is_small(segment)) && cost <= room
        };
        // Neighbours only: the joined segment stands for every number in between.
        let neighbours = all[start..].iter().map_while(Option::as_ref);
        let group: Vec<Arc<Segment>> = neighbours.take_while(fits).cloned().collect();
        let worth_it = group.first().is_some_and(|first| is_wasteful(first));
        if worth_it || group.len() >= JOIN_COUNT {
            return Some(group);
        }
    }
    None
}

/// Whether less than half of it lives: what makes a rewrite worth its writing.
fn is_wasteful(segment: &Segment) -> bool {
    segment.live_cost() * 2 < segment.disk_size() - overhead(segment)
}

/// How many segments are mostly dead, and what rewriting them would free, about. Those above the
/// checkpoints count: a checkpoint comes before a rewrite that somebody asks for.
pub(crate) fn gain(core: &Core) -> (u64, u64) {
    let all: Vec<Arc<Segment>> = core.segments().values().cloned().collect();
    let is_due = |segment: &&Arc<Segment>| {
        segment.index().is_some() && !segment.is_damaged() && is_wasteful(segment)
    };
    let gain_of = |segment: &Arc<Segment>| match segment.live_count() {
        0 => segment.disk_size(),
        _ => segment.disk_size().saturating_sub(segment.live_cost() + overhead(segment)),
    };
    let gains: Vec<u64> = all.iter().filter(is_due).map(gain_of).collect();
    (gains.len() as u64, gains.iter().sum())
}

/// What even a segment without waste takes: its header, and its index's.
fn overhead(segment: &Segment) -> u64 {
    (SEGMENT_HEADER_SIZE + 2 * format::HEADER_SIZE as u64 + 1024).min(segment.disk_size())
}

/// Writes what lives in `group` into one new segment that takes their place.
fn rewrite(core: &Core, group: Vec<Arc<Segment>>) -> Result<u64> {
    let _running = UnderWay::new(&core.counters.compacting);
    let (first, last) = (&group[0].header, &group[group.len() - 1].header);
    let header = SegmentHeader {
        engine_id: core.engine_id,
        number: first.number,
        last_number: last.last_number,
        generation: group.iter().map(|one| one.header.generation).max().unwrap_or(0) + 1,
        base: first.base,
        span: last.base.0 + last.span - first.base.0,
        created_ms: core.now_ms(),
        after_checkpoint: core.last_checkpoint.load(Ordering::Relaxed),
    };
    let copied = copy(core, &group, header);
    if matches!(copied, Err(Error::Damaged { .. })) {
        // Left as it is, for a person to look at; tried again after a restart.
        group.iter().for_each(|one| one.set_damaged());
    }
    let Some(new) = copied? else { return Ok(0) };
    let new = Arc::new(new);
    if let Err(error) = swap(core, &group, &new) {
        // Memory says one thing, the disk another: only a restart makes them one again.
        core.log.watermarks().fail(&format!("a rewritten segment could not be used: {error}"));
        return Err(error);
    }
    let before: u64 = group.iter().map(|one| one.disk_size()).sum();
    let freed = before.saturating_sub(new.disk_size());
    add(&core.counters.compacted_bytes, new.size());
    add(&core.counters.freed_bytes, freed);
    tracing::debug!(
        first = header.number,
        last = header.last_number,
        before,
        after = new.disk_size(),
        "segments rewritten"
    );
    for old in group {
        retire(core, old)?;
    }
    Ok(freed)
}

/// Copies the living messages of `group` into a new file and indexes it. `None` when the engine
/// closes in between.
fn copy(core: &Core, group: &[Arc<Segment>], header: SegmentHeader) -> Result<Option<Segment>> {
    let disk = &*core.env.disk;
    let folder = core.log_folder();
    let path = folder.join(header.file_name());
    let aside = folder.join(format!("{}.{UNFINISHED}", header.file_name()));
    let failed = |cause| Error::io("writing", aside.as_path(), cause);
    let mut copier = Copier {
        core,
        file: disk.create(&aside).map_err(failed)?,
        piece: Vec::with_capacity(PIECE_SIZE * 2),
        written: SEGMENT_HEADER_SIZE,
        payload: Payload::default(),
        index: IndexBuilder::default(),
        started: Instant::now(),
    };
    let copied = copier.copy(group, &aside);
    let store = copied.and_then(|done| {
        if !done {
            return Ok(false);
        }
        copier.flush().map_err(failed)?;
        // All may have died since the group was chosen; even then the file has a whole header.
        if copier.written == SEGMENT_HEADER_SIZE {
            copier.file.set_size(SEGMENT_HEADER_SIZE).map_err(failed)?;
        }
        copier.file.write_at(&header.encode(), 0).map_err(failed)?;
        copier.file.sync().map_err(failed)?;
        Ok(true)
    });
    match store {
        Ok(true) => {}
        other => {
            // Nobody looks for a file of this name; the next start removes it too.
            let _ = disk.remove(&aside);
            return other.map(|_| None);
        }
    }
    // What was left out must stay dead after a power cut: the records by which it died have to be
    // durable before the segment without it takes its place.
    core.log.sync_to(core.log.end())?;
    // The index first: a segment of a later generation never stands without.
    segment_index::write(disk, &path, copier.index)?;
    let adopt = || -> Result<Segment> {
        disk.rename(&aside, &path).map_err(failed)?;
        disk.sync_folder(&folder).map_err(failed)?;
        let segment = Segment::open(disk, &path, core.engine_id)?;
        let index = SegmentIndex::open(disk, &path)
            .ok_or_else(|| segment::damaged(&path, 0, "its new index cannot be read".to_owned()))?;
        segment.set_index(index);
        segment.seal(Lsn(header.base.0 + header.span));
        Ok(segment)
    };
    match adopt() {
        Ok(segment) => Ok(Some(segment)),
        Err(error) => {
            take_back(core, &path);
            Err(error)
        }
    }
}

/// Removes a rewritten segment that may have its name, but was not adopted. A start would take it for
/// the newest generation, and the next checkpoint would know nothing of it: if it cannot be removed for
/// good, there must be no next checkpoint.
fn take_back(core: &Core, path: &Path) {
    let disk = &*core.env.disk;
    let removed = match disk.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => disk.sync_folder(&core.log_folder()),
    };
    if let Err(error) = removed {
        let why = format!("a rewritten segment could not be taken back: {error}");
        core.log.watermarks().fail(&why);
    }
}

/// Lets the queues look into the new segment. From here on nobody finds the old ones.
fn swap(core: &Core, group: &[Arc<Segment>], new: &Arc<Segment>) -> Result<()> {
    let index = new.index().expect("it was just given one");
    let numbers = new.number()..=new.header.last_number;
    for run in 0..index.run_count() {
        let queue = QueueId(index.run(run).queue);
        core.state
            .with_id(queue, |queue| queue.ranges.replace(numbers.clone(), new, run))
            .transpose()?;
    }
    let mut segments = core.segments();
    for old in group {
        segments.remove(&old.number());
    }
    segments.insert(new.number(), new.clone());
    Ok(())
}

struct Copier<'a> {
    core: &'a Core,
    file: Arc<dyn crate::env::File>,
    piece: Vec<u8>,
    written: u64,
    payload: Payload,
    index: IndexBuilder,
    started: Instant,
}

/// A message to be copied.
struct Living {
    seq: u64,
    entry: Entry,
    source: usize,
}

impl Copier<'_> {
    /// Whether it came to the end.
    fn copy(&mut self, group: &[Arc<Segment>], aside: &std::path::Path) -> Result<bool> {
        for queue in queues_of(group) {
            if self.core.is_closing() {
                return Ok(false);
            }
            let living = self.living(queue, group)?;
            let mut rest = living.as_slice();
            while let Some(first) = rest.first() {
                let origin = self.origin(group, first)?;
                let mut count = 1;
                while count < rest.len().min(FRAME_COUNT_MAX)
                    && rest[count].seq == first.seq + count as u64
                    && self.origin(group, &rest[count])? == origin
                {
                    count += 1;
                }
                let (here, after) = rest.split_at(count);
                self.frame(queue, group, here, &origin)?;
                rest = after;
                if self.piece.len() >= PIECE_SIZE {
                    self.flush().map_err(|cause| Error::io("writing", aside, cause))?;
                    self.keep_to_the_rate();
                }
            }
        }
        Ok(true)
    }

    /// What of a queue lives in the group, in order.
    fn living(&self, queue: QueueId, group: &[Arc<Segment>]) -> Result<Vec<Living>> {
        let sources: BTreeMap<u64, usize> =
            group.iter().enumerate().map(|(source, one)| (one.number(), source)).collect();
        let now_ms = self.core.now_ms();
        let living = self.core.state.with_id(queue, |queue| {
            let expired = queue.expire(now_ms, now_ms)?;
            add(&self.core.counters.expired, expired);
            let mut living = Vec::new();
            for (number, range) in queue.ranges.iter().enumerate() {
                if let Some(source) = sources.get(&range.segment.number()) {
                    let found = queue.ranges.living_of(number, |_, _| true)?;
                    living.extend(found.into_iter().map(|found| Living {
                        seq: found.seq.0,
                        entry: found.entry,
                        source: *source,
                    }));
                }
            }
            Ok(living)
        });
        living.unwrap_or(Ok(Vec::new()))
    }

    /// The head of the frame a message lies in: what a frame of its own has to repeat.
    fn origin(&self, group: &[Arc<Segment>], living: &Living) -> Result<Origin> {
        let segment = &group[living.source];
        let bytes = segment.bytes();
        let at = living.entry.position as usize;
        // The record says how far back its frame begins; the frame's own checksum was right when the
        // index was made, and the message's is checked as it is copied.
        let read = || {
            let back = crate::log::frame::u32_at(bytes.get(at..at + 20)?, 12) as usize;
            let frame = bytes.get(at.checked_sub(back)?..)?.get(..HEAD_SIZE + 16)?;
            Some(Origin {
                lsn: crate::log::frame::u64_at(frame, 8),
                at_ms: crate::log::frame::u64_at(frame, 16),
                client: u128::from_le_bytes(frame[HEAD_SIZE..].try_into().ok()?),
            })
        };
        read().ok_or_else(|| {
            segment::damaged(&segment.path, at as u64, "a message lies in no frame".to_owned())
        })
    }

    fn frame(
        &mut self,
        queue: QueueId,
        group: &[Arc<Segment>],
        messages: &[Living],
        origin: &Origin,
    ) -> Result<()> {
        let client = crate::domain::ClientId(origin.client);
        self.payload.posted(client);
        for message in messages {
            let source = &group[message.source];
            // Checks the message's checksum.
            source.read_body(message.entry.position, message.entry.size)?;
            let at = message.entry.position as usize;
            self.payload.message_again(&source.bytes()[at..at + message.entry.size as usize]);
        }
        let size = HEAD_SIZE + self.payload.bytes.len();
        let head = Head {
            length: u32::try_from(size).expect("a part of a frame is no larger than it was"),
            lsn: Lsn(origin.lsn),
            at_ms: origin.at_ms,
            queue: queue.0,
            seq: messages[0].seq,
            behind: 0,
            kind: Kind::Posted,
            count: u16::try_from(messages.len()).expect("bounded above"),
        };
        let position = self.written + self.piece.len() as u64;
        self.piece.extend_from_slice(&head.encode(self.payload.crc()));
        self.piece.extend_from_slice(&self.payload.bytes);
        self.piece.resize(self.piece.len() + padded(size) - size, 0);

        let hash = client_hash(client, self.core.engine_id);
        let record = Record::decode(&head, &self.payload.bytes);
        let Ok(Record::Posted { messages: records, .. }) = record else {
            unreachable!("a posted record was just encoded")
        };
        for (record, message) in records.zip(messages) {
            let record = record.expect("it was just encoded");
            let entry = entry_of(&record, position, origin.at_ms, hash);
            self.index.add(queue, crate::domain::Seq(message.seq), entry);
        }
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.write_at(&self.piece, self.written)?;
        self.written += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    /// Waits until what was written is no more than the rate allows.
    fn keep_to_the_rate(&self) {
        let rate = self.core.config.compact_rate_bytes_per_s;
        let due = Duration::from_secs_f64(self.written as f64 / rate as f64);
        while !self.core.is_closing() {
            let left = due.saturating_sub(self.started.elapsed());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(PAUSE_STEP));
        }
    }
}

/// What messages of one frame share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Origin {
    lsn: u64,
    at_ms: u64,
    client: u128,
}

/// The queues that have messages in the group.
fn queues_of(group: &[Arc<Segment>]) -> Vec<QueueId> {
    let mut queues: Vec<QueueId> = group
        .iter()
        .filter_map(|segment| segment.index())
        .flat_map(|index| (0..index.run_count()).map(|run| QueueId(index.run(run).queue)))
        .collect();
    queues.sort_unstable();
    queues.dedup();
    queues
}
