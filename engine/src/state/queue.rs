//! One queue: what it is, what it decides, and how a record changes it.
//! No I/O but looks into mapped indexes, no clock: times are given. Knows no other queue.
//!
//! * `decide_*` looks and refuses or says what to write; at most it notices what time has done
//!   (claims that ran out, messages that expired), which every later look would notice too.
//! * `apply_*` changes the queue from a record alone, alive and at recovery alike.

use super::claims::{Claim, Claims, Life};
use super::ranges::{Found, Fresh, Ranges, Walk};
use crate::domain::{
    ClaimId, ClientId, Durability, ListFilter, Lsn, MessageId, QueueId, QueueKey, QueueStats, Seq,
    StatMessage,
};
use crate::error::{Error, Result};
use crate::files::segment_index::Entry;
use crate::log::record::{MessageRecord, Messages, Record};
use crate::log::segment::{self, Segment};
use crate::log::stored::Stored;
use std::sync::Arc;

/// Entries a listing looks at before it lets other queues of the shard go on.
const LIST_STEPS: usize = 32 * 1024;

/// A queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    pub(crate) key: QueueKey,
    pub(crate) metadata: Box<[u8]>,
    pub(crate) floor: Option<Durability>,
    /// What writes get at least: the floor, or what the configuration says.
    pub(crate) durability: Durability,
    /// The number of the next message.
    pub(crate) next_seq: Seq,
    /// No message at or behind this was ever claimed; those before were, or are dead.
    pub(crate) cursor: Seq,
    /// The LSN behind the last record that concerned this queue.
    pub(crate) last_end: Lsn,
    /// Records that end at or before this are part of the checkpoint it was read from.
    pub(crate) as_of: Lsn,
    pub(crate) ranges: Ranges,
    claims: Option<Box<Claims>>,
}

/// A message as a listing or a claim found it; its body is still in the log.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) seq: Seq,
    pub(crate) entry: Entry,
    /// The ttl that a claim gave it, in the place of the one it was posted with.
    pub(crate) ttl_s: Option<u32>,
    pub(crate) claim: Option<ClaimId>,
    /// It was to be left out if posted by a certain client, and only its frame tells.
    pub(crate) is_by_unknown: bool,
    pub(crate) segment: Arc<Segment>,
}

/// A message that was found and read.
#[derive(Debug)]
pub(crate) struct Read {
    /// As it was posted.
    pub(crate) stored: Stored,
    pub(crate) created_ms: u64,
    /// The ttl it shows: as posted, or as a claim extended it.
    pub(crate) ttl_s: u32,
}

impl Located {
    /// Whether the filter leaves it out after all, since its frame says who posted it.
    pub(crate) fn is_left_out(&self, filter: ListFilter) -> Result<bool> {
        Ok(self.is_by_unknown && filter.leaves_out(self.segment.client(self.entry.at())?))
    }

    /// Reads it, which has to be written.
    pub(crate) fn read(&self, queue: QueueId) -> Result<Read> {
        let id = MessageId { queue, seq: self.seq };
        let stored = self.segment.message(self.entry.at(), id)?;
        let created_ms = self.entry.created_ms(stored.ttl_s);
        let ttl_s = self.ttl_s.unwrap_or(stored.ttl_s);
        Ok(Read { stored, created_ms, ttl_s })
    }
}

/// Where a record lies, and when it was made.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) lsn: Lsn,
    /// The LSN behind it.
    pub(crate) end: Lsn,
    pub(crate) at_ms: u64,
    pub(crate) segment: &'a Arc<Segment>,
    /// Where in the segment its frame begins.
    pub(crate) position: u64,
}

impl Place<'_> {
    /// A message that lies in the frame here, and that `client` posted.
    pub(crate) fn fresh(&self, message: &MessageRecord<'_>, client: ClientId) -> Fresh {
        let entry = Entry::new(message, self.position, self.at_ms);
        Fresh::new(entry, client, message.ttl_s)
    }
}

/// How many messages expired while a decision looked at them.
pub(crate) type Expired = u64;

impl Queue {
    pub(crate) fn new(id: QueueId, key: QueueKey, durability: Durability) -> Queue {
        Queue {
            id,
            key,
            metadata: Box::default(),
            floor: None,
            durability,
            next_seq: Seq(1),
            cursor: Seq(1),
            last_end: Lsn(0),
            as_of: Lsn(0),
            ranges: Ranges::default(),
            claims: None,
        }
    }

