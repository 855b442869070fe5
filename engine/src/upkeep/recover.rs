//! Opening: lock, format, checkpoint, indexes, replay, the torn tail; and a report of it all.
//! Nothing that is there is overwritten before everything was found in order.

use super::segments::make_index;
use crate::config::Config;
use crate::core::Core;
use crate::domain::{ClaimId, Durability, Lsn, QueueId, QueueKey, Seq};
use crate::env::{Disk, Environment};
use crate::error::{Error, Result};
use crate::files::checkpoint::{Checkpoint, CheckpointHeader, QueueShape, RangeShape};
use crate::files::format::{
    self, BadHeader, CHECKPOINT_FOLDER, FORMAT_FILE, FolderHeader, LOCK_FILE, LOG_FOLDER,
    SEGMENT_HEADER_SIZE, UNFINISHED,
};
use crate::files::segment_index::{client_hash, entry_of};
use crate::log::commit::{Log, NewFrame};
use crate::log::frame::{self, HEAD_SIZE, Head, Invalid, Kind};
use crate::log::record::{MESSAGE_HEAD_SIZE, Record};
use crate::log::scan::{ScanEnd, Scanner};
use crate::log::segment::{self, Segment};
use crate::metrics::Counters;
use crate::state::State;
use crate::state::claims::{Claim, Life};
use crate::state::queue::{Place, Queue};
use crate::state::ranges::Range;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The first LSN of a new folder. Ids are LSNs, and 0 means none.
const FIRST_LSN: Lsn = Lsn(4096);
/// The progress of long work is told so often.
const PROGRESS: Duration = Duration::from_secs(1);

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Whether the folder was made.
    pub is_new: bool,
    /// Whether the last run ended in good order.
    pub was_clean: bool,
    /// The checkpoint it started from, by number; 0 for none.
    pub checkpoint: u64,
    /// Why the newest checkpoint could not be used, when an older one had to do.
    pub fell_back: Option<String>,
    /// Segments found.
    pub segments: u64,
    /// Frames replayed behind the checkpoint.
    pub replayed_frames: u64,
    /// Bytes of log replayed.
    pub replayed_bytes: u64,
    /// Indexes that were missing and made again.
    pub rebuilt_indexes: u64,
    /// Bytes of an unfinished write that were cut off the end of the log.
    pub torn_bytes: u64,
    /// Queues.
    pub queues: u64,
    /// Milliseconds it took.
    pub duration_ms: u64,
    /// When it was done.
    pub opened_ms: u64,
}

/// Opens the folder.
pub(crate) fn open(config: Config, env: Environment) -> Result<(Core, RecoveryReport)> {
    let started = Instant::now();
    let disk = env.disk.clone();
    let (lock, header, is_new) = take_folder(&config, &env)?;
    let mut report = RecoveryReport { is_new, ..RecoveryReport::default() };
    let log_folder = config.folder.join(LOG_FOLDER);
    let checkpoint_folder = config.folder.join(CHECKPOINT_FOLDER);

    let segments = open_segments(&*disk, &log_folder, header.engine_id)?;
    report.segments = segments.len() as u64;
    let FoundCheckpoints { kept, newest, damaged, last } =
        open_checkpoints(&*disk, &checkpoint_folder, &segments, &mut report)?;

    let mut replay = Replay::new(&config, &header, newest.as_ref())?;
    let mut tail = replay.run(&*disk, segments, &mut report)?;
    report.was_clean = is_new
        || (newest.as_ref().is_some_and(|newest| newest.header.clean)
            && report.replayed_frames == 0
            && tail.end == replay.from);

    // All is well: from here on the folder changes.
    let number = tail.last_number + 1;
    let counters = Arc::new(Counters::default());
    let Replay { state, .. } = replay;
    let engine_id = header.engine_id;
    let sync_interval = Duration::from_millis(config.sync_interval_ms);
    let active = first_segment(&config, &env, engine_id, number, &mut tail)?;
    if let Some(torn) = tail.torn.take() {
        torn.cut(tail.limit, &mut report)?;
    }
    let log = Log::start(active, config.write_buffer_max_bytes, sync_interval, counters.clone());
    let core = Core::new(config, env, engine_id, state, log, counters);
    *core.checkpoints() = kept;
    *core.strays() = damaged;
    core.last_checkpoint.store(last, Ordering::Relaxed);
    for segment in tail.segments {
        core.segments().insert(segment.number(), segment);
    }
    remove_strays(&core, &tail.unused)?;
    if !report.was_clean {
        skip_numbers(&core, tail.limit.0 - tail.end.0)?;
    }
    *core.lock.lock().expect("nobody else has it yet") = Some(lock);
    report.queues = core.state.len() as u64;
    report.duration_ms = started.elapsed().as_millis() as u64;
    report.opened_ms = core.now_ms();
    Ok((core, report))
}

