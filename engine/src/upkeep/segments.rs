//! Makes the next segment ready, and turns full ones into indexed ones.

use crate::core::{BREATH_MAX, Core, Milestone};
use crate::domain::{Lsn, QueueId};
use crate::env::Disk;
use crate::error::{Error, Result};
use crate::files::format::{self, SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::files::segment_index::{self, Entry, IndexBuilder, SegmentIndex};
use crate::log::record::Record;
use crate::log::scan::{ScanEnd, Scanner};
use crate::log::segment::Segment;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, Instant, PoisonError, thread};
use std::path::PathBuf;
use std::time::Duration;

/// While the log fills a segment all pauses of filling the next take about a quarter of that time.
const BREATHS: u32 = 2048;
/// A segment is filled in pieces of this size, which a disk has done with as quickly as with a sync or two.
const PIECE_SIZE: usize = 128 << 10;
/// A log that takes a segment in less time than this needs the next sooner than such pieces would have it
/// ready: it is filled in larger ones. All pauses between them are half of that time: a sync waits for the
/// piece that is being written, and the more so the closer they lie.
const LEISURE: Duration = Duration::from_secs(3);
const QUICK_PIECE_SIZE: usize = 256 << 10;
/// Pieces for which somebody waits.
const HASTY_PIECE_SIZE: usize = 1 << 20;
/// A log that takes two segments within this time gets a third made ready in advance.
const BUSY: Duration = Duration::from_secs(10);
/// Indexing works so long at a stretch and then rests so long: a request that has to wait for the processor
/// waits for a stretch, and the scheduler by itself would make it a tick of milliseconds.
const STRETCH: Duration = Duration::from_micros(300);
const REST: Duration = Duration::from_millis(1);
/// Where syncs have so many bytes each, filling the next segment takes the disk as long as it would spare them
/// (`docs/decisions/0007`).
const LARGE_SYNC_SIZE: u64 = 128 << 10;
/// Emptied files that are kept for reuse.
pub(crate) const SPARES_MAX: usize = 2;

/// The work of `marconi-prepare`: readies the next segment, if the log wants one, and indexes those
/// that are full.
pub(crate) fn round(core: &Core) -> Result<()> {
    let next = {
        let mut last = core.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        make_next(core, &mut last)
    };
    if next.as_ref().is_err_and(Error::is_out_of_space) {
        core.log.stop_posting(true);
    }
    // The other thread may compact for minutes, and posts would take the whole reserve meanwhile.
    super::watch_disk(core);
    // Full segments are indexed in any case: it frees memory, and later disk.
    seal_all(core)?;
    remove_damaged(core)?;
    next
}

/// Removes the indexes in which damage was found: the next start makes them again, and would not find it by
/// itself. Until then they stay open, and what is not damaged can be read.
fn remove_damaged(core: &Core) -> Result<()> {
    let is_damaged =
        |segment: &&Arc<Segment>| segment.index().is_some_and(SegmentIndex::is_damaged);
    let damaged: Vec<Arc<Segment>> = core.segments().values().filter(is_damaged).cloned().collect();
    for segment in damaged {
        let path = format::index_path(&segment.path);
        match core.env.disk.remove(&path) {
            Ok(()) => {
                tracing::warn!(file = %path.display(), "a damaged index was removed: restart to use it anew");
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => return Err(Error::io("removing", path, cause)),
        }
    }
    Ok(())
}

/// What suits a log that has come from `last` to `now`.
fn blank_between(last: &Milestone, now: &Milestone) -> Blank {
    let bytes = now.log_bytes.saturating_sub(last.log_bytes);
    let syncs = now.sync_count.saturating_sub(last.sync_count);
    if bytes / syncs.max(1) >= LARGE_SYNC_SIZE { Blank::Reserved } else { Blank::Filled }
}

/// How a new segment comes by its room on the disk. It reads as zeros either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blank {
    /// Zeros are written: a sync has only frames to write, and small ones take half as long.
    Filled,
    /// The file system sets the room aside: each sync also has it note which blocks were written, but the
    /// disk writes every byte once instead of twice.
    Reserved,
}