    /// The durability of a write that asks for `ask`.
    pub(crate) fn demand(&self, ask: Option<Durability>) -> Durability {
        ask.map_or(self.durability, |ask| ask.max(self.durability))
    }

    pub(crate) fn claims(&self) -> Option<&Claims> {
        self.claims.as_deref()
    }

    pub(crate) fn claims_mut(&mut self) -> &mut Claims {
        self.claims.get_or_insert_default()
    }

    fn give_back_due(&mut self, now_ms: u64) {
        if let Some(claims) = &mut self.claims {
            claims.give_back_due(now_ms);
            if claims.is_empty() {
                self.claims = None;
            }
        }
    }

    fn holder(&self, seq: Seq) -> Option<ClaimId> {
        self.claims().and_then(|claims| claims.holder(seq))
    }

    /// When a message dies: as posted, or as a claim extended its life.
    fn expires_ms(&self, found: &Found) -> u64 {
        let life = self.claims().and_then(|claims| claims.life(found.seq));
        life.map_or(found.entry.expires_ms(), |life| life.expires_ms)
    }

    /// The ttl that a claim gave a message.
    pub(crate) fn ttl_s(&self, seq: Seq) -> Option<u32> {
        Some(self.claims()?.life(seq)?.ttl_s)
    }

    fn locate(&self, found: &Found) -> Located {
        Located {
            seq: found.seq,
            entry: found.entry,
            ttl_s: self.ttl_s(found.seq),
            claim: self.holder(found.seq),
            is_by_unknown: false,
            segment: self.ranges.segment(found).clone(),
        }
    }

    fn kill(&mut self, found: &Found) -> bool {
        if let Some(claims) = &mut self.claims {
            claims.forget(found.seq);
        }
        self.ranges.kill(found)
    }

    /// When this queue next wants a look of the background thread.
    pub(crate) fn due_ms(&self) -> u64 {
        let claims = self.claims().map_or(u64::MAX, Claims::due_ms);
        claims.min(self.ranges.due_ms())
    }

    // ---- looking ----

    /// Notices what died by `now_ms` in ranges that were due by `cutoff_ms`. Exact counts want both
    /// to be now; the background thread looks less often than messages fall due.
    pub(crate) fn expire(&mut self, now_ms: u64, cutoff_ms: u64) -> Result<Expired> {
        self.give_back_due(now_ms);
        let mut expired = 0;
        for number in self.ranges.due_by(cutoff_ms) {
            let mut next_due_ms = u64::MAX;
            let dying = self.ranges.living_of(number, |seq, entry| {
                let life = self.claims().and_then(|claims| claims.life(seq));
                let expires_ms = life.map_or(entry.expires_ms(), |life| life.expires_ms);
                if expires_ms > now_ms {
                    next_due_ms = next_due_ms.min(expires_ms);
                }
                expires_ms <= now_ms
            })?;
            for found in &dying {
                expired += u64::from(self.kill(found));
            }
            self.ranges.set_due(number, next_due_ms);
        }
        self.ranges.drop_empty();
        Ok(expired)
    }

    /// Exact counts, once all that is due was noticed.
    pub(crate) fn stats(&self, now_ms: u64) -> Result<QueueStats> {
        Ok(QueueStats { ends: self.ends(now_ms)?, ..self.counts() })
    }

    /// As [`Queue::stats`], but for the oldest and the newest message.
    pub(crate) fn counts(&self) -> QueueStats {
        let claimed = self.claims().map_or(0, Claims::held_count);
        QueueStats { free: self.ranges.live().saturating_sub(claimed), claimed, ends: None }
    }

    /// The oldest and the newest living message.
    pub(crate) fn ends(&self, now_ms: u64) -> Result<Option<(StatMessage, StatMessage)>> {
        let mut oldest = None;
        self.ranges.walk(Seq(0), |found| {
            oldest = Some(found);
            Walk::Stop
        })?;
        let describe = |found: Found| {
            let created_ms = self.ranges.created_ms(&found)?;
            let id = MessageId { queue: self.id, seq: found.seq };
            let age_s = now_ms.saturating_sub(created_ms) / 1000;
            Ok::<_, Error>(StatMessage { id, created_ms, age_s })
        };
        let oldest = oldest.map(describe).transpose()?;
        Ok(oldest.zip(self.ranges.last()?.map(describe).transpose()?))
    }

