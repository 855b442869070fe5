//! Walks the frames of a folder's log, one in memory at a time, and follows its end. Knows frames and
//! records; knows no state.

use super::view::View;
use crate::config::Config;
use crate::domain::{Lsn, QueueId, QueueKey};
use crate::env::{Disk, Environment};
use crate::error::{Error, Result};
use crate::files::format::{LOG_FOLDER, SEGMENT_HEADER_SIZE};
use crate::log::frame::{self, HEAD_SIZE, Head, Kind, u32_at, u64_at};
use crate::log::record::{
    CLIENT_SIZE, MESSAGE_HEAD_SIZE, POST_HEAD_SIZE, POST_ONE_HEAD_SIZE, Record,
};
use crate::log::scan::{ScanEnd, Scanner};
use crate::log::segment::Segment;
use crate::upkeep::recover;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of a place that is no frame a walk shows.
const BAD_SHOWN_SIZE: usize = 256;

/// Which frames to walk.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameOptions {
    /// Those of this segment alone.
    pub segment: Option<u64>,
    /// Those from this LSN on.
    pub from: Lsn,
}

/// What a walk comes by.
#[derive(Debug)]
pub enum Step<'a> {
    /// A segment begins.
    Segment {
        /// Its number.
        number: u64,
        /// How often it was rewritten.
        generation: u64,
        /// Its file.
        file: &'a Path,
        /// Bytes of the file.
        size: u64,
    },
    /// A frame whose checksum is right.
    Frame(FrameView<'a>),
    /// Bytes that are no frame, before others that are; or a file that is no segment.
    Bad {
        /// The file.
        file: &'a Path,
        /// Where in it.
        position: u64,
        /// How many bytes; 0 for all of a file.
        size: u64,
        /// What is wrong.
        why: String,
        /// What a head at that place says, proved by nothing.
        head: Option<Head>,
        /// The first of the bytes.
        bytes: &'a [u8],
    },
    /// The segment's frames end.
    End {
        /// The file.
        file: &'a Path,
        /// Where in it.
        position: u64,
        /// How.
        how: ScanEnd,
    },
}

/// A frame, and where it lies.
#[derive(Debug)]
pub struct FrameView<'a> {
    /// The number of its segment.
    pub segment: u64,
    /// How often that was rewritten.
    pub generation: u64,
    /// Where in the file it begins.
    pub position: u64,
    /// Its head.
    pub head: Head,
    /// What it says.
    pub record: Record<'a>,
    /// Its bytes: head and payload.
    pub bytes: &'a [u8],
}

/// Walks the frames of a folder's log, in order.
///
/// # Errors
/// `Folder` when it is none of ours; `Io`.
pub fn frames(
    folder: &Path,
    options: FrameOptions,
    visit: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
) -> Result<()> {
    frames_in(folder, &super::world(folder), options, visit)
}

/// As [`frames`], in a world of your own.
///
/// # Errors
/// As [`frames`].
pub fn frames_in(
    folder: &Path,
    env: &Environment,
    options: FrameOptions,
    visit: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let disk = &*env.disk;
    let engine_id = recover::read_header(&Config::new(folder), disk)?.engine_id;
    let mut last = 0;
    for found in segment_files(disk, folder, engine_id)? {
        let (path, segment) = match found {
            // Taken away by the engine that runs.
            (_, Err(Error::Io { cause, .. })) if cause.kind() == std::io::ErrorKind::NotFound => {
                continue;
            }
            (path, Err(error)) => {
                let why = error.to_string();
                let bad =
                    Step::Bad { file: &path, position: 0, size: 0, why, head: None, bytes: &[] };
                if options.segment.is_none() && visit(bad).is_break() {
                    return Ok(());
                }
                continue;
            }
            (path, Ok(segment)) => (path, segment),
        };
        let header = segment.header;
        // What compaction joined, and left a file of.
        if header.number <= last {
            continue;
        }
        last = header.last_number;
        let is_wanted =
            options.segment.is_none_or(|number| (header.number..=last).contains(&number));
        if !is_wanted || segment.lsn_limit() <= options.from {
            continue;
        }
        let (number, generation, size) = (header.number, header.generation, segment.size());
        if visit(Step::Segment { number, generation, file: &path, size }).is_break()
            || walk(&segment, options.from, visit).is_break()
        {
            return Ok(());
        }
    }
    Ok(())
}

