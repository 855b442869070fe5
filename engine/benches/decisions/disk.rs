//! Files to measure on, the device below them, and maps of files.
use memmap2::{Mmap, MmapMut};
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate, major, minor};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;
/// What direct I/O is aligned to: a block of the file system, a page of the cache.
pub(crate) const BLOCK: usize = 4 * KIB;

/// The bytes of the largest group that is written, aligned for direct writes.
#[repr(align(4096))]
pub(crate) struct Group(pub(crate) [u8; 64 * KIB]);

pub(crate) static GROUP: Group = Group([7; 64 * KIB]);

/// A folder inside the build's own, removed with the value.
pub(crate) fn scratch() -> io::Result<TempDir> {
    std::fs::create_dir_all(env!("CARGO_TARGET_TMPDIR"))?;
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
}

/// What a file holds before it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// Nothing: every write extends it.
    Growing,
    /// Extents, not yet written.
    Reserved,
    /// Zeros, written in pieces of so many bytes.
    Zeroed { piece: usize },
}

/// Makes the file anew, synced, and opens it with `flags`.
pub(crate) fn make(path: &Path, made: Made, size: usize, flags: OFlags) -> io::Result<File> {
    let file = File::create(path)?;
    match made {
        Made::Growing => {}
        Made::Reserved => fallocate(&file, FallocateFlags::empty(), 0, size as u64)?,
        Made::Zeroed { piece } => fill(&file, size, piece)?,
    }
    file.sync_all()?;
    let flags = flags.bits() as i32;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// Writes zeros over the whole file; syncs nothing.
pub(crate) fn fill(file: &File, size: usize, piece: usize) -> io::Result<()> {
    let zeros = vec![0; piece];
    (0..size / piece).try_for_each(|index| file.write_all_at(&zeros, (index * piece) as u64))
}

/// Takes a file that is synced, and not mapped, out of the page cache.
pub(crate) fn evict(file: &File) -> io::Result<()> {
    file.sync_all()?;
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}

#[allow(unsafe_code, reason = "a map of a file can change under the reader")]
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: The file lies in our own scratch folder and is never cut while it is mapped. A map of
    // the log's tail does see new bytes; those are only ever copied out after they were written.
    unsafe { Mmap::map(file) }
}

#[allow(unsafe_code, reason = "a map of a file can change under the writer")]
pub(crate) fn map_mut(file: &File) -> io::Result<MmapMut> {
    // SAFETY: The file lies in our own scratch folder, is never cut while it is mapped, and nobody
    // else writes to it meanwhile.
    unsafe { MmapMut::map_mut(file) }
}

/// Counts what the device below a folder writes, for whomever.
pub(crate) struct Meter {
    stat: PathBuf,
}

impl Meter {
    pub(crate) fn new(folder: &Path) -> io::Result<Meter> {
        let device = std::fs::metadata(folder)?.dev();
        let name = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
        Ok(Meter { stat: name.into() })
    }

    /// KiB written since the machine started; 0 where the device keeps no count.
    pub(crate) fn written_kib(&self) -> f64 {
        let text = std::fs::read_to_string(&self.stat).unwrap_or_default();
        let sectors = text.split_ascii_whitespace().nth(6).and_then(|word| word.parse().ok());
        sectors.unwrap_or(0.0) / 2.0
    }
}
