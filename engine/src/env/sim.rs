//! A simulated disk: real files in a folder of its own, and a journal of what a power cut could still
//! take back. Knows nothing of what the files hold.
//!
//! # The fault model
//!
//! What a power cut ([`SimDisk::crash`]) may do:
//!
//! * *Writes* not followed by a sync of their file may be lost, all or some of them, earlier ones
//!   while later ones last, and each may be torn at any multiple of 512 bytes: [`Loss`] says how bad
//!   it gets. A sector of 512 bytes is old or new, never a mixture. The size of a file goes with the
//!   writes that changed it.
//! * *Names* (create, rename, remove, new folders) not followed by a sync of their folder may be
//!   undone; the newest first, so that what lasts in one folder is a prefix of what was done in it.
//!   A file's bytes do not belong to its name: a rename may be undone while writes made under the
//!   new name last. Syncing a file does not sync its name.
//! * A sync that *failed* leaves its writes at risk for good: a later sync of the same file that
//!   succeeds does not save them.
//!
//! What the disk may do while it runs: fail one write, one sync, or one change of any kind with `EIO`;
//! have no room ([`SimDisk::set_capacity`]: what would grow the files beyond it fails whole); refuse all
//! changes ([`SimDisk::set_read_only`]); go dead at the n-th change ([`SimDisk::stop_at`]). At rest, bits may
//! flip ([`SimDisk::flip`]).
//!
//! Out of scope: a sync that claims success and is not one, sectors that are torn within, reads that
//! fail or differ from one time to the next, damage to the names in a folder.
//!
//! # Determinism
//!
//! The seed decides what is lost. Given the same calls in the same order, two disks of one seed have the
//! same [`SimDisk::trace`] and the same bytes. No file is changed by a crash while somebody may have it
//! mapped: what is taken back goes into a new file of the same name.

use super::{Disk, File, Mapping, OsDisk};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Writes tear at multiples of this.
const SECTOR_SIZE: u64 = 512;

/// What a power cut does to that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it is lost.
    All,
    /// Each write lasts or not, by chance.
    Some,
    /// Each sector of each write lasts or not, by chance.
    Torn,
    /// The earlier writes are lost, the later ones last.
    Reordered,
}

impl Loss {
    /// Every kind.
    pub const ALL: [Loss; 4] = [Loss::All, Loss::Some, Loss::Torn, Loss::Reordered];
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
    root: Arc<tempfile::TempDir>,
}

#[derive(Debug)]
struct World {
    random: u64,
    /// What once had a name and may get it back.
    graves: PathBuf,
    names: BTreeMap<PathBuf, u64>,
    files: BTreeMap<u64, Inode>,
    /// Folder operations that were not synced, oldest first, each with its folder.
    steps: Vec<(PathBuf, Step)>,
    last_id: u64,
    /// Files opened before a crash are dead after it.
    power_cycles: u64,
    trace: Vec<String>,
    writes: u64,
    syncs: u64,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Inode {
    size: u64,
    unsynced: Vec<Write>,
}

#[derive(Debug)]
struct Write {
    /// Orders the writes of all files.
    at: usize,
    offset: u64,
    new: Vec<u8>,
    /// What was there; shorter than `new` where the file grew.
    old: Vec<u8>,
    /// The sizes before and after.
    sizes: (u64, u64),
    /// A sync failed: it is never safe any more.
    doomed: bool,
}

/// A change of names, with what undoing it takes.
#[derive(Debug)]
enum Step {
    Folder(PathBuf),
    Create { path: PathBuf, replaced: Option<u64> },
    Rename { from: PathBuf, to: PathBuf, replaced: Option<u64> },
    Remove { path: PathBuf, id: u64 },
}

#[derive(Debug, Default)]
struct Faults {
    change: Option<u64>,
    write: Option<u64>,
    sync: Option<u64>,
    stop: Option<u64>,
    capacity: Option<u64>,
    read_only: bool,
}

impl SimDisk {
    /// An empty disk.
    ///
    /// # Errors
    /// When the system has no room for a temporary folder.
    pub fn new(seed: u64) -> io::Result<SimDisk> {
        let root = tempfile::tempdir()?;
        let graves = root.path().join("graves");
        fs::create_dir(&graves)?;
        fs::create_dir(root.path().join("disk"))?;
        let world = World {
            random: seed,
            graves,
            names: BTreeMap::new(),
            files: BTreeMap::new(),
            steps: Vec::new(),
            last_id: 0,
            power_cycles: 0,
            trace: Vec::new(),
            writes: 0,
            syncs: 0,
            faults: Faults::default(),
        };
        Ok(SimDisk { world: Arc::new(Mutex::new(world)), root: Arc::new(root) })
    }

