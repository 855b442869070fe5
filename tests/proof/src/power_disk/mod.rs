//! A disk that loses power: a file system in memory that remembers what was synced and what was not.
//!
//! The fault model. A write, a cut or lengthening of a file lasts once the file is synced (`fsync` and `fdatasync`
//! alike). A name made, changed or removed lasts once its folder is synced; a file's sync does nothing for its name.
//! When the power is cut, what was not synced meets a fate of its own in each file:
//!
//! * nothing of it lasts, or all of it;
//! * a prefix of the changes lasts, the last of them torn at a block;
//! * each block ends at any of its versions since the sync, whatever became of its neighbours, and so does the size.
//!   What lies in a file and was never written reads as zeros.
//!
//! A block is 512 or 4096 bytes for all of one cut, and never torn within. In each folder a prefix of its changes of
//! names lasts; a rename is one change. Nothing that was synced is ever harmed: a disk that lies, or rots, is not this
//! one. From the cut on every change and every sync fails, so that nothing is acknowledged that was forgotten.
//!
//! Knows nothing of mounting: see `mount.rs`.

pub mod mount;

use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

/// The number of the folder that is mounted.
pub const ROOT: u64 = 1;

/// A file or folder's number.
pub type Number = u64;

/// All of it.
#[derive(Debug)]
pub struct PowerDisk {
    nodes: BTreeMap<Number, Node>,
    next: Number,
    /// Changes and syncs so far.
    steps: u64,
    /// The step that fails, and all after it.
    cut_at: Option<u64>,
}

#[derive(Debug)]
enum Node {
    File(File),
    Folder(Folder),
}

#[derive(Debug, Default)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize { size: usize },
}

#[derive(Debug, Default)]
struct Folder {
    now: BTreeMap<OsString, Number>,
    synced: BTreeMap<OsString, Number>,
    since: Vec<NameChange>,
}

/// What one change makes of names: each is another file's from then on, or nobody's.
type NameChange = Vec<(OsString, Option<Number>)>;

/// Why something is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such thing.
    Missing,
    /// A folder where a file is wanted, or the other way round, or one that is not empty.
    Unfit,
    /// The power is cut.
    Dead,
}

/// What a file or folder is, to those who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Its number.
    pub number: Number,
    /// Bytes; `None` for a folder.
    pub size: Option<u64>,
}

impl Default for PowerDisk {
    fn default() -> PowerDisk {
        let nodes = BTreeMap::from([(ROOT, Node::Folder(Folder::default()))]);
        PowerDisk { nodes, next: ROOT + 1, steps: 0, cut_at: None }
    }
}

impl PowerDisk {
    /// Has the power fail at the `number`-th change or sync from now on; `None` for not by itself.
    pub fn fail_at(&mut self, number: Option<u64>) {
        self.cut_at = number.map(|number| self.steps + number);
    }

    /// Has the power fail now.
    pub fn fail(&mut self) {
        self.cut_at = Some(self.steps);
    }

    /// Whether the power has failed.
    pub fn is_dead(&self) -> bool {
        self.cut_at.is_some_and(|at| self.steps >= at)
    }

    /// Counts a change or a sync, unless the power fails at it.
    fn step(&mut self) -> Result<(), Refusal> {
        if self.is_dead() {
            return Err(Refusal::Dead);
        }
        self.steps += 1;
        if self.is_dead() { Err(Refusal::Dead) } else { Ok(()) }
    }

