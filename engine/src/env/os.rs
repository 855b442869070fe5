//! The real file system. The only home of mapped memory, and so of `unsafe`, besides
//! `files/archive.rs`. Knows nothing of frames or queues.
//!
//! Why mapping is sound here. A `Bytes` over a map promises that its bytes do not change while
//! somebody looks at them. Three rules keep that promise:
//!
//! * Maps are read-only; bytes get into files by `pwrite` alone, and what was once written below the
//!   `written` watermark is never written again while a map of it is held. Readers slice only below
//!   that watermark, so nobody looks at bytes that are still to be written.
//! * A file is recycled (written anew from the start) only when [`Mapping::is_shared`] says that no
//!   slice of its map is left, and the map itself has been dropped.
//! * No file is cut while it is mapped. One process at a time has the folder (see [`OsDisk::lock`]);
//!   a stranger who truncates a file under a running server ends it with SIGBUS, which
//!   `docs/operating.md` says.

use super::{Disk, File, Mapping};
use bytes::Bytes;
use memmap2::Mmap;
use std::fmt::Debug;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The system's files.
#[derive(Debug, Clone, Copy)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(OsFile(file)))
    }

    fn create_to_fill(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        #[cfg(target_os = "linux")]
        {
            let direct = rustix::fs::OFlags::DIRECT.bits();
            match options.clone().custom_flags(direct.cast_signed()).open(path) {
                Ok(file) => return Ok(Arc::new(OsFile(file))),
                // Not every file system can.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Arc::new(OsFile(options.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OsFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::File::open(path)?;
        // Says that somebody reads it. Where that cannot be said, it may be given another use meanwhile.
        let _ = file.try_lock_shared();
        Ok(Arc::new(OsFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        fs::File::open(folder)?.sync_all()
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Debug + Send + Sync>> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.write_all(holder.as_bytes())?;
        Ok(Box::new(file))
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>> {
        let mut file = match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let stat = rustix::fs::fstat(&file)?;
        let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        let place = format!(" {major:02x}:{minor:02x}:{} ", stat.st_ino);
        let is_held = match fs::read_to_string("/proc/locks") {
            Ok(locks) => {
                locks.lines().any(|line| line.contains(" FLOCK ") && line.contains(&place))
            }
            // Where the system does not tell, a look for a moment is the only way.
            Err(_) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        };
        if !is_held {
            return Ok(None);
        }
        let mut holder = String::new();
        file.read_to_string(&mut holder)?;
        Ok(Some(holder.trim().to_owned()))
    }
}

/// Asks the scheduler to run this thread before others: everybody waits for a commit, and on busy
/// cores the thread would otherwise wait for its turn longer than for the disk. Refused without the
/// right to (`LimitNICE`, `CAP_SYS_NICE`), which costs speed and nothing else.
pub(crate) fn ask_for_priority() {
    const NICENESS: i32 = -10;
    set_niceness(NICENESS);
}

/// Asks the scheduler to let other threads go first: what this one does can wait, and a request cannot.
pub(crate) fn give_way() {
    const NICENESS: i32 = 10;
    set_niceness(NICENESS);
}

fn set_niceness(niceness: i32) {
    // On Linux it is a property of the thread that asks; under a schedule that is the one thread of all.
    if !cfg!(shuttle) {
        let _ = rustix::process::setpriority_process(None, niceness);
    }
}

#[derive(Debug)]
struct OsFile(fs::File);

impl File for OsFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn is_read_elsewhere(&self) -> bool {
        self.0.try_lock().is_err()
    }

    fn read_ahead(&self) {
        // A hint: where it is not taken, reading is slower and no more.
        let _ = rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::WillNeed);
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        use rustix::io::Errno;
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, size) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            done => Ok(done?),
        }
    }

    fn map(&self) -> io::Result<Mapping> {
        // SAFETY: The file is ours (the folder is locked), is not cut while mapped, and nobody
        // slices bytes of it that are still to be written: the rules at the top of this file.
        #[allow(unsafe_code, reason = "mapping a file is unsafe by nature; the rules are above")]
        let map = unsafe { Mmap::map(&self.0)? };
        let alive = Arc::new(());
        let owner = Owner { map, _alive: alive.clone() };
        Ok(Mapping { bytes: Bytes::from_owner(owner), alive, is_of_file: true })
    }
}

/// Unmaps the pages of a part of a file's read-only map, which begins at a page. Looked at again, they come back
/// from the file.
#[allow(unsafe_code, reason = "advice about memory is unsafe by nature; this one changes nothing")]
pub(super) fn let_go(part_of_map: &[u8]) {
    let (start, size) = (part_of_map.as_ptr().cast_mut().cast(), part_of_map.len());
    // SAFETY: The map is shared, read-only and of a file, so that this changes no byte of it: the caller
    // asks only for such a one (`Mapping::is_of_file`). Start and size are those of a slice that is alive.
    let advised = unsafe { rustix::mm::madvise(start, size, rustix::mm::Advice::LinuxDontNeed) };
    // It was for the sake of speed.
    let _ = advised;
}

/// What a slice of a mapped file keeps alive.
struct Owner {
    map: Mmap,
    _alive: Arc<()>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}
