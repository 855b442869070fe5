//! How a replay goes on where something is wrong: what it takes note of, which indexes it uses instead,
//! which messages it gives up. Knows segments as `whole.rs` read them; opens no file.

use super::whole::{self, Hole, IndexState, Whole};
use crate::domain::{QueueId, Seq};
use crate::error::Result;
use crate::fault::{Fault, FaultKind, Lost, LostKind};
use crate::files::checkpoint::RangeShape;
use crate::files::format;
use crate::files::segment_index::SegmentIndex;
use crate::log::segment::Segment;
use crate::state::queue::Queue;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// A segment by its number and its generation.
pub(crate) type SegmentKey = (u64, u64);

/// What a replay needs to go on, and what it notes.
#[derive(Debug, Default)]
pub(crate) struct Lenience {
    pub(crate) faults: Vec<Fault>,
    /// An engine has the folder open: the log may lead to a segment made since the files were listed.
    pub(crate) is_live: bool,
    pub(crate) wholes: HashMap<SegmentKey, Whole>,
    /// Segments whose files are not what they were: a bad end of one is no torn tail.
    pub(crate) damaged: HashSet<SegmentKey>,
    /// The last segment in which frames were found; those before it were durable to their ends.
    pub(crate) last_with_frames: u64,
    pub(crate) removed: HashSet<QueueId>,
    pub(crate) retired: HashSet<u64>,
    /// Segments that were looked into through an index, with what died in their holes.
    indexed: BTreeMap<SegmentKey, BTreeMap<u64, Vec<(QueueId, Seq)>>>,
}

pub(crate) fn key(segment: &Segment) -> SegmentKey {
    (segment.number(), segment.header.generation)
}

impl Lenience {
    /// One that knows which files are not what they were.
    pub(crate) fn new(damaged: HashSet<SegmentKey>, is_live: bool) -> Lenience {
        Lenience { damaged, is_live, ..Lenience::default() }
    }

    /// The index to use for a segment: the one beside it, if that is right. Called for each segment that is looked into through its index.
    pub(crate) fn take_index(&mut self, segment: &Segment) -> Option<SegmentIndex> {
        self.indexed.entry(key(segment)).or_default();
        let whole = self.wholes.get_mut(&key(segment))?;
        if let Some(why) = whole::ends_early(whole.end) {
            let (position, why) = (whole.end_position, why.to_string());
            let size = segment.size().saturating_sub(position).max(1);
            whole.holes.push(Hole {
                position,
                size: u64::MAX - position,
                why: format!("{why}; {size} bytes follow"),
                said: None,
            });
        }
        whole.index.take()
    }

    /// Whether everything in this segment was durable once, because the log went on behind it.
    pub(crate) fn is_followed(&self, segment: &Segment) -> bool {
        segment.number() < self.last_with_frames || self.damaged.contains(&key(segment))
    }

    /// Which entries of a run are dead by a checkpoint's `range`. Bits are by place in the run as it was;
    /// where the run was made again from what could be read, places are found by number.
    pub(crate) fn dead_bits<'a>(
        &self,
        segment: &Segment,
        index: &SegmentIndex,
        run_number: usize,
        range: &'a RangeShape,
    ) -> Cow<'a, [u64]> {
        let whole = self.wholes.get(&key(segment));
        let is_partial =
            whole.is_some_and(|whole| whole.state != IndexState::Right && !whole.holes.is_empty());
        if !is_partial {
            return Cow::Borrowed(&range.bits);
        }
        let mut bits = Vec::new();
        if segment.header.generation > 0 {
            // Numbers have gaps here, and nobody knows where they were: what may live, lives.
            return Cow::Owned(bits);
        }
        let first_seq = index.run(run_number).first_seq;
        for (place, entry) in index.entries(run_number).into_iter().flatten().enumerate() {
            let seq = first_seq + u64::from(entry.read().seq_delta);
            let before = seq.saturating_sub(range.first_seq);
            let word = usize::try_from(before / 64).ok().and_then(|word| range.bits.get(word));
            let is_dead = word.is_some_and(|word| word >> (before % 64) & 1 == 1);
            if seq < range.first_seq || is_dead {
                bits.resize(bits.len().max(place / 64 + 1), 0);
                bits[place / 64] |= 1 << (place % 64);
            }
        }
        Cow::Owned(bits)
    }

    /// Gives up the messages of a run that lie where nothing can be read.
    pub(crate) fn bury(
        &mut self,
        queue: &mut Queue,
        segment: &Arc<Segment>,
        index: &SegmentIndex,
        run_number: usize,
    ) -> Result<()> {
        let run = index.run(run_number);
        queue.next_seq = queue.next_seq.max(Seq(run.last_seq + 1));
        let Some(whole) = self.wholes.get(&key(segment)) else { return Ok(()) };
        if whole.holes.is_empty() {
            return Ok(());
        }
        let dead = self.indexed.entry(key(segment)).or_default();
        for entry in index.entries(run_number).into_iter().flatten() {
            let entry = entry.read();
            let Some(hole) = whole.hole_at(u64::from(entry.at().position())) else { continue };
            let seq = Seq(run.first_seq + u64::from(entry.seq_delta));
            if queue.give_up(seq)? {
                dead.entry(hole.position).or_default().push((queue.id, seq));
            }
        }
        Ok(())
    }

    /// The faults of the segments that were looked into through an index, and of the indexes.
    pub(crate) fn conclude(&mut self, segments: &[Arc<Segment>]) {
        for segment in segments {
            let Some(whole) = self.wholes.get(&key(segment)) else { continue };
            let indexed = self.indexed.get(&key(segment));
            let path = format::index_path(&segment.path);
            match &whole.state {
                IndexState::Right => {}
                // A segment that is read frame by frame needs none.
                IndexState::Missing if indexed.is_none() => {}
                IndexState::Missing => {
                    let what = format!("there is no index {}", path.display());
                    self.faults.push(Fault::new(
                        FaultKind::IndexMissing,
                        &segment.path,
                        None,
                        what,
                    ));
                }
                IndexState::Damaged(why) => {
                    self.faults.push(Fault::new(FaultKind::IndexDamaged, path, None, why.clone()));
                }
                IndexState::Differs(why) => {
                    self.faults.push(Fault::new(FaultKind::IndexDiffers, path, None, why.clone()));
                }
            }
            let Some(dead) = indexed else { continue };
            for hole in &whole.holes {
                let size = hole.size.min(segment.size().saturating_sub(hole.position));
                let mut fault = whole::hole_fault(segment, &Hole { size, ..hole.clone() });
                if whole.state == IndexState::Right {
                    // The index tells what lay there, and the checkpoint which of it lived.
                    fault.lost = losses(dead.get(&hole.position).map_or(&[], Vec::as_slice));
                }
                self.faults.push(fault);
            }
        }
    }
}

/// Messages as losses: neighbours of one queue together.
fn losses(dead: &[(QueueId, Seq)]) -> Vec<Lost> {
    let mut losses: Vec<Lost> = Vec::new();
    for (queue, seq) in dead {
        if let Some(last) = losses.last_mut()
            && last.queue == Some(*queue)
            && last.first.is_some_and(|first| first.0 + last.count == seq.0)
        {
            last.count += 1;
            continue;
        }
        losses.push(Lost {
            what: LostKind::Messages,
            queue: Some(*queue),
            first: Some(*seq),
            count: 1,
            note: "as the index tells".to_owned(),
        });
    }
    losses
}
