//! Two watermarks that climb through the log, who waits for them, and the failure all waiters then
//! get. Knows neither files nor frames.
//!
//! Whoever waits sits in a room. There is one for everybody, whose waiters the publisher wakes itself, and
//! one for each thread that attends to the log: its tasks wait there, the publisher rings once for all of
//! them, and the thread wakes them where waking is cheapest, at home.

use crate::domain::Lsn;
use crate::error::{Error, Result};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak, thread_local,
};
use std::cell::RefCell;
use std::fmt;
use std::task::{Poll, Waker};

/// Which watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Below it, the operating system has everything.
    Written,
    /// Below it, stable storage has everything.
    Durable,
}

/// What a thread that attends to the log does before it sleeps.
pub(crate) trait Chores: Send + Sync {
    /// Writes what was appended, and has it synced. Where the thread `can_look` for more work instead of
    /// sleeping, it may be told that this is better.
    fn do_chores(&self, can_look: bool) -> Rest;
}

/// What a thread that attends to the log does when it has nothing else to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It sleeps until something happens.
    Sleep,
    /// It looks for more work at once: what was appended waits for company that is about to come.
    Look,
}

/// The watermarks of one log.
pub(crate) struct Watermarks {
    written: AtomicU64,
    durable: AtomicU64,
    failure: OnceLock<Arc<str>>,
    everybody: Room,
    rooms: RwLock<Vec<Arc<Room>>>,
    chores: OnceLock<Weak<dyn Chores>>,
    /// Every thread does them, whether it attends or not.
    are_everybodys: AtomicBool,
}

/// Where tasks wait.
#[derive(Debug, Default)]
struct Room(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    waiters: Vec<Waiter>,
    /// Rung when somebody in here is due.
    bell: Option<Waker>,
}

#[derive(Debug)]
struct Waiter {
    mark: Mark,
    lsn: Lsn,
    waker: Waker,
}

thread_local! {
    /// The room of this thread, and whose watermarks it belongs to.
    static HERE: RefCell<Option<(Weak<Watermarks>, Arc<Room>)>> = const { RefCell::new(None) };
}

impl fmt::Debug for Watermarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watermarks")
            .field("written", &self.written)
            .field("durable", &self.durable)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out the waiters that are due, and wakes them with no lock held.
    fn wake(&self, due: impl Fn(&Waiter) -> bool) {
        let woken: Vec<Waiter> = self.lock().waiters.extract_if(.., |waiter| due(waiter)).collect();
        for waiter in woken {
            waiter.waker.wake();
        }
    }

    /// Rings when somebody is due; without a bell wakes them.
    fn announce(&self, due: impl Fn(&Waiter) -> bool) {
        let waiting = self.lock();
        if !waiting.waiters.iter().any(&due) {
            return;
        }
        let bell = waiting.bell.clone();
        drop(waiting);
        match bell {
            Some(bell) => bell.wake(),
            None => self.wake(due),
        }
    }
}

impl Watermarks {
    pub(crate) fn new(start: Lsn) -> Watermarks {
        Watermarks {
            written: AtomicU64::new(start.0),
            durable: AtomicU64::new(start.0),
            failure: OnceLock::new(),
            everybody: Room::default(),
            rooms: RwLock::default(),
            chores: OnceLock::new(),
            are_everybodys: AtomicBool::new(false),
        }
    }

    pub(crate) fn get(&self, mark: Mark) -> Lsn {
        Lsn(match mark {
            Mark::Written => self.written.load(Ordering::Acquire),
            Mark::Durable => self.durable.load(Ordering::Acquire),
        })
    }

    /// Raises one and wakes, once, all who waited for it.
    pub(crate) fn publish(&self, mark: Mark, lsn: Lsn) {
        match mark {
            Mark::Written => self.written.fetch_max(lsn.0, Ordering::Release),
            Mark::Durable => self.durable.fetch_max(lsn.0, Ordering::Release),
        };
        self.announce(|waiter| waiter.mark == mark && waiter.lsn <= lsn);
    }

    /// Records the first failure, for good, and wakes everybody.
    pub(crate) fn fail(&self, why: &str) {
        if self.failure.set(why.into()).is_ok() {
            tracing::error!(why, "the log takes no more writes");
        }
        self.announce(|_| true);
    }

    /// Why the log takes no more writes.
    pub(crate) fn failure(&self) -> Option<&Arc<str>> {
        self.failure.get()
    }

    fn announce(&self, due: impl Fn(&Waiter) -> bool) {
        self.everybody.announce(&due);
        for room in &*self.rooms() {
            room.announce(&due);
        }
    }

