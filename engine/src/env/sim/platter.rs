//! What of a tape lasts: replays it to any point, and tells what a disk may hold after the power goes there.
//! Pure: touches no file.
//!
//! # The fault model
//!
//! * *Writes* not followed by a sync of their file may be lost, all or some of them, earlier ones while later ones
//!   last, in parts, or leave zeros or old bytes of other files where the file grew: [`Loss`] says which. Cutting a
//!   file or lengthening it counts as a write.
//! * *Names* (create, rename, remove, new folders) not followed by a sync of their folder may be undone, the newest
//!   first, so that what lasts in one folder is a prefix of what was done in it. A file's bytes do not belong to its
//!   name: a rename may be undone while writes made under the new name last. Syncing a file does not sync its name.
//! * A sector of 512 bytes is old or new, never a mixture.
//! * A sync that *failed* leaves its writes at risk for good: a later sync of the same file that succeeds does not
//!   save them.
//!
//! Out of scope: a sync that claims success and is not one, a disk that loses what was synced, damage to the names in
//! a folder.

use super::tape::{Data, Op};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A disk's unit of writing, in the weaker of the two models.
const SECTOR_SIZE: u64 = 512;
/// A page of the system's cache.
const BLOCK_SIZE: u64 = 4096;

/// What a power cut does to that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it is lost, names too.
    All,
    /// All bytes last, and no name.
    Names,
    /// The writes up to some point last, none behind it.
    Prefix,
    /// As `Prefix`, with the last one torn at any multiple of 512 bytes of the file.
    Cut,
    /// Each write lasts or not, by chance.
    Some,
    /// Each sector of 512 bytes of each write lasts or not, by chance.
    Torn,
    /// Each block of 4 KiB of each write lasts or not, by chance.
    Blocks,
    /// The earlier writes are lost, the later ones last.
    Reordered,
    /// As `Blocks`; and the sizes last, with zeros where the file grew and the bytes are lost.
    Zeros,
    /// As `Zeros`, with old bytes of another file in their place.
    Stale,
}

impl Loss {
    /// Every kind.
    pub const ALL: [Loss; 10] = [
        Loss::All,
        Loss::Names,
        Loss::Prefix,
        Loss::Cut,
        Loss::Some,
        Loss::Torn,
        Loss::Blocks,
        Loss::Reordered,
        Loss::Zeros,
        Loss::Stale,
    ];
}

/// The folders and files of a disk, with their bytes; paths count from its root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) folders: BTreeSet<PathBuf>,
    pub(crate) files: BTreeMap<PathBuf, (u64, Vec<u8>)>,
}

/// What is safe, and what was done since.
#[derive(Debug, Clone, Default)]
pub(crate) struct Platter {
    folders: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    files: BTreeMap<u64, SafeFile>,
    /// Changes of names that are not safe, oldest first.
    steps: Vec<Op>,
    change_count: u64,
}

/// A file as far as it is safe, and the changes of it that are not.
#[derive(Debug, Clone, Default)]
struct SafeFile {
    bytes: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
struct Pending {
    /// Orders the changes of all files.
    at: u64,
    change: Change,
    /// A sync failed: it is never safe any more.
    doomed: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: u64, data: Data },
    Resize(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { offset, data } => data.put(bytes, *offset, 0, data.size()),
            Change::Resize(size) => bytes.resize(*size as usize, 0),
        }
    }
}

impl Platter {
    /// A disk that holds this, all of it safe.
    pub(crate) fn of(image: Image) -> Platter {
        let mut platter = Platter { folders: image.folders, ..Platter::default() };
        for (path, (id, bytes)) in image.files {
            platter.names.insert(path, id);
            platter.files.insert(id, SafeFile { bytes, pending: Vec::new() });
        }
        platter
    }

    /// Takes in a file that came by another way, as safe.
    pub(crate) fn adopt(&mut self, path: PathBuf, id: u64, bytes: Vec<u8>) {
        self.names.insert(path, id);
        self.files.insert(id, SafeFile { bytes, pending: Vec::new() });
    }

    /// Gives a file other bytes, all of them safe.
    pub(crate) fn replace(&mut self, id: u64, bytes: Vec<u8>) {
        self.files.insert(id, SafeFile { bytes, pending: Vec::new() });
    }

