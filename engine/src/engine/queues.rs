//! The verbs of queues: make, look, set metadata, remove, list, count. Knows how a write is decided,
//! not how it is appended.

use super::{Decision, Engine, PAYLOAD};
use crate::checksum;
use crate::domain::{
    Created, Durability, QueueEntry, QueueId, QueueInfo, QueueKey, QueueStats, Seq,
};
use crate::error::{Error, Result};
use crate::log::frame::Kind;
use crate::log::tail::{NewFrame, Refused};
use crate::metrics::add;
use crate::receipt::Receipt;
use crate::state::queue::Queue;
use crate::state::ranges::{Found, Walk};
use bytes::Bytes;

/// A queue as [`Engine::visit_queues`] shows it: what is in memory at once, what takes a look into an
/// index when asked for. What time has done may not be noticed yet, for some seconds: expired messages
/// still count, and so do claims that ran out. [`Engine::stats`] is exact.
#[derive(Debug)]
pub struct QueueGlance<'a> {
    queue: &'a Queue,
    now_ms: u64,
}

impl QueueGlance<'_> {
    /// Project and name.
    pub fn key(&self) -> &QueueKey {
        &self.queue.key
    }

    /// Messages, free and claimed.
    pub fn messages(&self) -> u64 {
        self.queue.ranges.live()
    }

    /// Messages under a claim.
    pub fn claimed(&self) -> u64 {
        self.queue.claims().map_or(0, |claims| claims.held_count())
    }

    /// Claims.
    pub fn claims(&self) -> u64 {
        self.queue.claims().map_or(0, |claims| claims.len() as u64)
    }

    /// What writes get at least.
    pub fn durability(&self) -> Durability {
        self.queue.durability
    }

    /// When the oldest message was posted; `None` when there is none.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn oldest_created_ms(&self) -> Result<Option<u64>> {
        let mut oldest = None;
        self.queue.ranges.walk(Seq(0), |found| {
            oldest = Some(found);
            Walk::Stop
        })?;
        self.created_ms(oldest)
    }

    /// When the newest message was posted; `None` when there is none.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn newest_created_ms(&self) -> Result<Option<u64>> {
        self.created_ms(self.queue.ranges.last()?)
    }

    fn created_ms(&self, found: Option<Found>) -> Result<Option<u64>> {
        let created_ms = |found| self.queue.ranges.created_ms(&found);
        found.map(created_ms).transpose()
    }

    /// Milliseconds since a moment, never negative.
    pub fn age_ms(&self, since_ms: u64) -> u64 {
        self.now_ms.saturating_sub(since_ms)
    }
}

impl Engine {
    /// Makes a queue, or finds it. `floor`, when given, becomes its durability floor either way.
    ///
    /// # Errors
    /// Those of every write: `Full`, `Busy`, `ReadOnly`, `Closed`.
    pub fn create_queue(
        &self,
        key: &QueueKey,
        floor: Option<Durability>,
    ) -> Result<Receipt<Created>> {
        let exists = self.core.state.lock(key).get(key).is_some();
        if exists {
            let changed = self.change(key, floor, |queue, payload| {
                if floor.is_none() || floor == queue.floor {
                    return Ok(Decision::Nothing(()));
                }
                payload.queue_changed(floor, None);
                Ok(Decision::Write { kind: Kind::QueueChanged, seq: 0, draft: () })
            });
            match changed {
                Ok(receipt) => return Ok(receipt.map(|()| Created::Existing)),
                // Gone in between: make it.
                Err(Error::NoSuchQueue) => {}
                Err(error) => return Err(error),
            }
        }
        let at_ms = self.core.now_ms();
        PAYLOAD.with_borrow_mut(|payload| {
            payload.queue_created(key, floor, &[]);
            loop {
                self.admit(true)?;
                let mut shard = self.core.state.lock(key);
                if let Some(queue) = shard.get(key) {
                    let demand = queue.demand(floor);
                    return Ok(self.after(queue.last_end, demand, Created::Existing));
                }
                let default = self.core.config.durability_of(key);
                let demand = floor.unwrap_or(default);
                let frame = NewFrame {
                    kind: Kind::QueueCreated,
                    at_ms,
                    queue: 0,
                    seq: 0,
                    payload: &payload.bytes,
                    crc: payload.crc(),
                };
                match self.core.log.append(frame, demand) {
                    Ok(appended) => {
                        let id = QueueId(appended.head.lsn.0);
                        let mut queue = Queue::new(id, key.clone(), demand);
                        queue.floor = floor;
                        queue.last_end = appended.end;
                        self.core.state.insert(&mut shard, queue);
                        let marks = self.core.log.watermarks();
                        return Ok(Receipt::at(marks, appended.end, demand, Created::New));
                    }
                    Err(Refused::NoRoom) => {
                        drop(shard);
                        self.wait_for_room()?;
                    }
                    Err(Refused::For(error)) => return Err(error),
                }
            }
        })
    }