// ---- the folder ----

type Lock = Box<dyn std::fmt::Debug + Send + Sync>;

fn folder_error(config: &Config, what: String, next_step: &'static str) -> Error {
    Error::Folder { folder: config.folder.clone(), what, next_step }
}

/// Locks the folder and reads whose it is; makes it where there is none.
fn take_folder(config: &Config, env: &Environment) -> Result<(Lock, FolderHeader, bool)> {
    let disk = &*env.disk;
    let folder = &config.folder;
    let failed = |cause: io::Error| {
        let next_step = match cause.kind() {
            io::ErrorKind::NotFound => "make its parent folder, or name another one",
            _ => "make it readable and writable for this user, or name another one",
        };
        folder_error(config, cause.to_string(), next_step)
    };
    disk.create_folder(folder).map_err(failed)?;
    let names = disk.list(folder).map_err(failed)?;
    let has = |name: &str| names.iter().any(|found| found == name);
    let is_ours = has(FORMAT_FILE);
    let known = [LOCK_FILE, LOG_FOLDER, CHECKPOINT_FOLDER, "FORMAT.tmp", "lost+found"];
    if let Some(stranger) = names.iter().find(|name| !is_ours && !known.contains(&name.as_str())) {
        return Err(folder_error(
            config,
            format!("it holds {stranger:?} and no file {FORMAT_FILE}, so it is not a data folder"),
            "name an empty folder, or one that does not exist",
        ));
    }
    let holder = format!("{}\n", std::process::id());
    let lock = disk.lock(&folder.join(LOCK_FILE), &holder).map_err(|cause| match cause.kind() {
        io::ErrorKind::WouldBlock => folder_error(
            config,
            "another process has it open (its pid is in the file LOCK)".to_owned(),
            "stop that process, or name another folder",
        ),
        _ => failed(cause),
    })?;
    let path = folder.join(FORMAT_FILE);
    if is_ours {
        let bytes = disk.open(&path).and_then(|file| file.map()).map_err(failed)?.bytes;
        let header = FolderHeader::decode(&bytes).map_err(|what| {
            let next_step = match what {
                BadHeader::Version(_) => {
                    "use the version of the program that wrote it, or a newer one"
                }
                _ => "nothing was changed; restore the file from a copy, or name another folder",
            };
            folder_error(config, format!("{FORMAT_FILE}: {what}"), next_step)
        })?;
        for name in [LOG_FOLDER, CHECKPOINT_FOLDER] {
            disk.create_folder(&folder.join(name)).map_err(failed)?;
        }
        return Ok((lock, header, false));
    }
    if has(LOG_FOLDER) && !disk.list(&folder.join(LOG_FOLDER)).map_err(failed)?.is_empty() {
        return Err(folder_error(
            config,
            format!("it holds a log and no file {FORMAT_FILE}"),
            "nothing was changed; restore the file from a copy, or name another folder",
        ));
    }
    let now_ms = env.clock.now_ms();
    let header = FolderHeader { engine_id: new_engine_id(now_ms), created_ms: now_ms };
    let make = || -> io::Result<()> {
        disk.create_folder(&folder.join(LOG_FOLDER))?;
        disk.create_folder(&folder.join(CHECKPOINT_FOLDER))?;
        // The folder's own name, before anything in it counts.
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        disk.sync_folder(parent.unwrap_or(Path::new(".")))?;
        let aside = path.with_extension(UNFINISHED);
        let file = disk.create(&aside)?;
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        disk.rename(&aside, &path)?;
        disk.sync_folder(folder)
    };
    make().map_err(failed)?;
    Ok((lock, header, true))
}

/// A number that no other folder has: the standard library's per-process randomness, hashed.
fn new_engine_id(now_ms: u64) -> u128 {
    let half = || u128::from(RandomState::new().hash_one((now_ms, std::process::id())));
    half() << 64 | half()
}

// ---- the files ----

