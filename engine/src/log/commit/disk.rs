//! The commit thread, what an attending thread does, and how a group is written and synced. Knows the tail and
//! the watermarks; who waits for room is not its business.

use super::Shared;
use crate::domain::Durability;
use crate::env::Background;
use crate::error::{Error, Result};
use crate::log::company::Advice;
use crate::log::segment::Segment;
use crate::log::tail::{Ending, Group, Tail};
use crate::log::watermark::{Chores, Mark, Rest, Watermarks};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Instant, LockResult, Mutex, MutexGuard, PoisonError, TryLockError, thread};
use std::io;
use std::time::Duration;

/// For so many frames an attending thread syncs by itself, since the time a sync takes is more than these
/// requests take to serve. For more it does where nobody else can come meanwhile.
const FEW_FRAMES: u64 = 4;
/// An attending thread waits for a disk whose writes or syncs take at most so long.
const QUICK_US: u64 = 400;
/// More bytes than this an attending thread does not sync by itself.
const FEW_BYTES: u64 = 256 << 10;
/// Bytes that are written and not synced even though nobody asks for it. When the segment ends everybody
/// waits for the last of them.
const BEHIND_MAX: u64 = 4 << 20;
/// Buffers that are kept for reuse do not stay larger than this.
const KEPT_BUFFER_SIZE: usize = 4 << 20;

impl Chores for Shared {
    fn do_chores(&self, can_look: bool) -> Rest {
        if self.watermarks.failure().is_some() {
            return Rest::Sleep;
        }
        let done = match self.background {
            Background::Threads => self.attend(can_look),
            Background::Caller if self.has_ended.load(Ordering::SeqCst) => Ok(Rest::Sleep),
            Background::Caller => self.commit().map(|()| Rest::Sleep),
        };
        // A failure is known to everyone who waits.
        done.unwrap_or(Rest::Sleep)
    }
}

impl Shared {
    // ---- the commit thread ----

    /// Leaves what there is to do to the commit thread.
    pub(super) fn call_thread(&self) {
        let mut tail = self.lock();
        tail.is_for_thread = true;
        if std::mem::take(&mut tail.thread_sleeps) {
            drop(tail);
            self.work.notify_one();
        }
    }

