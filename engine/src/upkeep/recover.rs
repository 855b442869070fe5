//! Opening: lock, format, checkpoint, indexes, replay, the torn tail; and a report of it all.
//! Nothing that is there is overwritten before everything was found in order.

pub(crate) use super::replay::FIRST_LSN;
use super::replay::{Replay, Tail, Until, Unused};
use super::segments::{index_in_memory, make_index};
use crate::checksum;
use crate::config::Config;
use crate::core::Core;
use crate::domain::{Durability, Seq};
use crate::env::{Disk, Environment};
use crate::error::{Error, Result};
use crate::files::checkpoint::{Checkpoint, CheckpointHeader};
use crate::files::format::{
    self, BadHeader, CHECKPOINT_FOLDER, FORMAT_FILE, FolderHeader, HEADER_SIZE, LOCK_FILE,
    LOG_FOLDER, SEGMENT_HEADER_SIZE, UNFINISHED,
};
use crate::files::segment_index::SegmentIndex;
use crate::log::commit::Log;
use crate::log::frame::Kind;
use crate::log::record::MESSAGE_HEAD_SIZE;
use crate::log::segment::Segment;
use crate::log::source::read_exact;
use crate::log::tail::NewFrame;
use crate::metrics::Counters;
use crate::state::State;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A running engine may take files away while they are read. So often a look is tried.
pub(crate) const LOOKS_MAX: u32 = 20;

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Whether the folder was made.
    pub is_new: bool,
    /// Whether the last run ended in good order.
    pub was_clean: bool,
    /// The checkpoint it started from, by number; 0 for none.
    pub checkpoint: u64,
    /// Why the newest checkpoint could not be used, when an older one had to do.
    pub fell_back: Option<String>,
    /// Segments found.
    pub segments: u64,
    /// Frames replayed behind the checkpoint.
    pub replayed_frames: u64,
    /// Bytes of log replayed.
    pub replayed_bytes: u64,
    /// Indexes that were missing and made again.
    pub rebuilt_indexes: u64,
    /// Bytes of an unfinished write that were cut off the end of the log.
    pub torn_bytes: u64,
    /// Queues.
    pub queues: u64,
    /// Milliseconds it took.
    pub duration_ms: u64,
    /// When it was done, by the engine's time.
    pub opened_ms: u64,
    /// How far the clock was behind the latest time in the folder, from which the engine's time goes on; 0 where
    /// it was not.
    pub clock_behind_ms: u64,
}

impl RecoveryReport {
    /// Notes what time it is, where the latest time in the folder is `latest_ms`.
    pub(crate) fn set_opened(&mut self, env: &Environment, latest_ms: u64) {
        let now_ms = env.clock.now_ms();
        self.opened_ms = now_ms.max(latest_ms);
        self.clock_behind_ms = self.opened_ms - now_ms;
    }
}

/// Opens the folder.
pub(crate) fn open(config: Config, env: Environment) -> Result<(Core, RecoveryReport)> {
    let started = Instant::now();
    let disk = env.disk.clone();
    let (lock, header, is_new) = take_folder(&config, &env)?;
    let (look, strays, last) = read(&config, &*disk, header, Segment::open, make_index)?;
    let report =
        RecoveryReport { is_new, was_clean: is_new || look.report.was_clean, ..look.report };
    let look = Look { report, ..look };
    // All is well: from here on the folder changes.
    let (core, mut report) = assemble(config, env, lock, look, 0)?;
    *core.strays() = strays;
    go_on_counting_checkpoints(&core, last);
    report.duration_ms = started.elapsed().as_millis() as u64;
    Ok((core, report))
}

/// The next checkpoint gets a number above the last one found, and above those that rewritten segments name: one that
/// was begun and came to nothing left no file, and who took its number would pass for older than those segments.
pub(crate) fn go_on_counting_checkpoints(core: &Core, last: u64) {
    let segments = core.segments();
    let begun = segments.values().map(|segment| segment.header.after_checkpoint);
    // What a header says that could not be read.
    let begun = begun.filter(|number| *number < u64::MAX).max().unwrap_or(0);
    core.last_checkpoint.store(last.max(begun), Ordering::Relaxed);
}