/// Opens every segment, in order of number; of two that stand for the same, the one rewritten later.
fn open_segments(disk: &dyn Disk, folder: &Path, engine_id: u128) -> Result<Vec<Segment>> {
    let names = disk.list(folder).map_err(|cause| Error::io("reading", folder, cause))?;
    let mut found = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(".seg")) {
        found.push(Segment::open(disk, &folder.join(name), engine_id)?);
    }
    found.sort_by_key(|one| (one.number(), std::cmp::Reverse(one.header.generation)));
    Ok(found)
}

/// What lies in the folder of checkpoints.
struct FoundCheckpoints {
    /// The headers of those that are whole, oldest first.
    kept: Vec<CheckpointHeader>,
    /// The one to use.
    newest: Option<Checkpoint>,
    /// The numbers of those that are not whole.
    damaged: Vec<u64>,
    /// The highest number, damaged or not.
    last: u64,
}

/// Checkpoints are tried from the newest on.
fn open_checkpoints(
    disk: &dyn Disk,
    folder: &Path,
    segments: &[Segment],
    report: &mut RecoveryReport,
) -> Result<FoundCheckpoints> {
    let names = disk.list(folder).map_err(|cause| Error::io("reading", folder, cause))?;
    let mut numbers: Vec<u64> =
        names.iter().filter_map(|name| format::checkpoint_number(name)).collect();
    numbers.sort_unstable();
    let (mut kept, mut damaged) = (Vec::new(), Vec::new());
    let mut newest = None;
    for number in numbers.iter().rev() {
        let path = folder.join(format::checkpoint_name(*number));
        match Checkpoint::open(disk, &path) {
            Ok(checkpoint) => {
                kept.insert(0, checkpoint.header);
                newest.get_or_insert(checkpoint);
            }
            Err(why) => {
                tracing::warn!(file = %path.display(), why, "a checkpoint cannot be used");
                if newest.is_none() {
                    report.fell_back.get_or_insert(format!("{}: {why}", path.display()));
                }
                damaged.push(*number);
            }
        }
    }
    let starts_at_one =
        segments.first().is_none_or(|first| first.number() == 1 && first.header.generation == 0);
    if newest.is_none() && (!numbers.is_empty() || !starts_at_one) {
        return Err(Error::Damaged {
            file: folder.to_path_buf(),
            offset: 0,
            what: match &report.fell_back {
                Some(why) => format!("no checkpoint can be used: {why}"),
                None => "the log begins after its first segment, and there is no checkpoint".into(),
            },
            next_step: "nothing was changed; restore a checkpoint from a copy of the folder",
        });
    }
    report.checkpoint = newest.as_ref().map_or(0, |newest| newest.header.number);
    let last = numbers.last().copied().unwrap_or(0);
    Ok(FoundCheckpoints { kept, newest, damaged, last })
}

/// The segment that this run begins with.
fn first_segment(
    config: &Config,
    env: &Environment,
    engine_id: u128,
    number: u64,
    tail: &mut Tail,
) -> Result<Arc<Segment>> {
    let disk = &*env.disk;
    let folder = config.folder.join(LOG_FOLDER);
    let size = config.segment_size_bytes;
    // What was made ready for the run that ended serves this one: frames of another LSN in it, if
    // there are any, are never taken for its own.
    let reusable = tail.unused.iter().position(|unused| unused.size == size);
    let prepared = match reusable {
        Some(place) => tail.unused.swap_remove(place).path,
        // A ticket of its own: the engine numbers its spares from 0.
        None => Segment::prepare(disk, &folder, size, u64::MAX, || {})?,
    };
    let header = format::SegmentHeader {
        engine_id,
        number,
        last_number: number,
        generation: 0,
        base: tail.limit,
        span: size - SEGMENT_HEADER_SIZE,
        created_ms: env.clock.now_ms(),
        after_checkpoint: 0,
    };
    Ok(Arc::new(Segment::start(disk, &folder, &prepared, header)?))
}

