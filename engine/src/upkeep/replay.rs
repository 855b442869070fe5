//! Replay: the newest checkpoint, the segments' indexes, and every record behind the checkpoint, brought
//! into one state; and how the log ends. Reads only; what is to be changed is left to `recover.rs`.

use super::known::Known;
use super::lenience::Lenience;
use super::misnamed::{self, Misnamed};
use super::recover::RecoveryReport;
use super::whole;
use crate::checksum;
use crate::config::Config;
use crate::domain::{ClaimId, Durability, Lsn, QueueId, QueueKey, Seq};
use crate::env::Disk;
use crate::error::{Error, Result};
use crate::fault::{Fault, FaultKind, Lost, LostKind};
use crate::files::checkpoint::{Checkpoint, QueueShape};
use crate::files::format::{self, CHECKPOINT_FOLDER, LOG_FOLDER, SEGMENT_HEADER_SIZE};
use crate::files::segment_index::SegmentIndex;
use crate::log::frame::{self, HEAD_SIZE, Head, Invalid, Kind, LsnHint};
use crate::log::record::Record;
use crate::log::scan::{ScanEnd, Scanner};
use crate::log::segment::{self, Segment};
use crate::state::State;
use crate::state::claims::{Claim, Life};
use crate::state::queue::{Place, Queue};
use crate::state::ranges::Range;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first LSN of a new folder. Ids are LSNs, and 0 means none.
pub(crate) const FIRST_LSN: Lsn = Lsn(4096);
/// The progress of long work is told so often.
const PROGRESS: Duration = Duration::from_secs(1);

/// What replay left: the log's end, and the segments.
pub(crate) struct Tail {
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Files that are not needed any more.
    pub(super) unused: Vec<Unused>,
    /// Behind the last whole frame.
    pub(crate) end: Lsn,
    /// Behind every LSN that may ever have been given out.
    pub(super) limit: Lsn,
    pub(super) last_number: u64,
    /// How many messages the segments have that were read frame by frame.
    pub(crate) scanned: HashMap<u64, u64>,
    /// The last segment does not say where the log goes on.
    pub(crate) torn: Option<Torn>,
}

/// A segment's file that is not needed any more.
pub(super) struct Unused {
    pub(super) path: PathBuf,
    pub(super) size: u64,
}

impl Unused {
    fn new(segment: &Segment) -> Unused {
        Unused { path: segment.path.clone(), size: segment.size() }
    }
}

/// Where a replay stops for the sake of comparing: queues not listed are passed over, the others are
/// brought to these LSNs.
pub(crate) type Until = HashMap<QueueId, Lsn>;

pub(super) struct Replay {
    pub(super) state: State,
    /// Durability by configuration, for queues without a floor.
    config: Config,
    /// The log is replayed from here.
    pub(super) from: Lsn,
    checkpoint: u64,
    /// A file whose header says that it is another.
    pub(super) misnamed: Option<Misnamed>,
    /// Segments of which the log says that their files are gone for good.
    pub(super) retired: HashSet<u64>,
    /// The latest time of all that was read.
    pub(super) latest_ms: u64,
    /// What the checkpoint says of each queue's messages.
    pub(super) known: HashMap<QueueId, Known>,
    /// Goes on where something is wrong, and takes note; without it the first fault ends the replay.
    pub(super) lenience: Option<Lenience>,
    until: Option<Until>,
    /// Indexes that are made again, although they are there.
    damaged_indexes: HashSet<PathBuf>,
    told: Instant,
}