    /// What is left when the power comes back. Whatever was not synced meets its fate.
    pub fn cut(mut self, random: &mut Random) -> PowerDisk {
        let block_size = if random.one_in(2) { 512 } else { 4096 };
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.cut(block_size, random),
                Node::Folder(folder) => folder.cut(random),
            }
        }
        // What no name leads to is gone.
        let mut reached = BTreeSet::from([ROOT]);
        let mut ahead = vec![ROOT];
        while let Some(number) = ahead.pop() {
            if let Some(Node::Folder(folder)) = self.nodes.get(&number) {
                ahead.extend(folder.now.values().filter(|child| reached.insert(**child)));
            }
        }
        self.nodes.retain(|number, _| reached.contains(number));
        self.cut_at = None;
        self
    }

    /// What has this name in a folder.
    ///
    /// # Errors
    /// `Missing`, `Unfit`.
    pub fn find(&self, folder: Number, name: &OsStr) -> Result<Look, Refusal> {
        let number = self.folder(folder)?.now.get(name).ok_or(Refusal::Missing)?;
        self.look(*number)
    }

    /// What has this number.
    ///
    /// # Errors
    /// `Missing`.
    pub fn look(&self, number: Number) -> Result<Look, Refusal> {
        let size = match self.nodes.get(&number).ok_or(Refusal::Missing)? {
            Node::File(file) => Some(file.now.len() as u64),
            Node::Folder(_) => None,
        };
        Ok(Look { number, size })
    }

    /// The names in a folder.
    ///
    /// # Errors
    /// `Missing`, `Unfit`.
    pub fn list(&self, folder: Number) -> Result<Vec<(OsString, Look)>, Refusal> {
        let names = self.folder(folder)?.now.iter();
        names.map(|(name, number)| Ok((name.clone(), self.look(*number)?))).collect()
    }

    /// Up to `size` bytes of a file.
    ///
    /// # Errors
    /// `Missing`, `Unfit`.
    pub fn read(&self, number: Number, at: u64, size: usize) -> Result<&[u8], Refusal> {
        let Some(Node::File(file)) = self.nodes.get(&number) else { return Err(Refusal::Missing) };
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(file.now.len());
        Ok(&file.now[from..from.saturating_add(size).min(file.now.len())])
    }

    /// Makes an empty file or a folder; what had the name loses it.
    ///
    /// # Errors
    /// `Missing`, `Unfit`, `Dead`.
    pub fn make(&mut self, folder: Number, name: &OsStr, is_folder: bool) -> Result<Look, Refusal> {
        self.step()?;
        let number = self.next;
        self.folder_mut(folder)?.change(vec![(name.to_owned(), Some(number))]);
        self.next += 1;
        let node =
            if is_folder { Node::Folder(Folder::default()) } else { Node::File(File::default()) };
        self.nodes.insert(number, node);
        self.look(number)
    }

    /// Takes a name away. What is open stays readable.
    ///
    /// # Errors
    /// `Missing`, `Unfit` for a folder that is not empty, `Dead`.
    pub fn remove(&mut self, folder: Number, name: &OsStr) -> Result<(), Refusal> {
        self.step()?;
        let found = self.find(folder, name)?;
        if found.size.is_none() && !self.folder(found.number)?.now.is_empty() {
            return Err(Refusal::Unfit);
        }
        self.folder_mut(folder)?.change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    /// Gives another name within a folder; what had it loses it.
    ///
    /// # Errors
    /// `Missing`, `Unfit`, `Dead`.
    pub fn rename(&mut self, folder: Number, from: &OsStr, to: &OsStr) -> Result<(), Refusal> {
        self.step()?;
        let found = self.find(folder, from)?;
        let change = vec![(from.to_owned(), None), (to.to_owned(), Some(found.number))];
        self.folder_mut(folder)?.change(change);
        Ok(())
    }

    /// Writes into a file.
    ///
    /// # Errors
    /// `Missing`, `Unfit`, `Dead`.
    pub fn write(&mut self, number: Number, at: u64, bytes: &[u8]) -> Result<(), Refusal> {
        self.step()?;
        let at = usize::try_from(at).map_err(|_| Refusal::Unfit)?;
        self.file_mut(number)?.change(Change::Write { at, bytes: bytes.to_vec() });
        Ok(())
    }

    /// Cuts a file, or lengthens it with zeros.
    ///
    /// # Errors
    /// `Missing`, `Unfit`, `Dead`.
    pub fn resize(&mut self, number: Number, size: u64) -> Result<(), Refusal> {
        self.step()?;
        let size = usize::try_from(size).map_err(|_| Refusal::Unfit)?;
        self.file_mut(number)?.change(Change::Resize { size });
        Ok(())
    }

    /// Makes durable what is in a file, or the names in a folder.
    ///
    /// # Errors
    /// `Missing`, `Dead`.
    pub fn sync(&mut self, number: Number) -> Result<(), Refusal> {
        self.step()?;
        match self.nodes.get_mut(&number).ok_or(Refusal::Missing)? {
            Node::File(file) => {
                for change in std::mem::take(&mut file.since) {
                    change.apply(&mut file.synced);
                }
            }
            Node::Folder(folder) => {
                folder.synced.clone_from(&folder.now);
                folder.since.clear();
            }
        }
        Ok(())
    }

    fn folder(&self, number: Number) -> Result<&Folder, Refusal> {
        match self.nodes.get(&number) {
            Some(Node::Folder(folder)) => Ok(folder),
            Some(Node::File(_)) => Err(Refusal::Unfit),
            None => Err(Refusal::Missing),
        }
    }

    fn folder_mut(&mut self, number: Number) -> Result<&mut Folder, Refusal> {
        match self.nodes.get_mut(&number) {
            Some(Node::Folder(folder)) => Ok(folder),
            Some(Node::File(_)) => Err(Refusal::Unfit),
            None => Err(Refusal::Missing),
        }
    }

    fn file_mut(&mut self, number: Number) -> Result<&mut File, Refusal> {
        match self.nodes.get_mut(&number) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Folder(_)) => Err(Refusal::Unfit),
            None => Err(Refusal::Missing),
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes: written } => {
                let end = at + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(written);
            }
            Change::Resize { size } => bytes.resize(*size, 0),
        }
    }

    /// The part of a write that lies in its first `blocks` blocks.
    fn torn(&self, blocks: usize, block_size: usize) -> Change {
        match self {
            Change::Write { at, bytes } => {
                let end = (at / block_size + blocks) * block_size;
                let kept = end.saturating_sub(*at).min(bytes.len());
                Change::Write { at: *at, bytes: bytes[..kept].to_vec() }
            }
            Change::Resize { size } => Change::Resize { size: *size },
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.since.push(change);
    }

    /// Decides what lasts.
    fn cut(&mut self, block_size: usize, random: &mut Random) {
        let since = std::mem::take(&mut self.since);
        let mut left = std::mem::take(&mut self.synced);
        match random.below(if since.is_empty() { 1 } else { 5 }) {
            0 => {}
            1 => left.clone_from(&self.now),
            2 => {
                let whole = random.below(since.len() as u64) as usize;
                for change in &since[..whole] {
                    change.apply(&mut left);
                }
                let blocks = random.below(9) as usize;
                // None of its blocks: it does not even lengthen the file.
                if blocks > 0 {
                    since[whole].torn(blocks, block_size).apply(&mut left);
                }
            }
            _ => left = shuffled(&left, &since, block_size, random),
        }
        self.now.clone_from(&left);
        self.synced = left;
    }
}

