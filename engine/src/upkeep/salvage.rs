//! Reads a folder as far as it can be read, and says all that is wrong with it. Changes nothing. What a
//! start would refuse is read around: by other bytes that say the same, or without it.

use super::lenience::{Lenience, SegmentKey, key};
use super::recover::{self, Look, RecoveryReport};
use super::replay::Replay;
use super::segments::index_in_memory;
use super::whole::{self, FoundIndex, Whole};
use crate::config::Config;
use crate::domain::Lsn;
use crate::env::{Disk, Environment, File};
use crate::error::{Error, Result};
use crate::fault::{Fault, FaultKind, Lost, LostKind};
use crate::files::checkpoint::{Checkpoint, CheckpointHeader, QueueShape};
use crate::files::format::{
    self, BadHeader, CHECKPOINT_FOLDER, FORMAT_FILE, FolderHeader, HEADER_SIZE, LOG_FOLDER,
    SEGMENT_HEADER_SIZE, SegmentHeader, UNFINISHED,
};
use crate::files::segment_index::SegmentIndex;
use crate::log::frame::{self, ALIGNMENT, Invalid};
use crate::log::scan::{ScanEnd, Scanner};
use crate::log::segment::Segment;
use crate::log::source::read_exact;
use crate::progress::Progress;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::time::Instant;

/// Segments read at the same time.
const READERS: usize = 2;

/// A change of files that mends something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mend {
    /// Move it into the folder of what is set aside.
    SetAside(PathBuf),
    /// Give it the name that its header says.
    Rename(PathBuf, PathBuf),
    /// Write `FORMAT` anew.
    WriteFormat(FolderHeader),
    /// Write what can be read of this segment anew, and set the file aside.
    Rewrite(PathBuf),
    /// Write a checkpoint of the state as it was read, and set the older ones aside.
    Checkpoint,
}

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

/// How much was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) frames: u64,
    pub(crate) messages: u64,
    pub(crate) indexes: u64,
    pub(crate) checkpoints: u64,
}

/// How segments are opened: through maps by who has the folder, else by reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Map,
    Read,
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
    let mut survey = Survey::new(config, env, access);
    let header = survey.header()?;
    let (checkpoints, segments) = survey.open(header.engine_id)?;
    survey.strangers()?;

    // Opened before anything is read: what a running engine removes from now on can be read still.
    let indexes = segments.iter().map(|segment| FoundIndex::open(&*env.disk, segment)).collect();
    let wholes = read_wholes(&segments, indexes, header.engine_id, progress);
    let mut lenience = Lenience::new(survey.damaged.clone());
    for (segment, whole) in segments.iter().zip(wholes) {
        survey.count(segment, &whole);
        if whole.frames > 0 && segment.header.generation == 0 {
            lenience.last_with_frames = lenience.last_with_frames.max(segment.number());
        }
        lenience.wholes.insert(key(segment), whole);
    }
    survey.newer_frames(&segments, &lenience)?;

    let mut replay = survey.replay(&header, &checkpoints, &segments)?;
    replay.lenience = Some(lenience);
    let mut report = RecoveryReport { segments: segments.len() as u64, ..Default::default() };
    let mut tail = replay.run(&*env.disk, segments, index_in_memory, &mut report)?;
    report.checkpoint = checkpoints.newest.as_ref().map_or(0, |newest| newest.header.number);
    report.was_clean = replay.was_clean(checkpoints.newest.as_ref(), &tail, &report);
    report.duration_ms = started.elapsed().as_millis() as u64;
    report.opened_ms = env.clock.now_ms();
    report.queues = replay.state.len() as u64;

    let mut lenience = replay.lenience.take().expect("it was just given one");
    lenience.conclude(&tail.segments);
    for number in &survey.unreadable {
        // Nobody knows which LSNs and numbers were given out there: none of them is again.
        tail.last_number = tail.last_number.max(*number);
        tail.limit = Lsn(tail.limit.0 + config.segment_size_bytes);
    }
    let look = Look { header, state: replay.state, tail, checkpoints: checkpoints.kept, report };
    survey.gone(&replay.known, &look, &lenience);
    survey.ends(&look, &lenience);
    survey.faults.append(&mut lenience.faults);
    survey.forget_vanished();
    Ok(survey.conclude(look, checkpoints.last, lenience))
}

