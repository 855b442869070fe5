//! The engine: open, close, and the verbs. The only place where *decide, append, apply* is written
//! down. Knows neither byte layouts nor HTTP.
//!
//! Every verb that writes looks at the queue and decides, appends the record, and applies it, all
//! under the lock of the queue's shard; what it answers is locked up in a [`Receipt`] until the log
//! is as durable as it has to be. Reads are locked up the same way: nobody is shown what a power cut
//! could still take back from a queue whose writes are promised to survive one.

use crate::config::Config;
use crate::core::Core;
use crate::domain::{
    ClaimId, ClientId, Created, Durability, ListFilter, Lsn, Marker, MessageId, QueueEntry,
    QueueId, QueueInfo, QueueKey, QueueStats, Seq,
};
use crate::env::Environment;
use crate::error::{Error, Result};
use crate::log::commit::{Appended, NewFrame, Refused};
use crate::log::frame::Kind;
use crate::log::record::{MESSAGE_HEAD_SIZE, Payload, Record};
use crate::log::segment::Segment;
use crate::log::watermark::Mark;
use crate::metrics::{EngineMetrics, SegmentMetrics, add};
use crate::receipt::Receipt;
use crate::state::queue::{Located, Place, Queue};
pub use crate::upkeep::recover::RecoveryReport;
use crate::upkeep::{self, Upkeep, recover};
use bytes::Bytes;
use std::cell::RefCell;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// Most messages, or numbers, in one frame.
const COUNT_MAX: usize = u16::MAX as usize;

/// A durable store of queues, open in this process. See the [crate's front page](crate).
#[derive(Debug)]
pub struct Engine {
    core: Arc<Core>,
    upkeep: Mutex<Option<Upkeep>>,
    recovery: RecoveryReport,
}

/// A message to be posted.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    /// Seconds to live.
    pub ttl_s: u32,
    /// Its body.
    pub body: &'a [u8],
}

/// A message as it is read. Its body is still in the log until [`Message::body`] is called.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Seconds to live: as posted, or as a claim extended it.
    pub ttl_s: u32,
    /// Whole seconds since it was posted; never negative.
    pub age_s: u64,
    /// The live claim that holds it.
    pub claim: Option<ClaimId>,
    segment: Arc<Segment>,
    position: u32,
    size: u32,
}

impl Message {
    fn new(queue: QueueId, located: Located, now_ms: u64) -> Message {
        Message {
            id: MessageId { queue, seq: located.seq },
            ttl_s: located.ttl_s,
            age_s: now_ms.saturating_sub(located.entry.created_ms()) / 1000,
            claim: located.claim,
            segment: located.segment,
            position: located.entry.position,
            size: located.entry.size,
        }
    }

    /// The bytes posted: a slice of the mapped log, not a copy. Its checksum is checked here. May
    /// read from disk, when the pages are not in memory.
    ///
    /// # Errors
    /// `Damaged` when the bytes are not those that were posted.
    pub fn body(&self) -> Result<Bytes> {
        self.segment.read_body(self.position, self.size)
    }
}

/// A page of a listing.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Where the next page begins; `None` when nothing was found.
    pub next: Option<Marker>,
}

/// A claim and what it holds.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its id.
    pub id: ClaimId,
    /// Its ttl, as made or last renewed.
    pub ttl_s: u32,
    /// Whole seconds since then.
    pub age_s: u64,
    /// The messages it holds, oldest first.
    pub messages: Vec<Message>,
}

/// What a verb decided.
enum Decision<D> {
    /// There is nothing to write.
    Nothing(D),
    /// A record, whose payload was encoded.
    Write { kind: Kind, seq: u64, count: usize, draft: D },
}

thread_local! {
    /// Payloads are encoded here, so that no request allocates for it.
    static PAYLOAD: RefCell<Payload> = RefCell::default();
}

impl Engine {
    /// Opens the data folder, making it where there is none, and recovers what it holds.
    ///
    /// # Errors
    /// `Setting` for a bad configuration; `Folder` when the folder is in use, not ours, of a newer
    /// format or unreadable; `Damaged` when bytes on disk are not what was written. In no case was
    /// anything overwritten.
    pub fn open(config: Config) -> Result<Engine> {
        Engine::open_in(config, Environment::system())
    }