/// Each block at any of its versions.
fn shuffled(synced: &[u8], since: &[Change], block_size: usize, random: &mut Random) -> Vec<u8> {
    // All versions of the whole are walked through once; a block is taken along while it has not reached its own.
    let mut version = synced.to_vec();
    let mut left = version.clone();
    let mut size = left.len();
    let last = since.len() as u64;
    // Few blocks keep an old version, or many do, by file.
    let odds = 1 + random.below(4);
    let mut fates: BTreeMap<usize, u64> = BTreeMap::new();
    let fate = |random: &mut Random| {
        if random.one_in(odds) { random.below(last + 1) } else { last }
    };
    let size_fate = fate(random);
    for (number, change) in (1..).zip(since) {
        let size_before = version.len();
        change.apply(&mut version);
        if number <= size_fate {
            size = version.len();
        }
        let touched = match change {
            Change::Write { at, bytes } => *at..at + bytes.len(),
            Change::Resize { size } => *size.min(&size_before)..size_before.max(*size),
        };
        if left.len() < version.len() {
            left.resize(version.len(), 0);
        }
        for block in touched.start / block_size..touched.end.div_ceil(block_size) {
            let ends_at = *fates.entry(block).or_insert_with(|| fate(random));
            let from = (block * block_size).min(version.len());
            let to = ((block + 1) * block_size).min(version.len());
            if number <= ends_at {
                left[from..to].copy_from_slice(&version[from..to]);
            }
        }
    }
    left.resize(size, 0);
    left
}

impl Folder {
    fn change(&mut self, change: NameChange) {
        apply_names(&mut self.now, &change);
        self.since.push(change);
    }

    /// Decides which names last.
    fn cut(&mut self, random: &mut Random) {
        let since = std::mem::take(&mut self.since);
        let lasting = random.below(since.len() as u64 + 1) as usize;
        for change in &since[..lasting] {
            apply_names(&mut self.synced, change);
        }
        self.now.clone_from(&self.synced);
    }
}

