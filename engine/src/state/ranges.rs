//! Where a queue's messages lie, and which of them live: ranges, one for each segment that holds
//! some, in the order of their numbers. Knows neither claims nor bodies.
//!
//! * A range of a segment that is still being appended to keeps its entries on the heap; one of an
//!   indexed segment looks at the index's run through the map, and keeps only what it must: where to
//!   look, and a bit for each message once one has died.
//! * Numbers in a range grow with the entries; they have gaps only where compaction left some.

use crate::domain::{ClientId, Seq};
use crate::error::{Error, Result};
use crate::files::format;
use crate::files::segment_index::{ArchivedEntry, Entry, Run};
use crate::log::segment::Segment;
use std::collections::VecDeque;
use std::sync::Arc;
use thin_vec::ThinVec;

/// A queue's messages in one segment. There may be millions, each seldom looked at: its lists take a word
/// here, and a range a line of the processor's cache.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) segment: Arc<Segment>,
    first_seq: u64,
    /// No living message here expires before.
    pub(crate) due_ms: u64,
    /// The entries, until the segment has its index.
    heap: Option<ThinVec<Fresh>>,
    /// One bit an entry, set when it is dead; entries beyond its end live.
    dead: ThinVec<u64>,
    live: u32,
    /// The run in the segment's index.
    run: u32,
}

const _: () = assert!(size_of::<Range>() <= 64);

/// A message of a segment without an index, which may not have been written yet: what would otherwise be read
/// there stands beside the entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fresh {
    entry: Entry,
    /// Who posted it, in bytes, since the number would have to be aligned.
    client: [u8; 16],
    ttl_s: u32,
}

const _: () = assert!(size_of::<Fresh>() == 40);

impl Fresh {
    /// That of a message with this ttl that `client` posted.
    pub(crate) fn new(entry: Entry, client: ClientId, ttl_s: u32) -> Fresh {
        Fresh { entry, client: client.0.to_le_bytes(), ttl_s }
    }

    fn client(&self) -> ClientId {
        ClientId(u128::from_le_bytes(self.client))
    }
}

/// A message found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) seq: Seq,
    pub(crate) entry: Entry,
    range: usize,
    ordinal: usize,
}

