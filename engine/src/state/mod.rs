//! All queues, in shards with a lock each. Found by key, and by id.
//! No I/O but looks into mapped indexes, no clock, no threads. Lock order: a shard, then the ids.
//! One shard at a time, never across I/O.

pub(crate) mod claims;
pub(crate) mod queue;
pub(crate) mod ranges;

use crate::domain::{Lsn, QueueEntry, QueueId, QueueKey};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
#[cfg(shuttle)]
use foldhash::quality::FixedState as RandomState;
#[cfg(not(shuttle))]
use foldhash::quality::RandomState;
use queue::Queue;
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::ops::Bound;

/// How many shards: many times the cores, so that two writers rarely meet
/// (`docs/decisions` has the measurement).
const SHARD_COUNT: usize = if cfg!(shuttle) { 2 } else { 64 };

/// Queues that share a lock.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    queues: HashMap<QueueKey, Box<Queue>, RandomState>,
    /// The same keys in order, for listings and for walks in pieces.
    names: BTreeSet<QueueKey>,
}

impl Shard {
    pub(crate) fn get(&mut self, key: &QueueKey) -> Option<&mut Queue> {
        self.queues.get_mut(key).map(Box::as_mut)
    }

    /// Visits up to `count` queues behind `after`, in order. The key of the last; `None` where there is none.
    pub(crate) fn visit_after(
        &mut self,
        after: Option<&QueueKey>,
        count: usize,
        mut visit: impl FnMut(&mut Queue),
    ) -> Option<QueueKey> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()));
        let keys = self.names.range((from, Bound::Unbounded)).take(count);
        let mut last = None;
        for key in keys {
            visit(self.queues.get_mut(key).expect("every name has its queue"));
            last = Some(key);
        }
        last.cloned()
    }
}

/// All queues.
#[derive(Debug)]
pub(crate) struct State {
    shards: Box<[Mutex<Shard>]>,
    keys: Mutex<HashMap<QueueId, QueueKey, RandomState>>,
    /// The LSN behind the last record that removed a queue.
    removed_end: AtomicU64,
    hasher: RandomState,
}

impl State {
    pub(crate) fn new() -> State {
        State {
            shards: (0..SHARD_COUNT).map(|_| Mutex::default()).collect(),
            keys: Mutex::default(),
            removed_end: AtomicU64::new(0),
            hasher: RandomState::default(),
        }
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn lock_shard(&self, number: usize) -> MutexGuard<'_, Shard> {
        self.shards[number].lock().expect("no code panics while it holds a shard")
    }

    /// Locks the shard of a key.
    pub(crate) fn lock(&self, key: &QueueKey) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(key);
        self.lock_shard((hash % self.shards.len() as u64) as usize)
    }

    /// Adds a queue to its shard, which the caller has locked.
    pub(crate) fn insert(&self, shard: &mut Shard, queue: Queue) {
        let (id, key) = (queue.id, queue.key.clone());
        shard.names.insert(key.clone());
        shard.queues.insert(key.clone(), Box::new(queue));
        self.lock_keys().insert(id, key);
    }

    /// Removes a queue from its shard, which the caller has locked. Returns how many messages lived.
    pub(crate) fn remove(&self, shard: &mut Shard, key: &QueueKey) -> u64 {
        let Some(mut queue) = shard.queues.remove(key) else { return 0 };
        shard.names.remove(key);
        self.lock_keys().remove(&queue.id);
        queue.ranges.clear()
    }

    /// Remembers that the record ending at `end` removed a queue.
    pub(crate) fn set_removed(&self, end: Lsn) {
        self.removed_end.fetch_max(end.0, Ordering::AcqRel);
    }

    /// What an answer that there is no such queue depends on: the last removal of any.
    pub(crate) fn removed_end(&self) -> Lsn {
        Lsn(self.removed_end.load(Ordering::Acquire))
    }

    fn lock_keys(&self) -> MutexGuard<'_, HashMap<QueueId, QueueKey, RandomState>> {
        self.keys.lock().expect("no code panics while it holds the ids")
    }

    /// Looks at a queue by its id, if there is one.
    pub(crate) fn with_id<T>(&self, id: QueueId, look: impl FnOnce(&mut Queue) -> T) -> Option<T> {
        let key = self.lock_keys().get(&id).cloned()?;
        let mut shard = self.lock(&key);
        // It may have gone, and another come under its name, between the two locks.
        shard.get(&key).filter(|queue| queue.id == id).map(look)
    }

    /// The key of a queue.
    pub(crate) fn key_of(&self, id: QueueId) -> Option<QueueKey> {
        self.lock_keys().get(&id).cloned()
    }

    /// How many queues.
    pub(crate) fn len(&self) -> usize {
        self.lock_keys().len()
    }

    /// Visits every queue, a few at a time for each lock.
    pub(crate) fn visit_all(&self, mut visit: impl FnMut(&mut Queue)) {
        const AT_ONCE: usize = 64;
        for number in 0..self.shard_count() {
            let mut after = None;
            loop {
                let mut shard = self.lock_shard(number);
                after = shard.visit_after(after.as_ref(), AT_ONCE, &mut visit);
                if after.is_none() {
                    break;
                }
            }
        }
    }

    /// Up to `limit` queues of a project behind `marker`, sorted by name.
    pub(crate) fn list(
        &self,
        project: Option<&str>,
        marker: Option<&str>,
        limit: usize,
    ) -> Vec<QueueEntry> {
        let Some(from) = QueueKey::new(project, marker.unwrap_or("")) else { return Vec::new() };
        let mut found: Vec<QueueEntry> = Vec::new();
        for number in 0..self.shard_count() {
            self.lock_shard(number).visit_after(Some(&from), limit, |queue| {
                if queue.key.project() == project {
                    found.push(QueueEntry {
                        key: queue.key.clone(),
                        metadata: bytes::Bytes::copy_from_slice(&queue.metadata),
                    });
                }
            });
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found.truncate(limit);
        found
    }
}