    /// As [`Engine::open`], in a world of your own.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_in(config: Config, env: Environment) -> Result<Engine> {
        config.check()?;
        let (core, recovery) = recover::open(config, env)?;
        let core = Arc::new(core);
        let upkeep = Upkeep::start(&core);
        Ok(Engine { core, upkeep: Mutex::new(Some(upkeep)), recovery })
    }

    /// What opening found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// Finishes what was begun, writes a checkpoint and lets go of the folder. Verbs called from now
    /// on fail with `Closed`. Called by `drop` where you did not.
    ///
    /// # Errors
    /// When the log or the checkpoint could not be written: the next start reads more, and nothing
    /// that was acknowledged is lost.
    pub fn close(&self) -> Result<()> {
        let Some(upkeep) = self.take_upkeep() else { return Ok(()) };
        upkeep.stop(&self.core);
        let end = self.core.log.end();
        let synced = self.core.log.sync_to(end);
        let checkpoint = synced.and_then(|()| upkeep::checkpoint::write(&self.core, true));
        self.core.log.close();
        self.core.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        checkpoint.map(|_| ())
    }

    /// Ends as a crash of the process would: nothing is written any more. For tests.
    #[doc(hidden)]
    pub fn crash(&self) {
        let Some(upkeep) = self.take_upkeep() else { return };
        self.core.log.abandon();
        upkeep.stop(&self.core);
        self.core.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn take_upkeep(&self) -> Option<Upkeep> {
        self.upkeep.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    // ---- queues ----

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
                Ok(Decision::Write { kind: Kind::QueueChanged, seq: 0, count: 0, draft: () })
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
                    let marks = self.core.log.watermarks();
                    return Ok(Receipt::at(marks, queue.last_end, demand, Created::Existing));
                }
                let default = self.core.config.durability_of(key);
                let demand = floor.unwrap_or(default);
                let frame = NewFrame {
                    kind: Kind::QueueCreated,
                    at_ms,
                    queue: 0,
                    seq: 0,
                    count: 0,
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
        self.read(key, |queue, _| {
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
            Ok(Decision::Write { kind: Kind::QueueChanged, seq: 0, count: 0, draft: () })
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
                return Ok(Receipt::open((), self.core.durability_of(key, ask)));
            };
            let demand = queue.demand(ask);
            let frame = NewFrame {
                kind: Kind::QueueRemoved,
                at_ms,
                queue: queue.id.0,
                seq: 0,
                count: 0,
                payload: &[],
                crc: crc32fast::Hasher::new(),
            };
            match self.core.log.append(frame, demand) {
                Ok(appended) => {
                    let removed = self.core.state.remove(&mut shard, key);
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

    /// Exact counts, as of now.
    ///
    /// # Errors
    /// `NoSuchQueue`, `Damaged`.
    pub fn stats(&self, key: &QueueKey) -> Result<Receipt<QueueStats>> {
        self.read(key, |queue, now_ms| {
            let expired = queue.expire(now_ms, now_ms)?;
            add(&self.core.counters.expired, expired);
            queue.stats(now_ms)
        })
    }

    // ---- messages ----

    /// Posts all messages or none; their ids in the order given.
    ///
    /// # Errors
    /// `NoSuchQueue`, `TooLarge`, and those of every write.
    pub fn post(
        &self,
        key: &QueueKey,
        client: ClientId,
        messages: &[NewMessage<'_>],
        ask: Option<Durability>,
    ) -> Result<Receipt<Vec<MessageId>>> {
        self.check_count("messages in one batch", messages.len())?;
        let size: u64 =
            messages.iter().map(|message| (MESSAGE_HEAD_SIZE + message.body.len()) as u64).sum();
        self.check_size(size)?;
        let at_ms = self.core.now_ms();
        PAYLOAD.with_borrow_mut(|payload| {
            payload.posted(client);
            for message in messages {
                payload.message(message.ttl_s, message.body);
            }
            let crc = payload.crc();
            let decide = |queue: &mut Queue, _: &mut Payload| {
                let first = queue.next_seq.0;
                let ids = (first..first + messages.len() as u64)
                    .map(|seq| MessageId { queue: queue.id, seq: Seq(seq) })
                    .collect();
                let count = messages.len();
                Ok(Decision::Write { kind: Kind::Posted, seq: first, count, draft: ids })
            };
            let receipt = self.write(key, ask, at_ms, payload, Some(crc), decide, |ids, _| ids)?;
            add(&self.core.counters.posted, messages.len() as u64);
            Ok(receipt)
        })
    }

    /// Up to `limit` messages behind `after` that pass the filter, oldest first. An absent queue, and
    /// a marker of another queue, give an empty page.
    ///
    /// # Errors
    /// `Damaged`, `Closed`.
    pub fn list(
        &self,
        key: &QueueKey,
        after: Option<Marker>,
        limit: usize,
        filter: ListFilter,
    ) -> Result<Receipt<Page>> {
        let mut page = Page::default();
        let mut from = after.map_or(Seq(0), |marker| marker.seq);
        loop {
            let mut more = None;
            let engine_id = self.core.engine_id;
            let receipt = self.read(key, |queue, now_ms| {
                if after.is_some_and(|marker| marker.queue != queue.id) {
                    return Ok(());
                }
                let left = limit - page.messages.len();
                let listing = queue.list(from, left, filter, engine_id, now_ms)?;
                more = listing.more_from;
                let messages = listing.found.into_iter();
                page.messages.extend(messages.map(|found| Message::new(queue.id, found, now_ms)));
                Ok(())
            });
            let receipt = match receipt {
                Ok(receipt) => receipt,
                Err(Error::NoSuchQueue) => {
                    return Ok(Receipt::open(Page::default(), self.core.config.durability));
                }
                Err(error) => return Err(error),
            };
            let Some(more) = more.filter(|_| page.messages.len() < limit) else {
                page.next = page
                    .messages
                    .last()
                    .map(|message| Marker { queue: message.id.queue, seq: message.id.seq });
                return Ok(receipt.map(|()| page));
            };
            from = more;
        }
    }

    /// The messages with these ids that exist, in the order asked, each once. An absent queue has
    /// none.
    ///
    /// # Errors
    /// `Damaged`, `Closed`.
    pub fn get(&self, key: &QueueKey, ids: &[MessageId]) -> Result<Receipt<Vec<Message>>> {
        let found = self.read(key, |queue, now_ms| {
            let mut found: Vec<Message> = Vec::with_capacity(ids.len().min(64));
            for id in ids {
                if id.queue != queue.id || found.iter().any(|message| message.id == *id) {
                    continue;
                }
                if let Some(located) = queue.get(id.seq, now_ms)? {
                    found.push(Message::new(queue.id, located, now_ms));
                }
            }
            Ok(found)
        });
        self.or_absent(key, None, found)
    }

    /// Deletes one message. `claim` is `None` when no claim is named, `Some(None)` when what was
    /// named is no claim id. Succeeds also where there is no such message.
    ///
    /// # Errors
    /// `Claimed` when a live claim holds the message and none or another live one was named;
    /// `ClaimMismatch` when the claim named does not live or the message is not claimed; and those
    /// of every write.
    pub fn delete(
        &self,
        key: &QueueKey,
        id: MessageId,
        claim: Option<Option<ClaimId>>,
        ask: Option<Durability>,
    ) -> Result<Receipt<()>> {
        let at_ms = self.core.now_ms();
        let deleted = self.change_at(key, ask, at_ms, |queue, payload| {
            if id.queue != queue.id {
                return Ok(Decision::Nothing(()));
            }
            let Some(seq) = queue.decide_delete(id.seq, claim, at_ms)? else {
                return Ok(Decision::Nothing(()));
            };
            payload.deleted(&[seq]);
            let claim = claim.flatten().map_or(0, |claim| claim.0.0);
            Ok(Decision::Write { kind: Kind::Deleted, seq: claim, count: 1, draft: () })
        });
        self.or_absent(key, ask, deleted)
    }

    /// Deletes all of these that exist, claimed or not.
    ///
    /// # Errors
    /// `TooLarge` for more ids than a frame takes, and those of every write.
    pub fn delete_many(
        &self,
        key: &QueueKey,
        ids: &[MessageId],
        ask: Option<Durability>,
    ) -> Result<Receipt<()>> {
        self.check_count("ids in one request", ids.len())?;
        self.check_size(ids.len() as u64 * 8)?;
        let at_ms = self.core.now_ms();
        let deleted = self.change_at(key, ask, at_ms, |queue, payload| {
            let here = ids.iter().filter(|id| id.queue == queue.id);
            let seqs: Vec<Seq> = here.map(|id| id.seq).collect();
            let living = queue.decide_delete_many(&seqs, at_ms)?;
            if living.is_empty() {
                return Ok(Decision::Nothing(()));
            }
            payload.deleted(&living);
            Ok(Decision::Write { kind: Kind::Deleted, seq: 0, count: living.len(), draft: () })
        });
        self.or_absent(key, ask, deleted)
    }

    // ---- claims ----

    /// Claims up to `limit` of the oldest free messages; `None` when there is none. Messages that
    /// would die before the claim's end and the grace live until then.
    ///
    /// # Errors
    /// `TooLarge` for a limit beyond what a frame takes, and those of every write.
    pub fn claim(
        &self,
        key: &QueueKey,
        ttl_s: u32,
        grace_s: u32,
        limit: usize,
        ask: Option<Durability>,
    ) -> Result<Receipt<Option<Claim>>> {
        self.check_count("messages in one claim", limit)?;
        self.check_size(limit as u64 * 8)?;
        let at_ms = self.core.now_ms();
        let claimed = PAYLOAD.with_borrow_mut(|payload| {
            let decide = |queue: &mut Queue, payload: &mut Payload| {
                let (taken, expired) = queue.decide_claim(limit, at_ms)?;
                add(&self.core.counters.expired, expired);
                if taken.is_empty() {
                    return Ok(Decision::Nothing(None));
                }
                let seqs: Vec<Seq> = taken.iter().map(|located| located.seq).collect();
                payload.claimed(ttl_s, grace_s, &seqs);
                let count = taken.len();
                let draft = Some((queue.id, taken));
                Ok(Decision::Write { kind: Kind::Claimed, seq: 0, count, draft })
            };
            let finish = |draft: Option<(QueueId, Vec<Located>)>, written: Written<'_>| {
                let (queue, taken) = draft?;
                let (state, lsn) = written?;
                add(&self.core.counters.claimed, taken.len() as u64);
                let id = ClaimId(lsn);
                let messages = taken.into_iter().map(|mut located| {
                    located.claim = Some(id);
                    located.ttl_s = state.ttl_s(located.seq).unwrap_or(located.ttl_s);
                    Message::new(queue, located, at_ms)
                });
                Some(Claim { id, ttl_s, age_s: 0, messages: messages.collect() })
            };
            self.write(key, ask, at_ms, payload, None, decide, finish)
        });
        self.or_absent(key, ask, claimed)
    }

    /// A live claim with the messages it still holds.
    ///
    /// # Errors
    /// `NoSuchClaim`, also where there is no such queue; `Damaged`, `Closed`.
    pub fn claim_get(&self, key: &QueueKey, id: ClaimId) -> Result<Receipt<Claim>> {
        let found = self.read(key, |queue, now_ms| {
            let (claim, held) = queue.claim_get(id, now_ms)?.ok_or(Error::NoSuchClaim)?;
            let held = held.into_iter();
            Ok(Claim {
                id,
                ttl_s: claim.ttl_s,
                age_s: now_ms.saturating_sub(claim.renewed_ms) / 1000,
                messages: held.map(|located| Message::new(queue.id, located, now_ms)).collect(),
            })
        });
        found.map_err(absent_claim)
    }

    /// Starts a live claim's time anew.
    ///
    /// # Errors
    /// `NoSuchClaim`, also where there is no such queue, and those of every write.
    pub fn renew(
        &self,
        key: &QueueKey,
        id: ClaimId,
        ttl_s: u32,
        grace_s: u32,
        ask: Option<Durability>,
    ) -> Result<Receipt<()>> {
        let at_ms = self.core.now_ms();
        let renewed = self.change_at(key, ask, at_ms, |queue, payload| {
            queue.decide_claim_change(id, at_ms)?;
            payload.renewed(ttl_s, grace_s);
            Ok(Decision::Write { kind: Kind::Renewed, seq: id.0.0, count: 0, draft: () })
        });
        renewed.map_err(absent_claim)
    }

    /// Gives a claim's remaining messages back to their old places. Succeeds also where there is no
    /// such claim.
    ///
    /// # Errors
    /// Those of every write.
    pub fn release(
        &self,
        key: &QueueKey,
        id: ClaimId,
        ask: Option<Durability>,
    ) -> Result<Receipt<()>> {
        let at_ms = self.core.now_ms();
        let released = self.change_at(key, ask, at_ms, |queue, payload| {
            if queue.decide_claim_change(id, at_ms).is_err() {
                return Ok(Decision::Nothing(()));
            }
            payload.empty();
            Ok(Decision::Write { kind: Kind::Released, seq: id.0.0, count: 0, draft: () })
        });
        self.or_absent(key, ask, released)
    }

    // ---- care ----

    /// The durability that a write to this key gets.
    pub fn durability_of(&self, key: &QueueKey, ask: Option<Durability>) -> Durability {
        self.core.durability_of(key, ask)
    }

    /// Whether writes are taken; an error says why not.
    ///
    /// # Errors
    /// `ReadOnly`, `Closed`, `Full` (posting only).
    pub fn health(&self) -> Result<()> {
        self.check_open()?;
        if let Some(why) = self.core.log.watermarks().failure() {
            return Err(Error::ReadOnly(why.clone()));
        }
        if self.core.log.is_posting_stopped() { Err(Error::Full) } else { Ok(()) }
    }

    /// Writes a checkpoint now.
    ///
    /// # Errors
    /// `Io` when it could not be written: the last one still counts.
    pub fn checkpoint(&self) -> Result<()> {
        self.check_open()?;
        upkeep::checkpoint::write(&self.core, false).map(|_| ())
    }

    /// Gives back now what space can be given back: two checkpoints, then a round of compaction.
    /// Returns how many bytes of disk it freed.
    ///
    /// # Errors
    /// As [`Engine::checkpoint`]; `Damaged` when a segment cannot be read.
    pub fn compact(&self) -> Result<u64> {
        self.check_open()?;
        upkeep::segments::seal_all(&self.core)?;
        upkeep::checkpoint::write(&self.core, false)?;
        upkeep::checkpoint::write(&self.core, false)?;
        upkeep::compact::round(&self.core)
    }

    /// Resolves when a write would most likely not have to wait for room, or be refused at once.
    /// Verbs that write block their thread for up to some seconds while more is waiting to be
    /// written than may, or no segment is ready; a task that awaits this first does not.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + '_ {
        std::future::poll_fn(|context| self.core.log.poll_ready(context.waker()))
    }

    /// Waits until all that was appended before this call is on stable storage.
    ///
    /// # Errors
    /// `ReadOnly` when that failed.
    pub fn sync(&self) -> Result<()> {
        self.core.log.sync_to(self.core.log.end())
    }

    /// What the engine counted, and its state now. Visits every queue once.
    pub fn metrics(&self) -> EngineMetrics {
        let core = &*self.core;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (mut live_messages, mut claims) = (0, 0);
        core.state.visit_all(|queue| {
            live_messages += queue.ranges.live();
            claims += queue.claims().map_or(0, |claims| claims.len() as u64);
        });
        let mut segments: Vec<Arc<Segment>> = core.segments().values().cloned().collect();
        segments.extend(core.log.open_segments());
        segments.sort_by_key(|segment| segment.number());
        segments.dedup_by_key(|segment| segment.number());
        let newest = core.checkpoints().last().copied();
        let since_ms = newest.map_or(self.recovery.opened_ms, |newest| newest.created_ms);
        EngineMetrics {
            queues: core.state.len() as u64,
            live_messages,
            claims,
            posted: count(&core.counters.posted),
            claimed: count(&core.counters.claimed),
            deleted: count(&core.counters.deleted),
            expired: count(&core.counters.expired),
            frames: count(&core.counters.frames),
            log_bytes: count(&core.counters.log_bytes),
            compacted_bytes: count(&core.counters.compacted_bytes),
            checkpoints: count(&core.counters.checkpoints),
            checkpoint_age_ms: core.now_ms().saturating_sub(since_ms),
            replay_bytes: newest.map_or(0, |newest| core.log.end().0.saturating_sub(newest.lsn.0)),
            commit_frames: core.counters.commit_frames.snapshot(),
            sync_us: core.counters.sync_us.snapshot(),
            segments: segments
                .iter()
                .map(|segment| SegmentMetrics {
                    number: segment.number(),
                    generation: segment.header.generation,
                    disk_size: segment.disk_size(),
                    live_cost: segment.live_cost(),
                    live_count: segment.live_count(),
                })
                .collect(),
            waiting_bytes: core.log.waiting_bytes(),
            recovery_ms: self.recovery.duration_ms,
            read_only: core.log.watermarks().failure().map(|why| why.to_string()),
            disk_full: core.log.is_posting_stopped(),
        }
    }

    // ---- decide, append, apply ----

    fn check_open(&self) -> Result<()> {
        if self.core.is_closing() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Waits for permission to append, with no lock held.
    fn admit(&self, posting: bool) -> Result<()> {
        self.check_open()?;
        self.core.log.admit()?;
        if posting && self.core.log.is_posting_stopped() { Err(Error::Full) } else { Ok(()) }
    }

    fn wait_for_room(&self) -> Result<()> {
        self.core.wake_upkeep();
        self.core.log.wait_for_room()
    }

    fn check_count(&self, what: &'static str, count: usize) -> Result<()> {
        let (size, size_max) = (count as u64, COUNT_MAX as u64);
        if count > COUNT_MAX { Err(Error::TooLarge { what, size, size_max }) } else { Ok(()) }
    }

    /// A frame takes at most a quarter of a segment.
    fn check_size(&self, size: u64) -> Result<()> {
        let size_max = self.core.config.segment_size_bytes / 4;
        if size > size_max {
            return Err(Error::TooLarge { what: "the request in bytes", size, size_max });
        }
        Ok(())
    }

    /// A write of a small record, decided now.
    fn change(
        &self,
        key: &QueueKey,
        ask: Option<Durability>,
        decide: impl FnMut(&mut Queue, &mut Payload) -> Result<Decision<()>>,
    ) -> Result<Receipt<()>> {
        self.change_at(key, ask, self.core.now_ms(), decide)
    }

    fn change_at(
        &self,
        key: &QueueKey,
        ask: Option<Durability>,
        at_ms: u64,
        decide: impl FnMut(&mut Queue, &mut Payload) -> Result<Decision<()>>,
    ) -> Result<Receipt<()>> {
        PAYLOAD.with_borrow_mut(|payload| {
            self.write(key, ask, at_ms, payload, None, decide, |(), _| ())
        })
    }

    /// Decide, append, apply. `crc` is the payload's checksum where `decide` does not write it;
    /// `finish` makes the answer of what was decided and of where the record lies.
    #[allow(
        clippy::too_many_arguments,
        reason = "the one place where all of a write comes together"
    )]
    fn write<D, A>(
        &self,
        key: &QueueKey,
        ask: Option<Durability>,
        at_ms: u64,
        payload: &mut Payload,
        crc: Option<crc32fast::Hasher>,
        mut decide: impl FnMut(&mut Queue, &mut Payload) -> Result<Decision<D>>,
        finish: impl FnOnce(D, Written<'_>) -> A,
    ) -> Result<Receipt<A>> {
        let marks = self.core.log.watermarks();
        loop {
            self.admit(crc.is_some())?;
            let mut shard = self.core.state.lock(key);
            let queue = shard.get(key).ok_or(Error::NoSuchQueue)?;
            let demand = queue.demand(ask);
            let (kind, seq, count, draft) = match decide(queue, payload)? {
                Decision::Write { kind, seq, count, draft } => (kind, seq, count, draft),
                Decision::Nothing(draft) => {
                    // What it saw may still be on its way to the disk.
                    return Ok(Receipt::at(marks, queue.last_end, demand, finish(draft, None)));
                }
            };
            let frame = NewFrame {
                kind,
                at_ms,
                queue: queue.id.0,
                seq,
                count: u16::try_from(count).expect("counts were checked before"),
                payload: &payload.bytes,
                crc: crc.clone().unwrap_or_else(|| payload.crc()),
            };
            match self.core.log.append(frame, demand) {
                Ok(appended) => {
                    self.apply(queue, &appended, &payload.bytes)?;
                    let answer = finish(draft, Some((queue, appended.head.lsn)));
                    return Ok(Receipt::at(marks, appended.end, demand, answer));
                }
                Err(Refused::NoRoom) => {
                    drop(shard);
                    self.wait_for_room()?;
                }
                Err(Refused::For(error)) => return Err(error),
            }
        }
    }

    fn apply(&self, queue: &mut Queue, appended: &Appended, payload: &[u8]) -> Result<()> {
        let record = Record::decode(&appended.head, payload).expect("it was just encoded");
        let place = Place {
            lsn: appended.head.lsn,
            end: appended.end,
            at_ms: appended.head.at_ms,
            segment: &appended.segment,
            position: appended.position,
        };
        let applied = queue.apply(&place, &record, self.core.engine_id);
        if let Err(error) = &applied {
            // The log says one thing, memory another: only a restart makes them one again.
            self.core.log.watermarks().fail(&format!("a record could not be applied: {error}"));
        }
        add(&self.core.counters.deleted, applied?);
        Ok(())
    }

    /// A look at a queue, shown once what it saw is as durable as the queue promises.
    fn read<A>(
        &self,
        key: &QueueKey,
        look: impl FnOnce(&mut Queue, u64) -> Result<A>,
    ) -> Result<Receipt<A>> {
        self.check_open()?;
        let now_ms = self.core.now_ms();
        let mut shard = self.core.state.lock(key);
        let queue = shard.get(key).ok_or(Error::NoSuchQueue)?;
        let answer = look(queue, now_ms)?;
        let (end, durability) = (queue.last_end, queue.durability);
        drop(shard);
        let marks = self.core.log.watermarks();
        // Bodies are read out of the file: even in mode `memory` they have to be in it. After a
        // failure reads go on as far as the file reaches.
        let mark = match durability {
            Durability::Group | Durability::Each if marks.failure().is_none() => Mark::Durable,
            _ => Mark::Written,
        };
        Ok(Receipt::when(marks, mark, end, durability, answer))
    }

    /// Where there is no queue there is nothing, which is the answer.
    fn or_absent<A: Default>(
        &self,
        key: &QueueKey,
        ask: Option<Durability>,
        answer: Result<Receipt<A>>,
    ) -> Result<Receipt<A>> {
        match answer {
            Err(Error::NoSuchQueue) => {
                Ok(Receipt::open(A::default(), self.core.durability_of(key, ask)))
            }
            answer => answer,
        }
    }
}

/// What `finish` gets: the queue after the record was applied, and the record's LSN; `None` when
/// nothing was written.
type Written<'a> = Option<(&'a Queue, Lsn)>;

fn absent_claim(error: Error) -> Error {
    match error {
        Error::NoSuchQueue => Error::NoSuchClaim,
        error => error,
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What panicked may have held a lock that closing needs; recovery takes it from here.
            return;
        }
        // Whoever wants to know calls `close`.
        let _ = self.close();
    }
}