/// A range's entries, wherever they are.
enum Entries<'a> {
    Heap(&'a [Fresh]),
    Mapped(&'a [ArchivedEntry]),
}

impl Entries<'_> {
    fn len(&self) -> usize {
        match self {
            Entries::Heap(entries) => entries.len(),
            Entries::Mapped(entries) => entries.len(),
        }
    }

    fn get(&self, ordinal: usize) -> Entry {
        match self {
            Entries::Heap(entries) => entries[ordinal].entry,
            Entries::Mapped(entries) => entries[ordinal].read(),
        }
    }

    fn seq_delta(&self, ordinal: usize) -> u32 {
        match self {
            Entries::Heap(entries) => entries[ordinal].entry.seq_delta,
            Entries::Mapped(entries) => entries[ordinal].seq_delta.to_native(),
        }
    }

    /// The first entry whose delta is not below `delta`.
    fn ordinal_from(&self, delta: u64) -> usize {
        let count = self.len();
        // Nearly always dense: the delta is the place.
        let guess = usize::try_from(delta).unwrap_or(usize::MAX);
        if guess < count && u64::from(self.seq_delta(guess)) == delta {
            return guess;
        }
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if u64::from(self.seq_delta(middle)) < delta {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

impl Range {
    /// A range of an indexed segment, all of it living, not counted at the segment yet.
    pub(crate) fn mapped(segment: Arc<Segment>, run_number: usize, run: &Run) -> Range {
        Range {
            segment,
            first_seq: run.first_seq,
            due_ms: run.due_ms,
            heap: None,
            dead: ThinVec::new(),
            live: run.count,
            run: u32::try_from(run_number).expect("runs are numbered with 32 bits"),
        }
    }

    /// The number of its first entry.
    pub(crate) fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// How many of its messages live.
    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    /// Its bits of the dead; entries beyond their end live.
    pub(crate) fn dead_bits(&self) -> &[u64] {
        &self.dead
    }

    fn entries(&self) -> Result<Entries<'_>> {
        if let Some(heap) = &self.heap {
            return Ok(Entries::Heap(heap));
        }
        let index = self.segment.index().expect("a range without entries has an index");
        index.entries(self.run as usize).map(Entries::Mapped).ok_or_else(|| Error::Damaged {
            file: format::index_path(&self.segment.path),
            offset: 0,
            what: format!("the entries of run {} do not match their checksum", self.run),
            next_step: "restart the server: it is made again from the log",
        })
    }

    fn is_dead(&self, ordinal: usize) -> bool {
        self.dead.get(ordinal / 64).is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
    }

    /// The next living entry at or behind `ordinal`.
    fn next_live(&self, mut ordinal: usize, count: usize) -> Option<usize> {
        while ordinal < count {
            let Some(word) = self.dead.get(ordinal / 64) else { return Some(ordinal) };
            let living = !word >> (ordinal % 64);
            if living != 0 {
                let next = ordinal + living.trailing_zeros() as usize;
                return (next < count).then_some(next);
            }
            ordinal = (ordinal / 64 + 1) * 64;
        }
        None
    }

    /// The last living entry.
    fn last_live(&self, count: usize) -> Option<usize> {
        (0..count).rev().find(|ordinal| !self.is_dead(*ordinal))
    }

    /// Sets the bit; whether the entry lived.
    fn kill(&mut self, ordinal: usize, entry: &Entry) -> bool {
        if self.is_dead(ordinal) {
            return false;
        }
        if self.dead.len() <= ordinal / 64 {
            self.dead.resize(ordinal / 64 + 1, 0);
        }
        self.dead[ordinal / 64] |= 1 << (ordinal % 64);
        self.live -= 1;
        self.segment.count_live(-1, -(entry.cost() as i64));
        true
    }
}

/// All ranges of a queue.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    list: VecDeque<Range>,
    live: u64,
    /// Some range may be empty.
    has_empty: bool,
}

impl Ranges {
    /// How many messages live.
    pub(crate) fn live(&self) -> u64 {
        self.live
    }

    /// The ranges, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Range> {
        self.list.iter()
    }

    /// No message expires before, unless its life was extended.
    pub(crate) fn due_ms(&self) -> u64 {
        self.list.iter().map(|range| range.due_ms).min().unwrap_or(u64::MAX)
    }

    /// Adds up to `count` messages of one frame, which was just appended, or is read again at the start: `first` and
    /// the numbers behind it. Ends at one that is damaged.
    pub(crate) fn push_all(
        &mut self,
        segment: &Arc<Segment>,
        first: Seq,
        count: u32,
        messages: impl Iterator<Item = Result<Fresh>>,
    ) -> Result<()> {
        if count == 0 {
            // A range of nothing would never have a run in the index, and keep its segment.
            return Ok(());
        }
        let fits = self.list.back().is_some_and(|range| {
            range.segment.number() == segment.number()
                && range.heap.is_some()
                && first.0 - range.first_seq <= u64::from(u32::MAX - count)
        });
        if !fits {
            self.push_range(Range {
                segment: segment.clone(),
                first_seq: first.0,
                due_ms: u64::MAX,
                heap: Some(ThinVec::with_capacity(count as usize)),
                dead: ThinVec::new(),
                live: 0,
                run: 0,
            });
        }
        let range = self.list.back_mut().expect("one was just added");
        let heap = range.heap.as_mut().expect("checked above");
        let delta = u32::try_from(first.0 - range.first_seq).expect("checked above");
        let (mut due_ms, mut cost) = (range.due_ms, 0);
        let before = heap.len();
        let pushed = messages.zip(delta..).try_for_each(|(message, seq_delta)| {
            let mut message = message?;
            message.entry.seq_delta = seq_delta;
            due_ms = due_ms.min(message.entry.expires_ms());
            cost += message.entry.cost();
            heap.push(message);
            Ok(())
        });
        // Also of those before one that is damaged.
        let added = (heap.len() - before) as u32;
        range.due_ms = due_ms;
        range.live += added;
        self.live += u64::from(added);
        segment.count_live(added.into(), cost as i64);
        pushed
    }

    fn push_range(&mut self, range: Range) {
        if self.list.capacity() == 0 {
            // Most queues of many are small: room for one, not the usual four.
            self.list.reserve_exact(1);
        }
        self.list.push_back(range);
    }

    /// Adds a range of an indexed segment, behind all others, with what is known of its dead.
    pub(crate) fn push_mapped(&mut self, mut range: Range, dead: &[u64]) -> Result<()> {
        range.count_all();
        if !dead.is_empty() {
            let entries = range.entries()?;
            let count = entries.len();
            let killed: Vec<(usize, Entry)> = (0..count)
                .filter(|ordinal| {
                    dead.get(ordinal / 64).is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
                })
                .map(|ordinal| (ordinal, entries.get(ordinal)))
                .collect();
            for (ordinal, entry) in killed {
                range.kill(ordinal, &entry);
            }
        }
        if range.live > 0 {
            self.live += u64::from(range.live);
            self.push_range(range);
        }
        Ok(())
    }

    /// The living message with this number.
    pub(crate) fn find(&self, seq: Seq) -> Result<Option<Found>> {
        let after = self.list.partition_point(|range| range.first_seq <= seq.0);
        let Some(number) = after.checked_sub(1) else { return Ok(None) };
        let range = &self.list[number];
        let entries = range.entries()?;
        let delta = seq.0 - range.first_seq;
        let ordinal = entries.ordinal_from(delta);
        let is_it = ordinal < entries.len() && u64::from(entries.seq_delta(ordinal)) == delta;
        if !is_it || range.is_dead(ordinal) {
            return Ok(None);
        }
        Ok(Some(Found { seq, entry: entries.get(ordinal), range: number, ordinal }))
    }

    /// What lives in each range, counted anew: the segment's number, how many, what they cost. A range in
    /// which nothing died has what its run says.
    pub(crate) fn recount(&self) -> Result<Vec<(u64, u64, u64)>> {
        let recounted = self.list.iter().map(|range| {
            let number = range.segment.number();
            if range.heap.is_none() && range.dead.is_empty() {
                let index = range.segment.index().expect("a range without entries has an index");
                let run = index.run(range.run as usize);
                return Ok((number, u64::from(run.count), run.cost));
            }
            let entries = range.entries()?;
            let (mut count, mut cost, mut at) = (0, 0, 0);
            while let Some(ordinal) = range.next_live(at, entries.len()) {
                count += 1;
                cost += entries.get(ordinal).cost();
                at = ordinal + 1;
            }
            Ok((number, count, cost))
        });
        recounted.collect()
    }

    /// Whether the same messages live in both, as far as that shows without looking at each.
    pub(crate) fn is_alike(&self, other: &Ranges) -> bool {
        let living = |ranges: &Ranges| -> Vec<(u64, u64, u64, u32, Vec<u64>)> {
            let rows = ranges.list.iter().filter(|range| range.live > 0).map(|range| {
                let mut dead = range.dead.to_vec();
                dead.truncate(dead.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1));
                let (number, generation) =
                    (range.segment.number(), range.segment.header.generation);
                (number, generation, range.first_seq, range.live, dead)
            });
            rows.collect()
        };
        living(self) == living(other)
    }

    /// Visits living messages from number `from` on, in order, until `visit` says stop.
    pub(crate) fn walk(&self, from: Seq, mut visit: impl FnMut(Found) -> Walk) -> Result<()> {
        let after = self.list.partition_point(|range| range.first_seq <= from.0);
        for number in after.saturating_sub(1)..self.list.len() {
            let range = &self.list[number];
            if range.live == 0 {
                continue;
            }
            let entries = range.entries()?;
            let count = entries.len();
            let delta = from.0.saturating_sub(range.first_seq);
            let mut at = if delta == 0 { 0 } else { entries.ordinal_from(delta) };
            while let Some(ordinal) = range.next_live(at, count) {
                let entry = entries.get(ordinal);
                let seq = Seq(range.first_seq + u64::from(entry.seq_delta));
                let found = Found { seq, entry, range: number, ordinal };
                if let Walk::Stop = visit(found) {
                    return Ok(());
                }
                at = ordinal + 1;
            }
        }
        Ok(())
    }

    /// The newest living message.
    pub(crate) fn last(&self) -> Result<Option<Found>> {
        for (number, range) in self.list.iter().enumerate().rev() {
            if range.live == 0 {
                continue;
            }
            let entries = range.entries()?;
            if let Some(ordinal) = range.last_live(entries.len()) {
                let entry = entries.get(ordinal);
                let seq = Seq(range.first_seq + u64::from(entry.seq_delta));
                return Ok(Some(Found { seq, entry, range: number, ordinal }));
            }
        }
        Ok(None)
    }

    /// Kills a message that was found; nothing may have changed in between. Whether it lived.
    pub(crate) fn kill(&mut self, found: &Found) -> bool {
        let range = &mut self.list[found.range];
        let killed = range.kill(found.ordinal, &found.entry);
        self.has_empty |= range.live == 0;
        self.live -= u64::from(killed);
        killed
    }

    /// The segment of a message that was found.
    pub(crate) fn segment(&self, found: &Found) -> &Arc<Segment> {
        &self.list[found.range].segment
    }

    /// Who posted a message that was found; `None` where only its frame tells.
    pub(crate) fn client(&self, found: &Found) -> Option<ClientId> {
        let range = &self.list[found.range];
        match &range.heap {
            Some(heap) => Some(heap[found.ordinal].client()),
            None => range.segment.index()?.run(range.run as usize).client(),
        }
    }

    /// When a message that was found was posted. Where it has long been written its frame is asked.
    pub(crate) fn created_ms(&self, found: &Found) -> Result<u64> {
        let range = &self.list[found.range];
        match &range.heap {
            Some(heap) => Ok(found.entry.created_ms(heap[found.ordinal].ttl_s)),
            None => range.segment.posted_ms(found.entry.at(), found.entry.expires_ms()),
        }
    }

    /// The ranges in which something may be due by `cutoff_ms`.
    pub(crate) fn due_by(&self, cutoff_ms: u64) -> Vec<usize> {
        let is_due = |range: &Range| range.due_ms <= cutoff_ms && range.live > 0;
        (0..self.list.len()).filter(|number| is_due(&self.list[*number])).collect()
    }

    /// The living messages of one range, collected.
    pub(crate) fn living_of(
        &self,
        number: usize,
        mut wanted: impl FnMut(Seq, &Entry) -> bool,
    ) -> Result<Vec<Found>> {
        let range = &self.list[number];
        let entries = range.entries()?;
        let mut living = Vec::new();
        let mut at = 0;
        while let Some(ordinal) = range.next_live(at, entries.len()) {
            let entry = entries.get(ordinal);
            let seq = Seq(range.first_seq + u64::from(entry.seq_delta));
            if wanted(seq, &entry) {
                living.push(Found { seq, entry, range: number, ordinal });
            }
            at = ordinal + 1;
        }
        Ok(living)
    }

    /// Says when the next message of a range is due.
    pub(crate) fn set_due(&mut self, number: usize, due_ms: u64) {
        self.list[number].due_ms = due_ms;
    }

    /// Drops ranges in which nothing lives, but for those still being appended to.
    pub(crate) fn drop_empty(&mut self) {
        if !std::mem::take(&mut self.has_empty) {
            return;
        }
        self.list.retain(|range| range.live > 0 || range.segment.sealed_end().is_none());
    }

    /// Puts `run` of a new index in the place of all ranges of segments `first..=last`. What died
    /// there since the index was made is dead in it. Returns whether anything of it lives.
    pub(crate) fn replace(
        &mut self,
        numbers: std::ops::RangeInclusive<u64>,
        segment: &Arc<Segment>,
        run_number: usize,
    ) -> Result<bool> {
        let index = segment.index().expect("the new segment has its index");
        let run = index.run(run_number);
        let within = |range: &Range| {
            numbers.contains(&range.segment.number()) && range.first_seq <= run.last_seq
        };
        let Some(place) = self.list.iter().position(within) else { return Ok(false) };
        let mut new = Range::mapped(segment.clone(), run_number, &run);
        // The usual case, a segment that just got its index: the same entries in the same places,
        // counted already.
        let old = &mut self.list[place];
        let heap_count = old.heap.as_ref().map(|heap| heap.len());
        if old.first_seq == run.first_seq && heap_count == Some(run.count as usize) {
            new.dead = std::mem::take(&mut old.dead);
            new.live = old.live;
            new.due_ms = old.due_ms;
            if new.live == 0 {
                self.list.remove(place);
            } else {
                self.list[place] = new;
            }
        } else {
            new.count_all();
            self.carry_over(&numbers, place, new)?;
        }
        Ok(true)
    }

    /// The general case of [`Ranges::replace`]: entry by entry.
    fn carry_over(
        &mut self,
        numbers: &std::ops::RangeInclusive<u64>,
        place: usize,
        mut new: Range,
    ) -> Result<()> {
        let mut dead = Vec::new();
        let entries = new.entries()?;
        for ordinal in 0..entries.len() {
            let seq = Seq(new.first_seq + u64::from(entries.seq_delta(ordinal)));
            let lives = self
                .find(seq)?
                .is_some_and(|found| numbers.contains(&self.segment(&found).number()));
            if !lives {
                dead.push((ordinal, entries.get(ordinal)));
            }
        }
        for (ordinal, entry) in dead {
            new.kill(ordinal, &entry);
        }
        let last_seq = {
            let entries = new.entries()?;
            new.first_seq + u64::from(entries.seq_delta(entries.len() - 1))
        };
        let mut gone = 0u64;
        let mut kept = VecDeque::with_capacity(self.list.len());
        let mut new = Some(new);
        for (number, range) in std::mem::take(&mut self.list).into_iter().enumerate() {
            let replaced = numbers.contains(&range.segment.number()) && range.first_seq <= last_seq;
            if number == place {
                let new = new.take().expect("one place");
                self.live += u64::from(new.live);
                if new.live > 0 {
                    kept.push_back(new);
                }
            }
            if replaced {
                gone += u64::from(range.live);
                let cost = range.live_cost()?;
                range.segment.count_live(-i64::from(range.live), -cost);
            } else {
                kept.push_back(range);
            }
        }
        self.live -= gone;
        self.list = kept;
        Ok(())
    }

    /// Takes all messages away, as when the queue goes. Returns how many lived.
    pub(crate) fn clear(&mut self) -> u64 {
        for range in &self.list {
            // An index that cannot be read leaves its segment's count too high: space is kept, and
            // nothing is lost.
            if let Ok(cost) = range.live_cost() {
                range.segment.count_live(-i64::from(range.live), -cost);
            }
        }
        self.list.clear();
        std::mem::take(&mut self.live)
    }
}

