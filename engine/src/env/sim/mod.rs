//! A simulated disk: real files in a folder of its own, and beside them what a power cut would leave of them. Knows
//! nothing of what the files hold.
//!
//! What a power cut may do stands in `platter.rs`. What the disk may do while it runs ([`Fault`]): fail, once or for
//! ever, at the n-th change or look of a kind, with `EIO`, `ENOSPC` or after half of a write;
//! have no room ([`SimDisk::set_capacity`]: what would grow the files beyond it is refused, but for the part of a write
//! that fits); take no new names ([`SimDisk::set_out_of_names`]); refuse all changes ([`SimDisk::set_read_only`]); go dead at the n-th change ([`SimDisk::stop_at`]). At rest, bits may flip ([`SimDisk::flip`]).
//!
//! # Determinism
//!
//! The seed decides what is lost. Given the same calls in the same order, two disks of one seed have the same
//! [`SimDisk::trace`] and the same bytes. No file is changed by a crash while somebody may have it mapped: what is
//! taken back goes into a new file of the same name.

mod fault;
mod platter;
mod site;
mod tape;

use super::{Disk, File, Mapping, OsDisk};
pub use fault::{Failure, Fault};
pub use platter::Loss;
use platter::{Image, Platter};
pub use site::Site;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
pub use tape::Verb;
use tape::{Data, Line, Op, name_of};

/// Where files are kept when it is there: in memory, since nothing here is ever to survive.
const MEMORY: &str = "/dev/shm";
/// Holes of this size are left in files.
const HOLE_SIZE: usize = 4096;

/// The disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
    root: Arc<tempfile::TempDir>,
}

#[derive(Debug, Default)]
struct World {
    random: u64,
    /// What would last.
    platter: Platter,
    /// The changes since the recording began, and the disk as it was then.
    recording: Option<(Platter, Vec<Op>)>,
    names: BTreeMap<PathBuf, u64>,
    sizes: BTreeMap<u64, u64>,
    last_id: u64,
    /// Files opened before a crash are dead after it.
    power_cycles: u64,
    trace: Vec<Line>,
    sites: Option<Vec<(Verb, Site)>>,
    faults: fault::Faults,
}

impl SimDisk {
    /// An empty disk.
    ///
    /// # Errors
    /// When the system has no room for a temporary folder.
    pub fn new(seed: u64) -> io::Result<SimDisk> {
        SimDisk::of(Image::default(), seed)
    }

    /// A disk that holds an image, all of it safe.
    fn of(image: Image, seed: u64) -> io::Result<SimDisk> {
        let memory = Path::new(MEMORY);
        let root =
            if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
        for folder in &image.folders {
            fs::create_dir(root.path().join(folder))?;
        }
        let mut world = World { random: seed, ..World::default() };
        for (path, (id, bytes)) in &image.files {
            write_sparse(&root.path().join(path), bytes)?;
            world.names.insert(path.clone(), *id);
            world.sizes.insert(*id, bytes.len() as u64);
            world.last_id = world.last_id.max(*id);
        }
        world.platter = Platter::of(image);
        Ok(SimDisk { world: Arc::new(Mutex::new(world)), root: Arc::new(root) })
    }

    /// The folder in which everything has to lie.
    pub fn root(&self) -> PathBuf {
        self.root.path().to_path_buf()
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A path as the tape has it.
    fn within(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.root.path()).unwrap_or(path).to_path_buf()
    }