    /// Whether a power cut could take something back from a file.
    pub(crate) fn is_pending(&self, id: u64) -> bool {
        self.files.get(&id).is_some_and(|file| !file.pending.is_empty())
    }

    /// Folders that a power cut could take back.
    pub(crate) fn folders_at_risk(&self) -> impl Iterator<Item = &PathBuf> {
        self.steps.iter().filter_map(|step| match step {
            Op::Folder(path) => Some(path),
            _ => None,
        })
    }

    /// Takes the next change of the tape.
    pub(crate) fn take(&mut self, op: &Op) {
        self.change_count += 1;
        let at = self.change_count;
        let mut pend = |id: &u64, change| {
            let file = self.files.entry(*id).or_default();
            file.pending.push(Pending { at, change, doomed: false });
        };
        match op {
            Op::Folder(_) | Op::Rename { .. } | Op::Remove(_) => self.steps.push(op.clone()),
            Op::Create { id, .. } => {
                self.files.entry(*id).or_default();
                self.steps.push(op.clone());
            }
            Op::Write { id, offset, data } => {
                pend(id, Change::Write { offset: *offset, data: data.clone() });
            }
            Op::Resize { id, size } => pend(id, Change::Resize(*size)),
            Op::Sync { id, failed: true } => {
                let file = self.files.entry(*id).or_default();
                file.pending.iter_mut().for_each(|pending| pending.doomed = true);
            }
            Op::Sync { id, failed: false } => {
                let file = self.files.entry(*id).or_default();
                let mut kept = Vec::new();
                for pending in std::mem::take(&mut file.pending) {
                    if pending.doomed {
                        kept.push(pending);
                    } else {
                        pending.change.apply(&mut file.bytes);
                    }
                }
                file.pending = kept;
            }
            Op::SyncFolder(folder) => {
                let (safe, rest): (Vec<Op>, Vec<Op>) = std::mem::take(&mut self.steps)
                    .into_iter()
                    .partition(|step| folder_of(step) == folder);
                self.steps = rest;
                for step in &safe {
                    rename(&mut self.folders, &mut self.names, step);
                }
                self.forget_the_nameless();
            }
        }
    }

    /// Drops files that no power cut can give a name again, but for a few: their old bytes may be found in others.
    fn forget_the_nameless(&mut self) {
        const KEPT_MAX: usize = 2;
        let mut named: BTreeSet<u64> = self.names.values().copied().collect();
        named.extend(self.steps.iter().filter_map(|step| match step {
            Op::Create { id, .. } => Some(*id),
            _ => None,
        }));
        let mut nameless: Vec<u64> =
            self.files.keys().copied().filter(|id| !named.contains(id)).collect();
        nameless.truncate(nameless.len().saturating_sub(KEPT_MAX));
        nameless.iter().for_each(|id| drop(self.files.remove(id)));
    }

    /// What the disk holds when the power goes now. `chance` gives a number below its argument.
    pub(crate) fn after_power_cut(&self, loss: Loss, chance: &mut dyn FnMut(u64) -> u64) -> Image {
        let mut image = Image { folders: self.folders.clone(), files: BTreeMap::new() };
        let mut names = self.names.clone();
        let mut left: BTreeMap<&Path, u64> = BTreeMap::new();
        for step in &self.steps {
            *left.entry(folder_of(step)).or_default() += 1;
        }
        for count in left.values_mut() {
            let lasts_nothing = matches!(loss, Loss::All | Loss::Names);
            *count = if lasts_nothing { 0 } else { chance(*count + 1) };
        }
        for step in &self.steps {
            let left = left.get_mut(folder_of(step)).expect("every folder was counted");
            if *left > 0 {
                *left -= 1;
                rename(&mut image.folders, &mut names, step);
            }
        }
        while let Some(orphan) =
            image.folders.iter().find(|path| !is_in(path, &image.folders)).cloned()
        {
            image.folders.remove(&orphan);
        }
        let turn = self.turn(chance);
        for (path, id) in names {
            // A folder that did not last took along what lay in it.
            if path
                .parent()
                .is_none_or(|folder| folder == Path::new("") || image.folders.contains(folder))
            {
                let bytes = self.bytes_after(id, loss, turn, chance);
                image.files.insert(path, (id, bytes));
            }
        }
        image
    }

