//! Mends a damaged folder, so that it can be opened again. What is removed is not deleted: it goes into a
//! dated folder inside, with a list. Knows what is to be done, from `upkeep/salvage.rs`; a plan and its
//! execution come out of the same reading.

use super::verify::{Finding, findings};
use super::view::{self, View};
use crate::config::Config;
use crate::core::Core;
use crate::env::Environment;
use crate::error::{Error, Result};
use crate::fault::Severity;
use crate::files::format::{CHECKPOINT_FOLDER, LOG_FOLDER, checkpoint_name, index_path};
use crate::files::segment_index;
use crate::log::segment::Segment;
use crate::progress::Progress;
use crate::upkeep::lenience::key;
use crate::upkeep::recover::{self, Look};
use crate::upkeep::salvage::{self, Salvaged};
use crate::upkeep::survey::{Access, Mend};
use crate::upkeep::{checkpoint, compact, segments};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files may hide behind each other's names: so often a folder is read again.
const ROUNDS_MAX: usize = 8;

/// What a repair does, and what it cannot keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairPlan {
    /// What is wrong; with what is lost by it, record by record. Empty when nothing is.
    pub findings: Vec<Finding>,
    /// What is done about it, in order. Empty when a start does all that is needed.
    pub steps: Vec<RepairStep>,
    /// Queues that are kept.
    pub kept_queues: u64,
    /// Messages that are kept.
    pub kept_messages: u64,
}

/// A step of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairStep {
    /// What is done.
    pub what: RepairAction,
    /// To which file or folder.
    pub file: PathBuf,
}

/// What is done to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepairAction {
    /// It is moved into the folder of what is set aside.
    SetAside,
    /// It gets this name.
    Rename(PathBuf),
    /// It is written anew.
    Write,
    /// What can be read of it is written anew; the file is set aside.
    Rewrite,
    /// A checkpoint of what can be read is written; the older ones are set aside.
    Checkpoint,
}

impl RepairAction {
    /// The name used in reports.
    pub fn name(&self) -> &'static str {
        match self {
            RepairAction::SetAside => "set-aside",
            RepairAction::Rename(_) => "rename",
            RepairAction::Write => "write",
            RepairAction::Rewrite => "rewrite",
            RepairAction::Checkpoint => "checkpoint",
        }
    }
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairDone {
    /// What it was to do, and did.
    pub plan: RepairPlan,
    /// Where the files lie that were set aside; `None` when there were none.
    pub set_aside: Option<PathBuf>,
}

/// Reads a folder and says what a repair would do. Changes nothing.
///
/// # Errors
/// `Folder` when it is none of ours, `OtherVersion`, `Io`.
pub fn plan_repair(folder: &Path, progress: &mut dyn Progress) -> Result<RepairPlan> {
    plan_repair_in(folder, &super::world(folder), progress)
}

/// As [`plan_repair`], in a world of your own.
///
/// # Errors
/// As [`plan_repair`].
pub fn plan_repair_in(
    folder: &Path,
    env: &Environment,
    progress: &mut dyn Progress,
) -> Result<RepairPlan> {
    let config = Config::new(folder);
    let salvaged = salvage::read(&config, env, Access::Read, progress)?;
    Ok(plan(&config, &salvaged))
}

/// Mends a folder. Takes its lock, reads it again, and does what [`plan_repair`] says for what it then
/// finds. Can be interrupted at any moment and called again.
///
/// # Errors
/// `Folder` when it is in use or none of ours, `OtherVersion`, `Io`.
pub fn apply_repair(folder: &Path, progress: &mut dyn Progress) -> Result<RepairDone> {
    apply_repair_in(folder, &Environment::system(), progress)
}