    /// The folder in which everything has to lie.
    pub fn root(&self) -> PathBuf {
        self.root.path().join("disk")
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every change so far, one line each.
    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.clone()
    }

    /// How many changes so far: writes, syncs, names.
    pub fn change_count(&self) -> u64 {
        self.lock().trace.len() as u64
    }

    /// Lets the `n`-th change from now (1 is the next) fail, once.
    pub fn fail_change(&self, n: u64) {
        let mut world = self.lock();
        world.faults.change = Some(world.trace.len() as u64 + n);
    }

    /// Lets the `n`-th write from now fail, once.
    pub fn fail_write(&self, n: u64) {
        let mut world = self.lock();
        world.faults.write = Some(world.writes + n);
    }

    /// Lets the `n`-th sync of a file from now fail, once.
    pub fn fail_sync(&self, n: u64) {
        let mut world = self.lock();
        world.faults.sync = Some(world.syncs + n);
    }

    /// Cuts the power at the `n`-th change from now: it and all that follow fail and change nothing.
    pub fn stop_at(&self, n: u64) {
        let mut world = self.lock();
        world.faults.stop = Some(world.trace.len() as u64 + n);
    }

    /// Whether the power was cut by [`SimDisk::stop_at`].
    pub fn is_stopped(&self) -> bool {
        let world = self.lock();
        world.faults.stop.is_some_and(|stop| world.trace.len() as u64 >= stop)
    }

    /// How many bytes all files together may have; `None` for no bound.
    pub fn set_capacity(&self, size: Option<u64>) {
        self.lock().faults.capacity = size;
    }

    /// Bytes that all files take.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used()
    }

    /// Refuses every change, or takes them again.
    pub fn set_read_only(&self, read_only: bool) {
        self.lock().faults.read_only = read_only;
    }

    /// Bit rot: flips the bits of `mask` in one byte of a file that nobody has open.
    ///
    /// # Errors
    /// When there is no such byte.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        let mut bytes = fs::read(path)?;
        let place = usize::try_from(offset).ok().and_then(|offset| bytes.get_mut(offset));
        *place.ok_or(io::ErrorKind::InvalidInput)? ^= mask;
        self.lock().replace(path, &bytes)
    }

    /// The power goes, and comes back: what was not synced is taken back as `loss` and the seed say.
    /// All faults are gone too. Files opened before are dead.
    ///
    /// # Errors
    /// When the real disk fails.
    pub fn crash(&self, loss: Loss) -> io::Result<()> {
        let mut world = self.lock();
        world.power_cycles += 1;
        world.faults = Faults::default();
        world.undo_names(loss)?;
        world.undo_writes(loss)?;
        world.trace.push(format!("crash {loss:?}"));
        Ok(())
    }
}

