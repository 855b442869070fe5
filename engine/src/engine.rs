//! The engine: open, close, care for it; and *decide, append, apply*, written down here alone. The
//! verbs themselves are in the three files beside. Knows neither byte layouts nor HTTP.
//!
//! Every verb that writes looks at the queue and decides, appends the record, and applies it, all
//! under the lock of the queue's shard; what it answers is locked up in a [`Receipt`] until the log
//! is as durable as it has to be. Reads are locked up the same way: nobody is shown what a power cut
//! could still take back from a queue whose writes are promised to survive one.

use crate::config::Config;
use crate::core::Core;
use crate::domain::{Durability, Lsn, QueueKey};
use crate::env::Environment;
use crate::error::{Error, Result};
use crate::log::frame::Kind;
use crate::log::record::{Payload, Record};
use crate::log::segment::Segment;
use crate::log::tail::{Appended, NewFrame, Refused};
use crate::log::watermark::Mark;
pub use crate::log::watermark::{Attendance, Rest};
use crate::metrics::{CompactionMetrics, EngineMetrics, SegmentMetrics, UnderWay, add};
use crate::receipt::Receipt;
use crate::state::queue::{Located, Place, Queue};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, Mutex, PoisonError, thread, thread_local};
pub use crate::upkeep::recover::RecoveryReport;
use crate::upkeep::{self, Upkeep, recover};
use std::cell::RefCell;
use std::future::Future;

/// Most messages, or numbers, in one frame.
const COUNT_MAX: usize = u16::MAX as usize;

mod claims;
mod messages;
mod queues;

pub use claims::Claim;
pub use messages::{Content, Message, NewMessage, Page};
pub use queues::QueueGlance;

/// A durable store of queues, open in this process. See the [crate's front page](crate).
#[derive(Debug)]
pub struct Engine {
    core: Arc<Core>,
    upkeep: Mutex<Option<Upkeep>>,
    recovery: RecoveryReport,
}

/// What a verb decided.
enum Decision<D> {
    /// There is nothing to write.
    Nothing(D),
    /// A record, whose payload was encoded.
    Write { kind: Kind, seq: u64, draft: D },
}

thread_local! {
    /// Payloads are encoded here, so that no request allocates for it.
    static PAYLOAD: RefCell<Payload> = RefCell::default();
}

/// What a reading verb may show, decided once, before its first look: a failure in its midst must not make what it saw
/// before pass for what the disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// All there is, once it is as durable as the queue promises.
    Whole,
    /// Reads go on after a failure of the disk, at once, with those messages that were as durable then. That a message
    /// is gone or claimed is told although nobody was promised it.
    AfterFailure,
}