/// The segments of a folder in order of their numbers, the one rewritten last first; each opened as it
/// comes up.
fn segment_files<'a>(
    disk: &'a dyn Disk,
    folder: &Path,
    engine_id: u128,
) -> Result<impl Iterator<Item = (PathBuf, Result<Segment>)> + 'a> {
    let folder = folder.join(LOG_FOLDER);
    let names =
        disk.list(&folder).map_err(|cause| Error::io("reading", folder.as_path(), cause))?;
    let mut names: Vec<String> = names.into_iter().filter(|name| name.ends_with(".seg")).collect();
    // `7.seg` is generation 0, `7.g2.seg` the second.
    names.sort_by_key(|name| {
        let (number, rest) = name.split_once('.').unwrap_or((name, ""));
        let generation = rest.strip_prefix('g').and_then(|rest| rest.split('.').next());
        let generation: u64 = generation.and_then(|text| text.parse().ok()).unwrap_or(0);
        (number.to_owned(), std::cmp::Reverse(generation))
    });
    Ok(names.into_iter().map(move |name| {
        let path = folder.join(name);
        let segment = Segment::open_to_look(disk, &path, engine_id);
        (path, segment)
    }))
}

fn walk(
    segment: &Segment,
    from: Lsn,
    visit: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let file = segment.path.as_path();
    let mut scanner = Scanner::new(segment);
    loop {
        while let Some((position, head, bytes)) = scanner.next_whole() {
            if head.lsn < from {
                continue;
            }
            match Record::decode(&head, &bytes[HEAD_SIZE..]) {
                Ok(record) => visit(Step::Frame(view(segment, position, head, record, bytes)))?,
                Err(error) => visit(Step::Bad {
                    file,
                    position,
                    size: head.padded_size() as u64,
                    why: error.to_string(),
                    head: Some(head),
                    bytes: &bytes[..bytes.len().min(BAD_SHOWN_SIZE)],
                })?,
            }
        }
        let (position, end) = (scanner.position(), scanner.end());
        let ScanEnd::Invalid(why) = end else {
            return visit(Step::End { file, position, how: end });
        };
        let Some(passed) = scanner.resume() else {
            return visit(Step::End { file, position, how: end });
        };
        let size = BAD_SHOWN_SIZE.min(passed as usize);
        let bytes = scanner.bytes_at(position, size).to_vec();
        let head = frame::unproved_head(&bytes, |hint| segment.lsn_of(position, hint));
        visit(Step::Bad {
            file,
            position,
            size: passed,
            why: why.to_string(),
            head,
            bytes: &bytes,
        })?;
    }
}

fn view<'a>(
    segment: &Segment,
    position: u64,
    head: Head,
    record: Record<'a>,
    bytes: &'a [u8],
) -> FrameView<'a> {
    let (number, generation) = (segment.header.number, segment.header.generation);
    FrameView { segment: number, generation, position, head, record, bytes }
}

/// Follows the end of a log, beside the engine that writes it or not.
pub struct Follow {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    engine_id: u128,
    /// What comes next lies here or behind.
    next: Lsn,
    /// The segment being read, and where in it.
    at: Option<(Segment, u64)>,
}

impl Follow {
    /// Begins at this LSN: that of a frame, or where one will be, as [`View::end`] says.
    ///
    /// # Errors
    /// `Folder` when it is none of ours.
    pub fn new(folder: &Path, from: Lsn) -> Result<Follow> {
        Follow::new_in(folder, &super::world(folder), from)
    }

    /// As [`Follow::new`], in a world of your own.
    ///
    /// # Errors
    /// As [`Follow::new`].
    pub fn new_in(folder: &Path, env: &Environment, from: Lsn) -> Result<Follow> {
        let disk = env.disk.clone();
        let engine_id = recover::read_header(&Config::new(folder), &*disk)?.engine_id;
        Ok(Follow { disk, folder: folder.to_path_buf(), engine_id, next: from, at: None })
    }