impl World {
    /// A number below `bound`: splitmix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound
    }

    fn used(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(|file| file.size).sum()
    }

    /// Every change comes by here: counts it, and refuses it where a fault says so.
    fn change(&mut self, verb: &str, path: &Path, detail: &str) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if self.faults.stop.is_some_and(|stop| self.trace.len() as u64 >= stop) {
            return Err(io::Error::other("the power was cut"));
        }
        if self.faults.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.trace.push(format!("{verb} {name}{detail}"));
        let count = self.trace.len() as u64;
        let (mut writes, mut syncs) = (0, 0);
        match verb {
            "write" => {
                self.writes += 1;
                writes = self.writes;
            }
            "sync" => {
                self.syncs += 1;
                syncs = self.syncs;
            }
            _ => {}
        }
        if self.faults.stop.is_some_and(|stop| count >= stop) {
            return Err(io::Error::other("the power was cut"));
        }
        let faults = &mut self.faults;
        for (fault, now) in
            [(&mut faults.change, count), (&mut faults.write, writes), (&mut faults.sync, syncs)]
        {
            if *fault == Some(now) {
                *fault = None;
                self.trace.last_mut().expect("it was just added").push_str(" failed");
                return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
            }
        }
        Ok(())
    }

    fn grave(&self, id: u64) -> PathBuf {
        self.graves.join(id.to_string())
    }

    /// Takes a name away; the file is kept for as long as the name may come back.
    fn bury(&mut self, path: &Path) -> io::Result<Option<u64>> {
        let Some(id) = self.names.remove(path) else { return Ok(None) };
        fs::rename(path, self.grave(id))?;
        Ok(Some(id))
    }

    fn dig_up(&mut self, path: &Path, id: u64) -> io::Result<()> {
        fs::rename(self.grave(id), path)?;
        self.names.insert(path.to_path_buf(), id);
        Ok(())
    }

    fn step(&mut self, path: &Path, step: Step) {
        self.steps.push((path.parent().unwrap_or(Path::new("")).to_path_buf(), step));
    }

    /// Undoes, in every folder, the steps behind a point that the seed chooses.
    fn undo_names(&mut self, loss: Loss) -> io::Result<()> {
        let steps = std::mem::take(&mut self.steps);
        let mut kept = BTreeMap::new();
        for (folder, _) in &steps {
            *kept.entry(folder.clone()).or_insert(0u64) += 1;
        }
        for count in kept.values_mut() {
            *count = if loss == Loss::All { 0 } else { self.below(*count + 1) };
        }
        let mut undone = Vec::new();
        for (folder, step) in steps {
            let left = kept.get_mut(&folder).expect("every folder was counted");
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => undone.push(step),
            }
        }
        for step in undone.into_iter().rev() {
            match step {
                Step::Folder(path) => {
                    self.names.retain(|name, _| !name.starts_with(&path));
                    fs::remove_dir_all(&path)?;
                }
                Step::Create { path, replaced } => {
                    self.bury(&path)?;
                    replaced.map(|id| self.dig_up(&path, id)).transpose()?;
                }
                Step::Rename { from, to, replaced } => {
                    if let Some(id) = self.bury(&to)? {
                        self.dig_up(&from, id)?;
                    }
                    replaced.map(|id| self.dig_up(&to, id)).transpose()?;
                }
                Step::Remove { path, id } => self.dig_up(&path, id)?,
            }
        }
        Ok(())
    }

    /// Gives every file the bytes that lasted.
    fn undo_writes(&mut self, loss: Loss) -> io::Result<()> {
        let pending = self.files.values().flat_map(|file| &file.unsynced).map(|write| write.at);
        let (first, last) = pending.fold((usize::MAX, 0), |(a, b), at| (a.min(at), b.max(at)));
        let turn = first.saturating_add(self.below(last.saturating_sub(first) as u64 + 2) as usize);
        for (path, id) in self.names.clone() {
            let Some(file) = self.files.get_mut(&id) else { continue };
            if file.unsynced.is_empty() {
                continue;
            }
            let writes = std::mem::take(&mut file.unsynced);
            let mut bytes = fs::read(&path)?;
            for write in writes.iter().rev() {
                put(&mut bytes, write.offset, &write.old);
                bytes.resize(write.sizes.0 as usize, 0);
            }
            for write in &writes {
                match loss {
                    Loss::All => {}
                    Loss::Some if self.below(2) == 0 => {}
                    Loss::Reordered if write.at < turn => {}
                    Loss::Some | Loss::Reordered => write.redo(&mut bytes, 0, write.new.len()),
                    Loss::Torn => {
                        let mut at = 0;
                        while at < write.new.len() {
                            let to_boundary =
                                SECTOR_SIZE - (write.offset + at as u64) % SECTOR_SIZE;
                            let end = write.new.len().min(at + to_boundary as usize);
                            if self.below(2) == 1 {
                                write.redo(&mut bytes, at, end);
                            }
                            at = end;
                        }
                    }
                }
            }
            self.replace(&path, &bytes)?;
        }
        Ok(())
    }

    /// Puts `bytes` into a new file of this name: the old one may be mapped.
    fn replace(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let aside = self.graves.join("aside");
        fs::write(&aside, bytes)?;
        fs::rename(&aside, path)?;
        if let Some(file) = self.names.get(path).and_then(|id| self.files.get_mut(id)) {
            file.size = bytes.len() as u64;
        }
        Ok(())
    }
}

impl Write {
    /// Does the part `from..to` of the write again.
    fn redo(&self, bytes: &mut Vec<u8>, from: usize, to: usize) {
        put(bytes, self.offset + from as u64, &self.new[from..to]);
        if self.new.is_empty() {
            bytes.resize(self.sizes.1 as usize, 0);
        }
    }
}

/// Writes into `bytes` as into a file.
fn put(bytes: &mut Vec<u8>, offset: u64, new: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + new.len());
    if !new.is_empty() {
        bytes.resize(bytes.len().max(end), 0);
        bytes[start..end].copy_from_slice(new);
    }
}

