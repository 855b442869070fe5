//! The tail of the log: frames are appended to a buffer, and one thread writes and syncs it. When it
//! syncs, by durability. Knows neither records nor queues.
//!
//! * LSNs are given out in the order in which frames lie in the buffer.
//! * While one sync is under way the next group gathers; nobody waits for a timer.
//! * A segment is synced whole before the first byte of the next one is written, so only the last
//!   segment can have a hole.
//! * The first failure of a write or a sync is final.

use super::frame::{HEAD_SIZE, Head, Kind, padded};
use super::segment::Segment;
use super::watermark::{Mark, Watermarks};
use crate::domain::{Durability, Lsn};
use crate::error::{Error, Result};
use crate::files::format::SEGMENT_HEADER_SIZE;
use crate::metrics::{Counters, add};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a writer waits for room in the buffer or for the next segment before it gives up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Buffers that are kept for reuse do not stay larger than this.
const KEPT_BUFFER_SIZE: usize = 4 << 20;

/// A frame to be appended: all but what only the tail knows.
#[derive(Debug)]
pub(crate) struct NewFrame<'a> {
    pub(crate) kind: Kind,
    pub(crate) at_ms: u64,
    pub(crate) queue: u64,
    pub(crate) seq: u64,
    pub(crate) count: u16,
    pub(crate) payload: &'a [u8],
    /// The checksum over the payload.
    pub(crate) crc: crc32fast::Hasher,
}

/// Where a frame was appended.
#[derive(Debug, Clone)]
pub(crate) struct Appended {
    pub(crate) head: Head,
    /// The LSN behind it: it is durable once the watermark has come so far.
    pub(crate) end: Lsn,
    pub(crate) segment: Arc<Segment>,
    /// Where in the segment it begins.
    pub(crate) position: u64,
}

/// Why a frame could not be appended.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The next segment is not there yet: wait for it, with no lock held, and try again.
    NoRoom,
    /// No use in trying again.
    For(Error),
}

/// The tail and the thread that commits it.
#[derive(Debug)]
pub(crate) struct Log {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    tail: Mutex<Tail>,
    /// The commit thread waits here for work.
    work: Condvar,
    /// Writers wait here for room.
    room: Condvar,
    watermarks: Arc<Watermarks>,
    waiting_bytes: AtomicU64,
    waiting_bytes_max: u64,
    /// The active segment may be too full for the next frame, and the next one is not there.
    low_on_room: AtomicBool,
    /// Some task waits in `Tail::room_wakers`.
    has_room_wakers: AtomicBool,
    posting_stopped: AtomicBool,
    /// Nothing is taken any more.
    has_ended: AtomicBool,
    /// The largest frame that anybody appends.
    frame_size_max: usize,
    sync_interval: Duration,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Tail {
    active: Arc<Segment>,
    position: u64,
    next: Option<Arc<Segment>>,
    chunks: VecDeque<Chunk>,
    spare_buffers: Vec<Vec<u8>>,
    frame_count: u64,
    /// Somebody wants all below this durable.
    sync_to: Lsn,
    /// Full segments whose frames may still be on their way.
    sealed: Vec<Arc<Segment>>,
    /// Tasks that wait for room, as threads do on the condition.
    room_wakers: Vec<Waker>,
    thread_sleeps: bool,
    ending: Option<Ending>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Write what is there, then end.
    Orderly,
    /// End at once, as in a crash.
    Abrupt,
}

/// Frames that lie together in one segment.
#[derive(Debug)]
struct Chunk {
    segment: Arc<Segment>,
    position: u64,
    bytes: Vec<u8>,
    /// The LSN behind it.
    end: Lsn,
    /// The strongest demand among its frames.
    demand: Durability,
    /// Nothing may be added: it is to be synced on its own.
    closed: bool,
}

impl Tail {
    fn lsn(&self) -> Lsn {
        self.active.lsn_at(self.position)
    }

    /// Whether `size` bytes fit the active segment, the frame that ends it included.
    fn fits(&self, size: usize) -> bool {
        self.position + (size + HEAD_SIZE) as u64 <= self.active.size()
    }

