//! The reference model: the whole domain in plain collections, slow and obvious, and what every
//! store has to agree with. Time and fresh ids are given by the caller, so that a test can drive
//! it beside an engine and compare every answer. Knows no file, no thread and no HTTP.
//!
//! - A message lives while `now < expires_ms`; the dead are seen by no operation.
//! - A claim lives while `now < expires_ms`; a message is claimed while the claim it names lives.
//! - A message keeps its place in its queue's order whatever happens to it.
//! - Sequence numbers count from 1 in each queue; a queue made again is another queue.

use bytes::Bytes;
use marconi_engine::{
    ClaimId, ClientId, Created, Durability, Error, ListFilter, Marker, MessageId, NewMessage,
    QueueEntry, QueueId, QueueInfo, QueueKey, QueueStats, Seq, StatMessage,
};
use marconi_server::store::{Claim, Message, Page};
use std::collections::BTreeMap;

const MS_PER_S: u64 = 1000;

/// The whole of a store's content.
#[derive(Debug, Clone)]
pub struct Model {
    durability: Durability,
    queues: BTreeMap<QueueKey, Queue>,
}

#[derive(Debug, Clone)]
struct Queue {
    id: QueueId,
    metadata: Bytes,
    floor: Option<Durability>,
    last_seq: Seq,
    messages: BTreeMap<Seq, Held>,
    claims: BTreeMap<ClaimId, HeldClaim>,
}

#[derive(Debug, Clone)]
struct Held {
    by: ClientId,
    body: Bytes,
    ttl_s: u32,
    created_ms: u64,
    expires_ms: u64,
    /// The claim that took it last, living or not.
    claim: Option<ClaimId>,
}

#[derive(Debug, Clone)]
struct HeldClaim {
    ttl_s: u32,
    since_ms: u64,
    expires_ms: u64,
}

impl Queue {
    fn live_claim(&self, now_ms: u64, id: ClaimId) -> Option<&HeldClaim> {
        self.claims.get(&id).filter(|claim| now_ms < claim.expires_ms)
    }

    fn live(&self, now_ms: u64) -> impl Iterator<Item = (Seq, &Held)> {
        self.messages
            .iter()
            .filter(move |(_, held)| now_ms < held.expires_ms)
            .map(|(seq, held)| (*seq, held))
    }

    fn live_message(&self, now_ms: u64, id: MessageId) -> Option<&Held> {
        self.messages.get(&id.seq).filter(|held| id.queue == self.id && now_ms < held.expires_ms)
    }

    /// The live claim that holds a message.
    fn holder(&self, now_ms: u64, held: &Held) -> Option<ClaimId> {
        held.claim.filter(|id| self.live_claim(now_ms, *id).is_some())
    }

    fn shown(&self, now_ms: u64, seq: Seq, held: &Held) -> Message {
        Message {
            id: MessageId { queue: self.id, seq },
            ttl_s: held.ttl_s,
            age_s: age_s(now_ms, held.created_ms),
            body: held.body.clone(),
            claim: self.holder(now_ms, held),
        }
    }

    fn shown_claim(&self, now_ms: u64, id: ClaimId) -> Option<Claim> {
        let claim = self.live_claim(now_ms, id)?;
        Some(Claim {
            id,
            ttl_s: claim.ttl_s,
            age_s: age_s(now_ms, claim.since_ms),
            messages: self
                .live(now_ms)
                .filter(|(_, held)| held.claim == Some(id))
                .map(|(seq, held)| self.shown(now_ms, seq, held))
                .collect(),
        })
    }

    /// Starts a claim's time, and lets its messages outlive it by `grace_s`.
    fn start_claim(&mut self, now_ms: u64, id: ClaimId, ttl_s: u32, grace_s: u32) {
        let expires_ms = now_ms + u64::from(ttl_s) * MS_PER_S;
        self.claims.insert(id, HeldClaim { ttl_s, since_ms: now_ms, expires_ms });
        let keep_until_ms = expires_ms + u64::from(grace_s) * MS_PER_S;
        for held in self.messages.values_mut() {
            let mine = held.claim == Some(id) && now_ms < held.expires_ms;
            if mine && held.expires_ms < keep_until_ms {
                held.expires_ms = keep_until_ms;
                held.ttl_s = ttl_s + grace_s;
            }
        }
    }
}