    /// Shows up to `limit` messages behind `after` that pass the filter, but for who posted them where only their
    /// frames tell ([`Located::is_by_unknown`]). Looks at a bounded number of entries, and says where to go on; `None`
    /// when nothing is behind what was shown, or `show` did not want it.
    pub(crate) fn list(
        &mut self,
        after: Seq,
        limit: usize,
        filter: ListFilter,
        now_ms: u64,
        mut show: impl FnMut(Located) -> Walk,
    ) -> Result<Option<Seq>> {
        self.give_back_due(now_ms);
        let mut more_from = None;
        let (mut shown, mut steps) = (0, 0);
        self.ranges.walk(Seq(after.0.saturating_add(1)), |found| {
            steps += 1;
            if shown == limit || steps > LIST_STEPS {
                more_from = Some(Seq(found.seq.0 - 1));
                return Walk::Stop;
            }
            let client = filter.not_by.and_then(|_| self.ranges.client(&found));
            let wanted = !client.is_some_and(|client| filter.leaves_out(client))
                && self.expires_ms(&found) > now_ms
                && (filter.include_claimed || self.holder(found.seq).is_none());
            if !wanted {
                return Walk::On;
            }
            shown += 1;
            let is_by_unknown = filter.not_by.is_some() && client.is_none();
            show(Located { is_by_unknown, ..self.locate(&found) })
        })?;
        Ok(more_from)
    }

    /// Visits the living messages from number `from` on, in order, each with the time of its death.
    pub(crate) fn visit(
        &self,
        from: Seq,
        now_ms: u64,
        mut look: impl FnMut(Located, u64) -> Walk,
    ) -> Result<()> {
        self.ranges.walk(from, |found| {
            let expires_ms = self.expires_ms(&found);
            if expires_ms <= now_ms { Walk::On } else { look(self.locate(&found), expires_ms) }
        })
    }

    /// A living message.
    pub(crate) fn get(&mut self, seq: Seq, now_ms: u64) -> Result<Option<Located>> {
        self.give_back_due(now_ms);
        Ok(self.find(seq, now_ms)?.map(|found| self.locate(&found)))
    }

    fn find(&self, seq: Seq, now_ms: u64) -> Result<Option<Found>> {
        Ok(self.ranges.find(seq)?.filter(|found| self.expires_ms(found) > now_ms))
    }

    /// A live claim, and the messages it still holds.
    pub(crate) fn claim_get(
        &mut self,
        id: ClaimId,
        now_ms: u64,
    ) -> Result<Option<(Claim, Vec<Located>)>> {
        self.give_back_due(now_ms);
        let Some(claim) = self.claims().and_then(|claims| claims.get(id)).cloned() else {
            return Ok(None);
        };
        let mut held = Vec::with_capacity(claim.seqs.len());
        for seq in &claim.seqs {
            if let Some(found) = self.find(*seq, now_ms)? {
                held.push(self.locate(&found));
            }
        }
        Ok(Some((claim, held)))
    }

    // ---- deciding ----

    /// Which messages a claim made now would get: first what came back, then what was never claimed.
    /// Messages met on the way that have expired are dead from now on.
    pub(crate) fn decide_claim(
        &mut self,
        limit: usize,
        now_ms: u64,
    ) -> Result<(Vec<Located>, Expired)> {
        self.give_back_due(now_ms);
        let mut taken: Vec<Found> = Vec::with_capacity(limit.min(64));
        let mut dying: Vec<Found> = Vec::new();
        let mut from = Seq(0);
        while taken.len() < limit {
            let Some(seq) = self.claims().and_then(|claims| claims.next_returned(from)) else {
                break;
            };
            from = Seq(seq.0 + 1);
            match self.ranges.find(seq)? {
                Some(found) if self.expires_ms(&found) > now_ms => taken.push(found),
                Some(found) => dying.push(found),
                // Its segment's index says it is dead already: nothing to take.
                None => self.claims_mut().forget(seq),
            }
        }
        if taken.len() < limit {
            self.ranges.walk(self.cursor, |found| {
                if taken.len() == limit {
                    return Walk::Stop;
                }
                if self.expires_ms(&found) > now_ms {
                    taken.push(found);
                } else {
                    dying.push(found);
                }
                Walk::On
            })?;
        }
        let taken: Vec<Located> = taken.iter().map(|found| self.locate(found)).collect();
        let expired = dying.len() as u64;
        for found in &dying {
            self.kill(found);
        }
        Ok((taken, expired))
    }