/// As [`apply_repair`], in a world of your own.
///
/// # Errors
/// As [`apply_repair`].
pub fn apply_repair_in(
    folder: &Path,
    env: &Environment,
    progress: &mut dyn Progress,
) -> Result<RepairDone> {
    let mut config = Config::new(folder);
    let names = env.disk.list(&folder.join(LOG_FOLDER));
    names.map_err(|cause| Error::io("reading", folder.join(LOG_FOLDER), cause))?;
    let lock = recover::lock(&config, &*env.disk)?;
    let first = salvage::read(&config, env, Access::Map, progress)?;
    let plan = plan(&config, &first);
    let mut aside = Aside::new(&config, env);
    // Files first: what they hid may then be seen, under the right name or without another before it.
    let mut salvaged = first;
    for _ in 0..ROUNDS_MAX {
        if !mend_files(&config, env, &salvaged.mends, &mut aside)? {
            break;
        }
        salvaged = salvage::read(&config, env, Access::Map, &mut ())?;
    }
    let has_more =
        salvaged.mends.iter().any(|mend| matches!(mend, Mend::Rewrite(_) | Mend::Checkpoint));
    // A loss is written down in any case, also where mending files already undid its cause.
    if has_more || plan.steps.iter().any(|step| step.what == RepairAction::Checkpoint) {
        // New segments are as large as the old ones, whatever the server's configuration says.
        let sizes = salvaged.look.tail.segments.iter().filter(|one| one.header.generation == 0);
        if let Some(size) = sizes.map(|one| one.size()).max() {
            config.segment_size_bytes = size.clamp(1 << 20, 1 << 30);
        }
        mend_state(&config, env, lock, salvaged, &mut aside)?;
    } else {
        drop(lock);
    }
    let set_aside = aside.finish(&plan)?;
    // What was mended opens; if not, the fault is here, and nobody is told otherwise.
    View::open_in(folder, env.clone())?;
    Ok(RepairDone { plan, set_aside })
}

fn plan(config: &Config, salvaged: &Salvaged) -> RepairPlan {
    let Look { state, .. } = &salvaged.look;
    let mut kept_messages = 0;
    state.visit_all(|queue| kept_messages += queue.ranges.live());
    let steps = salvaged.mends.iter().map(|mend| match mend {
        Mend::SetAside(file) => RepairStep { what: RepairAction::SetAside, file: file.clone() },
        Mend::Rename(from, to) => {
            RepairStep { what: RepairAction::Rename(to.clone()), file: from.clone() }
        }
        Mend::WriteFormat(_) => RepairStep {
            what: RepairAction::Write,
            file: config.folder.join(crate::files::format::FORMAT_FILE),
        },
        Mend::Rewrite(file) => RepairStep { what: RepairAction::Rewrite, file: file.clone() },
        Mend::Checkpoint => RepairStep {
            what: RepairAction::Checkpoint,
            file: config.folder.join(CHECKPOINT_FOLDER),
        },
    });
    RepairPlan {
        findings: findings(&salvaged.faults, state),
        steps: steps.collect(),
        kept_queues: state.len() as u64,
        kept_messages,
    }
}

/// Moves and renames files, and writes `FORMAT`. Whether there was anything to do.
fn mend_files(
    config: &Config,
    env: &Environment,
    mends: &[Mend],
    aside: &mut Aside<'_>,
) -> Result<bool> {
    let disk = &*env.disk;
    let mut done = false;
    let renames: Vec<(&PathBuf, &PathBuf)> = mends
        .iter()
        .filter_map(|mend| match mend {
            Mend::Rename(from, to) => Some((from, to)),
            _ => None,
        })
        .collect();
    for mend in mends {
        match mend {
            Mend::SetAside(file) => {
                aside.take(file)?;
                if file.extension().is_some_and(|end| end == "seg") {
                    // An index without its segment would be removed by the next start.
                    aside.take(&index_path(file))?;
                }
                done = true;
            }
            Mend::WriteFormat(header) => {
                aside.take(&config.folder.join(crate::files::format::FORMAT_FILE))?;
                recover::write_header(config, disk, header)?;
                done = true;
            }
            Mend::Rename(..) | Mend::Rewrite(_) | Mend::Checkpoint => {}
        }
    }
    // Two may have each other's names: by way of names that nobody has.
    let between = |to: &Path| to.with_extension("seg.tmp-name");
    let rename = |from: &Path, to: &Path| {
        disk.rename(from, to).map_err(|cause| Error::io("renaming", from, cause))
    };
    for (from, to) in &renames {
        rename(from, &between(to))?;
        // The index belongs to the segment that has this name by right.
        done = true;
    }
    for (_, to) in &renames {
        if disk.open_to_read(to).is_ok() {
            aside.take(to)?;
        }
        rename(&between(to), to)?;
    }
    if done {
        for folder in [LOG_FOLDER, CHECKPOINT_FOLDER] {
            let folder = config.folder.join(folder);
            disk.sync_folder(&folder).map_err(|cause| Error::io("syncing", folder, cause))?;
        }
    }
    Ok(done)
}