impl Replay {
    pub(super) fn new(config: &Config, newest: Option<&Checkpoint>) -> Result<Replay> {
        let mut replay = Replay::bare(config);
        if let Some(newest) = newest {
            replay.from = newest.header.lsn;
            replay.checkpoint = newest.header.number;
            replay.latest_ms = newest.header.created_ms;
            let number = newest.header.number;
            newest.for_each_queue(|shape| replay.restore(shape, number)).map_err(|what| {
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

    /// One that knows nothing, and reads the log from its beginning.
    pub(super) fn bare(config: &Config) -> Replay {
        Replay {
            state: State::new(),
            config: config.clone(),
            from: FIRST_LSN,
            checkpoint: 0,
            misnamed: None,
            retired: HashSet::new(),
            latest_ms: 0,
            known: HashMap::new(),
            lenience: None,
            until: None,
            damaged_indexes: HashSet::new(),
            told: Instant::now(),
        }
    }

    /// Stops each queue where `until` says.
    pub(super) fn stop_at(&mut self, until: Until) {
        self.until = Some(until);
    }

    /// Makes these indexes again: entries in them are known to be damaged.
    pub(super) fn make_again(&mut self, damaged_indexes: HashSet<PathBuf>) {
        self.damaged_indexes = damaged_indexes;
    }

    fn find_index(&self, disk: &dyn Disk, segment: &Segment) -> Option<SegmentIndex> {
        let is_damaged = self.damaged_indexes.contains(&format::index_path(&segment.path));
        if is_damaged { None } else { SegmentIndex::open(disk, &segment.path, &segment.header) }
    }

    /// Takes note of what is wrong and lets the replay go on, or ends it.
    fn pass(&mut self, error: Error, fault: impl FnOnce() -> Fault) -> Result<()> {
        match &mut self.lenience {
            Some(lenience) => {
                lenience.faults.push(fault());
                Ok(())
            }
            None => Err(error),
        }
    }

    /// Brings in a queue as the checkpoint with this number has it.
    pub(super) fn restore(&mut self, shape: QueueShape, checkpoint: u64) -> Result<()> {
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
        self.known.insert(id, Known { next_seq: shape.next_seq, checkpoint, ranges });
        let mut shard = self.state.lock(&key);
        self.state.insert(&mut shard, queue);
        Ok(())
    }

    /// Whether the last run ended in good order: right at its last checkpoint.
    pub(super) fn was_clean(
        &self,
        newest: Option<&Checkpoint>,
        tail: &Tail,
        report: &RecoveryReport,
    ) -> bool {
        newest.is_some_and(|newest| newest.header.clean)
            && report.replayed_frames == 0
            && tail.end == self.from
    }

    /// Brings every segment's messages into the state, and every record behind the checkpoint. `make`
    /// makes the index of a segment that has none.
    pub(super) fn run(
        &mut self,
        disk: &dyn Disk,
        found: Vec<Segment>,
        make: impl Fn(&dyn Disk, &Segment) -> Result<SegmentIndex>,
        report: &mut RecoveryReport,
    ) -> Result<Tail> {
        let mut tail = Tail {
            segments: Vec::new(),
            unused: Vec::new(),
            end: self.from,
            limit: self.from,
            last_number: 0,
            scanned: HashMap::new(),
            torn: None,
        };
        let total = found.len();
        self.misnamed = Misnamed::among(&found);
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
            self.latest_ms = self.latest_ms.max(header.created_ms);
            if header.number <= tail.last_number {
                // What compaction joined: a rewritten segment stands for it already.
                tail.unused.push(Unused::new(&segment));
                continue;
            }
            tail.last_number = header.last_number;
            let is_live = self.lenience.as_ref().is_some_and(|lenience| lenience.is_live);
            if is_live && torn.is_some() {
                // What was written since its predecessor was read is not looked at.
                continue;
            }
            if let Some(torn) = &torn {
                if Scanner::new(&segment).next_frame().is_some() {
                    return Err(torn.damage());
                }
                tail.unused.push(Unused::new(&segment));
            } else if segment.lsn_limit() <= self.from || header.generation > 0 {
                if self.lenience.is_none() {
                    segment.check_name()?;
                }
                let whole = self.lenience.as_mut().and_then(|all| all.take_index(&segment));
                let index = whole.or_else(|| self.find_index(disk, &segment));
                if index.is_none() {
                    let file = segment.path.display();
                    tracing::info!(%file, "making a missing index again");
                    report.rebuilt_indexes += 1;
                }
                let index = index.map_or_else(|| make(disk, &segment), Ok)?;
                tail.segments.push(self.add_indexed(segment, index)?);
            } else if next.is_some_and(|next| header.base < next) {
                // Made ready, and passed over when the log went on after an unclean end.
                if Scanner::new(&segment).next_frame().is_some() {
                    let what = "frames in a segment that the log passed over".to_owned();
                    let kind = FaultKind::FramesPassedOver;
                    self.pass(segment.damaged(SEGMENT_HEADER_SIZE, what.clone()), || {
                        Fault::new(kind, &segment.path, Some(SEGMENT_HEADER_SIZE), what)
                    })?;
                }
                tail.unused.push(Unused::new(&segment));
            } else {
                let expected = next.unwrap_or(self.from);
                let begins_well = header.base == expected || is_first && header.base < expected;
                if !begins_well {
                    self.miss(expected, header.base)?;
                }
                is_first = false;
                if self.lenience.is_none() && Scanner::new(&segment).next_frame().is_some() {
                    segment.check_name()?;
                }
                let segment = Arc::new(segment);
                (torn, next) = match self.scan(&segment, &mut tail, report)? {
                    Scanned::GoesOn(next) => (None, Some(next)),
                    Scanned::Ends(torn) => (Some(torn), None),
                };
                tail.segments.push(segment);
            }
        }
        let is_live = self.lenience.as_ref().is_some_and(|lenience| lenience.is_live);
        if let Some(next) = next.filter(|_| !is_live) {
            self.miss(next, tail.limit)?;
        }
        if is_first && self.checkpoint > 0 {
            self.miss(self.from, tail.limit)?;
        }
        tail.torn = torn;
        if self.lenience.is_none() && self.until.is_none() {
            misnamed::check(self, &tail)?;
        }
        Ok(tail)
    }

    /// The log leads to a segment that is not there; the next one found begins at `until`.
    fn miss(&mut self, lsn: Lsn, until: Lsn) -> Result<()> {
        let mut what = format!("the segment that holds LSN {lsn} of the log is missing");
        let folder = self.config.folder.join(LOG_FOLDER);
        let mut file = &folder;
        if let Some(misnamed) = &self.misnamed {
            // Most likely it is this one, under a header that a disk wrote astray.
            file = &misnamed.path;
            what.push_str(&format!("; by its header this file is {}", misnamed.header));
        }
        self.pass(segment::damaged(file, 0, what.clone()), || {
            let count = until.0.saturating_sub(lsn.0);
            let note = format!("the log from LSN {lsn} on");
            let lost = Lost { what: LostKind::Bytes, queue: None, first: None, count, note };
            let fault = Fault::new(FaultKind::SegmentMissing, &folder, None, what);
            Fault { lost: vec![lost], ..fault }
        })
    }

    /// A segment that lies wholly below the checkpoint: its index tells where messages are, and the
    /// checkpoint which of them live.
    fn add_indexed(&mut self, segment: Segment, index: SegmentIndex) -> Result<Arc<Segment>> {
        segment.set_index(index);
        segment.set_indexed();
        segment.seal(segment.lsn_limit());
        let segment = Arc::new(segment);
        let index = segment.index().expect("it was just given one");
        let (number, generation) = (segment.number(), segment.header.generation);
        for run_number in 0..index.run_count() {
            let run = index.run(run_number);
            let id = QueueId(run.queue);
            if self.until.as_ref().is_some_and(|until| !until.contains_key(&id)) {
                continue;
            }
            if self.checkpoint == 0 && self.lenience.is_some() && !self.known.contains_key(&id) {
                self.name_queue(id);
            }
            let Some(known) = self.known.get(&id) else { continue };
            let is_newer = generation > 0 && segment.header.after_checkpoint >= known.checkpoint;
            let dead: Cow<'_, [u64]> = match known.range(number, generation) {
                Some(range) => match &self.lenience {
                    Some(lenience) => lenience.dead_bits(&segment, index, run_number, range),
                    None => Cow::Borrowed(&*range.bits),
                },
                // Rewritten after the checkpoint: what was dead then is not in it.
                None if is_newer => Cow::Borrowed(&[]),
                None => continue,
            };
            let range = Range::mapped(segment.clone(), run_number, &run);
            let lenience = &mut self.lenience;
            let brought = self.state.with_id(id, |queue| {
                queue.ranges.push_mapped(range, &dead)?;
                // What could not be read of the frames dies with them.
                lenience.as_mut().map_or(Ok(()), |all| all.bury(queue, &segment, index, run_number))
            });
            brought.transpose()?;
        }
        Ok(segment)
    }

    /// A queue whose name is lost gets one made of its id.
    fn name_queue(&mut self, id: QueueId) {
        let key = QueueKey::new(None, &format!("recovered-{}", id.0)).expect("it is short");
        let what =
            format!("the name of queue {} is lost; its messages are kept as {}", id.0, key.name());
        let folder = self.config.folder.join(LOG_FOLDER);
        if let Some(lenience) = &mut self.lenience {
            lenience.faults.push(Fault::new(FaultKind::QueueNameless, folder, None, what));
        }
        let mut queue = Queue::new(id, key.clone(), self.config.durability_of(&key));
        queue.as_of = Lsn(id.0);
        self.known.insert(id, Known { next_seq: 1, checkpoint: 0, ranges: Box::default() });
        let mut shard = self.state.lock(&key);
        self.state.insert(&mut shard, queue);
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
        let mut looked_again = 0;
        loop {
            self.scan_frames(segment, &mut scanner, tail, report)?;
            let why = match scanner.end() {
                ScanEnd::Sealed(next) => {
                    segment.seal(scanner.lsn());
                    return Ok(Scanned::GoesOn(next));
                }
                // Rewritten segments stand for all LSNs up to their limit.
                ScanEnd::Eof => {
                    segment.seal(segment.lsn_limit());
                    return Ok(Scanned::GoesOn(segment.lsn_limit()));
                }
                ScanEnd::Invalid(why) => why,
            };
            let (position, lsn) = (scanner.position(), scanner.lsn());
            if self.lenience.is_some() && looked_again < position {
                looked_again = position;
                scanner.look_again();
                continue;
            }
            let beyond = scanner.beyond();
            let torn = Torn { segment: segment.clone(), position, why, end: beyond.end };
            // Below the checkpoint everything was durable once; elsewhere a later frame may prove it.
            let is_followed =
                self.lenience.as_ref().is_some_and(|lenience| lenience.is_followed(segment));
            let was_durable = lsn < self.from || beyond.proves_damage || is_followed;
            if why != Invalid::Unknown && !was_durable {
                segment.seal(lsn);
                return Ok(Scanned::Ends(torn));
            }
            if why == Invalid::Unknown {
                return Err(torn.damage());
            }
            let passed = scanner.resume();
            self.pass(torn.damage(), || {
                whole::fault(segment, position, passed, &why.to_string(), &mut scanner)
            })?;
            if passed.is_none() {
                segment.seal(segment.lsn_limit());
                return Ok(Scanned::GoesOn(segment.lsn_limit()));
            }
        }
    }

    /// The frames up to where they end, for now.
    fn scan_frames(
        &mut self,
        segment: &Arc<Segment>,
        scanner: &mut Scanner<'_>,
        tail: &mut Tail,
        report: &mut RecoveryReport,
    ) -> Result<()> {
        while let Some((position, head, payload)) = scanner.next_frame() {
            let record = match Record::decode(&head, payload) {
                Ok(record) => record,
                Err(error) => {
                    let what = error.to_string();
                    self.pass(segment.damaged(position, what.clone()), || {
                        whole::malformed(segment, position, &head, payload, what)
                    })?;
                    continue;
                }
            };
            self.latest_ms = self.latest_ms.max(head.at_ms);
            let end = Lsn(head.lsn.0 + head.padded_size() as u64);
            let place = Place { lsn: head.lsn, end, at_ms: head.at_ms, segment, position };
            self.replay(&place, &record)?;
            if let Record::Posted { messages, .. } = &record {
                *tail.scanned.entry(segment.number()).or_default() +=
                    u64::from(messages.declared());
            }
            if end > self.from {
                report.replayed_frames += 1;
                report.replayed_bytes += head.padded_size() as u64;
            }
            tail.end = tail.end.max(end);
        }
        Ok(())
    }

    fn replay(&mut self, place: &Place<'_>, record: &Record<'_>) -> Result<()> {
        let is_new = place.end > self.from;
        let is_wanted = |id: &QueueId, until: &Option<Until>| {
            until.as_ref().is_none_or(|until| until.get(id).is_some_and(|end| place.end <= *end))
        };
        let queue = match record {
            Record::QueueCreated { key, floor, metadata } => {
                let is_wanted = is_wanted(&QueueId(place.lsn.0), &self.until);
                if is_new && is_wanted {
                    self.create(place, key, *floor, metadata);
                }
                return Ok(());
            }
            Record::QueueRemoved { queue } => {
                if let Some(lenience) = &mut self.lenience {
                    lenience.removed.insert(*queue);
                }
                let is_wanted = is_wanted(queue, &self.until);
                if is_new
                    && is_wanted
                    && let Some(key) = self.state.key_of(*queue)
                {
                    let mut shard = self.state.lock(&key);
                    self.state.remove(&mut shard, &key);
                }
                return Ok(());
            }
            Record::Resumed { .. } => {
                let mut applied = Ok(0);
                self.state.visit_all(|queue| {
                    let is_new = is_new && is_wanted(&queue.id, &self.until);
                    if is_new && place.end > queue.as_of && applied.is_ok() {
                        applied = queue.apply(place, record);
                    }
                });
                return applied.map(|_| ());
            }
            Record::SegmentEnd => return Ok(()),
            Record::SegmentRetired { number } => {
                self.retired.insert(*number);
                if let Some(lenience) = &mut self.lenience {
                    lenience.retired.insert(*number);
                }
                return Ok(());
            }
            Record::QueueChanged { queue, .. }
            | Record::Posted { queue, .. }
            | Record::Claimed { queue, .. }
            | Record::Renewed { queue, .. }
            | Record::Released { queue, .. }
            | Record::Deleted { queue, .. } => *queue,
        };
        if !is_wanted(&queue, &self.until) {
            return Ok(());
        }
        if let (Record::Posted { .. }, Some(lenience)) = (record, &self.lenience)
            && is_new
            && self.state.key_of(queue).is_none()
            && !lenience.removed.contains(&queue)
        {
            self.name_queue(queue);
        }
        let known = self.known.get(&queue);
        let applied = self.state.with_id(queue, |queue| {
            if place.end > queue.as_of {
                return queue.apply(place, record).map(|_| ());
            }
            // The checkpoint has it, but not where messages lie.
            match (record, known) {
                (Record::Posted { first, client, messages, .. }, Some(known)) => {
                    let behind = first.0.saturating_add(messages.declared().into());
                    queue.add_messages(place, *first, *client, messages.clone())?;
                    let is_dead = |seq: &u64| known.is_dead(place.segment, *seq);
                    (first.0..behind)
                        .filter(is_dead)
                        .try_for_each(|seq| queue.restore_death(Seq(seq)))
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

/// How a segment ended.
enum Scanned {
    /// It says where the log goes on.
    GoesOn(Lsn),
    /// It does not.
    Ends(Torn),
}

/// A log that ends without saying so.
pub(crate) struct Torn {
    segment: Arc<Segment>,
    position: u64,
    why: Invalid,
    /// Behind the last whole frame after that.
    end: u64,
}

impl Torn {
    /// The file.
    pub(super) fn file(&self) -> &Path {
        &self.segment.path
    }

    /// Where in it the last whole frame ends.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes an unfinished write left there, about; 0 where nothing tells of one.
    pub(super) fn torn_bytes(&self) -> u64 {
        let told = self.end - self.position;
        if self.why == Invalid::Unreadable {
            return told;
        }
        let left = self.segment.size() - self.position;
        let Ok(head) = self.segment.slice(self.position as u32, HEAD_SIZE as u32) else {
            return told;
        };
        let length = u64::from(frame::u32_at(&head, 4));
        // What a reused file held before has another LSN, and does not check with this one either.
        let own = self.segment.lsn_at(self.position);
        let hint = LsnHint::of(&head);
        let has_lsn = |hint: LsnHint| hint.low == own.low() && (own.low() != 0 || length > 0);
        let is_own = hint.is_some_and(has_lsn) || {
            let frame = self.segment.slice(self.position as u32, length.min(left) as u32);
            frame.is_ok_and(|frame| frame::has_checksum_with(&frame, own))
        };
        if is_own { told.max(length.clamp(HEAD_SIZE as u64, left)) } else { told }
    }

    fn damage(&self) -> Error {
        segment::damaged(&self.segment.path, self.position, self.why.to_string())
    }

    /// Ends the log here: writes the frame that says so, and that the log goes on at `next`, over
    /// whatever lies behind.
    pub(super) fn cut(self, next: Lsn, report: &mut RecoveryReport) -> Result<()> {
        let torn_bytes = self.torn_bytes();
        let Torn { segment, position, .. } = self;
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
        };
        let end = head.encode(checksum::begin());
        segment
            .write_at(&end, position)
            .and_then(|()| segment.sync())
            .map_err(|cause| Error::io("ending", segment.path.as_path(), cause))
    }
}
