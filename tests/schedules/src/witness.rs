//! A disk that bears witness: real files in a folder of their own, and what was written and what was synced when.
//! It fails where it is told to. Every call is a point where the schedule may go elsewhere. Knows nothing of
//! what the files hold.

use marconi_engine::env::{Disk, File, Mapping, OsDisk};
use shuttle::sync::atomic::{AtomicBool, Ordering};
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The disk. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    writes: Vec<Write>,
    last_file: u64,
    /// The n-th from now fails, once.
    failing_write: Option<u32>,
    failing_sync: Option<u32>,
}

#[derive(Debug)]
struct Write {
    file: u64,
    offset: u64,
    bytes: Vec<u8>,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A power cut may take it.
    Written,
    /// A sync that began after it has succeeded.
    Durable,
    /// A sync that began after it has failed: no later one saves it.
    Doomed,
}

impl Witness {
    /// Has the `n`-th write, and the `m`-th sync, from now on fail once.
    pub(crate) fn fail(&self, n: Option<u32>, m: Option<u32>) {
        let mut seen = self.seen();
        seen.failing_write = n;
        seen.failing_sync = m;
    }

    /// Whether the system has these bytes.
    pub(crate) fn has_written(&self, bytes: &[u8]) -> bool {
        self.place(bytes).is_some()
    }

    /// Whether stable storage has them.
    pub(crate) fn has_synced(&self, bytes: &[u8]) -> bool {
        let holds =
            |write: &Write| write.fate == Fate::Durable && find(&write.bytes, bytes).is_some();
        self.seen().writes.iter().any(holds)
    }

    /// In which file, counted as they were made, and where in it these bytes were written first.
    pub(crate) fn place(&self, bytes: &[u8]) -> Option<(u64, u64)> {
        let place = |write: &Write| {
            find(&write.bytes, bytes).map(|at| (write.file, write.offset + at as u64))
        };
        self.seen().writes.iter().find_map(place)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file that is opened again counts as another one: the engine writes and syncs through the same handle.
    fn watch(&self, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        let file = file?;
        let mut seen = self.seen();
        seen.last_file += 1;
        let number = seen.last_file;
        drop(seen);
        Ok(Arc::new(WatchedFile { file, number, witness: self.clone() }))
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Lets the schedule go elsewhere.
fn turn() {
    AtomicBool::new(false).load(Ordering::SeqCst);
}

fn is_hit(countdown: &mut Option<u32>) -> bool {
    match countdown {
        Some(1) => {
            *countdown = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

fn broken() -> io::Error {
    io::Error::other("the disk does not answer")
}

impl Disk for Witness {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_folder(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        OsDisk.list(folder)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        turn();
        self.watch(OsDisk.create(path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        turn();
        self.watch(OsDisk.open(path))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        OsDisk.open_to_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        turn();
        OsDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        turn();
        OsDisk.remove(path)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        turn();
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(1 << 40)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Debug + Send + Sync>> {
        OsDisk.lock(path, holder)
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>> {
        OsDisk.lock_holder(path)
    }
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn File>,
    number: u64,
    witness: Witness,
}

impl File for WatchedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        turn();
        if is_hit(&mut self.witness.seen().failing_write) {
            return Err(broken());
        }
        self.file.write_at(bytes, offset)?;
        // The zeros of a file being filled, and of a page's rest, hold nothing that is looked for.
        let size = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if size > 0 {
            let bytes = bytes[..size].to_vec();
            let write = Write { file: self.number, offset, bytes, fate: Fate::Written };
            self.witness.seen().writes.push(write);
        }
        turn();
        Ok(())
    }

    /// Covers what was written before it began. Nothing is really synced: no power is cut here.
    fn sync(&self) -> io::Result<()> {
        turn();
        let (count, fails) = {
            let mut seen = self.witness.seen();
            (seen.writes.len(), is_hit(&mut seen.failing_sync))
        };
        turn();
        let mut seen = self.witness.seen();
        let fate = if fails { Fate::Doomed } else { Fate::Durable };
        for write in &mut seen.writes[..count] {
            if write.file == self.number && write.fate == Fate::Written {
                write.fate = fate;
            }
        }
        drop(seen);
        if fails { Err(broken()) } else { Ok(()) }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_size(size)
    }

    fn map(&self) -> io::Result<Mapping> {
        self.file.map()
    }
}