    /// A point among the changes that are not safe.
    fn turn(&self, chance: &mut dyn FnMut(u64) -> u64) -> u64 {
        let pending = || self.files.values().flat_map(|file| &file.pending).map(|one| one.at);
        let (first, last) = (pending().min().unwrap_or(0), pending().max().unwrap_or(0));
        first + chance(last - first + 2)
    }

    fn bytes_after(
        &self,
        id: u64,
        loss: Loss,
        turn: u64,
        chance: &mut dyn FnMut(u64) -> u64,
    ) -> Vec<u8> {
        let Some(file) = self.files.get(&id) else { return Vec::new() };
        let mut bytes = file.bytes.clone();
        if let (Loss::Zeros | Loss::Stale, false) = (loss, file.pending.is_empty()) {
            let mut whole = bytes.clone();
            file.pending.iter().for_each(|pending| pending.change.apply(&mut whole));
            // What was cut off is gone in these outcomes.
            let safe_size = bytes.len().min(whole.len());
            bytes.resize(whole.len(), 0);
            if loss == Loss::Stale {
                let donor = self.files.iter().filter(|(other, _)| **other != id);
                let donors: Vec<&Vec<u8>> =
                    donors_of(donor.map(|(_, file)| &file.bytes), safe_size);
                if !donors.is_empty() {
                    let donor = donors[chance(donors.len() as u64) as usize];
                    let end = donor.len().min(bytes.len());
                    bytes[safe_size..end].copy_from_slice(&donor[safe_size..end]);
                }
            }
        }
        for pending in &file.pending {
            match &pending.change {
                Change::Write { offset, data } => {
                    put_what_lasts(&mut bytes, *offset, data, pending.at, loss, turn, chance);
                }
                Change::Resize(size) => {
                    let lasts = match loss {
                        Loss::All => false,
                        Loss::Names | Loss::Zeros | Loss::Stale => true,
                        Loss::Prefix | Loss::Cut => pending.at <= turn,
                        Loss::Reordered => pending.at >= turn,
                        Loss::Some | Loss::Torn | Loss::Blocks => chance(2) == 1,
                    };
                    if lasts {
                        bytes.resize(*size as usize, 0);
                    }
                }
            }
        }
        bytes
    }
}

/// Whether a path lies in a folder that is there.
fn is_in(path: &Path, folders: &BTreeSet<PathBuf>) -> bool {
    path.parent().is_none_or(|folder| folder == Path::new("") || folders.contains(folder))
}

fn donors_of<'a>(files: impl Iterator<Item = &'a Vec<u8>>, from: usize) -> Vec<&'a Vec<u8>> {
    files.filter(|bytes| bytes.len() > from).collect()
}

/// Does of a write what lasts of it.
fn put_what_lasts(
    bytes: &mut Vec<u8>,
    offset: u64,
    data: &Data,
    at: u64,
    loss: Loss,
    turn: u64,
    chance: &mut dyn FnMut(u64) -> u64,
) {
    let size = data.size();
    let unit = match loss {
        Loss::All => return,
        Loss::Names => size,
        Loss::Prefix if at > turn => return,
        Loss::Cut if at > turn => return,
        Loss::Cut if at == turn => {
            let end = (offset + chance(size + 1)) / SECTOR_SIZE * SECTOR_SIZE;
            data.put(bytes, offset, 0, end.saturating_sub(offset));
            return;
        }
        Loss::Reordered if at < turn => return,
        Loss::Prefix | Loss::Cut | Loss::Reordered => size,
        Loss::Some if chance(2) == 0 => return,
        Loss::Some => size,
        Loss::Torn => SECTOR_SIZE,
        Loss::Blocks | Loss::Zeros | Loss::Stale => BLOCK_SIZE,
    };
    if unit >= size && !matches!(loss, Loss::Torn | Loss::Blocks | Loss::Zeros | Loss::Stale) {
        data.put(bytes, offset, 0, size);
        return;
    }
    let mut from = 0;
    while from < size {
        let to = size.min(from + unit - (offset + from) % unit);
        if chance(2) == 1 {
            data.put(bytes, offset, from, to);
        }
        from = to;
    }
}

/// The folder whose sync makes a change of names safe.
fn folder_of(step: &Op) -> &Path {
    let path = match step {
        Op::Folder(path) | Op::Create { path, .. } | Op::Remove(path) => path,
        Op::Rename { to, .. } => to,
        Op::Write { .. } | Op::Resize { .. } | Op::Sync { .. } | Op::SyncFolder(_) => {
            unreachable!("no change of names")
        }
    };
    path.parent().unwrap_or(Path::new(""))
}

