//! Reads a folder as far as it can be read, and says all that is wrong with it. Changes nothing. What a
//! start would refuse is read around: by other bytes that say the same, or without it.

use super::known::Known;
use super::lenience::{Lenience, SegmentKey, key};
use super::recover::{Look, RecoveryReport};
use super::replay::Replay;
use super::segments::index_in_memory;
use super::survey::{Access, Checkpoints, Counts, Mend, Survey, segment_name};
use super::whole::{self, FoundIndex, Scratch, Whole};
use crate::config::Config;
use crate::domain::{Lsn, QueueId, Seq};
use crate::env::Environment;
use crate::error::{Error, Result};
use crate::fault::{Fault, FaultKind, Lost, LostKind};
use crate::files::format::{CHECKPOINT_FOLDER, LOCK_FILE, LOG_FOLDER};
use crate::files::segment_index::SegmentIndex;
use crate::log::frame::Invalid;
use crate::log::scan::ScanEnd;
use crate::log::segment::Segment;
use crate::progress::Progress;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, mpsc};
use std::time::Instant;

/// Segments read at the same time. Beside a running engine it is one: the processors are the engine's.
const READERS: usize = 2;
/// So many segments the disk is ahead of them.
const AHEAD: usize = 4;

/// What could be read, and what is wrong.
pub(crate) struct Salvaged {
    pub(crate) look: Look,
    pub(crate) faults: Vec<Fault>,
    /// What to do, in this order.
    pub(crate) mends: Vec<Mend>,
    /// Segments to be written anew.
    pub(crate) damaged: HashSet<SegmentKey>,
    /// The highest number a checkpoint has.
    pub(crate) last_checkpoint: u64,
    /// Bytes of log of which nobody knows what they said.
    pub(crate) lost_bytes: u64,
    /// Indexes of damaged segments that were read frame by frame.
    pub(crate) indexes: HashMap<SegmentKey, SegmentIndex>,
    pub(crate) counts: Counts,
}

/// Reads a folder.
///
/// # Errors
/// `Folder` when it is none of ours or of a newer format; `Io`.
pub(crate) fn read(
    config: &Config,
    env: &Environment,
    access: Access,
    progress: &mut dyn Progress,
) -> Result<Salvaged> {
    let started = Instant::now();
    // Who mends has the lock itself.
    let lock = config.folder.join(LOCK_FILE);
    let is_live =
        access == Access::Read && env.disk.lock_holder(&lock).is_ok_and(|holder| holder.is_some());
    let mut survey = Survey::new(config, env, access);
    let header = survey.header()?;
    let (checkpoints, segments) = survey.open(header.engine_id)?;
    survey.strangers()?;

    // Opened before anything is read: what a running engine removes from now on can be read still.
    let indexes = segments.iter().map(|segment| FoundIndex::open(&*env.disk, segment)).collect();
    let readers = if is_live { 1 } else { READERS };
    let wholes = read_wholes(&segments, indexes, readers, progress);
    let mut lenience = Lenience::new(survey.damaged.clone(), is_live);
    for (segment, whole) in segments.iter().zip(wholes) {
        survey.count(segment, &whole);
        if whole.frames > 0 && segment.header.generation == 0 {
            lenience.last_with_frames = lenience.last_with_frames.max(segment.number());
        }
        lenience.wholes.insert(key(segment), whole);
    }
    survey.newer_frames(&segments, &lenience)?;

    let mut replay = survey.replay(&checkpoints, &segments)?;
    replay.lenience = Some(lenience);
    let mut report = RecoveryReport { segments: segments.len() as u64, ..Default::default() };
    let mut tail = replay.run(&*env.disk, segments, index_in_memory, &mut report)?;
    report.checkpoint = checkpoints.newest.as_ref().map_or(0, |newest| newest.header.number);
    report.was_clean = replay.was_clean(checkpoints.newest.as_ref(), &tail, &report);
    report.duration_ms = started.elapsed().as_millis() as u64;
    report.set_opened(env, replay.latest_ms);
    report.queues = replay.state.len() as u64;

    let mut forgotten = Ok(());
    replay.state.visit_all(|queue| {
        if let Err(error) = queue.forget_absent() {
            forgotten = Err(error);
        }
    });
    forgotten?;
    let mut lenience = replay.lenience.take().expect("it was just given one");
    lenience.conclude(&tail.segments);
    for number in &survey.unreadable {
        // Nobody knows which LSNs and numbers were given out there: none of them is again.
        tail.last_number = tail.last_number.max(*number);
        tail.limit = Lsn(tail.limit.0 + config.segment_size_bytes);
    }
    let Replay { state, latest_ms, .. } = replay;
    let look = Look { header, state, tail, checkpoints: checkpoints.kept, latest_ms, report };
    survey.gone(&replay.known, &look, &lenience);
    survey.ends(&look, &lenience);
    survey.faults.append(&mut lenience.faults);
    if is_live {
        survey.forget_vanished();
    }
    Ok(survey.conclude(look, checkpoints.last, lenience))
}