    /// Visits the frames that came since the last call. Returns how many there were.
    ///
    /// # Errors
    /// `Io`, `Damaged`: a later call may find the file whole.
    pub fn poll(&mut self, visit: &mut dyn FnMut(FrameView<'_>) -> ControlFlow<()>) -> Result<u64> {
        let mut count = 0;
        loop {
            if self.at.is_none() {
                self.at = self.find()?;
            }
            let Some((segment, position)) = &mut self.at else { return Ok(count) };
            let mut scanner = Scanner::from(segment, *position);
            let mut stopped = false;
            while let Some((at, head, bytes)) = scanner.next_whole() {
                *position = at + head.padded_size() as u64;
                if head.lsn < self.next {
                    continue;
                }
                let record = Record::decode(&head, &bytes[HEAD_SIZE..])
                    .map_err(|error| segment.damaged(at, error.to_string()))?;
                count += 1;
                if visit(view(segment, at, head, record, bytes)).is_break() {
                    stopped = true;
                    break;
                }
            }
            if stopped {
                return Ok(count);
            }
            match scanner.end() {
                ScanEnd::Sealed(next) => self.next = next,
                ScanEnd::Eof => self.next = segment.lsn_limit(),
                // Nothing more yet; or the file is another segment's by now.
                ScanEnd::Invalid(_) => {
                    if segment.header.generation == 0 {
                        self.next = self.next.max(segment.lsn_at(*position));
                    }
                    if self.disk.open_to_read(&segment.path).is_ok() {
                        return Ok(count);
                    }
                }
            }
            self.at = None;
        }
    }

    /// The segment in which the next frame lies, and where. Where nothing lived any more that segment may
    /// be gone: then it is the one behind.
    fn find(&self) -> Result<Option<(Segment, u64)>> {
        let files = segment_files(&*self.disk, &self.folder, self.engine_id)?;
        // One that cannot be opened is not there any more, or not the one.
        let mut found: Vec<Segment> = files.filter_map(|(_, segment)| segment.ok()).collect();
        found.retain(|segment| segment.lsn_limit() > self.next);
        let first = found.into_iter().min_by_key(|segment| segment.header.base);
        Ok(first.map(|segment| {
            let position = match segment.header.generation {
                0 => self.next.0.saturating_sub(segment.header.base.0) + SEGMENT_HEADER_SIZE,
                _ => SEGMENT_HEADER_SIZE,
            };
            (segment, position)
        }))
    }
}

/// The keys of queues by their ids.
#[derive(Debug, Default)]
pub struct QueueNames(HashMap<QueueId, QueueKey>);

impl QueueNames {
    /// Those that a folder knows now. Of a damaged one none; its frames tell some.
    ///
    /// # Errors
    /// `Folder` when it is none of ours.
    pub fn read(folder: &Path) -> Result<QueueNames> {
        recover::read_header(&Config::new(folder), &*Environment::system().disk)?;
        let queues = View::open(folder).and_then(|view| view.queues()).unwrap_or_default();
        Ok(QueueNames(queues.into_iter().map(|queue| (queue.id, queue.key)).collect()))
    }

    /// The key of a queue.
    pub fn key(&self, id: QueueId) -> Option<&QueueKey> {
        self.0.get(&id)
    }

    /// Takes in what a frame tells.
    pub fn learn(&mut self, head: &Head, record: &Record<'_>) {
        if let Record::QueueCreated { key, .. } = record {
            self.0.insert(QueueId(head.lsn.0), key.clone());
        }
    }
}

/// A field of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Where it begins in the frame.
    pub offset: usize,
    /// How many bytes it takes.
    pub size: usize,
    /// Its name in `docs/format.md`.
    pub name: String,
    /// Its value; empty for bodies and other bytes.
    pub value: String,
}