fn age_s(now_ms: u64, since_ms: u64) -> u64 {
    now_ms.saturating_sub(since_ms) / MS_PER_S
}

impl Model {
    /// An empty store that gives writes `durability` where nobody asks for another.
    pub fn new(durability: Durability) -> Model {
        Model { durability, queues: BTreeMap::new() }
    }

    /// The durability a write to `key` gets.
    pub fn durability_of(&self, key: &QueueKey, ask: Option<Durability>) -> Durability {
        let floor = self.queues.get(key).and_then(|queue| queue.floor);
        let least = floor.unwrap_or(self.durability);
        ask.map_or(least, |ask| ask.max(least))
    }

    /// Makes a queue known as `fresh`, or finds it.
    pub fn create_queue(
        &mut self,
        key: &QueueKey,
        floor: Option<Durability>,
        fresh: QueueId,
    ) -> Created {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.floor = floor.or(queue.floor);
            return Created::Existing;
        }
        let queue = Queue {
            id: fresh,
            metadata: Bytes::new(),
            floor,
            last_seq: Seq(0),
            messages: BTreeMap::new(),
            claims: BTreeMap::new(),
        };
        self.queues.insert(key.clone(), queue);
        Created::New
    }

    /// Knows a queue by another id from now on: for whoever learns it from the first post only.
    pub fn adopt_id(&mut self, key: &QueueKey, id: QueueId) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.id = id;
        }
    }

    /// Numbers on from behind `last` in this queue: for a store that skips numbers it may have given
    /// out before a crash.
    ///
    /// # Panics
    /// When a message has a larger number already.
    pub fn skip_numbers(&mut self, key: &QueueKey, last: Seq) {
        if let Some(queue) = self.queues.get_mut(key) {
            assert!(queue.last_seq <= last, "numbers are never reused");
            queue.last_seq = last;
        }
    }

    /// The moments at which a message dies or died, a claim runs or ran out.
    pub fn ends(&self) -> impl Iterator<Item = u64> {
        let deaths = self.queues.values().flat_map(|queue| queue.messages.values());
        let ends = self.queues.values().flat_map(|queue| queue.claims.values());
        deaths.map(|held| held.expires_ms).chain(ends.map(|claim| claim.expires_ms))
    }

    /// What is kept with a queue.
    pub fn queue(&self, key: &QueueKey) -> Result<QueueInfo, Error> {
        let queue = self.queues.get(key).ok_or(Error::NoSuchQueue)?;
        Ok(QueueInfo {
            metadata: queue.metadata.clone(),
            floor: queue.floor,
            durability: self.durability_of(key, None),
        })
    }

    /// Replaces a queue's metadata.
    pub fn set_metadata(&mut self, key: &QueueKey, metadata: Bytes) -> Result<(), Error> {
        self.queues.get_mut(key).ok_or(Error::NoSuchQueue)?.metadata = metadata;
        Ok(())
    }

    /// Removes a queue with all it holds.
    pub fn remove_queue(&mut self, key: &QueueKey) {
        self.queues.remove(key);
    }

    /// Up to `limit` queues of a project whose names come after `marker`, sorted by name.
    pub fn queues(
        &self,
        project: Option<&str>,
        marker: Option<&str>,
        limit: usize,
    ) -> Vec<QueueEntry> {
        let project = project.filter(|project| !project.is_empty());
        self.queues
            .iter()
            .filter(|(key, _)| key.project() == project)
            .filter(|(key, _)| marker.is_none_or(|marker| key.name() > marker))
            .take(limit)
            .map(|(key, queue)| QueueEntry { key: key.clone(), metadata: queue.metadata.clone() })
            .collect()
    }

    /// Exact counts.
    pub fn stats(&self, now_ms: u64, key: &QueueKey) -> Result<QueueStats, Error> {
        let queue = self.queues.get(key).ok_or(Error::NoSuchQueue)?;
        let live: Vec<(Seq, &Held)> = queue.live(now_ms).collect();
        let is_claimed = |held: &Held| queue.holder(now_ms, held).is_some();
        let claimed = live.iter().filter(|(_, held)| is_claimed(held)).count() as u64;
        let named = |(seq, held): &(Seq, &Held)| StatMessage {
            id: MessageId { queue: queue.id, seq: *seq },
            created_ms: held.created_ms,
            age_s: age_s(now_ms, held.created_ms),
        };
        Ok(QueueStats {
            free: live.len() as u64 - claimed,
            claimed,
            ends: live.first().map(named).zip(live.last().map(named)),
        })
    }

    /// Stores all messages; ids in the order given.
    pub fn post(
        &mut self,
        now_ms: u64,
        key: &QueueKey,
        by: ClientId,
        messages: &[NewMessage<'_>],
    ) -> Result<Vec<MessageId>, Error> {
        let queue = self.queues.get_mut(key).ok_or(Error::NoSuchQueue)?;
        let mut ids = Vec::new();
        for message in messages {
            queue.last_seq.0 += 1;
            let seq = queue.last_seq;
            let held = Held {
                by,
                body: Bytes::copy_from_slice(message.body),
                ttl_s: message.ttl_s,
                created_ms: now_ms,
                expires_ms: now_ms + u64::from(message.ttl_s) * MS_PER_S,
                claim: None,
            };
            queue.messages.insert(seq, held);
            ids.push(MessageId { queue: queue.id, seq });
        }
        Ok(ids)
    }

    /// Up to `limit` messages after `after` that pass the filter.
    pub fn list(
        &self,
        now_ms: u64,
        key: &QueueKey,
        after: Option<Marker>,
        limit: usize,
        filter: ListFilter,
    ) -> Page {
        let mut page = Page { messages: Vec::new(), next: None };
        let Some(queue) = self.queues.get(key) else { return page };
        if after.is_some_and(|marker| marker.queue != queue.id) {
            return page;
        }
        page.messages = queue
            .live(now_ms)
            .filter(|(seq, _)| after.is_none_or(|marker| *seq > marker.seq))
            .filter(|(_, held)| filter.not_by != Some(held.by))
            .filter(|(_, held)| filter.include_claimed || queue.holder(now_ms, held).is_none())
            .take(limit)
            .map(|(seq, held)| queue.shown(now_ms, seq, held))
            .collect();
        page.next = page.messages.last().map(|last| Marker { queue: queue.id, seq: last.id.seq });
        page
    }

    /// The messages with these ids that exist, in the order asked, each once.
    pub fn get(&self, now_ms: u64, key: &QueueKey, ids: &[MessageId]) -> Vec<Message> {
        let mut found: Vec<Message> = Vec::new();
        let Some(queue) = self.queues.get(key) else { return found };
        for id in ids {
            let again = found.iter().any(|message| message.id == *id);
            if let (false, Some(held)) = (again, queue.live_message(now_ms, *id)) {
                found.push(queue.shown(now_ms, id.seq, held));
            }
        }
        found
    }

    /// Deletes one message; `claim` as in [`Store::delete`](marconi_server::store::Store::delete).
    pub fn delete(
        &mut self,
        now_ms: u64,
        key: &QueueKey,
        id: MessageId,
        claim: Option<Option<ClaimId>>,
    ) -> Result<(), Error> {
        let Some(queue) = self.queues.get_mut(key) else { return Ok(()) };
        let Some(held) = queue.live_message(now_ms, id) else { return Ok(()) };
        match (queue.holder(now_ms, held), claim) {
            (None, None) => {}
            (None, Some(_)) => return Err(Error::ClaimMismatch),
            (Some(_), None) => return Err(Error::Claimed),
            (Some(holder), Some(Some(named))) if named == holder => {}
            (Some(_), Some(Some(named))) if queue.live_claim(now_ms, named).is_some() => {
                return Err(Error::Claimed);
            }
            (Some(_), Some(_)) => return Err(Error::ClaimMismatch),
        }
        queue.messages.remove(&id.seq);
        Ok(())
    }

    /// Deletes all of these that exist, claimed or not.
    pub fn delete_many(&mut self, now_ms: u64, key: &QueueKey, ids: &[MessageId]) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        for id in ids {
            if queue.live_message(now_ms, *id).is_some() {
                queue.messages.remove(&id.seq);
            }
        }
    }

    /// Claims up to `limit` of the oldest free messages as `fresh`; `None` when there is none.
    pub fn claim(
        &mut self,
        now_ms: u64,
        key: &QueueKey,
        ttl_s: u32,
        grace_s: u32,
        limit: usize,
        fresh: ClaimId,
    ) -> Option<Claim> {
        let queue = self.queues.get_mut(key)?;
        let taken: Vec<Seq> = queue
            .live(now_ms)
            .filter(|(_, held)| queue.holder(now_ms, held).is_none())
            .map(|(seq, _)| seq)
            .take(limit)
            .collect();
        if taken.is_empty() {
            return None;
        }
        for seq in taken {
            queue.messages.entry(seq).and_modify(|held| held.claim = Some(fresh));
        }
        queue.start_claim(now_ms, fresh, ttl_s, grace_s);
        queue.shown_claim(now_ms, fresh)
    }

    /// A live claim with the messages it still holds.
    pub fn claim_get(&self, now_ms: u64, key: &QueueKey, id: ClaimId) -> Result<Claim, Error> {
        let claim = self.queues.get(key).and_then(|queue| queue.shown_claim(now_ms, id));
        claim.ok_or(Error::NoSuchClaim)
    }

    /// Starts a live claim's time anew.
    pub fn renew(
        &mut self,
        now_ms: u64,
        key: &QueueKey,
        id: ClaimId,
        ttl_s: u32,
        grace_s: u32,
    ) -> Result<(), Error> {
        let queue = self.queues.get_mut(key).ok_or(Error::NoSuchClaim)?;
        queue.live_claim(now_ms, id).ok_or(Error::NoSuchClaim)?;
        queue.start_claim(now_ms, id, ttl_s, grace_s);
        Ok(())
    }

    /// Gives a claim's remaining messages back.
    pub fn release(&mut self, key: &QueueKey, id: ClaimId) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.claims.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use marconi_engine::Lsn;

    #[test]
    fn an_expired_claim_gives_its_messages_back_at_their_old_place() {
        let mut model = Model::new(Durability::Group);
        let key = QueueKey::new(None, "q").expect("short");
        assert_eq!(model.create_queue(&key, None, QueueId(1)), Created::New);
        let message = |ttl_s| NewMessage { ttl_s, body: b"1" };
        let ids = model
            .post(0, &key, ClientId(1), &[message(60), message(300), message(300)])
            .expect("the queue is there");

        let first = model.claim(0, &key, 100, 60, 2, ClaimId(Lsn(5))).expect("two are free");
        let lives: Vec<u32> = first.messages.iter().map(|message| message.ttl_s).collect();
        assert_eq!(lives, [160, 300]);
        assert!(matches!(model.delete(0, &key, ids[0], None), Err(Error::Claimed)));

        let second = model.claim(100_000, &key, 60, 60, 3, ClaimId(Lsn(6))).expect("all are back");
        let taken: Vec<MessageId> = second.messages.iter().map(|message| message.id).collect();
        assert_eq!(taken, ids);
        let late = model.delete(100_000, &key, ids[0], Some(Some(first.id)));
        assert!(matches!(late, Err(Error::ClaimMismatch)));
    }
}