/// Removes what an earlier run left unfinished, and segments that hold nothing.
fn remove_strays(core: &Core, unused: &[Unused]) -> Result<()> {
    let disk = &*core.env.disk;
    let remove = |path: &Path| match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("removing", path, error))
        }
        _ => Ok(()),
    };
    for Unused { path, .. } in unused {
        remove(&format::index_path(path))?;
        remove(path)?;
    }
    for folder in [core.log_folder(), core.checkpoint_folder()] {
        let failed = |cause| Error::io("reading", folder.as_path(), cause);
        let names = disk.list(&folder).map_err(failed)?;
        let mut changed = !unused.is_empty();
        for name in &names {
            let is_orphan = name
                .strip_suffix(".idx")
                .is_some_and(|stem| !names.contains(&format!("{stem}.seg")));
            if is_orphan || name.ends_with(&format!(".{UNFINISHED}")) {
                remove(&folder.join(name))?;
                changed = true;
            }
        }
        // An empty segment that comes back behind frames would look like a hole in the log.
        if changed {
            disk.sync_folder(&folder).map_err(|cause| Error::io("syncing", folder, cause))?;
        }
    }
    Ok(())
}

/// After an end that was not clean, LSNs and message numbers may have been told to clients that the
/// log no longer knows. Neither is given out again: the new segment's LSNs begin behind all that the
/// old ones could have held, and every queue skips as many numbers as could have been written there.
fn skip_numbers(core: &Core, lost_bytes_max: u64) -> Result<()> {
    let skipped = lost_bytes_max / MESSAGE_HEAD_SIZE as u64 + 1;
    let frame = NewFrame {
        kind: Kind::Resumed,
        at_ms: core.now_ms(),
        queue: 0,
        seq: skipped,
        count: 0,
        payload: &[],
        crc: crc32fast::Hasher::new(),
    };
    let appended = core.log.append(frame, Durability::Group).map_err(|_| Error::Closed)?;
    core.log.sync_to(appended.end)?;
    core.state.visit_all(|queue| {
        queue.next_seq = Seq(queue.next_seq.0 + skipped);
        queue.last_end = appended.end;
    });
    Ok(())
}

// ---- replay ----

/// What replay left: the log's end, and the segments.
struct Tail {
    segments: Vec<Arc<Segment>>,
    /// Files that are not needed any more.
    unused: Vec<Unused>,
    /// Behind the last whole frame.
    end: Lsn,
    /// Behind every LSN that may ever have been given out.
    limit: Lsn,
    last_number: u64,
    /// The last segment does not say where the log goes on.
    torn: Option<Torn>,
}

/// A segment's file that is not needed any more.
struct Unused {
    path: PathBuf,
    size: u64,
}

impl Unused {
    fn new(segment: &Segment) -> Unused {
        Unused { path: segment.path.clone(), size: segment.size() }
    }
}

/// What a checkpoint says of a queue's messages.
struct Known {
    next_seq: u64,
    /// In the order of their segments.
    ranges: Box<[RangeShape]>,
}

struct Replay {
    state: State,
    engine_id: u128,
    /// Durability by configuration, for queues without a floor.
    config: Config,
    /// The log is replayed from here.
    from: Lsn,
    checkpoint: u64,
    /// What the checkpoint says of each queue's messages.
    known: HashMap<QueueId, Known>,
    told: Instant,
}

impl Replay {
    fn new(config: &Config, header: &FolderHeader, newest: Option<&Checkpoint>) -> Result<Replay> {
        let mut replay = Replay {
            state: State::new(),
            engine_id: header.engine_id,
            config: config.clone(),
            from: newest.map_or(FIRST_LSN, |newest| newest.header.lsn),
            checkpoint: newest.map_or(0, |newest| newest.header.number),
            known: HashMap::new(),
            told: Instant::now(),
        };
        if let Some(newest) = newest {
            newest.for_each_queue(|shape| replay.restore(shape)).map_err(|what| {
                Error::Damaged {
                    file: config.folder.join(CHECKPOINT_FOLDER),
                    offset: 0,
                    what,
                    next_step: "nothing was changed; move the newest checkpoint aside to start from the older one",
                }
            })??;
        }
        Ok(replay)
    }