/// What is known of the files so far.
struct Survey<'a> {
    config: &'a Config,
    env: &'a Environment,
    access: Access,
    faults: Vec<Fault>,
    mends: Vec<Mend>,
    damaged: HashSet<SegmentKey>,
    /// Segments that cannot be read at all, by number.
    unreadable: HashSet<u64>,
    /// The files of all segments found.
    opened: Vec<PathBuf>,
    counts: Counts,
}

struct Checkpoints {
    kept: Vec<CheckpointHeader>,
    newest: Option<Checkpoint>,
    /// What can be read of those that are not whole, newest first.
    pieces: Vec<(u64, Vec<QueueShape>)>,
    last: u64,
}

impl<'a> Survey<'a> {
    fn new(config: &'a Config, env: &'a Environment, access: Access) -> Survey<'a> {
        Survey {
            config,
            env,
            access,
            faults: Vec::new(),
            mends: Vec::new(),
            damaged: HashSet::new(),
            unreadable: HashSet::new(),
            opened: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn disk(&self) -> &'a dyn Disk {
        &*self.env.disk
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.config.folder.join(name)
    }

    fn names(&self, folder: &str) -> Result<Vec<String>> {
        let folder = self.folder(folder);
        let names = self.disk().list(&folder);
        let mut names = names.map_err(|cause| Error::io("reading", folder, cause))?;
        names.sort_unstable();
        Ok(names)
    }

    fn fault(&mut self, kind: FaultKind, file: &Path, offset: Option<u64>, what: String) {
        self.faults.push(Fault::new(kind, file, offset, what));
    }

    /// Whose folder it is: as `FORMAT` says, or as its segments do.
    fn header(&mut self) -> Result<FolderHeader> {
        let told = recover::read_header(self.config, self.disk());
        let mut votes: BTreeMap<u128, usize> = BTreeMap::new();
        for name in self.names(LOG_FOLDER).unwrap_or_default() {
            if let Some(header) = any_header(self.disk(), &self.folder(LOG_FOLDER).join(name)) {
                *votes.entry(header.engine_id).or_default() += 1;
            }
        }
        let elected = votes.iter().max_by_key(|(_, count)| **count).map(|(id, _)| *id);
        let what = match (&told, elected) {
            (Ok(header), None) => return Ok(*header),
            (Ok(header), Some(_)) if votes.contains_key(&header.engine_id) => return Ok(*header),
            (Ok(_), Some(_)) => {
                format!("{FORMAT_FILE}: this is another folder's; all segments say so")
            }
            (Err(error), None) => return Err(error.clone()),
            (Err(error), Some(_)) => error.to_string(),
        };
        let created_ms = told.map_or_else(|_| self.env.clock.now_ms(), |header| header.created_ms);
        let engine_id = elected.expect("the other cases returned");
        let header = FolderHeader { engine_id, created_ms };
        self.fault(FaultKind::FormatDamaged, &self.folder(FORMAT_FILE), Some(0), what);
        self.mends.push(Mend::WriteFormat(header));
        Ok(header)
    }

    /// Opens all files. A running engine may take some away meanwhile: then once more.
    fn open(&mut self, engine_id: u128) -> Result<(Checkpoints, Vec<Segment>)> {
        let is_vanished = |error: &Error| match error {
            Error::Io { cause, .. } => cause.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        };
        for _ in 0..recover::LOOKS_MAX {
            let (faults, mends) = (self.faults.len(), self.mends.len());
            let opened = self.checkpoints().and_then(|all| Ok((all, self.segments(engine_id)?)));
            if !opened.as_ref().is_err_and(is_vanished) {
                return opened;
            }
            self.faults.truncate(faults);
            self.mends.truncate(mends);
            self.counts = Counts::default();
        }
        Err(Error::Folder {
            folder: self.config.folder.clone(),
            what: "its files change faster than they can be opened".to_owned(),
            next_step: "try again, or stop the server first",
        })
    }

    /// Beside a running engine: what was said of files that it took away meanwhile means nothing, and
    /// neither does that something is missing.
    fn forget_vanished(&mut self) {
        let disk = self.disk();
        let is_there = |path: &Path| path.is_dir() || disk.open_to_read(path).is_ok();
        let vanished: Vec<&PathBuf> = self.opened.iter().filter(|path| !is_there(path)).collect();
        if vanished.is_empty() {
            return;
        }
        self.faults.retain(|fault| {
            let is_missing = matches!(
                fault.kind,
                FaultKind::SegmentMissing | FaultKind::SegmentGone | FaultKind::QueueNameless
            );
            !is_missing && is_there(&fault.file)
        });
    }

