//! What a client knows: the steps it took, and the state they have to leave. Plain collections, no
//! engine.

use marconi_engine::Durability;
use std::collections::{BTreeMap, BTreeSet};

/// Something a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Create(String),
    /// At this level, which changes nothing that can be seen here.
    CreateAt(String, Durability),
    Remove(String),
    SetMetadata(String, u8),
    /// Numbers and sizes of the bodies.
    Post(String, Vec<(u64, usize)>),
    Claim {
        queue: String,
        limit: usize,
        claim: u64,
        ttl_s: u32,
    },
    Delete {
        queue: String,
        number: u64,
        claim: Option<u64>,
    },
    DeleteMany(String, Vec<u64>),
    Release(String, u64),
    Renew(String, u64, u32),
    Advance(u64),
    Sync,
    Checkpoint,
    Compact,
}

impl Step {
    /// The queue that is there afterwards and may have changed.
    pub fn queue(&self) -> Option<&str> {
        match self {
            Step::Create(queue)
            | Step::CreateAt(queue, _)
            | Step::SetMetadata(queue, _)
            | Step::Post(queue, _)
            | Step::Claim { queue, .. }
            | Step::Delete { queue, .. }
            | Step::DeleteMany(queue, _)
            | Step::Release(queue, _)
            | Step::Renew(queue, ..) => Some(queue),
            Step::Remove(_) | Step::Advance(_) | Step::Sync | Step::Checkpoint | Step::Compact => {
                None
            }
        }
    }
}

/// What can be seen, without ids: messages by their numbers, claims by what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View(pub BTreeMap<String, QueueView>);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueView {
    pub metadata: Vec<u8>,
    pub messages: Vec<u64>,
    /// What each holds, and when it ends: two states that differ in nothing else go different ways.
    pub claims: BTreeSet<(Vec<u64>, u64)>,
}

/// The state that the steps so far have to leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    pub queues: BTreeMap<String, QueueRecord>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueRecord {
    pub metadata: Vec<u8>,
    /// Each with the claim that holds it.
    pub messages: BTreeMap<u64, Option<u64>>,
    /// When each claim ends.
    pub claims: BTreeMap<u64, u64>,
}

impl Record {
    /// The state after a step made at `now_ms`.
    pub fn after(&self, step: &Step, now_ms: u64) -> Record {
        let mut next = self.clone();
        next.expire(now_ms);
        next.apply(step, now_ms);
        next
    }

    fn queue(&mut self, name: &str) -> &mut QueueRecord {
        self.queues.get_mut(name).expect("steps name queues that are there")
    }

    fn apply(&mut self, step: &Step, now_ms: u64) {
        match step {
            Step::Create(name) | Step::CreateAt(name, _) => {
                self.queues.entry(name.clone()).or_default();
            }
            Step::Remove(name) => {
                self.queues.remove(name);
            }
            Step::SetMetadata(name, byte) => self.queue(name).metadata = vec![*byte],
            Step::Post(name, batch) => {
                let new = batch.iter().map(|(number, _)| (*number, None));
                self.queue(name).messages.extend(new);
            }
            Step::Claim { queue, limit, claim, ttl_s } => {
                let queue = self.queue(queue);
                let free = queue.messages.values_mut().filter(|holder| holder.is_none());
                let mut taken = 0;
                for holder in free.take(*limit) {
                    *holder = Some(*claim);
                    taken += 1;
                }
                if taken > 0 {
                    queue.claims.insert(*claim, now_ms + u64::from(*ttl_s) * 1000);
                }
            }
            Step::Delete { queue, number, .. } => {
                self.queue(queue).messages.remove(number);
            }
            Step::DeleteMany(queue, numbers) => {
                self.queue(queue).messages.retain(|number, _| !numbers.contains(number));
            }
            Step::Release(queue, claim) => self.queue(queue).end(*claim),
            Step::Renew(queue, claim, ttl_s) => {
                let ends_ms = now_ms + u64::from(*ttl_s) * 1000;
                self.queue(queue).claims.insert(*claim, ends_ms);
            }
            Step::Advance(_) | Step::Sync | Step::Checkpoint | Step::Compact => {}
        }
    }

    /// Ends the claims that have run out.
    pub fn expire(&mut self, now_ms: u64) {
        for queue in self.queues.values_mut() {
            let ended: Vec<u64> = queue
                .claims
                .iter()
                .filter(|(_, ends_ms)| **ends_ms <= now_ms)
                .map(|(claim, _)| *claim)
                .collect();
            ended.into_iter().for_each(|claim| queue.end(claim));
        }
    }

    /// What a client sees at `now_ms`.
    pub fn view(&self, now_ms: u64) -> View {
        let mut now = self.clone();
        now.expire(now_ms);
        let queues = now.queues.iter().map(|(name, queue)| {
            let view = QueueView {
                metadata: queue.metadata.clone(),
                messages: queue.messages.keys().copied().collect(),
                claims: queue
                    .groups()
                    .into_iter()
                    .map(|(claim, held)| (held, queue.claims[&claim]))
                    .collect(),
            };
            (name.clone(), view)
        });
        View(queues.collect())
    }

    /// What each claim of any queue holds.
    pub fn groups(&self) -> BTreeMap<u64, Vec<u64>> {
        self.queues.values().flat_map(QueueRecord::groups).collect()
    }
}

impl QueueRecord {
    fn end(&mut self, claim: u64) {
        self.claims.remove(&claim);
        for holder in self.messages.values_mut().filter(|holder| **holder == Some(claim)) {
            *holder = None;
        }
    }

    fn groups(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut groups: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (number, holder) in &self.messages {
            if let Some(claim) = holder {
                groups.entry(*claim).or_default().push(*number);
            }
        }
        groups
    }
}