    /// Whether this message may be deleted: the table of section 11.6 of the v1 specification.
    /// `Ok(None)` when there is nothing to delete.
    pub(crate) fn decide_delete(
        &mut self,
        seq: Seq,
        claim: Option<Option<ClaimId>>,
        now_ms: u64,
    ) -> Result<Option<Seq>> {
        self.give_back_due(now_ms);
        if self.find(seq, now_ms)?.is_none() {
            return Ok(None);
        }
        let named = claim.map(|named| {
            named.filter(|id| self.claims().is_some_and(|claims| claims.get(*id).is_some()))
        });
        match (self.holder(seq), named) {
            (None, None) => Ok(Some(seq)),
            (None, Some(_)) | (Some(_), Some(None)) => Err(Error::ClaimMismatch),
            (Some(_), None) => Err(Error::Claimed),
            (Some(holder), Some(Some(named))) if holder == named => Ok(Some(seq)),
            (Some(_), Some(Some(_))) => Err(Error::Claimed),
        }
    }

    /// Those of `seqs` that live, each once.
    pub(crate) fn decide_delete_many(&mut self, seqs: &[Seq], now_ms: u64) -> Result<Vec<Seq>> {
        self.give_back_due(now_ms);
        let mut living = Vec::with_capacity(seqs.len());
        for seq in seqs {
            if !living.contains(seq) && self.find(*seq, now_ms)?.is_some() {
                living.push(*seq);
            }
        }
        Ok(living)
    }

    /// Whether this claim lives.
    pub(crate) fn decide_claim_change(&mut self, id: ClaimId, now_ms: u64) -> Result<()> {
        self.give_back_due(now_ms);
        let lives = self.claims().is_some_and(|claims| claims.get(id).is_some());
        if lives { Ok(()) } else { Err(Error::NoSuchClaim) }
    }

    // ---- applying ----

    /// Changes the queue as `record`, which lies at `place`, says. Records that make or remove a
    /// queue concern its shard, not the queue. Returns how many messages were deleted.
    ///
    /// # Errors
    /// Only when an index it has to look into is damaged.
    pub(crate) fn apply(&mut self, place: &Place<'_>, record: &Record<'_>) -> Result<u64> {
        let mut deleted = 0;
        match record {
            Record::QueueCreated { .. }
            | Record::QueueRemoved { .. }
            | Record::SegmentEnd
            | Record::SegmentRetired { .. } => {}
            Record::QueueChanged { floor, metadata, .. } => {
                if let Some(floor) = floor {
                    self.floor = Some(*floor);
                    self.durability = *floor;
                }
                if let Some(metadata) = metadata {
                    self.metadata = (*metadata).into();
                }
            }
            Record::Posted { first, client, messages, .. } => {
                let behind = first.0.saturating_add(messages.declared().into());
                self.add_messages(place, *first, *client, messages.clone())?;
                self.next_seq = self.next_seq.max(Seq(behind));
            }
            Record::Claimed { ttl_s, grace_s, seqs, .. } => {
                let seqs = seqs.iter().collect();
                self.apply_claim(ClaimId(place.lsn), place.at_ms, *ttl_s, *grace_s, seqs)?;
            }
            Record::Renewed { claim, ttl_s, grace_s, .. } => {
                self.apply_renew(*claim, place.at_ms, *ttl_s, *grace_s)?;
            }
            Record::Released { claim, .. } => self.apply_release(*claim),
            Record::Deleted { seqs, .. } => deleted = self.apply_delete(seqs.iter())?,
            Record::Resumed { skipped } => self.next_seq = Seq(self.next_seq.0 + skipped),
        }
        self.last_end = place.end;
        Ok(deleted)
    }

    /// Adds the messages of the frame at `place`: they were posted, or a checkpoint counts them already and they are
    /// found again in the log.
    pub(crate) fn add_messages(
        &mut self,
        place: &Place<'_>,
        first: Seq,
        client: ClientId,
        messages: Messages<'_>,
    ) -> Result<()> {
        let count = messages.declared();
        let fresh = messages.map(|message| {
            let message = message.map_err(|what| {
                segment::damaged(&place.segment.path, place.position, what.to_string())
            })?;
            Ok(place.fresh(&message, client))
        });
        self.ranges.push_all(place.segment, first, count, fresh)
    }