/// Below it lies what a queue of this level shows. Bodies are read out of the file: even in mode `memory` they have
/// to be in it.
fn shown_below(durability: Durability) -> Mark {
    match durability {
        Durability::Group | Durability::Each => Mark::Durable,
        _ => Mark::Written,
    }
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
        // The next start would remove them; until then they would only take room.
        for spare in self.core.spares().drain(..) {
            let _ = self.core.env.disk.remove(&spare);
        }
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
        let _running = UnderWay::new(&self.core.counters.compacting);
        let work = || {
            upkeep::segments::seal_all(&self.core)?;
            upkeep::checkpoint::write(&self.core, false)?;
            upkeep::checkpoint::write(&self.core, false)?;
            upkeep::compact::round(&self.core)
        };
        if self.core.is_by_hand() {
            return work();
        }
        // Not the caller's thread, which may have better things to do later.
        let in_background = || {
            crate::env::give_way();
            work()
        };
        thread::scope(|scope| match scope.spawn(in_background).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Resolves when a write would most likely not have to wait for room, or be refused at once.
    /// Verbs that write block their thread for up to some seconds while more is waiting to be
    /// written than may, or no segment is ready; a task that awaits this first does not.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + '_ {
        std::future::poll_fn(|context| self.core.log.poll_ready(context.waker()))
    }

    /// Makes this thread attend to the log, for as long as the answer is held: it promises to call
    /// [`Engine::before_sleep`] whenever it has nothing else to do. What is appended on it is then written,
    /// and often synced, without waking the commit thread; its tasks are woken by the [`Attendance`], which
    /// it polls beside them. Receipts that it waits for see to that themselves.
    pub fn attend(&self) -> Attendance {
        self.core.log.watermarks().attend()
    }

    /// What an attending thread calls before it sleeps; nothing on any other thread. Does not block on a
    /// disk that is known to be slow.
    pub fn before_sleep(&self) {
        self.core.log.watermarks().before_sleep();
    }

    /// As [`Engine::before_sleep`], for a thread that can as well look for more work and call this again at
    /// once. [`Rest::Look`] says that it should: those whom the last sync answered are about to come back,
    /// and one sync can serve them together with what is here. That lasts for half a millisecond at most.
    pub fn before_rest(&self) -> Rest {
        self.core.log.watermarks().do_chores(true)
    }

    /// One round of readying and indexing segments, on this thread. For tests that leave no timing
    /// to the background.
    #[doc(hidden)]
    pub fn prepare(&self) -> Result<()> {
        upkeep::segments::round(&self.core)
    }

    /// One round of what `marconi-upkeep` does: expiry, a checkpoint where one is due, compaction, a look at the
    /// room on the disk. For tests that leave no timing to the background.
    #[doc(hidden)]
    pub fn care(&self) -> Result<()> {
        let upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        upkeep.as_ref().map_or(Err(Error::Closed), |upkeep| upkeep.round(&self.core))
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
            segments: self.segments(),
            waiting_bytes: core.log.waiting_bytes(),
            recovery_ms: self.recovery.duration_ms,
            read_only: core.log.watermarks().failure().map(|why| why.to_string()),
            disk_full: core.log.is_posting_stopped(),
        }
    }

    /// The segments by number, those still being written to included. Visits no queue.
    pub fn segments(&self) -> Vec<SegmentMetrics> {
        let mut segments: Vec<Arc<Segment>> = self.core.segments().values().cloned().collect();
        segments.extend(self.core.log.open_segments());
        segments.sort_by_key(|segment| segment.number());
        segments.dedup_by_key(|segment| segment.number());
        segments
            .iter()
            .map(|segment| SegmentMetrics {
                number: segment.number(),
                generation: segment.header.generation,
                disk_size: segment.disk_size(),
                live_cost: segment.live_cost(),
                live_count: segment.live_count(),
                created_ms: segment.header.created_ms,
            })
            .collect()
    }

    /// What compaction would gain now, whether it runs, and what it did.
    pub fn compaction(&self) -> CompactionMetrics {
        let counters = &self.core.counters;
        let (gain_segments, gain_bytes) = upkeep::compact::gain_of_all(&self.core);
        CompactionMetrics {
            gain_bytes,
            gain_segments,
            running: counters.compacting.load(Ordering::Relaxed) > 0,
            rewritten_bytes: counters.compacted_bytes.load(Ordering::Relaxed),
            freed_bytes: counters.freed_bytes.load(Ordering::Relaxed),
        }
    }

    // ---- decide, append, apply ----

    fn check_open(&self) -> Result<()> {
        if self.core.is_closing() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Waits for permission to append, with no lock held.
    fn admit(&self, posting: bool) -> Result<()> {
        self.check_open()?;
        self.core.log.mind_the_time();
        self.core.log.admit()?;
        if posting && self.core.log.is_posting_stopped() { Err(Error::Full) } else { Ok(()) }
    }

    fn wait_for_room(&self) -> Result<()> {
        if self.core.is_by_hand() {
            // What became of it only its own thread would know: whoever waits sees whether there is room.
            let _ = upkeep::segments::round(&self.core);
        }
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
            let (kind, seq, draft) = match decide(queue, payload)? {
                Decision::Write { kind, seq, draft } => (kind, seq, draft),
                Decision::Nothing(draft) => {
                    // What it saw may still be on its way to the disk.
                    let end = queue.last_end;
                    return Ok(self.after(end, demand, finish(draft, None)));
                }
            };
            let frame = NewFrame {
                kind,
                at_ms,
                queue: queue.id.0,
                seq,
                payload: &payload.bytes,
                crc: crc.clone().unwrap_or_else(|| payload.crc()),
            };
            match self.core.log.append(frame, demand) {
                Ok(appended) => {
                    if appended.is_first {
                        self.core.wake_upkeep();
                    }
                    self.apply(queue, &appended, &payload.bytes)?;
                    let answer = finish(draft, Some((queue, appended.head.lsn)));
                    if kind == Kind::Claimed && demand == Durability::Memory {
                        // The bodies of what it got are read out of the file.
                        let before = appended.head.lsn;
                        return Ok(Receipt::when(marks, Mark::Written, before, demand, answer));
                    }
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
        let applied = queue.apply(&place, &record);
        if let Err(error) = &applied {
            // The log says one thing, memory another: only a restart makes them one again.
            self.core.log.watermarks().fail(&format!("a record could not be applied: {error}"));
        }
        add(&self.core.counters.deleted, applied?);
        Ok(())
    }

    /// What a reading verb goes by, however many looks it takes: see [`View`].
    fn view(&self) -> View {
        let marks = self.core.log.watermarks();
        if marks.failure().is_some() && !self.core.is_closing() {
            View::AfterFailure
        } else {
            View::Whole
        }
    }

    /// A look at a queue, shown once what it saw is as durable as the queue promises.
    fn read<A>(
        &self,
        key: &QueueKey,
        view: View,
        look: impl FnOnce(&mut Queue, u64) -> Result<A>,
    ) -> Result<Receipt<A>> {
        self.check_open()?;
        self.core.log.mind_the_time();
        let now_ms = self.core.now_ms();
        let mut shard = self.core.state.lock(key);
        let queue = shard.get(key).ok_or(Error::NoSuchQueue)?;
        let answer = look(queue, now_ms)?;
        let (end, durability) = (queue.last_end, queue.durability);
        drop(shard);
        Ok(match view {
            View::Whole => {
                let mark = shown_below(durability);
                Receipt::when(self.core.log.watermarks(), mark, end, durability, answer)
            }
            View::AfterFailure => Receipt::open(answer, durability),
        })
    }

    /// An answer that depends on there being no such queue: its removal may be under way to the disk.
    fn absent<A>(&self, key: &QueueKey, ask: Option<Durability>, answer: A) -> Receipt<A> {
        let durability = self.core.durability_of(key, ask);
        let end = self.core.state.removed_end();
        self.after(end, durability, answer)
    }

    /// An answer that wrote nothing and depends on what others wrote, who may have asked for less.
    fn after<A>(&self, end: Lsn, durability: Durability, answer: A) -> Receipt<A> {
        if durability >= Durability::Group {
            self.core.log.ask_to_sync(end);
        }
        Receipt::at(self.core.log.watermarks(), end, durability, answer)
    }

    /// Whether a message of a queue of this level may be shown.
    fn shows(&self, view: View, durability: Durability, located: &Located) -> bool {
        view == View::Whole || {
            let shown = self.core.log.watermarks().get(shown_below(durability));
            located.segment.lsn_at(u64::from(located.entry.at().position())) < shown
        }
    }

    /// Where there is no queue there is nothing, which is the answer.
    fn or_absent<A: Default>(
        &self,
        key: &QueueKey,
        ask: Option<Durability>,
        answer: Result<Receipt<A>>,
    ) -> Result<Receipt<A>> {
        match answer {
            Err(Error::NoSuchQueue) => Ok(self.absent(key, ask, A::default())),
            answer => answer,
        }
    }
}

/// What `finish` gets: the queue after the record was applied, and the record's LSN; `None` when
/// nothing was written.
type Written<'a> = Option<(&'a Queue, Lsn)>;

impl Drop for Engine {
    fn drop(&mut self) {
        if thread::panicking() {
            // What panicked may have held a lock that closing needs; recovery takes it from here.
            return;
        }
        // Whoever wants to know calls `close`.
        let _ = self.close();
    }
}