fn apply_names(names: &mut BTreeMap<OsString, Number>, change: &NameChange) {
    for (name, number) in change {
        match number {
            Some(number) => drop(names.insert(name.clone(), *number)),
            None => drop(names.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a file called `name` after the cuts of many seeds; `None` where there is no such name.
    fn after_cuts(name: &str, work: impl Fn(&mut PowerDisk)) -> BTreeSet<Option<Vec<u8>>> {
        let left = |seed| {
            let mut disk = PowerDisk::default();
            work(&mut disk);
            let disk = disk.cut(&mut Random::new(seed));
            let found = disk.find(ROOT, OsStr::new(name)).ok()?;
            Some(disk.read(found.number, 0, usize::MAX).expect("it is a file").to_vec())
        };
        (0..300).map(left).collect()
    }

    fn make(disk: &mut PowerDisk, name: &str) -> Number {
        disk.make(ROOT, OsStr::new(name), false).expect("the power is on").number
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_may_go() {
        let synced = after_cuts("a", |disk| {
            let file = make(disk, "a");
            disk.write(file, 0, b"old").expect("written");
            disk.sync(file).expect("synced");
            disk.sync(ROOT).expect("synced");
        });
        assert_eq!(synced, BTreeSet::from([Some(b"old".to_vec())]));
        let written = after_cuts("a", |disk| {
            let file = make(disk, "a");
            disk.sync(ROOT).expect("synced");
            disk.write(file, 0, b"new").expect("written");
        });
        // Without its bytes a size may last: zeros.
        let all = [b"".to_vec(), b"new".to_vec(), vec![0; 3]];
        assert_eq!(written, all.into_iter().map(Some).collect());
        let without_its_name = after_cuts("a", |disk| {
            let file = make(disk, "a");
            disk.write(file, 0, b"new").expect("written");
            disk.sync(file).expect("synced");
        });
        assert_eq!(without_its_name, BTreeSet::from([None, Some(b"new".to_vec())]));
    }

    #[test]
    fn a_rename_that_was_not_synced_may_be_undone_and_is_never_half_done() {
        let work = |disk: &mut PowerDisk| {
            for (name, bytes) in [("a", b"new"), ("b", b"old")] {
                let file = make(disk, name);
                disk.write(file, 0, bytes).expect("written");
                disk.sync(file).expect("synced");
            }
            disk.sync(ROOT).expect("synced");
            disk.rename(ROOT, OsStr::new("a"), OsStr::new("b")).expect("renamed");
        };
        let both = BTreeSet::from([Some(b"new".to_vec()), Some(b"old".to_vec())]);
        assert_eq!(after_cuts("b", work), both);
        assert_eq!(after_cuts("a", work), BTreeSet::from([None, Some(b"new".to_vec())]));
    }

    #[test]
    fn blocks_are_forgotten_one_by_one_and_never_torn_within() {
        let left = after_cuts("a", |disk| {
            let file = make(disk, "a");
            disk.write(file, 0, &[b'0'; 1024]).expect("written");
            disk.sync(file).expect("synced");
            disk.sync(ROOT).expect("synced");
            disk.write(file, 0, &[b'1'; 600]).expect("written");
            disk.write(file, 600, &[b'2'; 424]).expect("written");
        });
        let firsts: BTreeSet<(u8, u8, u8)> = left
            .iter()
            .map(|bytes| {
                let bytes = bytes.as_deref().expect("its name was synced");
                assert!(bytes[..512].iter().all(|byte| *byte == bytes[0]), "torn within");
                assert!(bytes[600..].iter().all(|byte| *byte == bytes[600]), "torn within");
                (bytes[0], bytes[512], bytes[600])
            })
            .collect();
        // The second block has no version with the second write and without the first.
        let versions = [(b'0', b'0'), (b'1', b'0'), (b'1', b'2')];
        let all = [b'0', b'1'].into_iter().flat_map(|first| versions.map(|(a, b)| (first, a, b)));
        assert_eq!(firsts, all.collect());
    }

    #[test]
    fn from_the_cut_on_nothing_is_done() {
        let mut disk = PowerDisk::default();
        let file = make(&mut disk, "a");
        disk.fail_at(Some(2));
        assert_eq!(disk.write(file, 0, b"1"), Ok(()));
        assert_eq!(disk.sync(file), Err(Refusal::Dead));
        assert_eq!(disk.write(file, 0, b"2"), Err(Refusal::Dead));
        assert!(disk.is_dead());
        assert_eq!(disk.read(file, 0, 9), Ok(&b"1"[..]));
    }
}