    fn rooms(&self) -> RwLockReadGuard<'_, Vec<Arc<Room>>> {
        self.rooms.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready once `mark` has reached `lsn`, or with the failure.
    pub(crate) fn poll(
        self: &Arc<Watermarks>,
        mark: Mark,
        lsn: Lsn,
        waker: &Waker,
    ) -> Poll<Result<()>> {
        if let Some(answer) = self.reached(mark, lsn) {
            return Poll::Ready(answer);
        }
        self.with_room(|room| {
            let mut waiting = room.lock();
            // Looked at again under the lock: who publishes raises the mark first and takes it then.
            if let Some(answer) = self.reached(mark, lsn) {
                return Poll::Ready(answer);
            }
            waiting.waiters.push(Waiter { mark, lsn, waker: waker.clone() });
            Poll::Pending
        })
    }

    fn reached(&self, mark: Mark, lsn: Lsn) -> Option<Result<()>> {
        if self.get(mark) >= lsn {
            return Some(Ok(()));
        }
        let why = self.failure()?;
        // What was published before the failure counts, also where both came between the two looks.
        let is_reached = self.get(mark) >= lsn;
        Some(if is_reached { Ok(()) } else { Err(Error::ReadOnly(why.clone())) })
    }

    // ---- attending ----

    /// Says what there is to do for threads that attend; or for every thread that waits, where nobody else is
    /// there to do it.
    pub(crate) fn set_chores(&self, chores: Weak<dyn Chores>, are_everybodys: bool) {
        let _ = self.chores.set(chores);
        self.are_everybodys.store(are_everybodys, Ordering::Relaxed);
    }

    /// Whether this thread attends to the log.
    pub(crate) fn is_attended_here(self: &Arc<Watermarks>) -> bool {
        HERE.with_borrow(|here| here.as_ref().is_some_and(|(of, _)| self.is(of)))
    }

    /// Has this thread do its chores, if it has some.
    pub(crate) fn before_sleep(self: &Arc<Watermarks>) {
        self.do_chores(false);
    }

    /// As [`Watermarks::before_sleep`], for a thread that can as well look for more work.
    pub(crate) fn do_chores(self: &Arc<Watermarks>, can_look: bool) -> Rest {
        if (self.are_everybodys.load(Ordering::Relaxed) || self.is_attended_here())
            && let Some(chores) = self.chores.get().and_then(Weak::upgrade)
        {
            return chores.do_chores(can_look);
        }
        Rest::Sleep
    }

    fn is(self: &Arc<Watermarks>, of: &Weak<Watermarks>) -> bool {
        std::ptr::eq(Arc::as_ptr(self), of.as_ptr())
    }

    fn with_room<T>(self: &Arc<Watermarks>, look: impl FnOnce(&Room) -> T) -> T {
        HERE.with_borrow(|here| match here {
            Some((of, room)) if self.is(of) => look(room),
            _ => look(&self.everybody),
        })
    }

    /// Makes this thread attend to the log, in place of any other it may have attended to.
    pub(crate) fn attend(self: &Arc<Watermarks>) -> Attendance {
        let room = Arc::new(Room::default());
        self.rooms.write().unwrap_or_else(PoisonError::into_inner).push(room.clone());
        HERE.set(Some((Arc::downgrade(self), room.clone())));
        Attendance { watermarks: self.clone(), room, _here: std::marker::PhantomData }
    }
}

/// A thread attends to the log for as long as it holds this.
///
/// It is a future, too, that never ends: a thread that runs tasks polls it beside them, and it wakes those
/// whose answers may be told.
#[derive(Debug)]
#[must_use = "the thread attends for as long as this is held"]
pub struct Attendance {
    watermarks: Arc<Watermarks>,
    room: Arc<Room>,
    /// It says something of this thread, so it stays here.
    _here: std::marker::PhantomData<*const ()>,
}

impl Future for Attendance {
    type Output = std::convert::Infallible;

    fn poll(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Self::Output> {
        let mut waiting = self.room.lock();
        match &mut waiting.bell {
            Some(bell) => bell.clone_from(context.waker()),
            None => waiting.bell = Some(context.waker().clone()),
        }
        drop(waiting);
        let marks = &self.watermarks;
        let (written, durable) = (marks.get(Mark::Written), marks.get(Mark::Durable));
        let has_failed = marks.failure().is_some();
        self.room.wake(|waiter| {
            has_failed
                || match waiter.mark {
                    Mark::Written => waiter.lsn <= written,
                    Mark::Durable => waiter.lsn <= durable,
                }
        });
        Poll::Pending
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        // What was appended here may wait for this thread still.
        self.watermarks.before_sleep();
        let mut rooms = self.watermarks.rooms.write().unwrap_or_else(PoisonError::into_inner);
        rooms.retain(|room| !Arc::ptr_eq(room, &self.room));
        drop(rooms);
        let is_mine = |here: &Option<(_, Arc<Room>)>| {
            here.as_ref().is_some_and(|(_, room)| Arc::ptr_eq(room, &self.room))
        };
        HERE.with_borrow_mut(|here| {
            if is_mine(here) {
                *here = None;
            }
        });
        // They look again, and then wait with everybody.
        self.room.wake(|_| true);
    }
}