    fn restore(&mut self, shape: QueueShape) -> Result<()> {
        let malformed = || Error::Damaged {
            file: self.config.folder.join(CHECKPOINT_FOLDER),
            offset: 0,
            what: format!("the checkpoint's record of queue {} is malformed", shape.id),
            next_step: "nothing was changed; move the newest checkpoint aside to start from the older one",
        };
        let key = QueueKey::from_bytes(&shape.key).ok_or_else(malformed)?;
        let id = QueueId(shape.id);
        let mut queue = Queue::new(id, key.clone(), self.config.durability_of(&key));
        queue.metadata = shape.metadata.into_boxed_slice();
        if let Some(floor) = Durability::from_code(shape.floor) {
            queue.floor = Some(floor);
            queue.durability = floor;
        }
        queue.next_seq = Seq(shape.next_seq);
        queue.cursor = Seq(shape.cursor);
        queue.last_end = Lsn(shape.as_of);
        queue.as_of = Lsn(shape.as_of);
        let has_claims =
            !(shape.claims.is_empty() && shape.returned.is_empty() && shape.lives.is_empty());
        if has_claims {
            let claims = queue.claims_mut();
            for claim in shape.claims {
                let seqs = claim.seqs.into_iter().map(Seq).collect();
                let (renewed_ms, ttl_s, grace_s) = (claim.renewed_ms, claim.ttl_s, claim.grace_s);
                let id = ClaimId(Lsn(claim.id));
                claims.insert(id, Claim { renewed_ms, ttl_s, grace_s, seqs });
            }
            for [first, last] in shape.returned {
                claims.restore_returned(first, last);
            }
            for life in shape.lives {
                let (expires_ms, ttl_s) = (life.expires_ms, life.ttl_s);
                claims.extend(Seq(life.seq), Life { expires_ms, ttl_s });
            }
        }
        let ranges = shape.ranges.into_boxed_slice();
        self.known.insert(id, Known { next_seq: shape.next_seq, ranges });
        let mut shard = self.state.lock(&key);
        self.state.insert(&mut shard, queue);
        Ok(())
    }

    /// Brings every segment's messages into the state, and every record behind the checkpoint.
    fn run(
        &mut self,
        disk: &dyn Disk,
        found: Vec<Segment>,
        report: &mut RecoveryReport,
    ) -> Result<Tail> {
        let mut tail = Tail {
            segments: Vec::new(),
            unused: Vec::new(),
            end: self.from,
            limit: self.from,
            last_number: 0,
            torn: None,
        };
        let total = found.len();
        // A segment with frames behind one that ends badly proves damage; until one comes, the bad
        // end may be a torn tail.
        let mut torn: Option<Torn> = None;
        // Where the next segment has to begin. The first one read has to hold the checkpoint's LSN.
        let mut next: Option<Lsn> = None;
        let mut is_first = true;
        for (done, segment) in found.into_iter().enumerate() {
            let header = segment.header;
            if self.told.elapsed() > PROGRESS {
                tracing::info!(done, total, replayed = report.replayed_frames, "recovering");
                self.told = Instant::now();
            }
            tail.limit = tail.limit.max(segment.lsn_limit());
            if header.number <= tail.last_number {
                // What compaction joined: a rewritten segment stands for it already.
                tail.unused.push(Unused::new(&segment));
                continue;
            }
            tail.last_number = header.last_number;
            if let Some(torn) = &torn {
                if Scanner::new(&segment).next_frame().is_some() {
                    return Err(torn.damage());
                }
                tail.unused.push(Unused::new(&segment));
            } else if segment.lsn_limit() <= self.from {
                tail.segments.push(self.add_indexed(disk, segment, report)?);
            } else if next.is_some_and(|next| header.base < next) {
                // Made ready, and passed over when the log went on after an unclean end.
                if Scanner::new(&segment).next_frame().is_some() {
                    let what = "frames in a segment that the log passed over".to_owned();
                    return Err(segment::damaged(&segment.path, SEGMENT_HEADER_SIZE, what));
                }
                tail.unused.push(Unused::new(&segment));
            } else {
                let expected = next.unwrap_or(self.from);
                let begins_well = header.base == expected || is_first && header.base < expected;
                if !begins_well {
                    return Err(self.missing(expected));
                }
                is_first = false;
                let segment = Arc::new(segment);
                (torn, next) = match self.scan(&segment, &mut tail, report)? {
                    Scanned::GoesOn(next) => (None, Some(next)),
                    Scanned::Ends(torn) => (Some(torn), None),
                };
                tail.segments.push(segment);
            }
        }
        if let Some(next) = next {
            return Err(self.missing(next));
        }
        if is_first && self.checkpoint > 0 {
            return Err(self.missing(self.from));
        }
        tail.torn = torn;
        Ok(tail)
    }

    fn missing(&self, lsn: Lsn) -> Error {
        let what = format!("the segment that holds LSN {lsn} of the log is missing");
        segment::damaged(&self.config.folder.join(LOG_FOLDER), 0, what)
    }

