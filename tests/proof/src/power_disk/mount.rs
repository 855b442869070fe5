//! A [`PowerDisk`] as a file system that programs can use, by way of FUSE. Everything goes straight to the disk: the
//! system writes nothing back later, and maps see what is written. Decides nothing about faults.

use super::{Look, Number, PowerDisk, ROOT, Refusal};
use anyhow::Context;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use rustix::mount::UnmountFlags;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// How long the system may remember names and sizes: nobody changes them but through it.
const REMEMBERED: Duration = Duration::from_secs(60);
/// What is said to be free, in blocks.
const FREE_BLOCKS: u64 = 1 << 24;
const BLOCK_SIZE: u32 = 4096;

/// How long it may still be used before it is unmounted, and the pause between two tries. A process that is just being
/// started has, for a moment, what the one has open that starts it.
const USED_MAX: Duration = Duration::from_secs(10);
const USED_PAUSE: Duration = Duration::from_millis(2);

/// A disk that is mounted. Unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    disk: Arc<Mutex<PowerDisk>>,
    folder: PathBuf,
    session: Option<BackgroundSession>,
}

impl Mounted {
    /// Mounts a disk on a folder.
    ///
    /// # Errors
    /// When this process may not.
    pub fn new(disk: PowerDisk, folder: &Path) -> anyhow::Result<Mounted> {
        let disk = Arc::new(Mutex::new(disk));
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("marconi-proof".into()), MountOption::NoAtime];
        let session = fuser::spawn_mount(Served(disk.clone()), folder, &config)
            .with_context(|| format!("mount a FUSE file system on {}", folder.display()))?;
        Ok(Mounted { disk, folder: folder.to_path_buf(), session: Some(session) })
    }

    /// The disk, between two of its calls.
    pub fn disk(&self) -> MutexGuard<'_, PowerDisk> {
        lock(&self.disk)
    }

    /// Unmounts it, which no process may use any more, and gives the disk back.
    ///
    /// # Errors
    /// When it stays in use.
    pub fn unmount(mut self) -> anyhow::Result<PowerDisk> {
        if let Some(session) = self.session.take() {
            let started = Instant::now();
            let mut unmounted = rustix::mount::unmount(&self.folder, UnmountFlags::empty());
            while unmounted == Err(rustix::io::Errno::BUSY) && started.elapsed() < USED_MAX {
                thread::park_timeout(USED_PAUSE);
                unmounted = rustix::mount::unmount(&self.folder, UnmountFlags::empty());
            }
            // Where this process may not, the session knows who may.
            let ended = if unmounted.is_ok() { session.join() } else { session.umount_and_join() };
            ended.context("unmount the file system")?;
        }
        Ok(std::mem::take(&mut *lock(&self.disk)))
    }
}

fn lock(disk: &Mutex<PowerDisk>) -> MutexGuard<'_, PowerDisk> {
    // A panic of a test is told by itself.
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Served(Arc<Mutex<PowerDisk>>);

impl Served {
    fn disk(&self) -> MutexGuard<'_, PowerDisk> {
        lock(&self.0)
    }
}

fn code(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::Missing => Errno::ENOENT,
        Refusal::Unfit => Errno::EINVAL,
        Refusal::Dead => Errno::EIO,
    }
}