/// Reads all there is. Also the numbers of the checkpoints that are not whole, and the highest number
/// one has.
fn read(
    config: &Config,
    disk: &dyn Disk,
    header: FolderHeader,
    open: impl Fn(&dyn Disk, &Path, u128) -> Result<Segment>,
    make: impl Fn(&dyn Disk, &Segment) -> Result<SegmentIndex>,
) -> Result<(Look, Vec<u64>, u64)> {
    let mut damaged = HashSet::new();
    loop {
        match read_without(config, disk, header, &damaged, &open, &make) {
            // Entries are checked when they are first looked at. An index is no reason not to start: it is
            // made again, too.
            Err(Error::Damaged { file, what, .. })
                if file.extension().is_some_and(|ending| ending == "idx")
                    && !damaged.contains(&file) =>
            {
                tracing::warn!(file = %file.display(), what, "an index cannot be used");
                damaged.insert(file);
            }
            result => return result,
        }
    }
}

/// As [`read`], with the indexes made again that are known to be damaged.
fn read_without(
    config: &Config,
    disk: &dyn Disk,
    header: FolderHeader,
    damaged_indexes: &HashSet<PathBuf>,
    open: &impl Fn(&dyn Disk, &Path, u128) -> Result<Segment>,
    make: &impl Fn(&dyn Disk, &Segment) -> Result<SegmentIndex>,
) -> Result<(Look, Vec<u64>, u64)> {
    let mut report = RecoveryReport::default();
    let segments = open_segments(disk, &config.folder.join(LOG_FOLDER), header.engine_id, open)?;
    report.segments = segments.len() as u64;
    let folder = config.folder.join(CHECKPOINT_FOLDER);
    let FoundCheckpoints { kept, newest, damaged, last } =
        open_checkpoints(disk, &folder, &segments, &mut report)?;
    let mut replay = Replay::new(config, newest.as_ref())?;
    replay.make_again(damaged_indexes.clone());
    let tail = replay.run(disk, segments, make, &mut report)?;
    report.was_clean = replay.was_clean(newest.as_ref(), &tail, &report);
    report.queues = replay.state.len() as u64;
    let Replay { state, latest_ms, .. } = replay;
    let look = Look { header, state, tail, checkpoints: kept, latest_ms, report };
    Ok((look, damaged, last))
}

/// Puts an engine together from what was read: ends the old log, begins the new segment. Numbers are
/// skipped for `lost_bytes` that nobody knows anything of, too.
pub(crate) fn assemble(
    config: Config,
    env: Environment,
    lock: Lock,
    look: Look,
    lost_bytes: u64,
) -> Result<(Core, RecoveryReport)> {
    let Look { header, state, mut tail, checkpoints, latest_ms, mut report } = look;
    report.set_opened(&env, latest_ms);
    // A clock that was put back neither keeps messages for longer nor gives a claim a second life.
    let env = env.no_earlier_than(latest_ms);
    let number = tail.last_number + 1;
    let counters = Arc::new(Counters::default());
    let engine_id = header.engine_id;
    let sync_interval = Duration::from_millis(config.sync_interval_ms);
    let active = first_segment(&config, &env, engine_id, number, &mut tail)?;
    if let Some(torn) = tail.torn.take() {
        torn.cut(tail.limit, &mut report)?;
    }
    let log = Log::start(
        active,
        config.write_buffer_max_bytes,
        sync_interval,
        counters.clone(),
        env.background,
    );
    let core = Core::new(config, env, engine_id, state, log, counters);
    *core.checkpoints() = checkpoints;
    for segment in tail.segments {
        core.segments().insert(segment.number(), segment);
    }
    remove_strays(&core, &tail.unused)?;
    if !report.was_clean {
        skip_numbers(&core, tail.limit.0 - tail.end.0 + lost_bytes)?;
    }
    *core.lock.lock().expect("nobody else has it yet") = Some(lock);
    report.queues = core.state.len() as u64;
    Ok((core, report))
}

// ---- the folder ----

/// What keeps a folder locked.
pub(crate) type Lock = Box<dyn std::fmt::Debug + Send + Sync>;

fn folder_error(config: &Config, what: String, next_step: &'static str) -> Error {
    Error::Folder { folder: config.folder.clone(), what, next_step }
}

/// The folder could not be made, read or written.
fn folder_refused(config: &Config, cause: &io::Error) -> Error {
    let next_step = match cause.kind() {
        io::ErrorKind::NotFound => "make its parent folder, or name another one",
        _ => "make it readable and writable for this user, or name another one",
    };
    folder_error(config, cause.to_string(), next_step)
}

/// Takes the folder's lock.
pub(crate) fn lock(config: &Config, disk: &dyn Disk) -> Result<Lock> {
    let holder = format!("{}\n", std::process::id());
    let locked = disk.lock(&config.folder.join(LOCK_FILE), &holder);
    locked.map_err(|cause| match cause.kind() {
        io::ErrorKind::WouldBlock => folder_error(
            config,
            "another process has it open (its pid is in the file LOCK)".to_owned(),
            "stop that process, or name another folder",
        ),
        _ => folder_refused(config, &cause),
    })
}