fn make_next(core: &Core, last: &mut Option<Milestone>) -> Result<()> {
    let Some((number, base)) = core.log.wants_next() else { return Ok(()) };
    let now = Milestone::of(core);
    let blank = last.map_or(Blank::Filled, |last| blank_between(&last, &now));
    let segment = create(core, number, base, blank)?;
    core.log.set_next(Arc::new(segment));
    let Some(last) = last.replace(Milestone::of(core)) else { return Ok(()) };
    let breath = (last.at.elapsed() / BREATHS).min(BREATH_MAX);
    core.breath_us.store(breath.as_micros() as u64, Ordering::Relaxed);
    let is_busy = blank == Blank::Filled && last.at.elapsed() < BUSY;
    if is_busy && core.spares().is_empty() && has_room_to_spare(core) {
        // The one after it is filled while there is time: a log this quick would wait for it.
        match prepare(core, Blank::Filled) {
            Ok(prepared) => core.spares().push(prepared),
            // It would have been welcome, and is not needed.
            Err(error) => tracing::debug!(%error, "no segment was made ready in advance"),
        }
    }
    Ok(())
}

/// Whether the disk has room for a file that is not needed yet.
fn has_room_to_spare(core: &Core) -> bool {
    let needed = core.config.disk_reserve_bytes + 2 * core.config.segment_size_bytes;
    core.env.disk.free_bytes(&core.config.folder).is_ok_and(|free| free >= needed)
}

/// Makes an empty segment, out of a spare file where there is one.
fn create(core: &Core, number: u64, base: Lsn, blank: Blank) -> Result<Segment> {
    let size = core.config.segment_size_bytes;
    let header = SegmentHeader {
        engine_id: core.engine_id,
        number,
        last_number: number,
        generation: 0,
        base,
        span: size - SEGMENT_HEADER_SIZE,
        created_ms: core.now_ms(),
        after_checkpoint: 0,
    };
    let disk = &*core.env.disk;
    let folder = core.log_folder();
    let spare = core.spares().pop();
    let prepared: PathBuf = match spare {
        Some(path) => path,
        None => prepare(core, blank)?,
    };
    Segment::start(disk, &folder, &prepared, header)
}

/// Makes a file of zeros that can become a segment. Where the file system cannot reserve, it is filled.
fn prepare(core: &Core, blank: Blank) -> Result<PathBuf> {
    let (disk, folder) = (&*core.env.disk, core.log_folder());
    let size = core.config.segment_size_bytes;
    let ticket = spare_ticket(core);
    if blank == Blank::Reserved
        && let Some(path) = Segment::reserve(disk, &folder, size, ticket)?
    {
        return Ok(path);
    }
    Segment::prepare(disk, &folder, size, ticket, || next_piece(core))
}

/// Leaves the disk to the commits for a moment, unless a writer waits for this very segment, and says how much
/// to fill next.
fn next_piece(core: &Core) -> usize {
    if core.log.is_short_of_room() || core.is_closing() || core.is_by_hand() {
        return HASTY_PIECE_SIZE;
    }
    let breath = Duration::from_micros(core.breath_us.load(Ordering::Relaxed));
    if breath * BREATHS < LEISURE {
        thread::sleep(2 * breath * (QUICK_PIECE_SIZE / PIECE_SIZE) as u32);
        return QUICK_PIECE_SIZE;
    }
    thread::sleep(breath);
    PIECE_SIZE
}

/// A number for the name of a spare file.
pub(crate) fn spare_ticket(core: &Core) -> u64 {
    core.spare_ticket.fetch_add(1, Ordering::Relaxed)
}

/// Indexes every segment that is full and durable.
pub(crate) fn seal_all(core: &Core) -> Result<()> {
    let _sealing = core.sealing.lock().unwrap_or_else(PoisonError::into_inner);
    for segment in core.log.take_sealed() {
        core.segments().insert(segment.number(), segment);
    }
    let waiting: Vec<Arc<Segment>> =
        core.segments().values().filter(|segment| segment.index().is_none()).cloned().collect();
    for segment in waiting {
        index(core, &segment)?;
    }
    Ok(())
}

/// What is to be called between the small parts of long work, and rests after each stretch.
pub(crate) fn stretches(core: &Core) -> impl FnMut() {
    let mut since = Instant::now();
    move || {
        if since.elapsed() >= STRETCH && !core.is_closing() && !core.is_by_hand() {
            thread::sleep(REST);
            since = Instant::now();
        }
    }
}