impl Disk for SimDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return OsDisk.create_folder(path);
        }
        let mut world = self.lock();
        world.change("folder", path, "")?;
        OsDisk.create_folder(path)?;
        world.step(path, Step::Folder(path.to_path_buf()));
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = OsDisk.list(folder)?;
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut world = self.lock();
        world.change("create", path, "")?;
        let replaced = world.bury(path)?;
        let file = OsDisk.create(path)?;
        world.last_id += 1;
        let id = world.last_id;
        world.names.insert(path.to_path_buf(), id);
        world.files.insert(id, Inode::default());
        world.step(path, Step::Create { path: path.to_path_buf(), replaced });
        self.handle(&world, path, id, file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let world = &mut *self.lock();
        let file = OsDisk.open(path)?;
        let id = match world.names.get(path) {
            Some(id) => *id,
            // It was put there behind the disk's back.
            None => {
                world.last_id += 1;
                let inode = Inode { size: file.size()?, unsynced: Vec::new() };
                world.files.insert(world.last_id, inode);
                world.names.insert(path.to_path_buf(), world.last_id);
                world.last_id
            }
        };
        self.handle(world, path, id, file)
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        OsDisk.open_to_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.lock();
        let detail = format!(" to {}", to.file_name().unwrap_or_default().to_string_lossy());
        world.change("rename", from, &detail)?;
        let id = *world.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        let replaced = world.bury(to)?;
        fs::rename(from, to)?;
        world.names.remove(from);
        world.names.insert(to.to_path_buf(), id);
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        world.step(&to.clone(), Step::Rename { from, to, replaced });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock();
        if !path.exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change("remove", path, "")?;
        match world.bury(path)? {
            Some(id) => world.step(path, Step::Remove { path: path.to_path_buf(), id }),
            None => fs::remove_file(path)?,
        }
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.change("sync-folder", folder, "")?;
        // What lost its name for good is gone.
        let (synced, rest) = std::mem::take(&mut world.steps)
            .into_iter()
            .partition::<Vec<_>, _>(|(of, _)| of == folder);
        world.steps = rest;
        for (_, step) in synced {
            let gone = match step {
                Step::Remove { id, .. } => Some(id),
                Step::Create { replaced, .. } | Step::Rename { replaced, .. } => replaced,
                Step::Folder(_) => None,
            };
            gone.map(|id| fs::remove_file(world.grave(id))).transpose()?;
        }
        Ok(())
    }

    fn free_bytes(&self, _folder: &Path) -> io::Result<u64> {
        let world = self.lock();
        Ok(world.faults.capacity.map_or(u64::MAX, |size| size.saturating_sub(world.used())))
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Debug + Send + Sync>> {
        if self.lock().faults.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        OsDisk.lock(path, holder)
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>> {
        OsDisk.lock_holder(path)
    }
}

impl SimDisk {
    fn handle(
        &self,
        world: &World,
        path: &Path,
        id: u64,
        file: Arc<dyn File>,
    ) -> io::Result<Arc<dyn File>> {
        let reader = fs::File::open(path)?;
        let (path, power_cycles) = (path.to_path_buf(), world.power_cycles);
        Ok(Arc::new(SimFile { disk: self.clone(), id, path, power_cycles, file, reader }))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    id: u64,
    /// The name it was opened under, for the trace.
    path: PathBuf,
    power_cycles: u64,
    file: Arc<dyn File>,
    reader: fs::File,
}

impl SimFile {
    fn change(&self, verb: &str, detail: &str) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.disk.lock();
        if world.power_cycles != self.power_cycles {
            return Err(io::Error::other("the file was opened before the power was cut"));
        }
        world.change(verb, &self.path, detail)?;
        Ok(world)
    }

    /// Notes a change of bytes or size, and refuses one that does not fit the disk.
    fn note(&self, world: &mut World, offset: u64, new: &[u8], size: u64) -> io::Result<()> {
        let used = world.used();
        let at = world.trace.len();
        let capacity = world.faults.capacity.unwrap_or(u64::MAX);
        let file = world.files.get_mut(&self.id).expect("files are never forgotten");
        if size > file.size && used + (size - file.size) > capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let old_end = if new.is_empty() { file.size } else { offset + new.len() as u64 };
        let old_size = old_end.min(file.size).saturating_sub(offset);
        let mut old = vec![0; old_size as usize];
        self.reader.read_exact_at(&mut old, offset)?;
        let (new, sizes) = (new.to_vec(), (file.size, size));
        file.unsynced.push(Write { at, offset, new, old, sizes, doomed: false });
        file.size = size;
        Ok(())
    }
}

impl File for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.change("write", &format!(" {offset}+{}", bytes.len()))?;
        let size = self.file.size()?.max(offset + bytes.len() as u64);
        if bytes.is_empty() {
            return Ok(());
        }
        self.note(&mut world, offset, bytes, size)?;
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let doom = |world: &mut World, failed: bool| {
            let file = world.files.get_mut(&self.id).expect("files are never forgotten");
            file.unsynced.retain(|write| failed || write.doomed);
            file.unsynced.iter_mut().for_each(|write| write.doomed |= failed);
        };
        match self.change("sync", "") {
            Ok(mut world) => {
                doom(&mut world, false);
                Ok(())
            }
            Err(error) => {
                doom(&mut self.disk.lock(), true);
                Err(error)
            }
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut world = self.change("resize", &format!(" {size}"))?;
        self.note(&mut world, size, &[], size)?;
        self.file.set_size(size)
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        self.set_size(size)
    }

    fn map(&self) -> io::Result<Mapping> {
        self.file.map()
    }
}