/// Does a change of names.
fn rename(folders: &mut BTreeSet<PathBuf>, names: &mut BTreeMap<PathBuf, u64>, step: &Op) {
    match step {
        Op::Folder(path) => {
            folders.insert(path.clone());
        }
        Op::Create { path, id } => {
            names.insert(path.clone(), *id);
        }
        Op::Rename { from, to } => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
        Op::Remove(path) => {
            names.remove(path);
        }
        Op::Write { .. } | Op::Resize { .. } | Op::Sync { .. } | Op::SyncFolder(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(id: u64, offset: u64, bytes: &[u8]) -> Op {
        Op::Write { id, offset, data: Data::of(bytes) }
    }

    /// A file of one folder, synced with its name; then two writes that are not.
    fn platter() -> Platter {
        let mut platter = Platter::default();
        let path = PathBuf::from("d/a");
        for op in [
            Op::Folder("d".into()),
            Op::SyncFolder("".into()),
            Op::Create { path, id: 1 },
            write(1, 0, &[1; 8192]),
            Op::Sync { id: 1, failed: false },
            Op::SyncFolder("d".into()),
            write(1, 0, &[2; 4096]),
            write(1, 4096, &[3; 8192]),
        ] {
            platter.take(&op);
        }
        platter
    }

    fn bytes(platter: &Platter, loss: Loss, number: u64) -> Option<Vec<u8>> {
        let image = platter.after_power_cut(loss, &mut |bound| number % bound);
        image.files.get(Path::new("d/a")).map(|(_, bytes)| bytes.clone())
    }

    #[test]
    fn each_kind_of_loss_leaves_what_it_says() {
        let platter = platter();
        let old = vec![1; 8192];
        let new = [vec![2; 4096], vec![3; 8192]].concat();
        assert_eq!(bytes(&platter, Loss::All, 0), Some(old.clone()));
        assert_eq!(bytes(&platter, Loss::Names, 0), Some(new.clone()));
        assert_eq!(bytes(&platter, Loss::Some, 0), Some(old.clone()));
        assert_eq!(bytes(&platter, Loss::Some, 1), Some(new.clone()));
        let first = [vec![2; 4096], vec![1; 4096]].concat();
        assert_eq!(bytes(&platter, Loss::Prefix, 0), Some(first));
        let last = [vec![1; 4096], vec![3; 8192]].concat();
        assert_eq!(bytes(&platter, Loss::Reordered, 1), Some(last));
        let grown = [vec![1; 8192], vec![0; 4096]].concat();
        assert_eq!(bytes(&platter, Loss::Zeros, 0), Some(grown));
        let cut = bytes(&platter, Loss::Cut, 100_000).expect("it is there");
        assert!(cut != old && cut != new, "the last of the writes is torn");
    }

    #[test]
    fn what_a_sync_failed_for_is_never_safe_and_the_rest_is() {
        let mut platter = platter();
        platter.take(&Op::Sync { id: 1, failed: true });
        platter.take(&write(1, 12_288, &[4; 10]));
        platter.take(&Op::Sync { id: 1, failed: false });
        let left = bytes(&platter, Loss::All, 0).expect("it is there");
        assert_eq!((left.len(), left[0], left[12_290]), (12_298, 1, 4));
    }

    #[test]
    fn names_last_up_to_a_point_unless_their_folder_was_synced() {
        let mut platter = platter();
        platter.take(&Op::Rename { from: "d/a".into(), to: "d/b".into() });
        platter.take(&Op::Create { path: "d/a".into(), id: 2 });
        let names = |platter: &Platter, number: u64| -> Vec<(PathBuf, u64)> {
            let image = platter.after_power_cut(Loss::Prefix, &mut |bound| number.min(bound - 1));
            image.files.iter().map(|(path, (id, _))| (path.clone(), *id)).collect()
        };
        assert_eq!(names(&platter, 0), [("d/a".into(), 1)]);
        assert_eq!(names(&platter, 1), [("d/b".into(), 1)]);
        assert_eq!(names(&platter, 2), [("d/a".into(), 2), ("d/b".into(), 1)]);
        platter.take(&Op::SyncFolder("d".into()));
        assert_eq!(names(&platter, 0), [("d/a".into(), 2), ("d/b".into(), 1)]);
    }
}