/// Makes a segment's index and lets the queues look into it instead of at their own entries.
fn index(core: &Core, segment: &Arc<Segment>) -> Result<()> {
    let disk = &*core.env.disk;
    // One may be there from before the start; what is adopted now is not looked at as a start would.
    let found = SegmentIndex::open(disk, &segment.path, &segment.header);
    let index = match found.filter(|index| index.check_entries().is_ok()) {
        Some(index) => index,
        None => {
            let mut pause = stretches(core);
            let builder = read_frames(segment, &mut pause)?;
            write_index(disk, segment, builder, &mut pause)?
        }
    };
    adopt_index(core, segment, index)
}

/// Lets the queues look into an index instead of at their own entries.
pub(crate) fn adopt_index(core: &Core, segment: &Arc<Segment>, index: SegmentIndex) -> Result<()> {
    let runs: Vec<(usize, QueueId)> =
        (0..index.run_count()).map(|number| (number, QueueId(index.run(number).queue))).collect();
    segment.set_index(index);
    let numbers = segment.number()..=segment.header.last_number;
    for (run, queue) in runs {
        let replaced =
            core.state.with_id(queue, |queue| queue.ranges.replace(numbers.clone(), segment, run));
        replaced.transpose()?;
    }
    segment.set_indexed();
    Ok(())
}

/// Makes a segment's index from its frames, and writes it.
pub(crate) fn make_index(disk: &dyn Disk, segment: &Segment) -> Result<SegmentIndex> {
    write_index(disk, segment, read_frames(segment, &mut || {})?, &mut || {})
}

fn write_index(
    disk: &dyn Disk,
    segment: &Segment,
    builder: IndexBuilder,
    pause: &mut dyn FnMut(),
) -> Result<SegmentIndex> {
    segment_index::write(disk, &segment.path, &segment.header, builder, pause)?;
    pause();
    SegmentIndex::open(disk, &segment.path, &segment.header)
        .ok_or_else(|| segment.damaged(0, "the index just written cannot be read".to_owned()))
}

/// As [`make_index`], but writes nothing: what has to be made is kept in memory.
pub(crate) fn index_in_memory(_: &dyn Disk, segment: &Segment) -> Result<SegmentIndex> {
    let archive = read_frames(segment, &mut || {})?.finish(&mut || {});
    Ok(SegmentIndex::of(&archive, &segment.header))
}

/// Reads all frames of a segment into an index. `pause` is called after each.
fn read_frames(segment: &Segment, pause: &mut dyn FnMut()) -> Result<IndexBuilder> {
    let mut scanner = Scanner::new(segment);
    let mut builder = IndexBuilder::default();
    while let Some((frame_position, head, payload)) = scanner.next_frame() {
        pause();
        let record = Record::decode(&head, payload)
            .map_err(|error| segment.damaged(frame_position, error.to_string()))?;
        let Record::Posted { queue, first, client, messages } = record else { continue };
        for (message, seq) in messages.zip(first.0..) {
            let message =
                message.map_err(|error| segment.damaged(frame_position, error.to_string()))?;
            let entry = Entry::new(&message, frame_position, head.at_ms);
            builder.push(queue, seq, entry, client);
        }
    }
    match scanner.end() {
        ScanEnd::Sealed(_) | ScanEnd::Eof => Ok(builder),
        ScanEnd::Invalid(why) => Err(segment.damaged(scanner.position(), why.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank(log_bytes: u64, sync_count: u64) -> Blank {
        let at = Instant::now();
        let last = Milestone { at, log_bytes: 5 << 20, sync_count: 70 };
        let now = Milestone {
            at,
            log_bytes: last.log_bytes + log_bytes,
            sync_count: last.sync_count + sync_count,
        };
        blank_between(&last, &now)
    }

    #[test]
    fn segments_are_filled_for_small_syncs_and_reserved_for_large_ones() {
        // 64 posts of a KiB a sync.
        assert_eq!(blank(64 << 20, 1024), Blank::Filled);
        assert_eq!(blank(64 << 20, 513), Blank::Filled);
        assert_eq!(blank(64 << 20, 512), Blank::Reserved);
        // Nobody asks for a sync.
        assert_eq!(blank(64 << 20, 0), Blank::Reserved);
        // Segments so small that a sync never has many bytes.
        assert_eq!(blank(64 << 10, 0), Blank::Filled);
    }
}
