//! Takes checkpoints: when, and what of the state goes into one.

use crate::core::Core;
use crate::domain::Lsn;
use crate::error::{Error, Result};
use crate::files::checkpoint::{
    CheckpointHeader, ClaimShape, LifeShape, QueueShape, RangeShape, Writer,
};
use crate::files::format;
use crate::metrics::add;
use crate::state::queue::Queue;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Checkpoints kept: the newest, and one to fall back to.
pub(crate) const KEPT: usize = 2;
/// Queues looked at under one lock of their shard.
const QUEUES_AT_ONCE: usize = 64;
/// A section is written when it holds about so many bytes.
const SECTION_SIZE: usize = 1 << 20;
/// Where many queues make a checkpoint large, so much more log is written between two: a byte of a checkpoint
/// costs about what writing, and replaying, a few bytes of log do.
const LOG_A_STATE: u64 = 8;
/// After so long without a checkpoint, one is written for whatever changed.
const IDLE_MS: u64 = 60_000;
/// While space waits to be given back, checkpoints follow each other at least so far apart.
const RECLAIM_MS: u64 = 10_000;

/// When the next checkpoint is due.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// How far the log was at the last checkpoint made for idleness' or for space's sake.
    quiet_end: Lsn,
    quiet_count: usize,
}

impl Schedule {
    /// After an interval of log, or several times the last checkpoint's own size, if that is more; after
    /// a while of anything; and twice more once writing stops, so that both checkpoints kept lie above all that
    /// died and its space can be given back.
    pub(crate) fn is_due(&mut self, core: &Core) -> bool {
        let newest = core.checkpoints().last().copied();
        let end = core.log.end();
        let Some(newest) = newest else { return true };
        let interval = core.config.checkpoint_interval_bytes.max(LOG_A_STATE * newest.size);
        if end.0 - newest.lsn.0 >= interval {
            return true;
        }
        let age_ms = core.now_ms().saturating_sub(newest.created_ms);
        let wait_ms = if has_dead_space(core) { RECLAIM_MS } else { IDLE_MS };
        if age_ms < wait_ms {
            return false;
        }
        if end != self.quiet_end {
            self.quiet_end = end;
            self.quiet_count = 0;
        }
        self.quiet_count += 1;
        self.quiet_count <= KEPT
    }
}

/// Whether some sealed segment could shrink, if only the checkpoints lay above it.
fn has_dead_space(core: &Core) -> bool {
    core.segments().values().any(|segment| segment.live_cost() * 2 < segment.disk_size())
}

/// Writes a checkpoint of the state as it is while the log goes on.
///
/// Each queue stands at the LSN of its own last record; replay starts where the log ended when this
/// began, and passes over what a queue already has.
pub(crate) fn write(core: &Core, clean: bool) -> Result<CheckpointHeader> {
    let _turn = core.turn.lock().unwrap_or_else(PoisonError::into_inner);
    core.check_writable()?;
    let number = core.last_checkpoint.fetch_add(1, Ordering::Relaxed) + 1;
    let folder = core.checkpoint_folder();
    let lsn = core.log.end();
    let mut writer = Writer::create(core.env.disk.clone(), &folder, number, lsn, core.now_ms())?;
    if let Err(error) = fill(core, &mut writer, clean) {
        writer.abandon();
        return Err(error);
    }
    // Where finishing fails it may have its name all the same.
    core.strays().push(number);
    let header = writer.finish(clean)?;
    core.strays().retain(|stray| *stray != number);
    let mut kept = core.checkpoints();
    kept.push(header);
    let surplus = kept.len().saturating_sub(KEPT);
    let old: Vec<u64> = kept.drain(..surplus).map(|old| old.number).collect();
    let is_enough = kept.len() == KEPT;
    drop(kept);
    core.strays().extend(old);
    if is_enough {
        remove_strays(core, &folder)?;
    }
    add(&core.counters.checkpoints, 1);
    tracing::debug!(number, lsn = lsn.0, size = header.size, "checkpoint written");
    Ok(header)
}

/// Removes checkpoints that nobody needs. What cannot be removed now is tried again.
fn remove_strays(core: &Core, folder: &Path) -> Result<()> {
    let mut strays = core.strays();
    while let Some(number) = strays.last() {
        let path = folder.join(format::checkpoint_name(*number));
        match core.env.disk.remove(&path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("removing", path, cause));
            }
            _ => strays.pop(),
        };
    }
    Ok(())
}

fn fill(core: &Core, writer: &mut Writer, clean: bool) -> Result<()> {
    let (mut pending, mut size) = (Vec::new(), 0);
    for number in 0..core.state.shard_count() {
        let mut after = None;
        loop {
            let mut shard = core.state.lock_shard(number);
            after = shard.visit_after(after.as_ref(), QUEUES_AT_ONCE, |queue| {
                let shape = shape(queue);
                size += shape.size();
                pending.push(shape);
            });
            drop(shard);
            if size >= SECTION_SIZE {
                let room = Vec::with_capacity(pending.len());
                writer.section(std::mem::replace(&mut pending, room))?;
                size = 0;
            }
            if after.is_none() {
                break;
            }
            if core.closing.load(Ordering::Acquire) && !clean {
                return Err(Error::Closed);
            }
        }
    }
    if !pending.is_empty() {
        writer.section(pending)?;
    }
    // A checkpoint never knows more than the log: what it holds has to be durable there first.
    core.log.sync_to(core.log.end())
}

fn shape(queue: &Queue) -> QueueShape {
    let mut shape = QueueShape {
        id: queue.id.0,
        as_of: queue.last_end.0,
        next_seq: queue.next_seq.0,
        cursor: queue.cursor.0,
        key: queue.key.as_bytes().to_vec(),
        metadata: queue.metadata.to_vec(),
        floor: queue.floor.map_or(0, |floor| floor as u8),
        claims: Vec::new(),
        returned: Vec::new(),
        lives: Vec::new(),
        ranges: Vec::new(),
        extra: Vec::new(),
    };
    if let Some(claims) = queue.claims() {
        shape.claims = claims
            .iter()
            .map(|(id, claim)| ClaimShape {
                id: id.0.0,
                renewed_ms: claim.renewed_ms,
                ttl_s: claim.ttl_s,
                grace_s: claim.grace_s,
                seqs: claim.seqs.iter().map(|seq| seq.0).collect(),
            })
            .collect();
        shape.returned = claims.returned().map(|(first, last)| [first, last]).collect();
        shape.lives = claims
            .lives()
            .map(|(seq, life)| LifeShape {
                seq: seq.0,
                expires_ms: life.expires_ms,
                ttl_s: life.ttl_s,
            })
            .collect();
    }
    shape.ranges = queue
        .ranges
        .iter()
        .filter(|range| range.live() > 0)
        .map(|range| RangeShape {
            segment: range.segment.number(),
            generation: range.segment.header.generation,
            first_seq: range.first_seq(),
            bits: range.dead_bits().to_vec(),
        })
        .collect();
    shape
}