    /// Every change so far, one line each.
    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.iter().map(Line::to_string).collect()
    }

    /// From now on notes the place in the engine of every change and every look.
    pub fn note_sites(&self) {
        self.lock().sites = Some(Vec::new());
    }

    /// What was asked for since [`SimDisk::note_sites`], in order, and where. Looks are counted by themselves: the
    /// n-th of them is the n-th `Read`, and the n-th of the others the n-th change.
    pub fn sites(&self) -> Vec<(Verb, Site)> {
        self.lock().sites.clone().unwrap_or_default()
    }

    /// How many changes so far: writes, syncs, names.
    pub fn change_count(&self) -> u64 {
        self.lock().trace.len() as u64
    }

    /// Lets something fail.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.inject(fault);
    }

    /// Lets the `n`-th change from now (1 is the next) fail, once.
    pub fn fail_change(&self, n: u64) {
        self.inject(Fault::nth(n));
    }

    /// Lets the `n`-th write from now fail, once.
    pub fn fail_write(&self, n: u64) {
        self.inject(Fault { verb: Some(Verb::Write), ..Fault::nth(n) });
    }

    /// Lets the `n`-th sync of a file from now fail, once.
    pub fn fail_sync(&self, n: u64) {
        self.inject(Fault { verb: Some(Verb::Sync), ..Fault::nth(n) });
    }

    /// Whether some injected fault has shown.
    pub fn has_failed(&self) -> bool {
        self.lock().faults.has_shown()
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

    /// Has no room for new files and new names, as when all inodes are taken, or has it again.
    pub fn set_out_of_names(&self, out_of_names: bool) {
        self.lock().faults.out_of_names = out_of_names;
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
        replace(path, &bytes)?;
        let mut world = self.lock();
        if let Some(id) = world.names.get(&self.within(path)).copied() {
            world.platter.replace(id, bytes);
        }
        Ok(())
    }

    /// Begins to keep every change, for [`SimDisk::player`].
    pub fn record(&self) {
        let mut world = self.lock();
        world.recording = Some((world.platter.clone(), Vec::new()));
    }

    /// How many changes were recorded.
    pub fn recorded(&self) -> usize {
        self.lock().recording.as_ref().map_or(0, |(_, ops)| ops.len())
    }

    /// Plays back what was recorded so far.
    pub fn player(&self) -> Player {
        let (platter, ops) = self.lock().recording.clone().unwrap_or_default();
        Player { platter, ops, position: 0, left_out: BTreeSet::new() }
    }

    /// The power goes, and comes back: what was not synced is taken back as `loss` and the seed say.
    /// All faults are gone too. Files opened before are dead.
    ///
    /// # Errors
    /// When the real disk fails.
    pub fn crash(&self, loss: Loss) -> io::Result<()> {
        let world = &mut *self.lock();
        world.power_cycles += 1;
        world.faults = fault::Faults::default();
        world.recording = None;
        let mut random = world.random;
        let image = world.platter.after_power_cut(loss, &mut |bound| below(&mut random, bound));
        world.random = random;
        for path in world.names.keys().filter(|path| !image.files.contains_key(*path)) {
            fs::remove_file(self.root.path().join(path))?;
        }
        for path in world.platter.folders_at_risk().filter(|path| !image.folders.contains(*path)) {
            let path = self.root.path().join(path);
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            }
        }
        for (path, (id, bytes)) in &image.files {
            // What is as it was may have been harmed behind the disk's back, and stays so.
            if world.names.get(path) != Some(id) || world.platter.is_pending(*id) {
                replace(&self.root.path().join(path), bytes)?;
            }
            world.sizes.insert(*id, bytes.len() as u64);
        }
        world.names = image.files.iter().map(|(path, (id, _))| (path.clone(), *id)).collect();
        world.platter = Platter::of(image);
        world.note(Verb::Crash, String::new(), format!("{loss:?}"));
        Ok(())
    }
}

/// Plays back a recording, from its beginning to any point.
#[derive(Debug)]
pub struct Player {
    platter: Platter,
    ops: Vec<Op>,
    position: usize,
    left_out: BTreeSet<usize>,
}

impl Player {
    /// The places of all syncs, of files and of folders, among the recorded changes.
    pub fn syncs(&self) -> Vec<usize> {
        let is_sync = |op: &Op| matches!(op, Op::Sync { .. } | Op::SyncFolder(_));
        self.ops.iter().enumerate().filter(|(_, op)| is_sync(op)).map(|(at, _)| at).collect()
    }

    /// Has these changes, counted from 0, never have happened: of use for syncs alone, which nobody can tell
    /// from those that were made.
    pub fn leave_out(&mut self, positions: &BTreeSet<usize>) {
        self.left_out = positions.clone();
    }

