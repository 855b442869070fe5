//! The seam to the outside world: files, folders, sync, the time of day.
//! Everything the engine asks of the world goes through the two traits here, so that a test can
//! stand a simulated disk or a clock of its own behind it. Knows nothing of what is stored.

use bytes::Bytes;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

mod clock;
mod gentle;
mod os;
#[cfg(feature = "sim")]
pub mod sim;

pub use clock::{Clock, ManualClock, SystemClock};
pub use os::OsDisk;
pub(crate) use os::{ask_for_priority, give_way};

/// The world an engine runs in.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Where files are kept.
    pub disk: Arc<dyn Disk>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Who works in the background.
    pub background: Background,
}

/// Who does the work that no verb waits for: commits, the next segment, indexes, checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Background {
    /// Threads of the engine.
    #[default]
    Threads,
    /// The caller. A wait for an answer writes and syncs; [`crate::Engine::prepare`] and
    /// [`crate::Engine::care`] do the rest. One thread is all there is, so what happens is decided by what it
    /// calls. For tests that are to go the same way twice.
    Caller,
}

impl Environment {
    /// The real one: the system's files and its clock.
    pub fn system() -> Environment {
        Environment {
            disk: Arc::new(OsDisk),
            clock: Arc::new(SystemClock::new()),
            background: Background::Threads,
        }
    }

    /// The same world, in which it is `latest_ms` at the least: whose clock was put back goes on from there at
    /// the clock's pace.
    pub(crate) fn no_earlier_than(mut self, latest_ms: u64) -> Environment {
        let by_ms = latest_ms.saturating_sub(self.clock.now_ms());
        if by_ms > 0 {
            self.clock = Arc::new(clock::AheadClock { of: self.clock, by_ms });
        }
        self
    }

    /// The same world, read with pauses: for a look beside an engine that works on the same files.
    pub(crate) fn gentle(self) -> Environment {
        Environment { disk: Arc::new(gentle::GentleDisk(self.disk)), ..self }
    }
}

/// A file system, as far as the engine uses one.
pub trait Disk: Send + Sync + Debug {
    /// Makes a folder, if it is not there. Its parent has to be.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Makes an empty file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// As [`Disk::create`], for a file that is written once in large pieces and not read soon: the pieces
    /// are multiples of 4 KiB, in size, place and in memory.
    fn create_to_fill(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.create(path)
    }
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file that is only looked at, perhaps beside the process that writes it.
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, replacing what had it. Durable once the folder is synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. What is mapped of it stays readable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Bytes that can still be written where this folder lies.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;
    /// Takes the lock that this file stands for, and writes `holder` into it. Refused with
    /// `WouldBlock` while another process, or another engine of this one, has it.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Debug + Send + Sync>>;
    /// What the process that has this lock wrote into it; `None` when nobody has it. Taking the lock is
    /// never tried: whoever starts meanwhile would be refused it.
    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>>;
}

/// An open file.
pub trait File: Send + Sync + Debug {
    /// Writes all of `bytes` at `offset`. Not durable until synced.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes durable all that was written before, and the file's size.
    fn sync(&self) -> io::Result<()>;
    /// Reads bytes at `offset` into `buffer`, as many as are there at once; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Whether somebody else, in whatever process, may be reading it by way of [`Disk::open_to_read`]. Once that is denied
    /// nobody can say so any more until the file is closed.
    fn is_read_elsewhere(&self) -> bool {
        false
    }
    /// Says that all of it is about to be read, from front to back: the system may begin with it.
    fn read_ahead(&self) {}
    /// The size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts the file, or lengthens it with zeros. Never called on a file that is mapped.
    fn set_size(&self, size: u64) -> io::Result<()>;
    /// Lengthens the file to `size` with zeros whose room on the disk is taken already. Fails with
    /// `Unsupported` where the file system cannot, and the file is as it was.
    fn reserve(&self, size: u64) -> io::Result<()> {
        let _ = size;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The file's bytes, as far as it now reaches, without copying them. Bytes written later with
    /// [`File::write_at`] within that reach are seen.
    fn map(&self) -> io::Result<Mapping>;
}

/// A whole file as memory.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// The bytes; slices of them keep the mapping alive.
    pub bytes: Bytes,
    /// Counts who holds the mapping: two strong references are this struct's and the mapping's own.
    alive: Arc<()>,
    /// Whether the bytes are those of a file, and not of the program's own memory.
    is_of_file: bool,
}

/// A file that is made beside the log is written and synced in pieces of this size: a disk is busy with one for
/// no longer than with a few syncs of the log, which would wait for all that is written and not synced.
pub(crate) const PIECE_SIZE: usize = 256 << 10;

/// Bytes whose pages are let go of together.
const LET_GO_SIZE: usize = 512 << 10;

impl Mapping {
    /// Bytes that are in memory already.
    pub(crate) fn of(bytes: Bytes) -> Mapping {
        Mapping { bytes, alive: Arc::new(()), is_of_file: false }
    }

    /// Has the system forget which pages of the file are in this process, a few at a time, with `pause`
    /// called in between: to unmap a large file at once takes tens of milliseconds, in which no other
    /// thread gets a page mapped. The bytes stay what they are.
    pub(crate) fn let_go(&self, mut pause: impl FnMut()) {
        if self.is_of_file {
            for piece in self.bytes.chunks(LET_GO_SIZE) {
                os::let_go(piece);
                pause();
            }
        }
    }

    /// Whether a slice of the bytes is held anywhere besides this struct.
    pub fn is_shared(self) -> bool {
        let Mapping { bytes, alive, .. } = self;
        drop(bytes);
        Arc::strong_count(&alive) > 1
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Bytes of this map that have pages in this process, as the system tells.
    fn resident_size(map: &[u8]) -> usize {
        let start = format!("{:x}-", map.as_ptr().addr());
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("the system tells");
        let mut lines = maps.lines().skip_while(|line| !line.starts_with(&start));
        let size = lines.find_map(|line| line.strip_prefix("Rss:")).expect("it is mapped");
        let kib = size.trim_end_matches("kB").trim().parse::<usize>().expect("a number");
        kib << 10
    }

    #[test]
    fn pages_are_let_go_of_part_by_part_and_the_bytes_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = OsDisk.create(&folder.path().join("file")).expect("a file");
        let content: Vec<u8> = (0..3 * LET_GO_SIZE + 100).map(|at| (at / 4096) as u8).collect();
        file.write_at(&content, 0).expect("writes");
        let mapping = file.map().expect("a map");
        // Every page is looked at, and so is in this process.
        assert!(mapping.bytes == content);
        let mut sizes = vec![resident_size(&mapping.bytes)];
        mapping.let_go(|| sizes.push(resident_size(&mapping.bytes)));
        assert_eq!(sizes.len(), 1 + 4, "a pause after each part");
        assert!(sizes.is_sorted_by(|before, after| before > after), "{sizes:?}");
        assert_eq!(sizes[4], 0);
        assert!(mapping.bytes == content);
    }

    #[test]
    fn memory_that_is_not_of_a_file_is_never_let_go_of() {
        let memory = Bytes::from(vec![7; 2 * LET_GO_SIZE]);
        // From where a page begins: only there the system would take the advice, and the bytes with it.
        let start = memory.as_ptr().align_offset(4096);
        let mapping = Mapping::of(memory.slice(start..));
        mapping.let_go(|| panic!("there is nothing to do"));
        assert!(mapping.bytes.iter().all(|byte| *byte == 7));
    }
}