    /// What is kept with a queue.
    ///
    /// # Errors
    /// `NoSuchQueue`.
    pub fn queue(&self, key: &QueueKey) -> Result<Receipt<QueueInfo>> {
        self.read(key, self.view(), |queue, _| {
            Ok(QueueInfo {
                metadata: Bytes::copy_from_slice(&queue.metadata),
                floor: queue.floor,
                durability: queue.durability,
            })
        })
    }

    /// Replaces a queue's metadata.
    ///
    /// # Errors
    /// `NoSuchQueue`, `TooLarge`, and those of every write.
    pub fn set_metadata(
        &self,
        key: &QueueKey,
        metadata: &[u8],
        ask: Option<Durability>,
    ) -> Result<Receipt<()>> {
        self.check_size(metadata.len() as u64)?;
        self.change(key, ask, |_, payload| {
            payload.queue_changed(None, Some(metadata));
            Ok(Decision::Write { kind: Kind::QueueChanged, seq: 0, draft: () })
        })
    }

    /// Removes a queue with all it holds. Succeeds also where there is none.
    ///
    /// # Errors
    /// Those of every write.
    pub fn remove_queue(&self, key: &QueueKey, ask: Option<Durability>) -> Result<Receipt<()>> {
        let at_ms = self.core.now_ms();
        loop {
            self.admit(false)?;
            let mut shard = self.core.state.lock(key);
            let Some(queue) = shard.get(key) else {
                drop(shard);
                return Ok(self.absent(key, ask, ()));
            };
            let demand = queue.demand(ask);
            let frame = NewFrame {
                kind: Kind::QueueRemoved,
                at_ms,
                queue: queue.id.0,
                seq: 0,
                payload: &[],
                crc: checksum::begin(),
            };
            match self.core.log.append(frame, demand) {
                Ok(appended) => {
                    let removed = self.core.state.remove(&mut shard, key);
                    self.core.state.set_removed(appended.end);
                    add(&self.core.counters.deleted, removed);
                    return Ok(Receipt::at(self.core.log.watermarks(), appended.end, demand, ()));
                }
                Err(Refused::NoRoom) => {
                    drop(shard);
                    self.wait_for_room()?;
                }
                Err(Refused::For(error)) => return Err(error),
            }
        }
    }

    /// Up to `limit` queues of a project whose names come after `marker`, sorted by name.
    ///
    /// # Errors
    /// `Closed`.
    pub fn queues(
        &self,
        project: Option<&str>,
        marker: Option<&str>,
        limit: usize,
    ) -> Result<Vec<QueueEntry>> {
        self.check_open()?;
        Ok(self.core.state.list(project, marker, limit))
    }

    /// Shows every queue once, in no order. `visit` is called under a lock that the queue's writers
    /// wait for: it has to be short, and may not call the engine.
    ///
    /// # Errors
    /// `Closed`.
    pub fn visit_queues(&self, mut visit: impl FnMut(QueueGlance<'_>)) -> Result<()> {
        self.check_open()?;
        let now_ms = self.core.now_ms();
        self.core.state.visit_all(|queue| visit(QueueGlance { queue, now_ms }));
        Ok(())
    }

    /// Exact counts, as of now.
    ///
    /// # Errors
    /// `NoSuchQueue`, `Damaged`.
    pub fn stats(&self, key: &QueueKey) -> Result<Receipt<QueueStats>> {
        self.read(key, self.view(), |queue, now_ms| {
            let expired = queue.expire(now_ms, now_ms)?;
            add(&self.core.counters.expired, expired);
            queue.stats(now_ms)
        })
    }
}