    /// A message that is known to be dead, found again in the log.
    pub(crate) fn restore_death(&mut self, seq: Seq) -> Result<()> {
        if let Some(found) = self.ranges.find(seq)? {
            self.ranges.kill(&found);
        }
        Ok(())
    }

    /// A message that cannot be read: it dies, wherever it was. Whether it lived.
    pub(crate) fn give_up(&mut self, seq: Seq) -> Result<bool> {
        Ok(self.ranges.find(seq)?.is_some_and(|found| self.kill(&found)))
    }

    /// The claimed messages that are not there.
    pub(crate) fn absent_claimed(&self) -> Result<Vec<Seq>> {
        let mut absent = Vec::new();
        let held = self.claims().into_iter().flat_map(|claims| claims.iter());
        for seq in held.flat_map(|(_, claim)| claim.seqs.iter().copied()) {
            if self.ranges.find(seq)?.is_none() {
                absent.push(seq);
            }
        }
        Ok(absent)
    }

    /// Claims hold only what is there: for when something was lost under them.
    pub(crate) fn forget_absent(&mut self) -> Result<()> {
        for seq in self.absent_claimed()? {
            self.claims_mut().forget(seq);
        }
        Ok(())
    }

    /// A claim was made.
    fn apply_claim(
        &mut self,
        id: ClaimId,
        at_ms: u64,
        ttl_s: u32,
        grace_s: u32,
        seqs: Vec<Seq>,
    ) -> Result<()> {
        let mut held = Vec::with_capacity(seqs.len());
        for seq in seqs {
            // What the cursor passes without taking had expired: the claim proves it.
            if seq > self.cursor {
                let mut passed = Vec::new();
                self.ranges.walk(self.cursor, |found| {
                    if found.seq >= seq {
                        return Walk::Stop;
                    }
                    passed.push(found);
                    Walk::On
                })?;
                for found in &passed {
                    if self.holder(found.seq).is_none() {
                        self.kill(found);
                    }
                }
            }
            self.cursor = self.cursor.max(Seq(seq.0 + 1));
            if let Some(found) = self.ranges.find(seq)? {
                held.push(found);
            }
        }
        held.sort_by_key(|found| found.seq);
        let seqs: Vec<Seq> = held.iter().map(|found| found.seq).collect();
        let claim = Claim { renewed_ms: at_ms, ttl_s, grace_s, seqs };
        self.claims_mut().insert(id, claim);
        for found in &held {
            self.extend(found, at_ms, ttl_s, grace_s);
        }
        Ok(())
    }

    /// The rule of section 13.4: a message lives at least until the claim's end and the grace.
    fn extend(&mut self, found: &Found, at_ms: u64, ttl_s: u32, grace_s: u32) {
        let kept_s = u64::from(ttl_s) + u64::from(grace_s);
        let keep_until_ms = at_ms.saturating_add(kept_s * 1000);
        if self.expires_ms(found) < keep_until_ms {
            let ttl_s = u32::try_from(kept_s).unwrap_or(u32::MAX);
            self.claims_mut().extend(found.seq, Life { expires_ms: keep_until_ms, ttl_s });
        }
    }

    /// A claim was renewed.
    fn apply_renew(&mut self, id: ClaimId, at_ms: u64, ttl_s: u32, grace_s: u32) -> Result<()> {
        let Some(claim) = self.claims().and_then(|claims| claims.get(id)) else { return Ok(()) };
        let seqs = claim.seqs.clone();
        self.claims_mut().renew(id, at_ms, ttl_s, grace_s);
        for seq in seqs {
            if let Some(found) = self.ranges.find(seq)? {
                self.extend(&found, at_ms, ttl_s, grace_s);
            }
        }
        Ok(())
    }

    /// A claim was given up.
    fn apply_release(&mut self, id: ClaimId) {
        if let Some(claims) = &mut self.claims {
            claims.release(id);
        }
    }

    /// Messages were deleted. How many of them lived.
    fn apply_delete(&mut self, seqs: impl IntoIterator<Item = Seq>) -> Result<u64> {
        let mut deleted = 0;
        for seq in seqs {
            if let Some(found) = self.ranges.find(seq)? {
                deleted += u64::from(self.kill(&found));
            } else if let Some(claims) = &mut self.claims {
                claims.forget(seq);
            }
        }
        self.ranges.drop_empty();
        Ok(deleted)
    }
}