/// Locks the folder and reads whose it is; makes it where there is none.
fn take_folder(config: &Config, env: &Environment) -> Result<(Lock, FolderHeader, bool)> {
    let disk = &*env.disk;
    let folder = &config.folder;
    let failed = |cause: io::Error| folder_refused(config, &cause);
    disk.create_folder(folder).map_err(failed)?;
    let names = disk.list(folder).map_err(failed)?;
    let has = |name: &str| names.iter().any(|found| found == name);
    let is_ours = has(FORMAT_FILE);
    let known = [LOCK_FILE, LOG_FOLDER, CHECKPOINT_FOLDER, "FORMAT.tmp", "lost+found"];
    if let Some(stranger) = names.iter().find(|name| !is_ours && !known.contains(&name.as_str())) {
        return Err(folder_error(
            config,
            format!("it holds {stranger:?} and no file {FORMAT_FILE}, so it is not a data folder"),
            "name an empty folder, or one that does not exist",
        ));
    }
    let lock = lock(config, disk)?;
    if is_ours {
        let header = read_header(config, disk)?;
        for name in [LOG_FOLDER, CHECKPOINT_FOLDER] {
            disk.create_folder(&folder.join(name)).map_err(failed)?;
        }
        return Ok((lock, header, false));
    }
    if has(LOG_FOLDER) && !disk.list(&folder.join(LOG_FOLDER)).map_err(failed)?.is_empty() {
        return Err(folder_error(
            config,
            format!("it holds a log and no file {FORMAT_FILE}"),
            "nothing was changed; restore the file from a copy, or name another folder",
        ));
    }
    let new = NewFolder::begin(config, env)?;
    new.finish(config, disk)?;
    Ok((lock, new.0, true))
}

/// A folder that is being made: all of it is there, but for the file that makes it one.
pub(crate) struct NewFolder(FolderHeader);

impl NewFolder {
    fn begin(config: &Config, env: &Environment) -> Result<NewFolder> {
        let (disk, folder) = (&*env.disk, &config.folder);
        let now_ms = env.clock.now_ms();
        let make = || -> io::Result<()> {
            disk.create_folder(&folder.join(LOG_FOLDER))?;
            disk.create_folder(&folder.join(CHECKPOINT_FOLDER))?;
            // The folder's own name, before anything in it counts.
            let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
            disk.sync_folder(parent.unwrap_or(Path::new(".")))
        };
        make().map_err(|cause| folder_refused(config, &cause))?;
        Ok(NewFolder(FolderHeader { engine_id: new_engine_id(now_ms), created_ms: now_ms }))
    }

    pub(crate) fn engine_id(&self) -> u128 {
        self.0.engine_id
    }

    /// Makes it a data folder.
    pub(crate) fn finish(&self, config: &Config, disk: &dyn Disk) -> Result<()> {
        write_header(config, disk, &self.0)
    }
}

/// Writes the file that says whose folder it is.
pub(crate) fn write_header(config: &Config, disk: &dyn Disk, header: &FolderHeader) -> Result<()> {
    let path = config.folder.join(FORMAT_FILE);
    let write = || -> io::Result<()> {
        let aside = path.with_extension(UNFINISHED);
        let file = disk.create(&aside)?;
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        disk.rename(&aside, &path)?;
        disk.sync_folder(&config.folder)
    };
    write().map_err(|cause| folder_refused(config, &cause))
}

/// Locks a folder that is to be filled: one that holds nothing yet, or none.
pub(crate) fn take_new_folder(config: &Config, env: &Environment) -> Result<(Lock, NewFolder)> {
    let (disk, folder) = (&*env.disk, &config.folder);
    let failed = |cause: io::Error| folder_refused(config, &cause);
    disk.create_folder(folder).map_err(failed)?;
    let names = disk.list(folder).map_err(failed)?;
    let mut found = names.into_iter().filter(|name| name != "lost+found");
    if let Some(name) = found.next() {
        let what = format!("it holds {name:?}, and only an empty folder can be filled");
        return Err(folder_error(config, what, "name an empty folder, or one that does not exist"));
    }
    let lock = lock(config, disk)?;
    Ok((lock, NewFolder::begin(config, env)?))
}