    pub(super) fn commit_until_the_end(&self) {
        /// Turns a panic of the thread into a failure that waiters see.
        struct OnPanic<'a>(&'a Watermarks);
        impl Drop for OnPanic<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.fail("the commit thread panicked");
                }
            }
        }
        let _guard = OnPanic(&self.watermarks);
        while self.wait_for_work() {
            if self.commit().is_err() {
                return;
            }
        }
        if self.lock().ending == Some(Ending::Orderly) {
            // An attending thread may be writing still, and nobody syncs after this. A failure is known to
            // everyone who waits.
            let _ = self.commit();
        }
    }

    /// Waits for something to write or to sync; false at the end.
    fn wait_for_work(&self) -> bool {
        let mut tail = self.lock();
        loop {
            if tail.ending == Some(Ending::Abrupt) || self.watermarks.failure().is_some() {
                return false;
            }
            let has_frames = !tail.chunks.is_empty();
            let is_ending = tail.ending.is_some();
            if has_frames && (tail.is_for_thread || is_ending) {
                return true;
            }
            tail.is_for_thread = false;
            let left = self.sync_due_in();
            if left.is_some_and(|left| left.is_zero()) {
                return true;
            }
            if is_ending {
                return false;
            }
            tail.thread_sleeps = true;
            tail.thread_has_alarm = left.is_some();
            tail = match left {
                None => self.work.wait(tail).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    self.work.wait_timeout(tail, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            tail.thread_sleeps = false;
            tail.thread_has_alarm = false;
        }
    }

    /// Writes what is there, and syncs when somebody wants it.
    pub(super) fn commit(&self) -> Result<()> {
        {
            let _turn = self.turn(self.writer.lock())?;
            let group = self.take(&mut self.lock());
            if let Some(group) = group {
                self.write(group)?;
            }
        }
        let _turn = self.turn(self.syncer.lock())?;
        if self.sync_due_in().is_some_and(|left| left.is_zero()) { self.sync() } else { Ok(()) }
    }

    // ---- a thread that attends ----

    /// What an attending thread does before it sleeps, or before it looks for more work if it can.
    fn attend(&self, can_look: bool) -> Result<Rest> {
        if self.has_ended.load(Ordering::SeqCst) {
            return Ok(Rest::Sleep);
        }
        let advice = if can_look { self.advice() } else { Advice::Go };
        let has_frames = self.has_frames.load(Ordering::Relaxed);
        let all_want_sync = !self.has_undemanding.load(Ordering::Relaxed);
        if advice == Advice::Wait && has_frames && all_want_sync {
            return Ok(Rest::Look);
        }
        let mut frame_count = 0;
        if self.has_frames.load(Ordering::Relaxed) {
            let Some(_turn) = self.try_turn(&self.writer)? else {
                self.call_thread();
                return Ok(Rest::Sleep);
            };
            let mut tail = self.lock();
            let is_quick = tail.is_simple() && self.is_quick(&self.write_us);
            if !tail.chunks.is_empty() && !is_quick {
                drop(tail);
                self.call_thread();
                return Ok(Rest::Sleep);
            }
            let group = self.take(&mut tail);
            drop(tail);
            if let Some(group) = group {
                frame_count = group.frame_count;
                self.write(group)?;
            }
        }
        match self.sync_due_in() {
            None => return Ok(Rest::Sleep),
            Some(left) if left.is_zero() => {}
            Some(_) => {
                let has_alarm = self.lock().thread_has_alarm;
                if !has_alarm {
                    self.call_thread();
                }
                return Ok(Rest::Sleep);
            }
        }
        let behind = {
            let durable = self.watermarks.get(Mark::Durable);
            self.lock_unsynced().end.0.saturating_sub(durable.0)
        };
        let is_for_few = frame_count <= FEW_FRAMES;
        if (is_for_few || advice == Advice::AllAreHere)
            && behind <= FEW_BYTES
            && self.is_quick(&self.sync_us)
            && let Some(_turn) = self.try_turn(&self.syncer)?
        {
            return self.sync().map(|()| Rest::Sleep);
        }
        self.call_thread();
        Ok(Rest::Sleep)
    }

    /// Whether more that want a sync are about to come.
    fn advice(&self) -> Advice {
        let appended = self.wanting_count.load(Ordering::Relaxed);
        let sync_us = self.sync_us.load(Ordering::Relaxed);
        self.lock_company().advice(self.now_us(), appended, sync_us)
    }

    /// Whether an attending thread can wait for this kind of work.
    fn is_quick(&self, us: &AtomicU64) -> bool {
        us.load(Ordering::Relaxed) <= QUICK_US
    }

    // ---- writing and syncing ----

    /// A turn at writing or at syncing, unless either failed: then nobody gets one any more. Whoever fails
    /// says so before the turn is over, so that nothing is written behind a hole, and no sync that failed is
    /// made again.
    fn turn<'a>(&self, lock: LockResult<MutexGuard<'a, ()>>) -> Result<MutexGuard<'a, ()>> {
        let Ok(turn) = lock else {
            self.fail("a thread panicked while it wrote the log");
            return Err(Error::Closed);
        };
        match self.watermarks.failure() {
            None => Ok(turn),
            Some(why) => Err(Error::ReadOnly(why.clone())),
        }
    }

    /// As [`Shared::turn`]; `None` while it is somebody else's.
    fn try_turn<'a>(&self, lock: &'a Mutex<()>) -> Result<Option<MutexGuard<'a, ()>>> {
        match lock.try_lock() {
            Ok(turn) => self.turn(Ok(turn)).map(Some),
            Err(TryLockError::Poisoned(poisoned)) => self.turn(Err(poisoned)).map(Some),
            Err(TryLockError::WouldBlock) => Ok(None),
        }
    }

    /// How long until a sync is due; `None` when nobody wants one.
    fn sync_due_in(&self) -> Option<Duration> {
        let durable = self.watermarks.get(Mark::Durable);
        let unsynced = self.lock_unsynced();
        if durable >= unsynced.end {
            return None;
        }
        if durable < unsynced.wanted {
            return Some(Duration::ZERO);
        }
        let due = unsynced.since? + self.sync_interval;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Takes what there is to write. The caller holds the writer.
    fn take(&self, tail: &mut Tail) -> Option<Group> {
        self.has_frames.store(false, Ordering::Relaxed);
        self.has_undemanding.store(false, Ordering::Relaxed);
        tail.take()
    }

    /// Writes a group. The caller holds the writer.
    fn write(&self, group: Group) -> Result<()> {
        self.counters.commit_frames.record(group.frame_count);
        for mut chunk in group.chunks {
            let started = Instant::now();
            let size = chunk.bytes.len();
            chunk.pad();
            let written = chunk.segment.write_at(&chunk.bytes, chunk.position);
            self.or_fail("writing", &chunk.segment, written)?;
            learn(&self.write_us, started.elapsed());
            self.waiting_bytes.fetch_sub(size as u64, Ordering::SeqCst);
            {
                let mut unsynced = self.lock_unsynced();
                unsynced.segment = chunk.segment;
                unsynced.end = chunk.end;
                unsynced.wanting_count = chunk.wanting_count;
                match chunk.demand {
                    Durability::Memory | Durability::Os => {}
                    Durability::Interval => {
                        unsynced.since.get_or_insert(started);
                    }
                    // Never lowered: somebody may want frames that are still in the tail.
                    Durability::Group | Durability::Each => unsynced.want(chunk.end),
                }
                if chunk.end.0 - self.watermarks.get(Mark::Durable).0 > BEHIND_MAX {
                    unsynced.want(chunk.end);
                }
            }
            self.watermarks.publish(Mark::Written, chunk.end);
            if chunk.closed {
                let _turn = self.turn(self.syncer.lock())?;
                self.sync()?;
            }
            self.keep_buffer(chunk.bytes);
        }
        self.announce_room();
        Ok(())
    }

    /// Makes durable what was written. The caller holds the syncer.
    fn sync(&self) -> Result<()> {
        let (segment, end, answered_count) = {
            let mut unsynced = self.lock_unsynced();
            unsynced.since = None;
            let count = unsynced.wanting_count - unsynced.answered_count;
            unsynced.answered_count = unsynced.wanting_count;
            (unsynced.segment.clone(), unsynced.end, count)
        };
        let started = Instant::now();
        self.or_fail("syncing", &segment, segment.sync())?;
        let took = started.elapsed();
        learn(&self.sync_us, took);
        self.counters.sync_us.record(took.as_micros() as u64);
        self.lock_company().answered(answered_count);
        self.watermarks.publish(Mark::Durable, end);
        Ok(())
    }

    /// The first failure is final, and known before the turn at the disk is over.
    fn or_fail(&self, doing: &'static str, segment: &Segment, done: io::Result<()>) -> Result<()> {
        done.map_err(|cause| Error::io(doing, segment.path.as_path(), cause))
            .inspect_err(|error| self.fail(&error.to_string()))
    }

    fn keep_buffer(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT_BUFFER_SIZE {
            buffer.clear();
            let mut tail = self.lock();
            if tail.spare_buffers.len() < 2 {
                tail.spare_buffers.push(buffer);
            }
        }
    }
}

/// Takes a duration into a running mean over the last few, in microseconds. Racing writers lose one.
fn learn(mean_us: &AtomicU64, took: Duration) {
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX / 8);
    let mean = mean_us.load(Ordering::Relaxed);
    mean_us.store((mean * 7 + took_us.min(u64::MAX / 8)) / 8, Ordering::Relaxed);
}
