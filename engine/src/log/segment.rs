//! One segment file: made, recycled, opened, mapped, read. Its index and its count of live bytes.
//! Knows neither what frames mean nor which messages live.

use super::record::{self, BadMessage};
use crate::domain::Lsn;
use crate::env::{Disk, File, Mapping};
use crate::error::{Error, Result};
use crate::files::format::{BadHeader, SEGMENT_HEADER_SIZE, SegmentHeader, UNFINISHED};
use crate::files::segment_index::SegmentIndex;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Zeros are written, and synced, in pieces of this size: one sync of a whole segment would stand
/// before every commit that comes in meanwhile (`docs/decisions` has the measurement).
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// A segment of the log, open for reading for as long as anybody holds it.
#[derive(Debug)]
pub struct Segment {
    /// Its header.
    pub header: SegmentHeader,
    /// Its file.
    pub path: PathBuf,
    file: Arc<dyn File>,
    mapping: Mapping,
    size: u64,
    /// The LSN behind its last frame, once it is sealed; 0 before.
    sealed_end: AtomicU64,
    index: OnceLock<SegmentIndex>,
    live_count: AtomicI64,
    live_cost: AtomicI64,
    /// Something in it could not be read.
    damaged: AtomicBool,
}

impl Segment {
    /// Makes an empty file of `size` zeros under a name that says it is not in use. `breathe` is
    /// called between pieces, so that the disk's other work gets its turn.
    pub(crate) fn prepare(
        disk: &dyn Disk,
        folder: &Path,
        size: u64,
        ticket: u64,
        breathe: impl Fn(),
    ) -> Result<PathBuf> {
        let path = folder.join(format!("spare-{ticket}.{UNFINISHED}"));
        let fill = || -> std::io::Result<()> {
            let file = disk.create(&path)?;
            let mut at = 0;
            while at < size {
                let piece = ZEROS.len().min(usize::try_from(size - at).unwrap_or(usize::MAX));
                file.write_at(&ZEROS[..piece], at)?;
                file.sync()?;
                at += piece as u64;
                breathe();
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
        let file = start().map_err(|cause| Error::io("making", path.as_path(), cause))?;
        Segment::over(path, file, header)
    }

    /// Opens the segment in this file.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, engine_id: u128) -> Result<Segment> {
        let file = disk.open(path).map_err(|cause| Error::io("opening", path, cause))?;
        Segment::open_file(path, file, engine_id)
    }

    /// Opens the segment in this file, which lies at `path`.
    pub(crate) fn open_file(path: &Path, file: Arc<dyn File>, engine_id: u128) -> Result<Segment> {
        let failed = |cause| Error::io("opening", path, cause);
        if file.size().map_err(failed)? < SEGMENT_HEADER_SIZE {
            return Err(damaged(path, 0, "the file is shorter than a segment's header".into()));
        }
        let bytes = file.map().map_err(failed)?.bytes;
        let header = SegmentHeader::decode(&bytes, engine_id)
            .map_err(|what| damaged(path, 0, what.to_string()))?;
        // Every place of the file has an LSN.
        if header.base.0.checked_add(bytes.len() as u64).is_none() {
            return Err(damaged(path, 0, BadHeader::Numbers.to_string()));
        }
        drop(bytes);
        Segment::over(path.to_path_buf(), file, header)
    }

    fn over(path: PathBuf, file: Arc<dyn File>, header: SegmentHeader) -> Result<Segment> {
        let failed = |cause| Error::io("mapping", path.as_path(), cause);
        let size = file.size().map_err(failed)?;
        // Segments are written whole before they are used; only rewriting makes them smaller.
        let whole = header.span.saturating_add(SEGMENT_HEADER_SIZE);
        if header.generation == 0 && size != whole {
            let what = format!("the file has {size} bytes where {whole} were written");
            return Err(damaged(&path, size.min(whole), what));
        }
        let mapping = file.map().map_err(failed)?;
        Ok(Segment {
            header,
            path,
            file,
            mapping,
            size,
            sealed_end: AtomicU64::new(0),
            index: OnceLock::new(),
            live_count: AtomicI64::new(0),
            live_cost: AtomicI64::new(0),
            damaged: AtomicBool::new(false),
        })
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

    /// The first LSN behind all that this segment stands for.
    pub(crate) fn lsn_limit(&self) -> Lsn {
        Lsn(self.header.base.0 + self.header.span)
    }

    /// All of the file's bytes; for scans of segments that nobody appends to.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.mapping.bytes
    }

    /// Writes frames at `position`.
    pub(crate) fn write_at(&self, bytes: &[u8], position: u64) -> std::io::Result<()> {
        self.file.write_at(bytes, position)
    }

    /// Makes all frames written so far durable.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.file.sync()
    }

    /// Reads the body of the message whose record lies at `position` and takes `size` bytes, all of
    /// them below the `written` watermark. The body is a slice of the map.
    pub(crate) fn read_body(&self, position: u32, size: u32) -> Result<Bytes> {
        let start = position as usize;
        let end = start + size as usize;
        let record = self
            .mapping
            .bytes
            .get(start..end)
            .ok_or_else(|| damaged(&self.path, start as u64, BadMessage::Length.to_string()))?;
        let body = record::check_message(record)
            .map_err(|what| damaged(&self.path, start as u64, what.to_string()))?;
        Ok(self.mapping.bytes.slice(start + body.start..start + body.end))
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
    /// messages here any more; bodies still being sent keep their bytes.
    pub(crate) fn retire(
        segment: Arc<Segment>,
        disk: &dyn Disk,
        reuse: Option<(u64, PathBuf)>,
    ) -> Result<Option<PathBuf>> {
        let path = segment.path.clone();
        let failed = |cause| Error::io("removing", path.as_path(), cause);
        match disk.remove(&crate::files::format::index_path(&path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
        if let Some((size, spare)) = reuse
            && let Ok(owned) = Arc::try_unwrap(segment)
            && owned.size == size
        {
            let Segment { mapping, .. } = owned;
            if !mapping.is_shared() {
                disk.rename(&path, &spare).map_err(failed)?;
                return Ok(Some(spare));
            }
        }
        disk.remove(&path).map_err(failed)?;
        Ok(None)
    }
}

/// An error for damage in a file of the log.
pub(crate) fn damaged(path: &Path, offset: u64, what: String) -> Error {
    Error::Damaged {
        file: path.to_path_buf(),
        offset,
        what,
        next_step: "nothing was changed; keep a copy of the folder before any repair",
    }
}