/// The fields of a frame, head and payload, in the order of their places; as far as it has them.
pub fn frame_fields(bytes: &[u8]) -> Vec<Field> {
    let mut fields = Fields { bytes, found: Vec::new() };
    let kind = frame::unproved_kind(bytes);
    fields.add(0, 4, "crc", |at| format!("{:#010x}", u32_at(at, 0)));
    for (offset, name) in [(4, "length"), (8, "lsn_low"), (12, "behind")] {
        fields.add(offset, 4, name, |at| u32_at(at, 0).to_string());
    }
    for (offset, name) in [(16, "queue"), (24, "seq")] {
        fields.add(offset, 8, name, |at| u64_at(at, 0).to_string());
    }
    fields.add(32, 6, "at_ms", |at| {
        (u64::from(u16_at(&at[4..])) << 32 | u64::from(u32_at(at, 0))).to_string()
    });
    fields.add(38, 1, "kind", |at| match kind {
        Some(kind) => format!("{} {kind:?}", at[0]),
        None => at[0].to_string(),
    });
    fields.add(39, 1, "flags", |at| at[0].to_string());
    let Some(kind) = kind.filter(|_| bytes.len() > HEAD_SIZE) else { return fields.found };
    let (at, end) = (HEAD_SIZE, bytes.len());
    match kind {
        Kind::QueueCreated => {
            fields.add(at, 2, "key_size", |at| u16_at(at).to_string());
            fields.add(at + 2, 1, "floor", |at| at[0].to_string());
            fields.add(at + 4, 4, "metadata_size", |at| u32_at(at, 0).to_string());
            let key_size = bytes.get(at..at + 2).map_or(0, |at| usize::from(u16_at(at)));
            let key_end = at + 8 + key_size;
            fields.add(at + 8, key_size, "key", |at| {
                QueueKey::from_bytes(at).map_or_else(String::new, |key| format!("{key:?}"))
            });
            fields.add(key_end, end.saturating_sub(key_end), "metadata", text);
        }
        Kind::QueueChanged => {
            fields.add(at, 1, "floor", |at| at[0].to_string());
            fields.add(at + 1, 1, "has_metadata", |at| at[0].to_string());
            fields.add(at + 4, 4, "metadata_size", |at| u32_at(at, 0).to_string());
            fields.add(at + 8, end.saturating_sub(at + 8), "metadata", text);
        }
        Kind::Posted => posted_fields(&mut fields),
        Kind::PostedOne => {
            fields.client();
            fields.add(at + CLIENT_SIZE, 4, "ttl_s", |at| u32_at(at, 0).to_string());
            let body = at + POST_ONE_HEAD_SIZE;
            fields.add(body, end.saturating_sub(body), "body", |_| String::new());
        }
        Kind::Claimed | Kind::Renewed => {
            fields.add(at, 4, "ttl_s", |at| u32_at(at, 0).to_string());
            fields.add(at + 4, 4, "grace_s", |at| u32_at(at, 0).to_string());
            fields.numbers(at + 8);
        }
        Kind::Deleted => fields.numbers(at),
        Kind::QueueRemoved
        | Kind::Released
        | Kind::Resumed
        | Kind::SegmentEnd
        | Kind::SegmentRetired => {}
    }
    fields.found
}

fn posted_fields(fields: &mut Fields<'_>) {
    fields.client();
    fields.add(HEAD_SIZE + CLIENT_SIZE, 4, "count", |at| u32_at(at, 0).to_string());
    let mut at = HEAD_SIZE + POST_HEAD_SIZE;
    let mut number = 0;
    while let Some(head) = fields.bytes.get(at..at + MESSAGE_HEAD_SIZE) {
        let (body_size, extensions_size) =
            (u32_at(head, 4) as usize, usize::from(u16_at(&head[16..])));
        let name = |field: &str| format!("message {number} {field}");
        fields.add(at, 4, &name("crc"), |at| format!("{:#010x}", u32_at(at, 0)));
        for (offset, field) in [(4, "body_size"), (8, "ttl_s"), (12, "back")] {
            fields.add(at + offset, 4, &name(field), |at| u32_at(at, 0).to_string());
        }
        fields.add(at + 16, 2, &name("extensions_size"), |at| u16_at(at).to_string());
        fields.add(at + 18, 1, &name("encoding"), |at| at[0].to_string());
        let body = at + MESSAGE_HEAD_SIZE + extensions_size;
        fields.add(body, body_size, &name("body"), |_| String::new());
        at = body + body_size;
        number += 1;
    }
}

/// Collects fields that lie within the bytes.
struct Fields<'a> {
    bytes: &'a [u8],
    found: Vec<Field>,
}

impl Fields<'_> {
    fn add(&mut self, offset: usize, size: usize, name: &str, show: impl Fn(&[u8]) -> String) {
        if let Some(at) = self.bytes.get(offset..offset.saturating_add(size)) {
            self.found.push(Field { offset, size, name: name.to_owned(), value: show(at) });
        }
    }

    /// Who posted what a frame holds.
    fn client(&mut self) {
        self.add(HEAD_SIZE, CLIENT_SIZE, "client", |at| {
            let word = u128::from(u64_at(at, 8)) << 64 | u128::from(u64_at(at, 0));
            format!("{word:032x}")
        });
    }

    /// The message numbers from `offset` to the end.
    fn numbers(&mut self, offset: usize) {
        for offset in (offset..self.bytes.len()).step_by(8) {
            self.add(offset, 8, "number", |at| u64_at(at, 0).to_string());
        }
    }
}

fn u16_at(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
