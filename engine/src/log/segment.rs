//! One segment file: made, recycled, opened, mapped. Its index and its count of live bytes.
//! Knows neither what frames mean nor which messages live.

use super::frame::LsnHint;
use super::record::BadMessage;
use super::source::{Source, Window, read_exact};
use crate::domain::Lsn;
use crate::env::{Disk, File, Mapping};
use crate::error::{Error, Result};
use crate::files::format::{
    BadHeader, HEADER_SIZE, SEGMENT_HEADER_SIZE, SegmentHeader, UNFINISHED,
};
use crate::files::segment_index::SegmentIndex;
use bytes::Bytes;
use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Zeros are written in pieces of this size at most, and synced each time that so many were: one sync of a whole
/// segment would stand before every commit that comes in meanwhile, and one for each small piece would
/// stand before nearly as many (`docs/decisions` has the measurement).
static ZEROS: Page<[u8; 1 << 20]> = Page([0; 1 << 20]);

/// Lies where a page of memory begins.
#[repr(align(4096))]
struct Page<T>(T);

/// A segment is smaller: places in it take 31 bits.
const SIZE_LIMIT: u64 = 1 << 31;

/// Of a file that is removed at most so many bytes are given back together.
const SHRINK_SIZE_MAX: u64 = 1 << 20;
/// In at least so many steps.
const SHRINK_COUNT_MIN: u64 = 4;

/// A segment of the log, open for reading for as long as anybody holds it.
#[derive(Debug)]
pub struct Segment {
    /// Its header.
    pub header: SegmentHeader,
    /// Its file.
    pub path: PathBuf,
    file: Arc<dyn File>,
    contents: Contents,
    size: u64,
    /// The LSN behind its last frame, once it is sealed; 0 before.
    sealed_end: AtomicU64,
    index: OnceLock<SegmentIndex>,
    /// Whether every queue looks into the index.
    is_indexed: AtomicBool,
    live_count: AtomicI64,
    live_cost: AtomicI64,
    /// Something in it could not be read.
    damaged: AtomicBool,
}

/// How a segment's bytes are looked at.
#[derive(Debug)]
enum Contents {
    /// Through a map: by the engine that has the folder, which alone knows when a file is written anew.
    Mapped(Mapping),
    /// By reading them: by whoever looks beside it. Where his lock is not seen a file may be recycled
    /// under his eyes, which a checksum notices and a map must not be exposed to.
    File,
}

impl Segment {
    /// Makes an empty file of `size` zeros under a name that says it is not in use. `next_piece` is asked
    /// before each piece how large it may be, and may take its time.
    pub(crate) fn prepare(
        disk: &dyn Disk,
        folder: &Path,
        size: u64,
        ticket: u64,
        next_piece: impl Fn() -> usize,
    ) -> Result<PathBuf> {
        let path = spare_path(folder, ticket);
        let fill = || -> std::io::Result<()> {
            let zeros = &ZEROS.0;
            let is_even = size.is_multiple_of(align_of_val(&ZEROS) as u64);
            let file = if is_even { disk.create_to_fill(&path)? } else { disk.create(&path)? };
            let (mut at, mut unsynced) = (0, 0);
            while at < size {
                let left = usize::try_from(size - at).unwrap_or(usize::MAX);
                let piece = next_piece().min(zeros.len()).min(left);
                file.write_at(&zeros[..piece], at)?;
                at += piece as u64;
                unsynced += piece;
                if unsynced >= zeros.len() || at == size {
                    file.sync()?;
                    unsynced = 0;
                }
            }
            Ok(())
        };
        if let Err(cause) = fill() {
            // What was filled so far would only take room.
            let _ = disk.remove(&path);
            return Err(Error::io("writing", path.as_path(), cause));
        }
        Ok(path)
    }