/// Writes down the state as it could be read: checkpoints of it, and anew the segments that are damaged.
fn mend_state(
    config: &Config,
    env: &Environment,
    lock: recover::Lock,
    salvaged: Salvaged,
    aside: &mut Aside<'_>,
) -> Result<()> {
    let Salvaged { mut look, damaged, lost_bytes, last_checkpoint, mut indexes, .. } = salvaged;
    // Ids that clients saw may have been in what is lost: none is given out again.
    look.report.was_clean = false;
    let old: Vec<u64> = look.checkpoints.iter().map(|header| header.number).collect();
    let (core, _) = recover::assemble(config.clone(), env.clone(), lock, look, lost_bytes)?;
    recover::go_on_counting_checkpoints(&core, last_checkpoint);
    let bad: Vec<Arc<Segment>> =
        core.segments().values().filter(|one| damaged.contains(&key(one))).cloned().collect();
    let has_index = |segment: &Segment| env.disk.open_to_read(&index_path(&segment.path)).is_ok();
    for segment in &bad {
        // The index has to be the one by which the checkpoint tells the living from the dead.
        if let Some(index) = indexes.remove(&key(segment)) {
            aside.take(&index_path(&segment.path))?;
            segments::adopt_index(&core, segment, index)?;
        }
        if let Some(index) = segment.index().filter(|_| !has_index(segment)) {
            segment_index::store(&*env.disk, &segment.path, index.bytes())?;
        }
    }
    segments::seal_all(&core)?;
    // The old ones stay until the new ones are there, and are not the engine's to remove.
    core.checkpoints().clear();
    checkpoint::write(&core, false)?;
    checkpoint::write(&core, false)?;
    for segment in bad {
        compact::rewrite_damaged(&core, segment, |file| aside.take(file))?;
    }
    for number in old {
        aside.take(&core.checkpoint_folder().join(checkpoint_name(number)))?;
    }
    close(&core)
}

fn close(core: &Core) -> Result<()> {
    core.log.sync_to(core.log.end())?;
    checkpoint::write(core, true)?;
    core.log.close();
    core.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    Ok(())
}

/// The folder of what is set aside; made when the first file comes.
struct Aside<'a> {
    env: &'a Environment,
    root: PathBuf,
    folder: PathBuf,
    taken: Vec<(PathBuf, PathBuf)>,
}

impl<'a> Aside<'a> {
    fn new(config: &Config, env: &'a Environment) -> Aside<'a> {
        let stamp = view::stamp(env.clock.now_ms());
        let folder = config.folder.join(format!("set-aside-{stamp}"));
        Aside { env, root: config.folder.clone(), folder, taken: Vec::new() }
    }

    /// Moves a file there, if it is there.
    fn take(&mut self, file: &Path) -> Result<()> {
        let disk = &*self.env.disk;
        if disk.open_to_read(file).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        {
            return Ok(());
        }
        disk.create_folder(&self.folder)
            .map_err(|cause| Error::io("making", self.folder.as_path(), cause))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut to = self.folder.join(&name);
        let mut again = 1;
        while disk.open_to_read(&to).is_ok() {
            again += 1;
            to = self.folder.join(format!("{name}.{again}"));
        }
        disk.rename(file, &to).map_err(|cause| Error::io("setting aside", file, cause))?;
        self.taken.push((file.to_path_buf(), to));
        self.list()
    }

    /// Writes down what lies there, and where it lay.
    fn list(&self) -> Result<()> {
        let relative = |path: &Path| {
            path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned()
        };
        let mut text = String::new();
        for (from, to) in &self.taken {
            text.push_str(&format!("{} was {}\n", relative(to), relative(from)));
        }
        self.write("LIST", &text)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        let disk = &*self.env.disk;
        let write = || -> std::io::Result<()> {
            let file = disk.create(&path)?;
            file.write_at(text.as_bytes(), 0)?;
            file.sync()?;
            disk.sync_folder(&self.folder)
        };
        write().map_err(|cause| Error::io("writing", path.as_path(), cause))
    }

    /// Adds why, and says where it all lies.
    fn finish(self, plan: &RepairPlan) -> Result<Option<PathBuf>> {
        if self.taken.is_empty() {
            return Ok(None);
        }
        let mut text = String::new();
        for finding in plan.findings.iter().filter(|one| one.severity > Severity::Note) {
            let offset = finding.offset.map_or(String::new(), |at| format!(", byte {at}"));
            let (name, file, what) = (finding.kind.name(), finding.file.display(), &finding.what);
            text.push_str(&format!("{name}: {file}{offset}: {what}\n"));
            for lost in &finding.lost {
                let queue = lost.key.as_ref().map_or(String::new(), |key| format!(" of {key:?}"));
                let first = lost.first.map_or(String::new(), |seq| format!(" from {}", seq.0));
                let (count, what, note) = (lost.count, lost.what.name(), &lost.note);
                text.push_str(&format!("    lost: {count} {what}{queue}{first} ({note})\n"));
            }
        }
        self.write("WHY", &text)?;
        Ok(Some(self.folder))
    }
}