impl Survey<'_> {
    fn count(&mut self, segment: &Segment, whole: &Whole) {
        self.counts.frames += whole.frames;
        self.counts.messages += whole.messages;
        self.counts.bytes += segment.size();
        if whole.state != whole::IndexState::Missing {
            self.counts.indexes += 1;
            self.counts.files += 1;
        }
    }

    /// Frames of a newer version are not ours to judge.
    fn newer_frames(&self, segments: &[Segment], lenience: &Lenience) -> Result<()> {
        for segment in segments {
            let whole = &lenience.wholes[&key(segment)];
            if whole.end == ScanEnd::Invalid(Invalid::Unknown) {
                let (file, position) = (segment.path.display(), whole.end_position);
                return Err(Error::OtherVersion {
                    folder: self.config.folder.clone(),
                    what: format!("{file}, byte {position}: {}", Invalid::Unknown),
                });
            }
        }
        Ok(())
    }

    /// A replay from what is left of the checkpoints.
    fn replay(&mut self, checkpoints: &Checkpoints, segments: &[Segment]) -> Result<Replay> {
        if let Some(newest) = &checkpoints.newest {
            return Replay::new(self.config, Some(newest));
        }
        let starts_at_one = segments
            .first()
            .is_none_or(|first| first.number() == 1 && first.header.generation == 0);
        let mut replay = Replay::bare(self.config);
        if checkpoints.last == 0 && starts_at_one && self.unreadable.is_empty() {
            return Ok(replay);
        }
        let folder = self.folder(CHECKPOINT_FOLDER);
        let mut brought = HashSet::new();
        for (number, pieces) in &checkpoints.pieces {
            for shape in pieces {
                if brought.insert(shape.id) {
                    replay.restore(shape.clone(), *number)?;
                }
            }
        }
        let what = match brought.len() {
            0 => "no checkpoint can be used".to_owned(),
            count => {
                format!("no checkpoint is whole; {count} queues can be read of the damaged ones")
            }
        };
        self.fault(FaultKind::NoCheckpoint, &folder, None, what);
        Ok(replay)
    }

    /// Segments in which the checkpoint knows living messages, and that are not there.
    fn gone(&mut self, known: &HashMap<QueueId, Known>, look: &Look, lenience: &Lenience) {
        let stands = |number: u64| {
            look.tail
                .segments
                .iter()
                .any(|segment| (segment.number()..=segment.header.last_number).contains(&number))
        };
        let mut gone: BTreeMap<u64, Vec<Lost>> = BTreeMap::new();
        for (queue, known) in known {
            for range in &known.ranges {
                let number = range.segment;
                let is_told =
                    lenience.retired.contains(&number) || lenience.removed.contains(queue);
                if !is_told && !stands(number) {
                    gone.entry(number).or_default().push(Lost {
                        what: LostKind::Messages,
                        queue: Some(*queue),
                        first: Some(Seq(range.first_seq)),
                        count: 0,
                        note: "those of them that lived".to_owned(),
                    });
                }
            }
        }
        for (number, mut lost) in gone {
            lost.sort_by_key(|lost| lost.queue);
            let is_unreadable = self.unreadable.contains(&number);
            if let Some(fault) = self.faults.iter_mut().find(|fault| {
                is_unreadable
                    && fault.kind == FaultKind::SegmentUnreadable
                    && fault
                        .file
                        .file_name()
                        .and_then(|name| segment_name(name.to_str()?))
                        .map(|(number, _)| number)
                        == Some(number)
            }) {
                fault.lost = lost;
                continue;
            }
            let folder = self.folder(LOG_FOLDER);
            let what =
                format!("segment {number} is not there, and the checkpoint knows messages in it");
            let fault = Fault::new(FaultKind::SegmentGone, folder, None, what);
            self.faults.push(Fault { lost, ..fault });
        }
    }

    /// How the log ends.
    fn ends(&mut self, look: &Look, lenience: &Lenience) {
        let Some(torn) = &look.tail.torn else { return };
        let bytes = torn.torn_bytes();
        let (file, position) = (torn.file().to_path_buf(), torn.position());
        if bytes > 0 {
            let what = format!("{bytes} bytes behind the last whole frame");
            self.fault(FaultKind::TornTail, &file, Some(position), what);
        }
        let last = look.tail.segments.last().and_then(|last| lenience.wholes.get(&key(last)));
        if last.is_some_and(|whole| whole.end == ScanEnd::Invalid(Invalid::Lsn)) {
            let what =
                "what lies behind the last frame belongs to another place of the log".to_owned();
            self.fault(FaultKind::StaleTail, &file, Some(position), what);
        }
    }

    fn conclude(mut self, look: Look, last_checkpoint: u64, mut lenience: Lenience) -> Salvaged {
        let mut lost_bytes = 0;
        let mut needs_checkpoint = false;
        for fault in &self.faults {
            match fault.kind {
                FaultKind::FrameDamaged
                | FaultKind::MessageDamaged
                | FaultKind::SegmentTruncated => {
                    let segment = look.tail.segments.iter().find(|one| one.path == fault.file);
                    self.damaged.extend(segment.map(|segment| key(segment)));
                    lost_bytes += fault.lost.iter().map(lost_size).sum::<u64>();
                    needs_checkpoint = true;
                }
                FaultKind::SegmentMissing => {
                    lost_bytes += fault.lost.iter().map(lost_size).sum::<u64>();
                    needs_checkpoint = true;
                }
                FaultKind::SegmentHeaderDamaged
                | FaultKind::SegmentUnreadable
                | FaultKind::SegmentGone
                | FaultKind::NoCheckpoint
                | FaultKind::QueueNameless => needs_checkpoint = true,
                FaultKind::FramesPassedOver => self.mends.push(Mend::SetAside(fault.file.clone())),
                FaultKind::IndexDamaged | FaultKind::IndexDiffers => {
                    self.mends.push(Mend::SetAside(fault.file.clone()));
                }
                _ => {}
            }
        }
        for segment in &look.tail.segments {
            if self.damaged.contains(&key(segment)) {
                self.mends.push(Mend::Rewrite(segment.path.clone()));
            }
        }
        if needs_checkpoint {
            self.mends.push(Mend::Checkpoint);
        }
        let damaged = self.damaged.iter();
        let indexes =
            damaged.filter_map(|key| Some((*key, lenience.wholes.get_mut(key)?.index.take()?)));
        let indexes = indexes.collect();
        Salvaged {
            look,
            indexes,
            faults: self.faults,
            mends: self.mends,
            damaged: self.damaged,
            last_checkpoint,
            lost_bytes,
            counts: self.counts,
        }
    }
}