    /// The chunk to append to.
    fn chunk(&mut self) -> &mut Chunk {
        if self.chunks.back().is_none_or(|chunk| chunk.closed) {
            self.chunks.push_back(Chunk {
                segment: self.active.clone(),
                position: self.position,
                bytes: self.spare_buffers.pop().unwrap_or_default(),
                end: self.lsn(),
                demand: Durability::Memory,
                closed: false,
            });
        }
        self.chunks.back_mut().expect("one was just added")
    }

    /// Copies a frame in; its length and checksum are right.
    fn push(&mut self, head: &[u8; HEAD_SIZE], payload: &[u8]) {
        let size = padded(HEAD_SIZE + payload.len());
        let chunk = self.chunk();
        let end = chunk.bytes.len() + size;
        chunk.bytes.extend_from_slice(head);
        chunk.bytes.extend_from_slice(payload);
        chunk.bytes.resize(end, 0);
        self.position += size as u64;
        self.frame_count += 1;
        let end = self.lsn();
        self.chunk().end = end;
    }

    /// Ends the active segment and goes on in the next one.
    fn roll(&mut self, next: Arc<Segment>, at_ms: u64) {
        let head = Head {
            length: HEAD_SIZE as u32,
            lsn: self.lsn(),
            at_ms,
            queue: 0,
            seq: next.header.base.0,
            behind: u32::MAX,
            kind: Kind::SegmentEnd,
            count: 0,
        };
        self.push(&head.encode(crc32fast::Hasher::new()), &[]);
        self.active.seal(self.lsn());
        let chunk = self.chunk();
        chunk.closed = true;
        chunk.end = next.header.base;
        self.sealed.push(std::mem::replace(&mut self.active, next));
        self.position = SEGMENT_HEADER_SIZE;
    }
}

impl Log {
    /// Starts the commit thread over an empty segment.
    pub(crate) fn start(
        active: Arc<Segment>,
        waiting_bytes_max: u64,
        sync_interval: Duration,
        counters: Arc<Counters>,
    ) -> Log {
        let base = active.header.base;
        let frame_size_max =
            usize::try_from(active.size() / 4).expect("a segment is at most 1 GiB");
        let shared = Arc::new(Shared {
            frame_size_max,
            tail: Mutex::new(Tail {
                active,
                position: SEGMENT_HEADER_SIZE,
                next: None,
                chunks: VecDeque::new(),
                spare_buffers: Vec::new(),
                frame_count: 0,
                sync_to: base,
                sealed: Vec::new(),
                room_wakers: Vec::new(),
                thread_sleeps: false,
                ending: None,
            }),
            work: Condvar::new(),
            room: Condvar::new(),
            watermarks: Arc::new(Watermarks::new(base)),
            waiting_bytes: AtomicU64::new(0),
            waiting_bytes_max,
            low_on_room: AtomicBool::new(false),
            has_room_wakers: AtomicBool::new(false),
            posting_stopped: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            sync_interval,
            counters,
        });
        let committer = shared.clone();
        let thread = std::thread::Builder::new()
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
        self.wait_for(|_| shared.waiting_bytes.load(Ordering::Relaxed) <= shared.waiting_bytes_max)
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

    /// Waits, with no lock held, for the next segment.
    pub(crate) fn wait_for_room(&self) -> Result<()> {
        self.wait_for(|tail| tail.next.is_some()).map_err(|error| match error {
            Error::Busy if self.is_posting_stopped() => Error::Full,
            error => error,
        })
    }

    fn wait_for(&self, enough: impl Fn(&Tail) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut tail = self.shared.lock();
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
        if !tail.fits(size) {
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
            count: frame.count,
        };
        tail.push(&head.encode(frame.crc), frame.payload);
        let segment = tail.active.clone();
        let end = tail.lsn();
        let chunk = tail.chunk();
        chunk.demand = chunk.demand.max(demand);
        chunk.closed = demand == Durability::Each;
        let wake = std::mem::take(&mut tail.thread_sleeps);
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
        Ok(Appended { head, end, segment, position })
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
        let mut tail = self.shared.lock();
        if tail.sync_to < lsn {
            tail.sync_to = lsn;
            tail.thread_sleeps = false;
            drop(tail);
            self.shared.work.notify_one();
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
        self.shared.lock().ending.get_or_insert(ending);
        self.shared.has_ended.store(true, Ordering::SeqCst);
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

/// What the commit thread took from the tail.
struct Group {
    chunks: VecDeque<Chunk>,
    frame_count: u64,
    sync_to: Lsn,
}

/// The commit thread's view of the file: what was written and not synced.
struct Unsynced {
    segment: Arc<Segment>,
    end: Lsn,
    /// When the oldest write of mode `Interval` that is not synced was made.
    since: Option<Instant>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().expect("no code panics while it holds the tail")
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
        self.room.notify_all();
        if self.has_room_wakers.swap(false, Ordering::SeqCst) {
            let wakers = std::mem::take(&mut self.lock().room_wakers);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    fn commit_until_the_end(&self) {
        /// Turns a panic of the thread into a failure that waiters see.
        struct OnPanic<'a>(&'a Watermarks);
        impl Drop for OnPanic<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.fail("the commit thread panicked");
                }
            }
        }
        let _guard = OnPanic(&self.watermarks);
        let mut unsynced = {
            let tail = self.lock();
            Unsynced { segment: tail.active.clone(), end: tail.lsn(), since: None }
        };
        while let Some(group) = self.next_group(&unsynced) {
            if let Err(error) = self.commit(group, &mut unsynced) {
                self.watermarks.fail(&error.to_string());
                self.announce_room();
                return;
            }
            self.announce_room();
        }
    }

    /// Waits for something to write or to sync; `None` at the end.
    fn next_group(&self, unsynced: &Unsynced) -> Option<Group> {
        let mut tail = self.lock();
        loop {
            if tail.ending == Some(Ending::Abrupt) {
                return None;
            }
            let due = unsynced.since.map(|since| since + self.sync_interval);
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            let asked = tail.sync_to > self.watermarks.get(Mark::Durable);
            if !tail.chunks.is_empty() || asked || left.is_some_and(|left| left.is_zero()) {
                return Some(Group {
                    chunks: std::mem::take(&mut tail.chunks),
                    frame_count: std::mem::take(&mut tail.frame_count),
                    sync_to: tail.sync_to,
                });
            }
            if tail.ending.is_some() {
                return None;
            }
            tail.thread_sleeps = true;
            tail = match left {
                None => self.work.wait(tail).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    self.work.wait_timeout(tail, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            tail.thread_sleeps = false;
        }
    }

    fn commit(&self, group: Group, unsynced: &mut Unsynced) -> Result<()> {
        if group.frame_count > 0 {
            self.counters.commit_frames.record(group.frame_count);
        }
        let mut demand = Durability::Memory;
        for chunk in group.chunks {
            let failed = |cause| Error::io("writing", chunk.segment.path.as_path(), cause);
            chunk.segment.write_at(&chunk.bytes, chunk.position).map_err(failed)?;
            self.waiting_bytes.fetch_sub(chunk.bytes.len() as u64, Ordering::Relaxed);
            unsynced.segment = chunk.segment.clone();
            unsynced.end = chunk.end;
            demand = demand.max(chunk.demand);
            if chunk.closed {
                self.watermarks.publish(Mark::Written, unsynced.end);
                self.sync(unsynced)?;
            }
            self.keep_buffer(chunk.bytes);
        }
        self.watermarks.publish(Mark::Written, unsynced.end);
        if self.watermarks.get(Mark::Durable) >= unsynced.end {
            return Ok(());
        }
        let asked = group.sync_to > self.watermarks.get(Mark::Durable);
        let due = unsynced.since.is_some_and(|since| since.elapsed() >= self.sync_interval);
        if asked || due || demand >= Durability::Group {
            self.sync(unsynced)?;
        } else if demand == Durability::Interval {
            unsynced.since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn sync(&self, unsynced: &mut Unsynced) -> Result<()> {
        let started = Instant::now();
        let failed = |cause| Error::io("syncing", unsynced.segment.path.as_path(), cause);
        unsynced.segment.sync().map_err(failed)?;
        self.counters.sync_us.record(started.elapsed().as_micros() as u64);
        unsynced.since = None;
        self.watermarks.publish(Mark::Durable, unsynced.end);
        Ok(())
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
