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

use super::segment_writer::{FRAME_COUNT_MAX, SegmentWriter};
use super::segments::{SPARES_MAX, spare_ticket, stretches};
use crate::checksum;
use crate::core::Core;
use crate::domain::{Durability, Lsn, MessageId, QueueId, Seq};
use crate::error::{Error, Result};
use crate::files::format::{self, SEGMENT_HEADER_SIZE, SegmentHeader, UNFINISHED};
use crate::log::frame::Kind;
use crate::log::record::Location;
use crate::log::segment::Segment;
use crate::log::stored::{Origin, Stored};
use crate::log::tail::{NewFrame, Refused};
use crate::metrics::{UnderWay, add};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, Instant, PoisonError, thread};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// A segment is small when what lives in it would fit so many times into a whole one.
const SMALL_SHARE: u64 = 8;
/// So many small neighbours are joined.
const JOIN_COUNT: usize = 8;
/// Overlong pauses for the rate's sake are cut into steps, so that closing need not wait.
const PAUSE_STEP: Duration = Duration::from_millis(20);
/// After a piece the disk is left to others for so many times as long as that took.
const RESTS: u32 = 3;
/// Between two parts of an unused segment that are unmapped.
const LET_GO_PAUSE: Duration = Duration::from_millis(1);
/// Unless so many segments wait to be rewritten: then space is lost faster than it is given back.
const MANY: u64 = 16;

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
        is_below && segment.is_indexed() && !segment.is_damaged()
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
    for segment in &dead {
        tell_retired(core, segment)?;
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

/// Writes down that a segment is not missing, but gone for good.
fn tell_retired(core: &Core, segment: &Segment) -> Result<()> {
    let frame = NewFrame {
        kind: Kind::SegmentRetired,
        at_ms: core.now_ms(),
        queue: 0,
        seq: segment.number(),
        payload: &[],
        crc: checksum::begin(),
    };
    match core.log.append(frame, Durability::Memory) {
        // Without room for the record its room is needed all the more.
        Ok(_) | Err(Refused::NoRoom) => Ok(()),
        Err(Refused::For(error)) => Err(error),
    }
}

/// Removes a segment's files, or keeps the large one as a spare.
fn retire(core: &Core, segment: Arc<Segment>) -> Result<()> {
    let has_room = core.spares().len() < SPARES_MAX;
    let reuse = has_room.then(|| {
        let name = format!("spare-{}.{UNFINISHED}", spare_ticket(core));
        (core.config.segment_size_bytes, core.log_folder().join(name))
    });
    let pause = || {
        if !core.is_closing() && !core.is_by_hand() {
            thread::sleep(LET_GO_PAUSE);
        }
    };
    let spare = Segment::retire(segment, &*core.env.disk, reuse, pause)?;
    core.spares().extend(spare);
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

/// Whether most of a segment is waste.
fn is_wasteful(segment: &Segment) -> bool {
    segment.live_cost() * 2 < segment.disk_size() - overhead(segment)
}

/// What rewriting a sealed segment would give back, about; 0 where it would be left as it is.
pub(crate) fn gain(segment: &Segment) -> u64 {
    let kept = match segment.live_count() {
        0 => 0,
        _ if is_wasteful(segment) => segment.live_cost() + overhead(segment),
        _ => segment.disk_size(),
    };
    segment.disk_size().saturating_sub(kept)
}

/// How many segments a rewrite would gain from, and all gains added up. Those above the checkpoints
/// count: whoever asks for a compaction gets the checkpoints first.
pub(crate) fn gain_of_all(core: &Core) -> (u64, u64) {
    let all: Vec<Arc<Segment>> = core.segments().values().cloned().collect();
    let is_ready = |segment: &&Arc<Segment>| segment.index().is_some() && !segment.is_damaged();
    let gains: Vec<u64> =
        all.iter().filter(is_ready).map(|segment| gain(segment)).filter(|gain| *gain > 0).collect();
    (gains.len() as u64, gains.iter().sum())
}

/// What even a segment without waste takes: its header, and its index's.
fn overhead(segment: &Segment) -> u64 {
    (SEGMENT_HEADER_SIZE + 2 * format::HEADER_SIZE as u64 + 1024).min(segment.disk_size())
}

/// Writes what lives in `group` into one new segment that takes their place.
fn rewrite(core: &Core, group: Vec<Arc<Segment>>) -> Result<u64> {
    let Some((before, new)) = replace(core, &group)? else { return Ok(0) };
    for old in group {
        retire(core, old)?;
    }
    Ok(before.saturating_sub(new.disk_size()))
}

/// Writes what lives in one segment anew, whatever it costs, and gives its files to `dispose`.
pub(crate) fn rewrite_damaged(
    core: &Core,
    segment: Arc<Segment>,
    mut dispose: impl FnMut(&Path) -> Result<()>,
) -> Result<()> {
    let path = segment.path.clone();
    replace(core, &[segment])?;
    dispose(&path)?;
    dispose(&format::index_path(&path))
}

/// Puts one new segment with what lives in `group` into its place, in memory and on disk, and leaves its
/// files to the caller. What they took, and the new one; `None` when the engine closes in between.
fn replace(core: &Core, group: &[Arc<Segment>]) -> Result<Option<(u64, Arc<Segment>)>> {
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
    let copied = copy(core, group, header);
    if matches!(copied, Err(Error::Damaged { .. })) {
        // Left as it is, for a person to look at; tried again after a restart.
        group.iter().for_each(|one| one.set_damaged());
    }
    let Some(new) = copied? else { return Ok(None) };
    let new = Arc::new(new);
    if let Err(error) = swap(core, group, &new) {
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
    Ok(Some((before, new)))
}

/// Copies the living messages of `group` into a new file and indexes it. `None` when the engine
/// closes in between.
fn copy(core: &Core, group: &[Arc<Segment>], header: SegmentHeader) -> Result<Option<Segment>> {
    let folder = core.log_folder();
    let name = header.file_name();
    let file = SegmentWriter::create(core.env.disk.clone(), &folder, &name)?;
    let has_time = has_time(gain_of_all(core).0, core.log.is_posting_stopped());
    let mut copier = Copier { core, file, has_time, started: Instant::now(), checked: None };
    let copied = copier.copy(group);
    if !matches!(copied, Ok(true)) {
        copier.file.abandon();
        return copied.map(|_| None);
    }
    // All may have died since the group was chosen; that leaves a segment without a message.
    let finished = copier.file.finish(&header)?;
    // What was left out must stay dead after a power cut: the records by which it died have to be
    // durable before the segment without it takes its place.
    core.log.sync_to(core.log.end())?;
    let path = finished.path.clone();
    let mut rest = stretches(core);
    let mut pause = || {
        if has_time {
            rest();
        }
    };
    match finished.adopt(&mut pause) {
        Ok(segment) => Ok(Some(segment)),
        Err(error) => {
            take_back(core, &path);
            Err(error)
        }
    }
}

/// Whether compaction may take its time, when so many segments wait to be rewritten.
fn has_time(waiting_count: u64, is_posting_stopped: bool) -> bool {
    waiting_count < MANY && !is_posting_stopped
}

/// How long after a piece that took so long the disk is left to others.
fn rest_after(took: Duration, has_time: bool) -> Duration {
    if has_time { took * RESTS } else { Duration::ZERO }
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
    file: SegmentWriter,
    /// Whether others may have the disk in between.
    has_time: bool,
    started: Instant,
    /// The frame that was checked last: its segment's place in the group, its own in the segment.
    checked: Option<(usize, u32)>,
}

/// A message to be copied.
struct Living {
    seq: u64,
    at: Location,
    source: usize,
}

impl Copier<'_> {
    /// Whether it came to the end.
    fn copy(&mut self, group: &[Arc<Segment>]) -> Result<bool> {
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
                rest = after;
                if self.frame(queue, group, here, &origin)? {
                    let began = Instant::now();
                    self.file.flush_to_disk()?;
                    self.rest(began.elapsed());
                }
            }
        }
        Ok(true)
    }

    /// What the frame of a message says, which is checked whole: what is written anew gets a checksum of its own,
    /// and damage in it would never be seen again.
    fn origin(&mut self, group: &[Arc<Segment>], message: &Living) -> Result<Origin> {
        let segment = &group[message.source];
        let (frame, origin) = segment.origin(message.at)?;
        let place = (message.source, frame);
        if self.checked != Some(place) {
            segment.check_frame(frame)?;
            self.checked = Some(place);
        }
        Ok(origin)
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
                        at: found.entry.at(),
                        source: *source,
                    }));
                }
            }
            Ok(living)
        });
        living.unwrap_or(Ok(Vec::new()))
    }

    /// Copies messages of one frame into one. Whether a piece is full.
    fn frame(
        &mut self,
        queue: QueueId,
        group: &[Arc<Segment>],
        messages: &[Living],
        origin: &Origin,
    ) -> Result<bool> {
        let payload = &mut self.file.payload;
        let read = |message: &Living| {
            let id = MessageId { queue, seq: Seq(message.seq) };
            group[message.source].message(message.at, id)
        };
        let kind = match messages {
            // The usual case, and it is to be written as it was.
            [only] if only.at.is_frame() => {
                let Stored { ttl_s, client, body, .. } = read(only)?;
                payload.posted_one(client, ttl_s, &body);
                Kind::PostedOne
            }
            _ => {
                payload.posted(origin.client);
                for message in messages {
                    let Stored { ttl_s, size, body, .. } = read(message)?;
                    if message.at.is_frame() {
                        payload.message(ttl_s, &body);
                    } else {
                        let source = &group[message.source];
                        payload.message_again(&source.slice(message.at.position(), size)?);
                    }
                }
                payload.end_posted()
            }
        };
        Ok(self.file.frame(kind, queue, messages[0].seq, origin))
    }

    /// Leaves the disk to others after a piece that took so long, and waits until what was written is no
    /// more than the rate allows.
    fn rest(&self, took: Duration) {
        let rate = self.core.config.compact_rate_bytes_per_s;
        let due = Duration::from_secs_f64(self.file.size() as f64 / rate as f64);
        let until = due.max(self.started.elapsed() + rest_after(took, self.has_time));
        while !self.core.is_closing() && !self.core.is_by_hand() {
            let left = until.saturating_sub(self.started.elapsed());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(PAUSE_STEP));
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::domain::{ClientId, QueueKey};
    use crate::engine::{Engine, NewMessage};
    use crate::env::Environment;
    use crate::upkeep::{checkpoint, recover, segments};

    #[test]
    fn it_rests_after_each_piece_unless_space_is_lost_faster_than_given_back() {
        let took = Duration::from_millis(2);
        assert_eq!(rest_after(took, has_time(1, false)), took * 3);
        assert_eq!(rest_after(took, has_time(MANY - 1, false)), took * 3);
        assert_eq!(rest_after(took, has_time(MANY, false)), Duration::ZERO, "many wait");
        assert_eq!(rest_after(took, has_time(1, true)), Duration::ZERO, "posts wait for room");
    }

    #[test]
    fn a_segment_is_rewritten_only_once_every_queue_looks_into_its_index() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config {
            segment_size_bytes: 1 << 20,
            disk_reserve_bytes: 0,
            ..Config::new(folder.path().join("data"))
        };
        let key = QueueKey::new(None, "q").expect("short");
        let engine = Engine::open(config.clone()).expect("it opens");
        engine.create_queue(&key, None).expect("made").wait().expect("durable");
        let message = NewMessage { ttl_s: 1000, body: b"1" };
        engine.post(&key, ClientId(1), &[message], None).expect("posted").wait().expect("durable");
        engine.close().expect("it closes");

        // Without the background threads: what they do at once is done here in its worst order.
        let (core, _) = recover::open(config, Environment::system()).expect("it opens");
        checkpoint::write(&core, false).expect("written");
        checkpoint::write(&core, false).expect("written");
        let segment = Arc::clone(&core.segments()[&1]);
        let make = || segments::make_index(&*core.env.disk, &segment);
        segment.set_index(make().expect("it can be made"));
        round(&core).expect("nothing fails");
        assert_eq!(core.segments()[&1].header.generation, 0, "a queue still comes to it");

        segments::adopt_index(&core, &segment, make().expect("it can be made")).expect("adopted");
        round(&core).expect("nothing fails");
        assert_eq!(core.segments()[&1].header.generation, 1);
    }
}