    /// Goes on to the point after the first `position` changes; never back.
    pub fn advance_to(&mut self, position: usize) {
        let position = position.min(self.ops.len());
        for at in self.position..position {
            if !self.left_out.contains(&at) {
                self.platter.take(&self.ops[at]);
            }
        }
        self.position = self.position.max(position);
    }

    /// A disk that holds what a power cut at this point leaves, as `loss` and the seed say.
    ///
    /// # Errors
    /// When the real disk fails.
    pub fn power_cut(&self, loss: Loss, seed: u64) -> io::Result<SimDisk> {
        let mut random = seed;
        let image = self.platter.after_power_cut(loss, &mut |bound| below(&mut random, bound));
        SimDisk::of(image, random)
    }
}

/// A number below `bound`: splitmix64.
fn below(random: &mut u64, bound: u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *random;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word ^ (word >> 31)) % bound
}

/// Writes a file, leaving out what is zero.
fn write_sparse(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = fs::File::create(path)?;
    file.set_len(bytes.len() as u64)?;
    for (number, block) in bytes.chunks(HOLE_SIZE).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, (number * HOLE_SIZE) as u64)?;
        }
    }
    Ok(())
}

/// Puts `bytes` into a new file of this name: the old one may be mapped.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => write_sparse(path, bytes),
    }
}

impl World {
    fn used(&self) -> u64 {
        self.names.values().filter_map(|id| self.sizes.get(id)).sum()
    }

    fn note(&mut self, verb: Verb, name: String, detail: String) {
        self.trace.push(Line { verb, name, detail, failed: false });
        self.note_site(verb);
    }

    fn note_site(&mut self, verb: Verb) {
        if let Some(sites) = &mut self.sites {
            sites.push((verb, Site::here()));
        }
    }

    /// Every look comes by here.
    fn look(&mut self) -> io::Result<()> {
        self.note_site(Verb::Read);
        self.faults.check(Verb::Read).map_err(Failure::error)
    }

    /// Every change comes by here: counts it, and refuses it where a fault says so.
    fn change(&mut self, verb: Verb, path: &Path, detail: String) -> io::Result<()> {
        if self.faults.stop.is_some_and(|stop| self.trace.len() as u64 >= stop) {
            return Err(io::Error::other("the power was cut"));
        }
        if self.faults.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if self.faults.out_of_names && matches!(verb, Verb::Create | Verb::Rename | Verb::Folder) {
            return Err(Failure::NoSpace.error());
        }
        self.note(verb, name_of(path), detail);
        if self.faults.stop.is_some_and(|stop| self.trace.len() as u64 >= stop) {
            return Err(io::Error::other("the power was cut"));
        }
        self.faults.check(verb).map_err(|failure| {
            self.trace.last_mut().expect("it was just added").failed = true;
            failure.error()
        })
    }

    /// Notes a change that was made.
    fn done(&mut self, op: Op) {
        self.platter.take(&op);
        if let Some((_, ops)) = &mut self.recording {
            ops.push(op);
        }
    }

    /// Bytes by which files may grow.
    fn room(&self) -> u64 {
        self.faults.capacity.map_or(u64::MAX, |size| size.saturating_sub(self.used()))
    }

    /// Refuses a change of size that does not fit the disk.
    fn grow(&mut self, id: u64, size: u64) -> io::Result<()> {
        let old = self.sizes.get(&id).copied().unwrap_or(0);
        if size > old && size - old > self.room() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.sizes.insert(id, size);
        Ok(())
    }
}