    /// As [`Segment::prepare`], but nothing is written: the room is taken, and reads as zeros. `None` where the
    /// file system cannot do that.
    pub(crate) fn reserve(
        disk: &dyn Disk,
        folder: &Path,
        size: u64,
        ticket: u64,
    ) -> Result<Option<PathBuf>> {
        let path = spare_path(folder, ticket);
        let reserve = || -> std::io::Result<()> {
            let file = disk.create(&path)?;
            file.reserve(size)?;
            file.sync()
        };
        let Err(cause) = reserve() else { return Ok(Some(path)) };
        let _ = disk.remove(&path);
        if cause.kind() == std::io::ErrorKind::Unsupported {
            return Ok(None);
        }
        Err(Error::io("reserving", path.as_path(), cause))
    }

    /// Turns a prepared or an emptied file into the segment that `header` describes.
    pub(crate) fn start(
        disk: &dyn Disk,
        folder: &Path,
        prepared: &Path,
        header: SegmentHeader,
    ) -> Result<Segment> {
        let path = folder.join(header.file_name());
        let start = || -> std::io::Result<Arc<dyn File>> {
            let file = disk.open(prepared)?;
            file.write_at(&header.encode(), 0)?;
            file.sync()?;
            disk.rename(prepared, &path)?;
            disk.sync_folder(folder)?;
            Ok(file)
        };
        let file = start().map_err(|cause| {
            // Nobody would find it before the next start, and whoever tries again makes another.
            let _ = disk.remove(prepared);
            Error::io("making", path.as_path(), cause)
        })?;
        Segment::over(path, file, header, map)
    }

