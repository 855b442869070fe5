//! Opens the files of a folder as far as they can be opened, and says what is wrong with those that cannot.
//! Changes nothing; knows neither frames' meaning nor state.

use super::lenience::{SegmentKey, key};
use super::recover;
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
use crate::log::frame::{self, ALIGNMENT};
use crate::log::scan::Scanner;
use crate::log::segment::Segment;
use crate::log::source::read_exact;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

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

/// What is known of the files so far.
pub(super) struct Survey<'a> {
    pub(super) config: &'a Config,
    env: &'a Environment,
    access: Access,
    pub(super) faults: Vec<Fault>,
    pub(super) mends: Vec<Mend>,
    pub(super) damaged: HashSet<SegmentKey>,
    /// Segments that cannot be read at all, by number.
    pub(super) unreadable: HashSet<u64>,
    /// The files of all segments found.
    opened: Vec<PathBuf>,
    /// The log reaches at least so far, by the headers that can be read.
    reach: Lsn,
    pub(super) counts: Counts,
}

pub(super) struct Checkpoints {
    pub(super) kept: Vec<CheckpointHeader>,
    pub(super) newest: Option<Checkpoint>,
    /// What can be read of those that are not whole, newest first.
    pub(super) pieces: Vec<(u64, Vec<QueueShape>)>,
    pub(super) last: u64,
}

impl<'a> Survey<'a> {
    pub(super) fn new(config: &'a Config, env: &'a Environment, access: Access) -> Survey<'a> {
        Survey {
            config,
            env,
            access,
            faults: Vec::new(),
            mends: Vec::new(),
            damaged: HashSet::new(),
            unreadable: HashSet::new(),
            opened: Vec::new(),
            reach: Lsn(0),
            counts: Counts::default(),
        }
    }

    fn disk(&self) -> &'a dyn Disk {
        &*self.env.disk
    }

    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.config.folder.join(name)
    }

    fn names(&self, folder: &str) -> Result<Vec<String>> {
        let folder = self.folder(folder);
        let names = self.disk().list(&folder);
        let mut names = names.map_err(|cause| Error::io("reading", folder, cause))?;
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn fault(
        &mut self,
        kind: FaultKind,
        file: &Path,
        offset: Option<u64>,
        what: String,
    ) {
        self.faults.push(Fault::new(kind, file, offset, what));
    }

    /// Whose folder it is: as `FORMAT` says, or as its segments do.
    pub(super) fn header(&mut self) -> Result<FolderHeader> {
        let told = recover::read_header(self.config, self.disk());
        let mut votes: BTreeMap<u128, usize> = BTreeMap::new();
        for name in self.names(LOG_FOLDER).unwrap_or_default() {
            if let Some(header) = any_header(self.disk(), &self.folder(LOG_FOLDER).join(name)) {
                *votes.entry(header.engine_id).or_default() += 1;
                self.reach = self.reach.max(header.base);
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
    pub(super) fn open(&mut self, engine_id: u128) -> Result<(Checkpoints, Vec<Segment>)> {
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
    pub(super) fn forget_vanished(&mut self) {
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
        let header =
            header.or_else(|| guess_header(&*file, number, generation, engine_id, self.reach));
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
                    self.reach = self.reach.max(checkpoint.header.lsn);
                    kept.insert(0, checkpoint.header);
                    newest.get_or_insert(checkpoint);
                }
                Err(why) => {
                    if let Err(cause) = self.disk().open_to_read(&path)
                        && cause.kind() == std::io::ErrorKind::NotFound
                    {
                        // Taken away since it was listed.
                        return Err(Error::io("opening", path, cause));
                    }
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
    pub(super) fn strangers(&mut self) -> Result<()> {
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
/// rewritten one frames tell nothing; its neighbours will. The log reaches about as far as `reach`.
fn guess_header(
    file: &dyn File,
    number: u64,
    generation: u64,
    engine_id: u128,
    reach: Lsn,
) -> Option<SegmentHeader> {
    let size = file.size().ok()?;
    let bytes = file.map().ok()?.bytes;
    let read = |bytes: &[u8]| match generation {
        0 => frame::decode_astray(bytes, reach),
        _ => frame::decode(bytes, |hint| Some(hint.whole())).ok().map(|(head, _)| head),
    };
    let mut position = SEGMENT_HEADER_SIZE as usize;
    let (position, head) = loop {
        if let Some(head) = read(bytes.get(position..)?) {
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
pub(super) fn segment_name(name: &str) -> Option<(u64, u64)> {
    let stem = name.strip_suffix(".seg")?;
    match stem.split_once(".g") {
        Some((number, generation)) => Some((number.parse().ok()?, generation.parse().ok()?)),
        None => Some((stem.parse().ok()?, 0)),
    }
}