    /// A segment that lies wholly below the checkpoint: its index tells where messages are, and the
    /// checkpoint which of them live.
    fn add_indexed(
        &mut self,
        disk: &dyn Disk,
        segment: Segment,
        report: &mut RecoveryReport,
    ) -> Result<Arc<Segment>> {
        let index = match crate::files::segment_index::SegmentIndex::open(disk, &segment.path) {
            Some(index) => index,
            None => {
                tracing::info!(file = %segment.path.display(), "making a missing index again");
                report.rebuilt_indexes += 1;
                make_index(disk, &segment, self.engine_id)?
            }
        };
        segment.set_index(index);
        segment.seal(segment.lsn_limit());
        let segment = Arc::new(segment);
        let index = segment.index().expect("it was just given one");
        let (number, generation) = (segment.number(), segment.header.generation);
        let is_newer = generation > 0 && segment.header.after_checkpoint >= self.checkpoint;
        for run_number in 0..index.run_count() {
            let run = index.run(run_number);
            let id = QueueId(run.queue);
            let Some(known) = self.known.get(&id) else { continue };
            let dead: &[u64] = match known.range(number, generation) {
                Some(range) => &range.bits,
                // Rewritten after the checkpoint: what was dead then is not in it.
                None if is_newer => &[],
                None => continue,
            };
            let range = Range::mapped(segment.clone(), run_number, &run);
            self.state.with_id(id, |queue| queue.ranges.push_mapped(range, dead)).transpose()?;
        }
        Ok(segment)
    }

    /// A segment that reaches beyond the checkpoint: frame by frame. Says where and how the log ends
    /// if it ends here without saying so.
    fn scan(
        &mut self,
        segment: &Arc<Segment>,
        tail: &mut Tail,
        report: &mut RecoveryReport,
    ) -> Result<Scanned> {
        let mut scanner = Scanner::new(segment);
        while let Some((position, head, payload)) = scanner.next_frame() {
            let record = Record::decode(&head, payload)
                .map_err(|error| scanner.damaged(position, error.to_string()))?;
            let end = Lsn(head.lsn.0 + head.padded_size() as u64);
            let place = Place { lsn: head.lsn, end, at_ms: head.at_ms, segment, position };
            self.replay(&place, &record)?;
            if end > self.from {
                report.replayed_frames += 1;
                report.replayed_bytes += head.padded_size() as u64;
            }
            tail.end = tail.end.max(end);
        }
        segment.seal(scanner.lsn());
        let why = match scanner.end() {
            ScanEnd::Sealed(next) => return Ok(Scanned::GoesOn(next)),
            // Rewritten segments stand for all LSNs up to their limit.
            ScanEnd::Eof => return Ok(Scanned::GoesOn(segment.lsn_limit())),
            ScanEnd::Invalid(why) => why,
        };
        let beyond = scanner.beyond();
        let position = scanner.position();
        let torn = Torn { segment: segment.clone(), position, why, end: beyond.end };
        // Below the checkpoint everything was durable once; elsewhere a later frame may prove it.
        let was_durable = scanner.lsn() < self.from || beyond.proves_damage;
        if why == Invalid::Unknown || was_durable {
            return Err(torn.damage());
        }
        Ok(Scanned::Ends(torn))
    }

    fn replay(&mut self, place: &Place<'_>, record: &Record<'_>) -> Result<()> {
        let is_new = place.end > self.from;
        let queue = match record {
            Record::QueueCreated { key, floor, metadata } => {
                if is_new {
                    self.create(place, key, *floor, metadata);
                }
                return Ok(());
            }
            Record::QueueRemoved { queue } => {
                if is_new && let Some(key) = self.state.key_of(*queue) {
                    let mut shard = self.state.lock(&key);
                    self.state.remove(&mut shard, &key);
                }
                return Ok(());
            }
            Record::Resumed { .. } => {
                let mut applied = Ok(0);
                self.state.visit_all(|queue| {
                    if is_new && place.end > queue.as_of && applied.is_ok() {
                        applied = queue.apply(place, record, self.engine_id);
                    }
                });
                return applied.map(|_| ());
            }
            Record::SegmentEnd => return Ok(()),
            Record::QueueChanged { queue, .. }
            | Record::Posted { queue, .. }
            | Record::Claimed { queue, .. }
            | Record::Renewed { queue, .. }
            | Record::Released { queue, .. }
            | Record::Deleted { queue, .. } => *queue,
        };
        let known = self.known.get(&queue);
        let engine_id = self.engine_id;
        let applied = self.state.with_id(queue, |queue| {
            if place.end > queue.as_of {
                return queue.apply(place, record, engine_id).map(|_| ());
            }
            // The checkpoint has it, but not where messages lie.
            match (record, known) {
                (Record::Posted { first, client, messages, .. }, Some(known)) => {
                    let client = client_hash(*client, engine_id);
                    for (message, seq) in messages.clone().zip(first.0..) {
                        let message = message.map_err(|what| {
                            segment::damaged(&place.segment.path, place.position, what.to_string())
                        })?;
                        let entry = entry_of(&message, place.position, place.at_ms, client);
                        queue.restore_message(place.segment, Seq(seq), entry);
                        if known.is_dead(place.segment, seq) {
                            queue.restore_death(Seq(seq))?;
                        }
                    }
                    Ok(())
                }
                _ => Ok(()),
            }
        });
        applied.unwrap_or(Ok(()))
    }