    /// Opens the segment in this file.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, engine_id: u128) -> Result<Segment> {
        let file = disk.open(path).map_err(|cause| Error::io("opening", path, cause))?;
        Segment::open_file(path, file, engine_id)
    }

    /// Opens the segment in this file to look at it, perhaps beside the engine that has the folder.
    /// Nothing is mapped: see `env/os.rs`.
    pub(crate) fn open_to_look(disk: &dyn Disk, path: &Path, engine_id: u128) -> Result<Segment> {
        let file = disk.open_to_read(path).map_err(|cause| Error::io("opening", path, cause))?;
        let header = read_header(path, &*file, engine_id)?;
        Segment::over(path.to_path_buf(), file, header, |_| Ok(Contents::File))
    }

    /// The segment in this file, whose header is known from elsewhere. What can be read of it is
    /// for the scan to find out.
    pub(crate) fn salvage(
        path: &Path,
        file: Arc<dyn File>,
        header: SegmentHeader,
        mapped: bool,
    ) -> Result<Segment> {
        let failed = |cause| Error::io("opening", path, cause);
        let size = file.size().map_err(failed)?.min(SIZE_LIMIT - 1);
        let contents =
            if mapped { Contents::Mapped(file.map().map_err(failed)?) } else { Contents::File };
        Ok(Segment::new(path.to_path_buf(), file, header, size, contents))
    }

    /// Opens the segment in this file, which lies at `path`.
    pub(crate) fn open_file(path: &Path, file: Arc<dyn File>, engine_id: u128) -> Result<Segment> {
        let header = read_header(path, &*file, engine_id)?;
        Segment::over(path.to_path_buf(), file, header, map)
    }

    fn over(
        path: PathBuf,
        file: Arc<dyn File>,
        header: SegmentHeader,
        contents: impl FnOnce(&dyn File) -> std::io::Result<Contents>,
    ) -> Result<Segment> {
        let failed = |cause| Error::io("mapping", path.as_path(), cause);
        let size = file.size().map_err(failed)?;
        // Segments are written whole before they are used; only rewriting makes them smaller.
        let whole = header.span.saturating_add(SEGMENT_HEADER_SIZE);
        if header.generation == 0 && size != whole {
            let what = format!("the file has {size} bytes where {whole} were written");
            return Err(damaged(&path, size.min(whole), what));
        }
        if size >= SIZE_LIMIT {
            let what = format!("the file has {size} bytes, more than any segment");
            return Err(damaged(&path, 0, what));
        }
        let contents = contents(&*file).map_err(failed)?;
        Ok(Segment::new(path, file, header, size, contents))
    }

    fn new(
        path: PathBuf,
        file: Arc<dyn File>,
        header: SegmentHeader,
        size: u64,
        contents: Contents,
    ) -> Segment {
        Segment {
            header,
            path,
            file,
            contents,
            size,
            sealed_end: AtomicU64::new(0),
            index: OnceLock::new(),
            is_indexed: AtomicBool::new(false),
            live_count: AtomicI64::new(0),
            live_cost: AtomicI64::new(0),
            damaged: AtomicBool::new(false),
        }
    }

    /// Whether the file has the name that its header says. A file made ready for reuse may have kept its
    /// old one over a power cut; one with frames never does.
    pub(crate) fn has_its_name(&self) -> bool {
        self.path.file_name().is_some_and(|name| name.to_str() == Some(&self.header.file_name()))
    }

    /// A segment under another's name would be looked into through the other's index.
    pub(crate) fn check_name(&self) -> Result<()> {
        if self.has_its_name() {
            return Ok(());
        }
        Err(self.damaged(0, format!("by its header this is {}", self.header.file_name())))
    }

    /// An error for damage at `position`.
    pub(crate) fn damaged(&self, position: u64, what: String) -> Error {
        damaged(&self.path, position, what)
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The number it is known by in ranges and checkpoints.
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// The LSN of the place `position` in the file.
    pub(crate) fn lsn_at(&self, position: u64) -> Lsn {
        Lsn(self.header.base.0 + position - SEGMENT_HEADER_SIZE)
    }

    /// The LSN of the frame at this place, if one that says so of itself can lie here: its place's, or in a rewritten
    /// segment, whose frames keep their first one, any that it stands for. Another's was written astray, or is left
    /// from before.
    pub(crate) fn lsn_of(&self, position: u64, hint: LsnHint) -> Option<Lsn> {
        if self.header.generation == 0 {
            let lsn = self.lsn_at(position);
            (hint.low == lsn.low()).then_some(lsn)
        } else {
            let lsn = hint.whole();
            (self.header.base..self.lsn_limit()).contains(&lsn).then_some(lsn)
        }
    }

    /// The first LSN behind all that this segment stands for.
    pub(crate) fn lsn_limit(&self) -> Lsn {
        Lsn(self.header.base.0 + self.header.span)
    }

    /// The file's bytes for a scan; of a segment that nobody appends to, or up to where it finds frames.
    pub(crate) fn source(&self) -> Source<'_> {
        match &self.contents {
            Contents::Mapped(mapping) => Source::Mapped(&mapping.bytes),
            Contents::File => Source::File(Window::new(self.file.clone(), self.size)),
        }
    }

    /// Says that all of it is about to be read.
    pub(crate) fn read_ahead(&self) {
        self.file.read_ahead();
    }

    /// The `size` bytes at `position`, all of them below the `written` watermark, to be kept: a slice of the
    /// map, or a copy where there is none. Nothing of them is checked yet.
    #[inline]
    pub(crate) fn slice(&self, position: u32, size: u32) -> Result<Bytes> {
        let range = self.range(position, size)?;
        match &self.contents {
            Contents::Mapped(mapping) => Ok(mapping.bytes.slice(range)),
            Contents::File => self.copy(range).map(Bytes::from),
        }
    }

    /// As [`Segment::slice`], to be looked at and not kept, which spares the map a count.
    #[inline]
    pub(super) fn look(&self, position: u32, size: u32) -> Result<Cow<'_, [u8]>> {
        let range = self.range(position, size)?;
        match &self.contents {
            Contents::Mapped(mapping) => Ok(Cow::Borrowed(&mapping.bytes[range])),
            Contents::File => self.copy(range).map(Cow::Owned),
        }
    }

    /// Where in the file so many bytes lie.
    #[inline]
    fn range(&self, position: u32, size: u32) -> Result<Range<usize>> {
        let (start, end) = (u64::from(position), u64::from(position) + u64::from(size));
        if end > self.size {
            return Err(self.too_short(position));
        }
        Ok(start as usize..end as usize)
    }

    #[cold]
    fn too_short(&self, position: u32) -> Error {
        self.damaged(position.into(), BadMessage::Length.to_string())
    }

    fn copy(&self, range: Range<usize>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; range.len()];
        read_exact(&*self.file, &mut bytes, range.start as u64)
            .map_err(|cause| Error::io("reading", self.path.as_path(), cause))?;
        Ok(bytes)
    }

    /// Writes frames at `position`.
    pub(crate) fn write_at(&self, bytes: &[u8], position: u64) -> std::io::Result<()> {
        self.file.write_at(bytes, position)
    }

    /// Makes all frames written so far durable.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.file.sync()
    }

    /// Says that no frame will be added, and where the last one ends.
    pub(crate) fn seal(&self, end: Lsn) {
        self.sealed_end.store(end.0, Ordering::Release);
    }

    /// Where its last frame ends; `None` while it is appended to.
    pub(crate) fn sealed_end(&self) -> Option<Lsn> {
        match self.sealed_end.load(Ordering::Acquire) {
            0 => None,
            end => Some(Lsn(end)),
        }
    }

    /// Its index, once it has one.
    pub fn index(&self) -> Option<&SegmentIndex> {
        self.index.get()
    }

    /// Gives it its index. The first one stays.
    pub(crate) fn set_index(&self, index: SegmentIndex) {
        let _ = self.index.set(index);
    }

    /// Whether every queue looks into its index. Until then nothing may take its place: a queue that comes
    /// to it late would put it back.
    pub(crate) fn is_indexed(&self) -> bool {
        self.is_indexed.load(Ordering::Acquire)
    }

    /// Every queue looks into its index.
    pub(crate) fn set_indexed(&self) {
        self.is_indexed.store(true, Ordering::Release);
    }

    /// Remembers that something in it could not be read.
    pub(crate) fn set_damaged(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// Whether something in it could not be read.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Counts messages that came to life here, or (negative) died.
    pub(crate) fn count_live(&self, count: i64, cost: i64) {
        self.live_count.fetch_add(count, Ordering::Relaxed);
        self.live_cost.fetch_add(cost, Ordering::Relaxed);
    }

    /// How many messages live here.
    pub fn live_count(&self) -> u64 {
        self.live_count.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    /// What keeping them costs on disk.
    pub fn live_cost(&self) -> u64 {
        self.live_cost.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    /// What it takes on disk, index included.
    pub fn disk_size(&self) -> u64 {
        self.size + self.index().map_or(0, SegmentIndex::size)
    }

    /// Removes its files, or keeps the large one for reuse under the name returned. Nobody looks for
    /// messages here any more; bodies still being sent keep their bytes, and so does whoever looks beside the
    /// engine. What takes long is done in parts, with
    /// `pause` called in between.
    pub(crate) fn retire(
        segment: Arc<Segment>,
        disk: &dyn Disk,
        reuse: Option<(u64, PathBuf)>,
        mut pause: impl FnMut(),
    ) -> Result<Option<PathBuf>> {
        let path = segment.path.clone();
        if let Contents::Mapped(mapping) = &segment.contents {
            mapping.let_go(&mut pause);
        }
        let failed = |cause| Error::io("removing", path.as_path(), cause);
        match disk.remove(&crate::files::format::index_path(&path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
        let unread = Arc::into_inner(segment).and_then(Segment::into_unread_file);
        let unread = unread.filter(|(file, _)| !file.is_read_elsewhere());
        if let Some((size, spare)) = reuse
            && unread.as_ref().is_some_and(|(_, of_file)| *of_file == size)
        {
            disk.rename(&path, &spare).map_err(failed)?;
            return Ok(Some(spare));
        }
        disk.remove(&path).map_err(failed)?;
        if let Some((file, size)) = unread {
            // Else a power cut could bring the name back, and not what it led to.
            disk.sync_folder(path.parent().expect("a file lies in a folder")).map_err(failed)?;
            shrink(&*file, size, pause);
        }
        Ok(None)
    }

    /// The file and its size, unless a body is being read still.
    fn into_unread_file(self) -> Option<(Arc<dyn File>, u64)> {
        let is_shared = match self.contents {
            Contents::Mapped(mapping) => mapping.is_shared(),
            Contents::File => false,
        };
        (!is_shared).then_some((self.file, self.size))
    }
}

/// Gives back what a file without a name takes, the end first: all at once the system would be at it for tens of
/// milliseconds, in which nobody else gets the processor.
fn shrink(file: &dyn File, size: u64, mut pause: impl FnMut()) {
    let step = SHRINK_SIZE_MAX.min(size.div_ceil(SHRINK_COUNT_MIN)).max(1);
    let mut left = size;
    while left > step {
        left -= step;
        // What cannot be given back now is when the file is closed.
        let _ = file.set_size(left);
        pause();
    }
}

/// Where a file lies that can become a segment, made under this number.
fn spare_path(folder: &Path, ticket: u64) -> PathBuf {
    folder.join(format!("spare-{ticket}.{UNFINISHED}"))
}

fn map(file: &dyn File) -> std::io::Result<Contents> {
    file.map().map(Contents::Mapped)
}

/// Reads and checks the header at the beginning of a segment.
fn read_header(path: &Path, file: &dyn File, engine_id: u128) -> Result<SegmentHeader> {
    let failed = |cause| Error::io("opening", path, cause);
    let size = file.size().map_err(failed)?;
    if size < SEGMENT_HEADER_SIZE {
        return Err(damaged(path, 0, "the file is shorter than a segment's header".into()));
    }
    let mut bytes = [0; HEADER_SIZE];
    read_exact(file, &mut bytes, 0).map_err(failed)?;
    let header = SegmentHeader::decode(&bytes, engine_id)
        .map_err(|what| damaged(path, 0, what.to_string()))?;
    // Every place of the file has an LSN.
    if header.base.0.checked_add(size).is_none() {
        return Err(damaged(path, 0, BadHeader::Numbers.to_string()));
    }
    Ok(header)
}

/// An error for damage in a file of the log.
pub(crate) fn damaged(path: &Path, offset: u64, what: String) -> Error {
    Error::Damaged {
        file: path.to_path_buf(),
        offset,
        what,
        next_step: "nothing was changed; `marconi log repair --plan FOLDER` shows what can be kept",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum;
    use crate::env::OsDisk;
    use crate::log::frame::{HEAD_SIZE, Head, Kind};
    use crate::log::scan::Scanner;
    use std::os::unix::fs::MetadataExt;

    /// The header of a first segment in a file of this size.
    fn header_of(size: u64) -> SegmentHeader {
        SegmentHeader {
            engine_id: 1,
            number: 1,
            last_number: 1,
            generation: 0,
            base: Lsn(0),
            span: size - SEGMENT_HEADER_SIZE,
            created_ms: 0,
            after_checkpoint: 0,
        }
    }

    #[test]
    fn a_retired_segment_is_let_go_of_in_parts_and_kept_unless_somebody_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let size = 4 << 20;
        let header = header_of(size);
        #[derive(PartialEq)]
        enum Reader {
            Nobody,
            Here,
            Elsewhere,
        }
        // Whether it was kept, and how many pauses there were.
        let retire = |reader: Reader, is_wanted: bool| {
            let prepared = Segment::prepare(&OsDisk, folder, size, 0, || usize::MAX);
            let prepared = prepared.expect("room");
            let segment = Segment::start(&OsDisk, folder, &prepared, header).expect("a segment");
            segment.write_at(b"a body", 5000).expect("writes");
            let body = (reader == Reader::Here).then(|| segment.slice(5000, 6).expect("a body"));
            let elsewhere = (reader == Reader::Elsewhere)
                .then(|| Segment::open_to_look(&OsDisk, &segment.path, 1).expect("a segment"));
            let mut pauses = 0;
            let reuse = is_wanted.then(|| (size, folder.join("spare")));
            let spare = Segment::retire(Arc::new(segment), &OsDisk, reuse, || pauses += 1);
            let body = body.or(elsewhere.map(|looked| looked.slice(5000, 6).expect("is there")));
            assert!(body.is_none_or(|body| &body[..] == b"a body"));
            (spare.expect("its files can be moved").is_some(), pauses)
        };
        let (is_kept, unmapping) = retire(Reader::Nobody, true);
        assert!(is_kept && unmapping > 1, "the whole map goes at once, which holds up everybody");
        let all = unmapping + size / SHRINK_SIZE_MAX - 1;
        assert_eq!(
            retire(Reader::Nobody, false),
            (false, all),
            "nor is its room given back at once"
        );
        let why = "what somebody reads would be written anew, or taken from under his eyes";
        for is_wanted in [true, false] {
            assert_eq!(retire(Reader::Here, is_wanted), (false, unmapping), "{why}");
            assert_eq!(retire(Reader::Elsewhere, is_wanted), (false, unmapping), "{why}");
        }
    }

    #[test]
    fn a_whole_frame_of_another_segment_is_none_of_a_rewritten_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let header =
            SegmentHeader { generation: 1, base: Lsn(1000), span: 500, ..header_of(1 << 20) };
        let path = folder.path().join(header.file_name());
        let file = OsDisk.create(&path).expect("a file");
        file.write_at(&header.encode(), 0).expect("writes");
        for (lsn, is_its) in [(999, false), (1000, true), (1499, true), (1500, false)] {
            let head = Head {
                length: HEAD_SIZE as u32,
                lsn: Lsn(lsn),
                at_ms: 1,
                queue: 1,
                seq: 1,
                behind: 0,
                kind: Kind::Released,
            };
            let frame = head.encode(checksum::begin());
            file.write_at(&frame, SEGMENT_HEADER_SIZE).expect("writes");
            let segment = Segment::open(&OsDisk, &path, 1).expect("a segment");
            assert_eq!(segment.check_frame(SEGMENT_HEADER_SIZE as u32).is_ok(), is_its, "{lsn}");
            assert_eq!(Scanner::new(&segment).next_frame().is_some(), is_its, "{lsn}");
        }
    }

    #[test]
    fn a_file_that_cannot_become_a_segment_is_given_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let (size, header) = (1 << 20, header_of(1 << 20));
        let prepared = Segment::prepare(&OsDisk, folder.path(), size, 0, || usize::MAX);
        let prepared = prepared.expect("room");
        // In the way of its name.
        std::fs::create_dir(folder.path().join(header.file_name())).expect("a folder");
        Segment::start(&OsDisk, folder.path(), &prepared, header).expect_err("the name is taken");
        assert!(!prepared.exists(), "it takes room, and nobody knows of it");
    }

    #[test]
    fn a_reserved_file_reads_as_zeros_and_has_its_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let size = 1 << 20;
        let reserved = Segment::reserve(&OsDisk, folder.path(), size, 3).expect("there is room");
        let Some(path) = reserved else {
            // This file system cannot: nothing is left behind.
            assert_eq!(OsDisk.list(folder.path()).expect("a folder").len(), 0);
            return;
        };
        assert_eq!(std::fs::read(&path).expect("it is there"), vec![0; size as usize]);
        assert!(std::fs::metadata(&path).expect("it is there").blocks() * 512 >= size);
    }
}
