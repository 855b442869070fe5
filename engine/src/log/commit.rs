//! From the tail to the disk. Frames are appended to the tail; one thread at a time writes them, one at a
//! time syncs, and while one syncs another writes on. Knows neither records nor queues.
//!
//! * LSNs are given out in the order in which frames lie in the tail.
//! * While one sync is under way the next group gathers; nobody waits for a timer.
//! * A segment is synced whole before the first byte of the next one is written, so only the last
//!   segment can have a hole.
//! * The first failure of a write or a sync is final.
//!
//! The commit thread does all of this by itself. A thread that attends to the log (see
//! [`super::watermark::Attendance`]) does what is quick before it sleeps, which spares waking another thread:
//! it writes, and it syncs where few wait. It leaves the rest to the commit thread, above all while the disk
//! is slow: it has other things to do than to wait for one.
//!
//! Lock order: writer, syncer, tail, unsynced.

use super::company::Company;
use super::frame::{HEAD_SIZE, Head, padded};
use super::segment::Segment;
use super::tail::{Appended, Ending, NewFrame, Refused, Tail};
use super::watermark::{Chores, Mark, Watermarks};
use crate::domain::{Durability, Lsn};
use crate::env::Background;
use crate::error::{Error, Result};
use crate::metrics::{Counters, add};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Condvar, Instant, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

mod disk;
#[cfg(test)]
mod tests;

/// How long a writer waits for room in the buffer or for the next segment before it gives up.
const PATIENCE: Duration = Duration::from_secs(5);

/// An attending thread that is never idle keeps what it appended for so long at most before the commit
/// thread takes it. With 64 writers a round of serving takes about half of that; cutting it made more syncs of
/// fewer frames each, and a sync takes as much of a processor as several requests.
const KEPT_MAX_US: u64 = 2_000;
/// And so many bytes.
const KEPT_MAX_SIZE: usize = 1 << 20;

/// The tail and the thread that commits it.
#[derive(Debug)]
pub(crate) struct Log {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    tail: Mutex<Tail>,
    /// Held by whoever takes from the tail and writes.
    writer: Mutex<()>,
    /// Held by whoever syncs.
    syncer: Mutex<()>,
    unsynced: Mutex<Unsynced>,
    /// Frames lie in the tail. Changed under its lock.
    has_frames: AtomicBool,
    /// When the oldest of them came, in microseconds since `started`.
    oldest_us: AtomicU64,
    started: Instant,
    /// As the tail has it, changed under its lock.
    wanting_count: AtomicU64,
    /// Frames lie in the tail whose waiters want no sync. Changed under its lock.
    has_undemanding: AtomicBool,
    /// Who is about to come.
    company: Mutex<Company>,
    /// How long writing a group, and a sync, take lately, in microseconds.
    write_us: AtomicU64,
    sync_us: AtomicU64,
    /// The commit thread waits here for work.
    work: Condvar,
    /// Writers wait here for room.
    room: Condvar,
    watermarks: Arc<Watermarks>,
    waiting_bytes: AtomicU64,
    waiting_bytes_max: u64,
    /// The active segment may be too full for the next frame, and the next one is not there.
    low_on_room: AtomicBool,
    /// Threads that wait on `room`. Announcing to nobody would be a system call for nothing.
    room_sleepers: AtomicUsize,
    /// Some task waits in `Tail::room_wakers`.
    has_room_wakers: AtomicBool,
    posting_stopped: AtomicBool,
    /// Nothing is taken any more.
    has_ended: AtomicBool,
    /// The largest frame that anybody appends.
    frame_size_max: usize,
    sync_interval: Duration,
    counters: Arc<Counters>,
    background: Background,
}

impl Unsynced {
    fn want(&mut self, lsn: Lsn) {
        self.wanted = self.wanted.max(lsn);
    }
}

/// Counted among the sleepers while it lives.
struct Asleep<'a>(&'a AtomicUsize);