impl Range {
    /// Counts all entries of a mapped range as living at its segment.
    fn count_all(&self) {
        let index = self.segment.index().expect("a mapped range has an index");
        let run = index.run(self.run as usize);
        self.segment.count_live(i64::from(run.count), run.cost as i64);
    }

    /// What its living messages cost.
    fn live_cost(&self) -> Result<i64> {
        if self.heap.is_none() && self.dead.is_empty() {
            let index = self.segment.index().expect("a range without entries has an index");
            return Ok(index.run(self.run as usize).cost as i64);
        }
        let entries = self.entries()?;
        let mut cost = 0;
        let mut at = 0;
        while let Some(ordinal) = self.next_live(at, entries.len()) {
            cost += entries.get(ordinal).cost() as i64;
            at = ordinal + 1;
        }
        Ok(cost)
    }
}

/// Whether a walk goes on.
pub(crate) enum Walk {
    /// Visit the next one.
    On,
    /// Enough.
    Stop,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Lsn;
    use crate::env::OsDisk;
    use crate::files::format::{SEGMENT_HEADER_SIZE, SegmentHeader};

    const SIZE: u64 = 64 << 10;

    fn segment(folder: &std::path::Path) -> Arc<Segment> {
        let header = SegmentHeader {
            engine_id: 1,
            number: 1,
            last_number: 1,
            generation: 0,
            base: Lsn(1),
            span: SIZE - SEGMENT_HEADER_SIZE,
            created_ms: 1,
            after_checkpoint: 0,
        };
        let prepared = Segment::prepare(&OsDisk, folder, SIZE, 0, || usize::MAX).expect("room");
        Arc::new(Segment::start(&OsDisk, folder, &prepared, header).expect("a segment"))
    }

