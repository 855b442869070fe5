//! A disk for those who look at a folder beside the engine that works on it: reading makes pauses, so that
//! the engine has disk and processors to itself most of the time. Changes nothing else; knows nothing of
//! what is stored.

use super::{Disk, File, Mapping};
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// It works so long at least before it rests.
const WORK: Duration = Duration::from_millis(1);
/// After working for a while it rests so many times as long.
const REST: u32 = 4;
/// It reads page by page, the last one first. The file is appended to meanwhile: read forwards, a page that
/// was not written yet could stand before one that was, like a hole in the log. It is also the most that the
/// system copies before it lets the engine have the processor.
const PAGE_SIZE: u64 = 4096;
/// It never rests longer at once.
const REST_MAX: Duration = Duration::from_millis(20);

/// Another disk, read with pauses.
#[derive(Debug)]
pub(super) struct GentleDisk(pub(super) Arc<dyn Disk>);

impl Disk for GentleDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.0.create_folder(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.0.list(folder)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.0.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.0.open(path)
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.0.open_to_read(path)?;
        Ok(Arc::new(GentleFile { file, worked_since: Mutex::default() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.0.sync_folder(folder)
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        self.0.free_bytes(folder)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.0.lock(path, holder)
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>> {
        self.0.lock_holder(path)
    }
}

#[derive(Debug)]
struct GentleFile {
    file: Arc<dyn File>,
    /// When the last rest was over; what was done since is work on what was read.
    worked_since: Mutex<Option<Instant>>,
}

impl File for GentleFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut since = self.worked_since.lock().unwrap_or_else(PoisonError::into_inner);
        let worked = since.get_or_insert_with(Instant::now).elapsed();
        if worked >= WORK {
            std::thread::sleep((worked * REST).min(REST_MAX));
            *since = Some(Instant::now());
        }
        drop(since);
        let mut end = buffer.len();
        while end > 0 {
            let last_page = (offset + end as u64 - 1) / PAGE_SIZE * PAGE_SIZE;
            let start = usize::try_from(last_page.saturating_sub(offset)).unwrap_or(0);
            if self.file.read_at(&mut buffer[start..end], offset + start as u64)? < end - start {
                // The file ends within: how far it goes is for its own answer to say.
                return self.file.read_at(buffer, offset);
            }
            end = start;
        }
        Ok(buffer.len())
    }

    fn is_read_elsewhere(&self) -> bool {
        self.file.is_read_elsewhere()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_size(size)
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        self.file.reserve(size)
    }

    fn map(&self) -> io::Result<Mapping> {
        self.file.map()
    }
}