    /// Opens all segments, in order; of two of the same number the one rewritten later first.
    fn segments(&mut self, engine_id: u128) -> Result<Vec<Segment>> {
        let mut found = Vec::new();
        for name in self.names(LOG_FOLDER)?.iter().filter(|name| name.ends_with(".seg")) {
            self.counts.files += 1;
            self.opened.push(self.folder(LOG_FOLDER).join(name));
            found.extend(self.segment(name, engine_id)?);
        }
        found.sort_by_key(|one: &Segment| (one.number(), std::cmp::Reverse(one.header.generation)));
        self.set_duplicates_aside(&mut found);
        self.set_right_rewritten(&mut found);
        Ok(found)
    }

    fn segment(&mut self, name: &str, engine_id: u128) -> Result<Option<Segment>> {
        let path = self.folder(LOG_FOLDER).join(name);
        let opened = match self.access {
            Access::Map => Segment::open(self.disk(), &path, engine_id),
            Access::Read => Segment::open_to_look(self.disk(), &path, engine_id),
        };
        let error = match opened {
            Ok(segment) if segment.has_its_name() => return Ok(Some(segment)),
            Ok(segment) => {
                // Without frames it was to be used again when the power went.
                if Scanner::new(&segment).next_frame().is_some() {
                    self.misnamed(&path, &segment.header);
                }
                return Ok(Some(segment));
            }
            // A name that does not fit, a size, a header: what follows tells them apart.
            Err(error @ (Error::Damaged { .. } | Error::Io { .. })) => error,
            Err(error) => return Err(error),
        };
        if matches!(&error, Error::Io { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound)
        {
            return Err(error);
        }
        let header = any_header(self.disk(), &path);
        let what = match error {
            Error::Damaged { what, .. } => what,
            error => error.to_string(),
        };
        if let Some(other) = header.filter(|header| header.engine_id != engine_id) {
            let what = format!("this is segment {} of another folder", other.number);
            self.fault(FaultKind::ForeignSegment, &path, Some(0), what);
            self.mends.push(Mend::SetAside(path));
            return Ok(None);
        }
        let Some((number, generation)) = segment_name(name) else {
            self.fault(FaultKind::ForeignSegment, &path, Some(0), what);
            self.mends.push(Mend::SetAside(path));
            return Ok(None);
        };
        let open = |path: &Path| self.disk().open_to_read(path);
        let file = open(&path).map_err(|cause| Error::io("opening", path.as_path(), cause))?;
        if let Some(header) = header.filter(|header| header.file_name() != name) {
            self.misnamed(&path, &header);
            return Segment::salvage(&path, file, header, self.access == Access::Map).map(Some);
        }
        let size = file.size().unwrap_or(0);
        let is_short =
            |header: &SegmentHeader| size < header.span.saturating_add(SEGMENT_HEADER_SIZE);
        let kind = match header {
            Some(header) if is_short(&header) => FaultKind::SegmentTruncated,
            _ => FaultKind::SegmentHeaderDamaged,
        };
        let header = header.or_else(|| guess_header(&*file, number, generation, engine_id));
        let Some(header) = header else {
            self.fault(FaultKind::SegmentUnreadable, &path, Some(0), what);
            self.unreadable.insert(number);
            self.mends.push(Mend::SetAside(path));
            return Ok(None);
        };
        let mut fault = Fault::new(kind, &path, Some(0), what);
        let whole = header.span.saturating_add(SEGMENT_HEADER_SIZE);
        if kind == FaultKind::SegmentTruncated {
            fault.offset = Some(size);
            let note = "what lay behind the cut, if anything".to_owned();
            let (what, count) = (LostKind::Bytes, whole - size);
            fault.lost.push(Lost { what, queue: None, first: None, count, note });
        }
        self.faults.push(fault);
        self.damaged.insert((number, generation));
        Segment::salvage(&path, file, header, self.access == Access::Map).map(Some)
    }

    fn misnamed(&mut self, path: &Path, header: &SegmentHeader) {
        let what = format!("its header says {}", header.file_name());
        self.fault(FaultKind::SegmentMisnamed, path, Some(0), what);
        let right = path.with_file_name(header.file_name());
        self.mends.push(Mend::Rename(path.to_path_buf(), right));
    }

    /// Of two files that are the same segment the one counts that has its name.
    fn set_duplicates_aside(&mut self, found: &mut Vec<Segment>) {
        found.sort_by_key(|one| {
            (one.number(), std::cmp::Reverse(one.header.generation), !one.has_its_name())
        });
        let mut seen = HashSet::new();
        let mut doubles = Vec::new();
        found.retain(|one| {
            let is_first = seen.insert(key(one));
            if !is_first {
                doubles.push((one.path.clone(), one.header.file_name()));
            }
            is_first
        });
        for (path, name) in doubles {
            self.faults.retain(|fault| fault.file != path);
            self.mends.retain(|mend| !matches!(mend, Mend::Rename(from, _) if *from == path));
            self.fault(FaultKind::SegmentDuplicate, &path, None, format!("it is {name} once more"));
            self.mends.push(Mend::SetAside(path));
        }
    }

    /// A rewritten segment whose header is lost stands for what lies between its neighbours.
    fn set_right_rewritten(&mut self, found: &mut [Segment]) {
        for place in 0..found.len() {
            let header = found[place].header;
            if header.span > 0
                || header.generation == 0
                || !self.damaged.contains(&key(&found[place]))
            {
                continue;
            }
            let before = place.checked_sub(1).map(|before| found[before].lsn_limit());
            let after = found.get(place + 1).map(|after| after.header);
            let base = before.unwrap_or(recover::FIRST_LSN);
            let limit = after.map_or(Lsn(base.0 + found[place].size()), |after| after.base);
            found[place].header = SegmentHeader {
                last_number: after
                    .map_or(header.number, |after| after.number.saturating_sub(1))
                    .max(header.number),
                base,
                span: limit.0.saturating_sub(base.0),
                ..header
            };
        }
    }

    fn checkpoints(&mut self) -> Result<Checkpoints> {
        let folder = self.folder(CHECKPOINT_FOLDER);
        let mut numbers: Vec<u64> = self
            .names(CHECKPOINT_FOLDER)?
            .iter()
            .filter_map(|name| format::checkpoint_number(name))
            .collect();
        numbers.sort_unstable();
        let (mut kept, mut newest, mut pieces) = (Vec::new(), None, Vec::new());
        for number in numbers.iter().rev() {
            let path = folder.join(format::checkpoint_name(*number));
            self.counts.files += 1;
            self.counts.checkpoints += 1;
            match Checkpoint::open(self.disk(), &path) {
                Ok(checkpoint) => {
                    self.counts.bytes += checkpoint.header.size;
                    kept.insert(0, checkpoint.header);
                    newest.get_or_insert(checkpoint);
                }
                Err(why) => {
                    self.fault(FaultKind::CheckpointDamaged, &path, None, why);
                    self.mends.push(Mend::SetAside(path.clone()));
                    let bytes = self.disk().open_to_read(&path).and_then(|file| file.map());
                    if let Ok(mapping) = bytes {
                        pieces.push((*number, Checkpoint::pieces(mapping.bytes)));
                    }
                }
            }
        }
        Ok(Checkpoints { kept, newest, pieces, last: numbers.last().copied().unwrap_or(0) })
    }

    /// Files that are none of ours, or of no use any more.
    fn strangers(&mut self) -> Result<()> {
        for folder in [LOG_FOLDER, CHECKPOINT_FOLDER] {
            let names = self.names(folder)?;
            for name in &names {
                let path = self.folder(folder).join(name);
                let is_ours = match folder {
                    LOG_FOLDER => name.ends_with(".seg") || name.ends_with(".idx"),
                    _ => format::checkpoint_number(name).is_some(),
                };
                let stem = name.strip_suffix(".idx");
                if name.ends_with(&format!(".{UNFINISHED}")) {
                    self.fault(
                        FaultKind::Leftover,
                        &path,
                        None,
                        "an unfinished file, or a spare one".into(),
                    );
                } else if stem.is_some_and(|stem| !names.contains(&format!("{stem}.seg"))) {
                    self.fault(
                        FaultKind::Leftover,
                        &path,
                        None,
                        "an index without its segment".into(),
                    );
                } else if !is_ours {
                    let what = "this is no file of a data folder".to_owned();
                    self.fault(FaultKind::ForeignFile, &path, None, what);
                    self.mends.push(Mend::SetAside(path));
                }
            }
        }
        Ok(())
    }

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
                return Err(Error::Newer {
                    folder: self.config.folder.clone(),
                    what: format!("{file}, byte {position}: {}", Invalid::Unknown),
                });
            }
        }
        Ok(())
    }

    /// A replay from what is left of the checkpoints.
    fn replay(
        &mut self,
        header: &FolderHeader,
        checkpoints: &Checkpoints,
        segments: &[Segment],
    ) -> Result<Replay> {
        if let Some(newest) = &checkpoints.newest {
            return Replay::new(self.config, header, Some(newest));
        }
        let starts_at_one = segments
            .first()
            .is_none_or(|first| first.number() == 1 && first.header.generation == 0);
        let mut replay = Replay::bare(self.config, header);
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
    fn gone(
        &mut self,
        known: &HashMap<crate::domain::QueueId, super::replay::Known>,
        look: &Look,
        lenience: &Lenience,
    ) {
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
                        first: Some(crate::domain::Seq(range.first_seq)),
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

/// The header of a segment, whatever folder it belongs to, and even where its version is wrong and
/// nothing else.
fn any_header(disk: &dyn Disk, path: &Path) -> Option<SegmentHeader> {
    let file = disk.open_to_read(path).ok()?;
    let mut bytes = [0; HEADER_SIZE];
    read_exact(&*file, &mut bytes, 0).ok()?;
    let engine_id = SegmentHeader::engine_id(&bytes);
    match SegmentHeader::decode(&bytes, engine_id) {
        Ok(header) => Some(header),
        Err(BadHeader::Version(_)) => {
            bytes[8..12].copy_from_slice(&format::VERSION.to_le_bytes());
            SegmentHeader::decode(&bytes, engine_id).ok()
        }
        Err(_) => None,
    }
}

/// A header made of a segment's name and of a frame whose place tells where the segment begins. Of a
/// rewritten one frames tell nothing; its neighbours will.
fn guess_header(
    file: &dyn File,
    number: u64,
    generation: u64,
    engine_id: u128,
) -> Option<SegmentHeader> {
    let size = file.size().ok()?;
    let bytes = file.map().ok()?.bytes;
    let mut position = SEGMENT_HEADER_SIZE as usize;
    let (position, head) = loop {
        if let Ok((head, _)) = frame::decode(bytes.get(position..)?, None) {
            break (position as u64, head);
        }
        position += ALIGNMENT;
    };
    let header = SegmentHeader {
        engine_id,
        number,
        last_number: number,
        generation,
        base: Lsn(0),
        span: 0,
        created_ms: 0,
        // Newer than every checkpoint: what may live, lives.
        after_checkpoint: u64::MAX,
    };
    if generation > 0 {
        return Some(header);
    }
    let base = Lsn(head.lsn.0.checked_sub(position - SEGMENT_HEADER_SIZE)?);
    Some(SegmentHeader { base, span: size - SEGMENT_HEADER_SIZE, after_checkpoint: 0, ..header })
}

/// The number and the generation in a segment's name.
fn segment_name(name: &str) -> Option<(u64, u64)> {
    let stem = name.strip_suffix(".seg")?;
    match stem.split_once(".g") {
        Some((number, generation)) => Some((number.parse().ok()?, generation.parse().ok()?)),
        None => Some((stem.parse().ok()?, 0)),
    }
}

/// Reads all segments whole, some at a time.
fn read_wholes(
    segments: &[Segment],
    indexes: Vec<FoundIndex>,
    engine_id: u128,
    progress: &mut dyn Progress,
) -> Vec<Whole> {
    progress.begin("reading", segments.iter().map(Segment::size).sum());
    let work = Mutex::new(segments.iter().zip(indexes).enumerate());
    let mut wholes: Vec<Option<Whole>> = segments.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        let (done, results) = mpsc::sync_channel(READERS);
        for _ in 0..READERS {
            let (done, work) = (done.clone(), &work);
            scope.spawn(move || {
                let next = || work.lock().expect("taking the next one does not panic").next();
                while let Some((place, (segment, index))) = next() {
                    if done.send((place, whole::read(segment, index, engine_id))).is_err() {
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