fn attributes(request: &Request, look: Look) -> FileAttr {
    let (kind, perm) = match look.size {
        Some(_) => (FileType::RegularFile, 0o644),
        None => (FileType::Directory, 0o755),
    };
    let size = look.size.unwrap_or(0);
    FileAttr {
        ino: INodeNo(look.number),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: request.uid(),
        gid: request.gid(),
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

fn entry(request: &Request, outcome: Result<Look, Refusal>, reply: ReplyEntry) {
    match outcome {
        Ok(look) => reply.entry(&REMEMBERED, &attributes(request, look), Generation(0)),
        Err(refusal) => reply.error(code(refusal)),
    }
}

fn empty(outcome: Result<(), Refusal>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(refusal) => reply.error(code(refusal)),
    }
}

impl Filesystem for Served {
    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(request, self.disk().find(parent.0, name), reply);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.disk().look(ino.0) {
            Ok(look) => reply.attr(&REMEMBERED, &attributes(request, look)),
            Err(refusal) => reply.error(code(refusal)),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk();
        // Times and rights are not kept: nothing here depends on them.
        let outcome = size.map_or(Ok(()), |size| disk.resize(ino.0, size));
        match outcome.and_then(|()| disk.look(ino.0)) {
            Ok(look) => reply.attr(&REMEMBERED, &attributes(request, look)),
            Err(refusal) => reply.error(code(refusal)),
        }
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        entry(request, self.disk().make(parent.0, name, true), reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.disk().make(parent.0, name, false) {
            Ok(look) => reply.created(
                &REMEMBERED,
                &attributes(request, look),
                Generation(0),
                FileHandle(0),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(refusal) => reply.error(code(refusal)),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.disk().remove(parent.0, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.disk().remove(parent.0, name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if parent != newparent || !flags.is_empty() {
            // Two folders have two orders of changes, and no promise here binds them together.
            reply.error(Errno::EXDEV);
        } else {
            empty(self.disk().rename(parent.0, name, newname), reply);
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk().read(ino.0, offset, size as usize) {
            Ok(bytes) => reply.data(bytes),
            Err(refusal) => reply.error(code(refusal)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk().write(ino.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(refusal) => reply.error(code(refusal)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Closing a file makes nothing durable.
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.disk().sync(ino.0), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.disk().sync(ino.0), reply);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let folder = |number: Number| Look { number, size: None };
        match self.disk().list(ino.0) {
            Ok(names) => {
                let dots = [(".".into(), folder(ino.0)), ("..".into(), folder(ROOT))];
                let names = dots.into_iter().chain(names);
                for (next, (name, look)) in (1..).zip(names).skip(offset as usize) {
                    let kind = if look.size.is_some() {
                        FileType::RegularFile
                    } else {
                        FileType::Directory
                    };
                    if reply.add(INodeNo(look.number), next, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(refusal) => reply.error(code(refusal)),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (blocks, files) = (FREE_BLOCKS * 2, 1 << 20);
        reply.statfs(blocks, FREE_BLOCKS, FREE_BLOCKS, files, files, BLOCK_SIZE, 255, BLOCK_SIZE);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let mut disk = self.disk();
        let size = disk.look(ino.0).map(|look| look.size.unwrap_or(0));
        let end = offset + length;
        let outcome =
            size.and_then(|size| if end > size { disk.resize(ino.0, end) } else { Ok(()) });
        empty(outcome, reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::PathBuf;

    /// Works on a new disk in a mounted folder, cuts the power, and looks at what the cuts of many seeds leave.
    /// Where mounting is not allowed, nothing is looked at.
    fn after_a_cut(work: impl Fn(&Path), look: impl Fn(&Path)) {
        for seed in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let Ok(mounted) = Mounted::new(PowerDisk::default(), folder.path()) else {
                return;
            };
            work(folder.path());
            mounted.disk().fail();
            assert!(fs::write(folder.path().join("late"), "x").is_err(), "there is no power");
            let disk = mounted.unmount().expect("nobody uses it").cut(&mut Random::new(seed));
            let mounted = Mounted::new(disk, folder.path()).expect("as before");
            look(folder.path());
            mounted.unmount().expect("nobody uses it");
        }
    }

    #[test]
    fn who_uses_it_a_moment_longer_is_waited_for() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let Ok(mounted) = Mounted::new(PowerDisk::default(), folder.path()) else {
                return;
            };
            let file = File::create(folder.path().join("one")).expect("a file");
            let (go, going) = std::sync::mpsc::channel();
            let user = thread::spawn(move || {
                going.recv().expect("it is told");
                drop(file);
            });
            go.send(()).expect("it listens");
            mounted.unmount().expect("it is used no more");
            user.join().expect("it ended");
        }
    }

    use crate::random::Random;

    fn write_synced(path: PathBuf, bytes: &[u8]) {
        let mut file = File::create(path).expect("a file");
        file.write_all(bytes).expect("written");
        file.sync_data().expect("synced");
    }

    fn sync_folder(folder: &Path) {
        File::open(folder).and_then(|folder| folder.sync_all()).expect("synced");
    }

    #[test]
    fn what_was_synced_with_its_name_lasts() {
        let bytes = vec![7; 300_000];
        let work = |folder: &Path| {
            fs::create_dir(folder.join("in")).expect("a folder");
            sync_folder(folder);
            write_synced(folder.join("in/one"), &bytes);
            fs::rename(folder.join("in/one"), folder.join("in/two")).expect("renamed");
            sync_folder(&folder.join("in"));
        };
        after_a_cut(work, |folder| {
            assert!(fs::read(folder.join("in/two")).expect("it is there") == bytes);
            assert!(!folder.join("in/one").exists() && !folder.join("late").exists());
        });
    }

    #[test]
    fn a_map_sees_what_is_written() {
        let work = |folder: &Path| {
            use std::os::unix::fs::FileExt;
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(true);
            let file = options.open(folder.join("one")).expect("a file");
            file.set_len(8192).expect("longer");
            let mut found = [0; 4];
            file.read_exact_at(&mut found, 5000).expect("zeros");
            file.write_all_at(b"mine", 5000).expect("written");
            file.read_exact_at(&mut found, 5000).expect("read");
            assert_eq!(&found, b"mine");
        };
        after_a_cut(work, |_| {});
    }
}