/// Reads whose folder it is.
pub(crate) fn read_header(config: &Config, disk: &dyn Disk) -> Result<FolderHeader> {
    let read = disk.open_to_read(&config.folder.join(FORMAT_FILE)).and_then(|file| {
        let mut bytes = vec![0; HEADER_SIZE.min(usize::try_from(file.size()?).unwrap_or(0))];
        read_exact(&*file, &mut bytes, 0).map(|()| bytes)
    });
    let bytes = read.map_err(|cause| {
        let what = format!("{FORMAT_FILE}: {cause}");
        let next_step = match cause.kind() {
            io::ErrorKind::NotFound => "name a data folder: one that holds the file FORMAT",
            _ => "make it readable for this user",
        };
        folder_error(config, what, next_step)
    })?;
    FolderHeader::decode(&bytes).map_err(|what| {
        let what_is = format!("{FORMAT_FILE}: {what}");
        if let BadHeader::Version(_) | BadHeader::Older(_) = what {
            return Error::OtherVersion { folder: config.folder.clone(), what: what_is };
        }
        let next_step =
            "nothing was changed; `marconi log repair --plan FOLDER` shows what can be kept";
        folder_error(config, what_is, next_step)
    })
}

/// What a look at the folder found.
pub(crate) struct Look {
    pub(crate) header: FolderHeader,
    pub(crate) state: State,
    pub(crate) tail: Tail,
    /// The headers of the checkpoints that are whole, oldest first.
    pub(crate) checkpoints: Vec<CheckpointHeader>,
    /// The latest time of all that was read.
    pub(crate) latest_ms: u64,
    pub(crate) report: RecoveryReport,
}

/// Reads the folder as a start would, without a lock, and changes nothing. Beside a running engine it
/// may find files gone that were there a moment ago, which looks like damage: try again.
pub(crate) fn look(config: &Config, env: &Environment) -> Result<Look> {
    let started = Instant::now();
    let disk = &*env.disk;
    let header = read_header(config, disk)?;
    let (mut look, _, _) = read(config, disk, header, Segment::open_to_look, index_in_memory)?;
    look.report.duration_ms = started.elapsed().as_millis() as u64;
    look.report.set_opened(env, look.latest_ms);
    Ok(look)
}

/// The state that a replay from this checkpoint leads to, each queue as of the LSN that `until` gives it.
pub(crate) fn replay_until(
    config: &Config,
    env: &Environment,
    checkpoint: &Checkpoint,
    until: Until,
) -> Result<State> {
    let disk = &*env.disk;
    let header = read_header(config, disk)?;
    let folder = config.folder.join(LOG_FOLDER);
    let segments = open_segments(disk, &folder, header.engine_id, Segment::open_to_look)?;
    let mut replay = Replay::new(config, Some(checkpoint))?;
    replay.stop_at(until);
    replay.run(disk, segments, index_in_memory, &mut RecoveryReport::default())?;
    Ok(replay.state)
}

/// A number that no other folder has: the standard library's per-process randomness, hashed.
fn new_engine_id(now_ms: u64) -> u128 {
    let half = || u128::from(RandomState::new().hash_one((now_ms, std::process::id())));
    half() << 64 | half()
}

// ---- the files ----

/// Opens every segment, in order of number; of two that stand for the same, the one rewritten later.
fn open_segments(
    disk: &dyn Disk,
    folder: &Path,
    engine_id: u128,
    open: impl Fn(&dyn Disk, &Path, u128) -> Result<Segment>,
) -> Result<Vec<Segment>> {
    let names = disk.list(folder).map_err(|cause| Error::io("reading", folder, cause))?;
    let mut found = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(".seg")) {
        found.push(open(disk, &folder.join(name), engine_id)?);
    }
    found.sort_by_key(|one| (one.number(), std::cmp::Reverse(one.header.generation)));
    Ok(found)
}

/// What lies in the folder of checkpoints.
struct FoundCheckpoints {
    /// The headers of those that are whole, oldest first.
    kept: Vec<CheckpointHeader>,
    /// The one to use.
    newest: Option<Checkpoint>,
    /// The numbers of those that are not whole.
    damaged: Vec<u64>,
    /// The highest number, damaged or not.
    last: u64,
}