impl Disk for SimDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return OsDisk.create_folder(path);
        }
        let mut world = self.lock();
        world.change(Verb::Folder, path, String::new())?;
        OsDisk.create_folder(path)?;
        world.done(Op::Folder(self.within(path)));
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.lock().look()?;
        let mut names = OsDisk.list(folder)?;
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut world = self.lock();
        world.change(Verb::Create, path, String::new())?;
        // Whoever has the old file mapped keeps it.
        let _ = fs::remove_file(path);
        let file = OsDisk.create(path)?;
        world.last_id += 1;
        let id = world.last_id;
        world.names.insert(self.within(path), id);
        world.sizes.insert(id, 0);
        world.done(Op::Create { path: self.within(path), id });
        Ok(self.handle(&world, path, id, file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let world = &mut *self.lock();
        world.look()?;
        let file = OsDisk.open(path)?;
        let id = match world.names.get(&self.within(path)) {
            Some(id) => *id,
            // It was put there behind the disk's back.
            None => {
                world.last_id += 1;
                let id = world.last_id;
                world.names.insert(self.within(path), id);
                world.sizes.insert(id, file.size()?);
                world.platter.adopt(self.within(path), id, fs::read(path)?);
                id
            }
        };
        Ok(self.handle(world, path, id, file))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.lock().look()?;
        OsDisk.open_to_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.change(Verb::Rename, from, format!(" to {}", name_of(to)))?;
        fs::rename(from, to)?;
        let (from, to) = (self.within(from), self.within(to));
        if let Some(id) = world.names.remove(&from) {
            world.names.insert(to.clone(), id);
        }
        world.done(Op::Rename { from, to });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock();
        if !path.exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change(Verb::Remove, path, String::new())?;
        fs::remove_file(path)?;
        world.names.remove(&self.within(path));
        world.done(Op::Remove(self.within(path)));
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.change(Verb::SyncFolder, folder, String::new())?;
        world.done(Op::SyncFolder(self.within(folder)));
        Ok(())
    }

    fn free_bytes(&self, _folder: &Path) -> io::Result<u64> {
        Ok(self.lock().room())
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
    fn handle(&self, world: &World, path: &Path, id: u64, file: Arc<dyn File>) -> Arc<dyn File> {
        let (path, power_cycles) = (path.to_path_buf(), world.power_cycles);
        Arc::new(SimFile { disk: self.clone(), id, path, power_cycles, file })
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
}

impl SimFile {
    fn check_power(&self, world: &World) -> io::Result<()> {
        if world.power_cycles == self.power_cycles {
            return Ok(());
        }
        Err(io::Error::other("the file was opened before the power was cut"))
    }

    fn write(&self, world: &mut World, bytes: &[u8], offset: u64) -> io::Result<()> {
        let old = self.file.size()?;
        let grown = world.grow(self.id, old.max(offset + bytes.len() as u64));
        let bytes = match &grown {
            Ok(()) => bytes,
            // As file systems do: what fits is written, and the rest refused.
            Err(_) => {
                let end = old.max(offset) + world.room();
                let fits = usize::try_from(end - offset).unwrap_or(usize::MAX).min(bytes.len());
                &bytes[..fits]
            }
        };
        if !bytes.is_empty() {
            world.sizes.insert(self.id, old.max(offset + bytes.len() as u64));
            self.file.write_at(bytes, offset)?;
            world.done(Op::Write { id: self.id, offset, data: Data::of(bytes) });
        }
        grown
    }
}

impl File for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.lock();
        self.check_power(&world)?;
        let asked = world.change(Verb::Write, &self.path, format!(" {offset}+{}", bytes.len()));
        if bytes.is_empty() {
            return asked;
        }
        if asked.is_err() && world.faults.was_short() {
            // A part of it is there; the caller learns of a failure.
            self.write(&mut world, &bytes[..bytes.len() / 2], offset)?;
        }
        asked?;
        self.write(&mut world, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.lock();
        self.check_power(&world)?;
        let asked = world.change(Verb::Sync, &self.path, String::new());
        world.done(Op::Sync { id: self.id, failed: asked.is_err() });
        asked
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.lock().look()?;
        self.file.read_at(buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut world = self.disk.lock();
        self.check_power(&world)?;
        world.change(Verb::Resize, &self.path, format!(" {size}"))?;
        world.grow(self.id, size)?;
        self.file.set_size(size)?;
        world.done(Op::Resize { id: self.id, size });
        Ok(())
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        self.set_size(size)
    }

    fn map(&self) -> io::Result<Mapping> {
        self.disk.lock().look()?;
        self.file.map()
    }
}