    fn good() -> Result<Fresh> {
        let entry = Entry { seq_delta: 0, location: 64, expires_and_cost: 1 << 48 | 5 };
        Ok(Fresh::new(entry, ClientId(1), 60))
    }

    #[test]
    fn messages_of_a_frame_are_added_up_to_one_that_is_damaged() {
        let folder = tempfile::tempdir().expect("a folder");
        let segment = segment(folder.path());
        let mut ranges = Ranges::default();
        let none = ranges.push_all(&segment, Seq(1), 0, std::iter::empty());
        assert!(none.is_ok() && ranges.iter().next().is_none(), "a range of nothing");
        let damaged = segment.damaged(64, "rotten".to_owned());
        let messages = [good(), good(), Err(damaged), good()];
        assert!(ranges.push_all(&segment, Seq(7), 4, messages.into_iter()).is_err());
        let found = [6, 7, 8, 9].map(|seq| ranges.find(Seq(seq)).expect("no index").is_some());
        assert_eq!(found, [false, true, true, false]);
        assert_eq!((ranges.live(), segment.live_count(), segment.live_cost()), (2, 2, 2));
        assert_eq!(ranges.due_ms(), 5);
    }

    #[test]
    fn numbers_too_far_from_a_ranges_first_begin_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let segment = segment(folder.path());
        let most = u64::from(u32::MAX);
        for (first, range_count) in [(1 + most - 2, 1), (1 + most - 1, 2), (3 * most, 2)] {
            let mut ranges = Ranges::default();
            for first in [1, first] {
                let messages = [good(), good()].into_iter();
                ranges.push_all(&segment, Seq(first), 2, messages).expect("they are good");
            }
            assert_eq!(ranges.iter().count(), range_count, "{first}");
            for seq in [1, 2, first, first + 1] {
                let found = ranges.find(Seq(seq)).expect("no index");
                assert_eq!(found.map(|found| found.seq), Some(Seq(seq)));
            }
        }
    }
}