    fn create(
        &mut self,
        place: &Place<'_>,
        key: &QueueKey,
        floor: Option<Durability>,
        metadata: &[u8],
    ) {
        let id = QueueId(place.lsn.0);
        let mut shard = self.state.lock(key);
        // The checkpoint may have it already; or a later one of the same name, and then this one is
        // gone by the time the checkpoint was taken.
        if shard.get(key).is_some_and(|queue| queue.id >= id) {
            return;
        }
        let durability = floor.unwrap_or_else(|| self.config.durability_of(key));
        let mut queue = Queue::new(id, key.clone(), durability);
        queue.floor = floor;
        queue.metadata = metadata.into();
        queue.last_end = place.end;
        self.state.insert(&mut shard, queue);
    }
}

impl Known {
    fn range(&self, segment: u64, generation: u64) -> Option<&RangeShape> {
        let place = self.ranges.binary_search_by_key(&segment, |range| range.segment).ok()?;
        Some(&self.ranges[place]).filter(|range| range.generation == generation)
    }

    /// Whether the checkpoint says that a message, in a segment as it was appended, is dead.
    fn is_dead(&self, segment: &Segment, seq: u64) -> bool {
        match self.range(segment.number(), 0) {
            // What it could know of and does not list is dead.
            None => seq < self.next_seq,
            Some(range) => {
                let ordinal = seq.saturating_sub(range.first_seq);
                let word = usize::try_from(ordinal / 64).ok().and_then(|word| range.bits.get(word));
                seq < range.first_seq || word.is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
            }
        }
    }
}

/// How a segment ended.
enum Scanned {
    /// It says where the log goes on.
    GoesOn(Lsn),
    /// It does not.
    Ends(Torn),
}

/// A log that ends without saying so.
struct Torn {
    segment: Arc<Segment>,
    position: u64,
    why: Invalid,
    /// Behind the last whole frame after that.
    end: u64,
}

impl Torn {
    fn damage(&self) -> Error {
        segment::damaged(&self.segment.path, self.position, self.why.to_string())
    }

    /// Ends the log here: writes the frame that says so, and that the log goes on at `next`, over
    /// whatever lies behind.
    fn cut(self, next: Lsn, report: &mut RecoveryReport) -> Result<()> {
        let Torn { segment, position, why, end } = self;
        let mut torn_bytes = end - position;
        if why == Invalid::Checksum {
            let bytes = &segment.bytes()[position as usize..];
            torn_bytes = torn_bytes.max(u64::from(frame::u32_at(bytes, 4)).min(bytes.len() as u64));
        }
        if torn_bytes > 0 {
            report.torn_bytes = torn_bytes;
            tracing::warn!(
                file = %segment.path.display(),
                offset = position,
                bytes = report.torn_bytes,
                "cut a torn write off the end of the log"
            );
        }
        let head = Head {
            length: HEAD_SIZE as u32,
            lsn: segment.lsn_at(position),
            at_ms: 0,
            queue: 0,
            seq: next.0,
            behind: u32::MAX,
            kind: Kind::SegmentEnd,
            count: 0,
        };
        let end = head.encode(crc32fast::Hasher::new());
        segment
            .write_at(&end, position)
            .and_then(|()| segment.sync())
            .map_err(|cause| Error::io("ending", segment.path.as_path(), cause))
    }
}