/// Bytes that a loss may have taken.
fn lost_size(lost: &Lost) -> u64 {
    match lost.what {
        LostKind::Bytes => lost.count,
        // A message takes more, which only makes more numbers be skipped.
        LostKind::Messages | LostKind::Record => lost.count.saturating_mul(1 << 12),
    }
}

/// Reads all segments whole, some at a time.
fn read_wholes(
    segments: &[Segment],
    indexes: Vec<FoundIndex>,
    readers: usize,
    progress: &mut dyn Progress,
) -> Vec<Whole> {
    progress.begin("reading", segments.iter().map(Segment::size).sum());
    let (ahead, taken) = mpsc::sync_channel(AHEAD);
    let work = Mutex::new((segments.iter().zip(indexes).enumerate(), taken));
    let mut wholes: Vec<Option<Whole>> = segments.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        // One more asks the disk for what comes next: reading and checking do not wait for each other.
        // Beside a running engine the disk is the engine's, too.
        scope.spawn(move || {
            for segment in segments {
                if ahead.send(()).is_err() {
                    return;
                }
                if readers > 1 {
                    segment.read_ahead();
                }
            }
        });
        let (done, results) = mpsc::sync_channel(readers);
        for _ in 0..readers {
            let (done, work) = (done.clone(), &work);
            scope.spawn(move || {
                let next = || {
                    let mut work = work.lock().expect("taking the next one does not panic");
                    let next = work.0.next()?;
                    work.1.recv().ok().map(|()| next)
                };
                let mut scratch = Scratch::default();
                while let Some((place, (segment, index))) = next() {
                    let whole = whole::read(segment, index, &mut scratch);
                    if done.send((place, whole)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        for (place, whole) in results {
            progress.done(segments[place].size());
            wholes[place] = Some(whole);
        }
    });
    wholes.into_iter().map(|whole| whole.expect("every segment was read")).collect()
}