impl<'a> Asleep<'a> {
    fn new(sleepers: &'a AtomicUsize) -> Asleep<'a> {
        sleepers.fetch_add(1, Ordering::SeqCst);
        Asleep(sleepers)
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What was written and not synced.
#[derive(Debug)]
struct Unsynced {
    segment: Arc<Segment>,
    /// The LSN behind it.
    end: Lsn,
    /// Frames below it that want a sync, ever.
    wanting_count: u64,
    /// Those of them that are durable.
    answered_count: u64,
    /// Somebody wants all below this durable.
    wanted: Lsn,
    /// When the oldest write of mode `Interval` that is not synced was made.
    since: Option<Instant>,
}

impl Log {
    /// Starts the commit thread, where there is to be one, over an empty segment.
    pub(crate) fn start(
        active: Arc<Segment>,
        waiting_bytes_max: u64,
        sync_interval: Duration,
        counters: Arc<Counters>,
        background: Background,
    ) -> Log {
        let base = active.header.base;
        let frame_size_max =
            usize::try_from(active.size() / 4).expect("a segment is at most 1 GiB");
        let shared = Arc::new(Shared {
            frame_size_max,
            unsynced: Mutex::new(Unsynced {
                segment: active.clone(),
                end: base,
                wanting_count: 0,
                answered_count: 0,
                wanted: base,
                since: None,
            }),
            tail: Mutex::new(Tail::new(active)),
            writer: Mutex::default(),
            syncer: Mutex::default(),
            has_frames: AtomicBool::new(false),
            oldest_us: AtomicU64::new(0),
            started: Instant::now(),
            wanting_count: AtomicU64::new(0),
            has_undemanding: AtomicBool::new(false),
            company: Mutex::new(Company::new()),
            write_us: AtomicU64::new(0),
            sync_us: AtomicU64::new(0),
            work: Condvar::new(),
            room: Condvar::new(),
            watermarks: Arc::new(Watermarks::new(base)),
            waiting_bytes: AtomicU64::new(0),
            waiting_bytes_max,
            low_on_room: AtomicBool::new(false),
            room_sleepers: AtomicUsize::new(0),
            has_room_wakers: AtomicBool::new(false),
            posting_stopped: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            sync_interval,
            counters,
            background,
        });
        let chores: Weak<dyn Chores> = Arc::downgrade(&shared) as Weak<dyn Chores>;
        shared.watermarks.set_chores(chores, background == Background::Caller);
        if background == Background::Caller {
            return Log { shared, thread: Mutex::default() };
        }
        let committer = shared.clone();
        let thread = thread::Builder::new()
            .name("marconi-commit".into())
            .spawn(move || {
                crate::env::ask_for_priority();
                committer.commit_until_the_end();
            })
            .expect("a thread can be started while the engine opens");
        Log { shared, thread: Mutex::new(Some(thread)) }
    }

    pub(crate) fn watermarks(&self) -> &Arc<Watermarks> {
        &self.shared.watermarks
    }

    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.shared.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Waits, with no lock held, until a frame may be appended: the buffer has room, nothing failed.
    pub(crate) fn admit(&self) -> Result<()> {
        let shared = &*self.shared;
        if let Some(why) = shared.watermarks.failure() {
            return Err(Error::ReadOnly(why.clone()));
        }
        if shared.waiting_bytes.load(Ordering::Relaxed) <= shared.waiting_bytes_max {
            return Ok(());
        }
        self.wait_for(|_| shared.waiting_bytes.load(Ordering::SeqCst) <= shared.waiting_bytes_max)
    }

    /// Ready when a frame would most likely be taken without a wait, or refused for good. What
    /// [`Log::admit`] and [`Log::wait_for_room`] are for threads.
    pub(crate) fn poll_ready(&self, waker: &Waker) -> Poll<()> {
        let shared = &*self.shared;
        if shared.is_ready() {
            return Poll::Ready(());
        }
        let mut tail = shared.lock();
        tail.room_wakers.push(waker.clone());
        shared.has_room_wakers.store(true, Ordering::SeqCst);
        drop(tail);
        // Whoever made room before the waker stood there did not see it.
        if shared.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits, with no lock held, until any frame fits the segment, or the next one is there.
    pub(crate) fn wait_for_room(&self) -> Result<()> {
        // Who came first may have gone on into the segment that was waited for, and there is room in it.
        let has_room = |tail: &Tail| tail.next.is_some() || tail.fits(self.shared.frame_size_max);
        self.wait_for(has_room).map_err(|error| match error {
            Error::Busy if self.is_posting_stopped() => Error::Full,
            error => error,
        })
    }

    fn wait_for(&self, enough: impl Fn(&Tail) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        if self.shared.background == Background::Caller {
            self.shared.commit()?;
            return if enough(&self.shared.lock()) { Ok(()) } else { Err(Error::Busy) };
        }
        // What this thread attends to is for others to do, now that it waits.
        self.shared.call_thread();
        let mut tail = self.shared.lock();
        let _asleep = Asleep::new(&self.shared.room_sleepers);
        loop {
            if let Some(why) = self.shared.watermarks.failure() {
                return Err(Error::ReadOnly(why.clone()));
            }
            if tail.ending.is_some() {
                return Err(Error::Closed);
            }
            if enough(&tail) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Busy);
            }
            let waited = self.shared.room.wait_timeout(tail, left);
            tail = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Appends a frame. Called under the lock of the queue's shard.
    pub(crate) fn append(
        &self,
        frame: NewFrame<'_>,
        demand: Durability,
    ) -> std::result::Result<Appended, Refused> {
        let shared = &*self.shared;
        let size = padded(HEAD_SIZE + frame.payload.len());
        let mut tail = shared.lock();
        if let Some(why) = shared.watermarks.failure() {
            return Err(Refused::For(Error::ReadOnly(why.clone())));
        }
        if tail.ending.is_some() {
            return Err(Refused::For(Error::Closed));
        }
        let mut waiting = size;
        let is_first = !tail.fits(size);
        if is_first {
            let next = tail.next.take().ok_or(Refused::NoRoom)?;
            tail.roll(next, frame.at_ms);
            waiting += HEAD_SIZE;
        }
        let lsn = tail.lsn();
        let position = tail.position;
        let durable = shared.watermarks.get(Mark::Durable);
        let head = Head {
            length: u32::try_from(HEAD_SIZE + frame.payload.len()).expect("bounded by the segment"),
            lsn,
            at_ms: frame.at_ms,
            queue: frame.queue,
            seq: frame.seq,
            behind: u32::try_from(lsn.0 - durable.0).unwrap_or(u32::MAX),
            kind: frame.kind,
        };
        tail.push(&head.encode(frame.crc), frame.payload);
        let segment = tail.active.clone();
        let end = tail.lsn();
        if demand >= Durability::Group {
            tail.wanting_count += 1;
            shared.wanting_count.store(tail.wanting_count, Ordering::Relaxed);
        } else {
            shared.has_undemanding.store(true, Ordering::Relaxed);
        }
        let wanting_count = tail.wanting_count;
        let chunk = tail.chunk();
        chunk.wanting_count = wanting_count;
        chunk.demand = chunk.demand.max(demand);
        chunk.closed = demand == Durability::Each;
        if !shared.has_frames.swap(true, Ordering::Relaxed) {
            shared.oldest_us.store(shared.now_us(), Ordering::Relaxed);
        }
        let is_attended = shared.watermarks.is_attended_here();
        let is_for_thread = !is_attended || tail.waiting_size() > KEPT_MAX_SIZE;
        tail.is_for_thread |= is_for_thread;
        let wake = is_for_thread && std::mem::take(&mut tail.thread_sleeps);
        let is_low = tail.next.is_none() && !tail.fits(shared.frame_size_max);
        if is_low {
            shared.low_on_room.store(true, Ordering::SeqCst);
        }
        // Under the lock, so that the commit thread never takes away what was not added yet.
        shared.waiting_bytes.fetch_add(waiting as u64, Ordering::Relaxed);
        drop(tail);
        if wake {
            shared.work.notify_one();
        }
        add(&shared.counters.frames, 1);
        add(&shared.counters.log_bytes, size as u64);
        Ok(Appended { head, end, segment, position, is_first })
    }

    /// Leaves to the commit thread what an attending thread keeps for too long, because its tasks never
    /// let it sleep. Called by every verb.
    pub(crate) fn mind_the_time(&self) {
        let shared = &*self.shared;
        if !shared.has_frames.load(Ordering::Relaxed) {
            return;
        }
        let now_us = shared.now_us();
        if now_us.saturating_sub(shared.oldest_us.load(Ordering::Relaxed)) > KEPT_MAX_US {
            shared.oldest_us.store(now_us, Ordering::Relaxed);
            shared.call_thread();
        }
    }

    /// The LSN that the next frame will get.
    pub(crate) fn end(&self) -> Lsn {
        self.shared.lock().lsn()
    }

    /// Has all below `lsn` made durable, without waiting for it: somebody waits who wrote nothing, and
    /// those who wrote may have asked for less.
    pub(crate) fn ask_to_sync(&self, lsn: Lsn) {
        if self.shared.watermarks.get(Mark::Durable) >= lsn {
            return;
        }
        let mut unsynced = self.shared.lock_unsynced();
        if unsynced.wanted < lsn {
            unsynced.wanted = lsn;
            drop(unsynced);
            if !self.shared.watermarks.is_attended_here() {
                self.shared.call_thread();
            }
        }
    }

    /// Makes all below `lsn` durable, and waits for it.
    pub(crate) fn sync_to(&self, lsn: Lsn) -> Result<()> {
        self.ask_to_sync(lsn);
        let marks = &self.shared.watermarks;
        crate::receipt::Receipt::when(marks, Mark::Durable, lsn, Durability::Group, ()).wait()
    }

    /// Whether the log wants a next segment, and the header's numbers it would have:
    /// `(number, base)`.
    pub(crate) fn wants_next(&self) -> Option<(u64, Lsn)> {
        let tail = self.shared.lock();
        tail.next.is_none().then(|| (tail.active.header.last_number + 1, tail.active.lsn_limit()))
    }

    /// Whether the log may need its next segment before a leisurely fill would have it ready.
    pub(crate) fn is_short_of_room(&self) -> bool {
        let tail = self.shared.lock();
        tail.next.is_none() && tail.position * 2 > tail.active.size()
    }

    /// Gives the log its next segment.
    pub(crate) fn set_next(&self, segment: Arc<Segment>) {
        self.shared.lock().next = Some(segment);
        self.shared.low_on_room.store(false, Ordering::SeqCst);
        self.shared.announce_room();
    }

    /// The full segments whose frames are all durable, each handed out once.
    pub(crate) fn take_sealed(&self) -> Vec<Arc<Segment>> {
        let durable = self.shared.watermarks.get(Mark::Durable);
        let mut tail = self.shared.lock();
        let ready =
            |segment: &mut Arc<Segment>| segment.sealed_end().is_some_and(|end| end <= durable);
        tail.sealed.extract_if(.., ready).collect()
    }

    /// The segment being appended to, and the next one.
    pub(crate) fn open_segments(&self) -> Vec<Arc<Segment>> {
        let tail = self.shared.lock();
        let open = std::iter::once(&tail.active).chain(tail.next.as_ref());
        tail.sealed.iter().chain(open).cloned().collect()
    }

    /// Stops or resumes posting, as the disk has room.
    pub(crate) fn stop_posting(&self, stop: bool) {
        self.shared.posting_stopped.store(stop, Ordering::SeqCst);
        self.shared.announce_room();
    }

    /// Whether posts are refused because the disk is full.
    pub(crate) fn is_posting_stopped(&self) -> bool {
        self.shared.posting_stopped.load(Ordering::Relaxed)
    }

    /// Writes and syncs what is there and ends the thread; later appends are refused.
    pub(crate) fn close(&self) {
        let end = self.end();
        // A failure is known to everyone who waits; there is nothing more to do about it here.
        let _ = self.sync_to(end);
        self.finish(Ending::Orderly);
    }

    /// Ends the thread as a crash would: what was not written is lost.
    pub(crate) fn abandon(&self) {
        self.finish(Ending::Abrupt);
        self.shared.watermarks.fail("the engine was abandoned");
    }

    fn finish(&self, ending: Ending) {
        if ending == Ending::Orderly {
            // All is wanted: whoever asks later finds it done, since then nobody is there who could.
            self.shared.lock_unsynced().want(Lsn(u64::MAX));
        }
        self.shared.lock().ending.get_or_insert(ending);
        self.shared.has_ended.store(true, Ordering::SeqCst);
        if ending == Ending::Abrupt {
            // Whoever writes or syncs this moment is the last.
            drop(self.shared.writer.lock());
            drop(self.shared.syncer.lock());
        }
        self.shared.work.notify_all();
        self.shared.announce_room();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panic was reported as the log's failure already.
            let _ = thread.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Where opening failed half-way nobody closed it.
        self.finish(Ending::Abrupt);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().expect("no code panics while it holds the tail")
    }

    fn lock_unsynced(&self) -> MutexGuard<'_, Unsynced> {
        self.unsynced.lock().expect("no code panics while it holds what is not synced")
    }

    fn lock_company(&self) -> MutexGuard<'_, Company> {
        self.company.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Whether a frame can be appended now, or never will be.
    fn is_ready(&self) -> bool {
        let has_room = !self.low_on_room.load(Ordering::SeqCst)
            && self.waiting_bytes.load(Ordering::SeqCst) <= self.waiting_bytes_max;
        has_room
            || self.has_ended.load(Ordering::SeqCst)
            || self.posting_stopped.load(Ordering::SeqCst)
            || self.watermarks.failure().is_some()
    }

    /// Wakes all who wait for room: they look for themselves.
    fn announce_room(&self) {
        if self.room_sleepers.load(Ordering::SeqCst) > 0 {
            // Whoever looked before and is about to sleep holds the tail.
            drop(self.lock());
            self.room.notify_all();
        }
        if self.has_room_wakers.swap(false, Ordering::SeqCst) {
            let wakers = std::mem::take(&mut self.lock().room_wakers);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    fn fail(&self, why: &str) {
        self.watermarks.fail(why);
        self.announce_room();
        self.call_thread();
    }
}