/// Checkpoints are tried from the newest on.
fn open_checkpoints(
    disk: &dyn Disk,
    folder: &Path,
    segments: &[Segment],
    report: &mut RecoveryReport,
) -> Result<FoundCheckpoints> {
    let names = disk.list(folder).map_err(|cause| Error::io("reading", folder, cause))?;
    let mut numbers: Vec<u64> =
        names.iter().filter_map(|name| format::checkpoint_number(name)).collect();
    numbers.sort_unstable();
    let (mut kept, mut damaged) = (Vec::new(), Vec::new());
    let mut newest = None;
    for number in numbers.iter().rev() {
        let path = folder.join(format::checkpoint_name(*number));
        match Checkpoint::open(disk, &path) {
            Ok(checkpoint) => {
                kept.insert(0, checkpoint.header);
                newest.get_or_insert(checkpoint);
            }
            Err(why) => {
                tracing::warn!(file = %path.display(), why, "a checkpoint cannot be used");
                if newest.is_none() {
                    report.fell_back.get_or_insert(format!("{}: {why}", path.display()));
                }
                damaged.push(*number);
            }
        }
    }
    let starts_at_one =
        segments.first().is_none_or(|first| first.number() == 1 && first.header.generation == 0);
    if newest.is_none() && (!numbers.is_empty() || !starts_at_one) {
        return Err(Error::Damaged {
            file: folder.to_path_buf(),
            offset: 0,
            what: match &report.fell_back {
                Some(why) => format!("no checkpoint can be used: {why}"),
                None => "the log begins after its first segment, and there is no checkpoint".into(),
            },
            next_step: "nothing was changed; restore a checkpoint from a copy of the folder",
        });
    }
    report.checkpoint = newest.as_ref().map_or(0, |newest| newest.header.number);
    let last = numbers.last().copied().unwrap_or(0);
    Ok(FoundCheckpoints { kept, newest, damaged, last })
}

/// The segment that this run begins with.
fn first_segment(
    config: &Config,
    env: &Environment,
    engine_id: u128,
    number: u64,
    tail: &mut Tail,
) -> Result<Arc<Segment>> {
    let disk = &*env.disk;
    let folder = config.folder.join(LOG_FOLDER);
    let size = config.segment_size_bytes;
    // What was made ready for the run that ended serves this one: frames of another LSN in it, if
    // there are any, are never taken for its own.
    let reusable = tail.unused.iter().position(|unused| unused.size == size);
    let prepared = match reusable {
        Some(place) => tail.unused.swap_remove(place).path,
        // A ticket of its own: the engine numbers its spares from 0.
        None => Segment::prepare(disk, &folder, size, u64::MAX, || usize::MAX)?,
    };
    let header = format::SegmentHeader {
        engine_id,
        number,
        last_number: number,
        generation: 0,
        base: tail.limit,
        span: size - SEGMENT_HEADER_SIZE,
        created_ms: env.clock.now_ms(),
        after_checkpoint: 0,
    };
    Ok(Arc::new(Segment::start(disk, &folder, &prepared, header)?))
}

/// Removes what an earlier run left unfinished, and segments that hold nothing.
fn remove_strays(core: &Core, unused: &[Unused]) -> Result<()> {
    let disk = &*core.env.disk;
    let remove = |path: &Path| match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("removing", path, error))
        }
        _ => Ok(()),
    };
    for Unused { path, .. } in unused {
        remove(&format::index_path(path))?;
        remove(path)?;
    }
    for folder in [core.log_folder(), core.checkpoint_folder()] {
        let failed = |cause| Error::io("reading", folder.as_path(), cause);
        let names = disk.list(&folder).map_err(failed)?;
        let mut changed = !unused.is_empty();
        for name in &names {
            let is_orphan = name
                .strip_suffix(".idx")
                .is_some_and(|stem| !names.contains(&format!("{stem}.seg")));
            if is_orphan || name.ends_with(&format!(".{UNFINISHED}")) {
                remove(&folder.join(name))?;
                changed = true;
            }
        }
        // An empty segment that comes back behind frames would look like a hole in the log.
        if changed {
            disk.sync_folder(&folder).map_err(|cause| Error::io("syncing", folder, cause))?;
        }
    }
    Ok(())
}

/// After an end that was not clean, LSNs and message numbers may have been told to clients that the
/// log no longer knows. Neither is given out again: the new segment's LSNs begin behind all that the
/// old ones could have held, and every queue skips as many numbers as could have been written there.
fn skip_numbers(core: &Core, lost_bytes_max: u64) -> Result<()> {
    let skipped = lost_bytes_max / MESSAGE_HEAD_SIZE as u64 + 1;
    let frame = NewFrame {
        kind: Kind::Resumed,
        at_ms: core.now_ms(),
        queue: 0,
        seq: skipped,
        payload: &[],
        crc: checksum::begin(),
    };
    let appended = core.log.append(frame, Durability::Group).map_err(|_| Error::Closed)?;
    core.log.sync_to(appended.end)?;
    core.state.visit_all(|queue| {
        queue.next_seq = Seq(queue.next_seq.0 + skipped);
        queue.last_end = appended.end;
    });
    Ok(())
}
