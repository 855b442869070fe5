//! Threads, locks and time under shuttle: one thread runs at a time, and at every lock, atomic, sleep and wait the
//! schedule says which one goes on. Knows nothing of what they guard.
//!
//! *Time* is made up. Each look at the clock finds it as it was or later, by microseconds or by more than anybody
//! waits for, as the schedule's seed says, so that both sides of every decision about time are reached.
//!
//! *A timed wait* does not end by itself, unless the seed gives it an alarm: a thread that moves the clock on and
//! rings, whenever the schedule lets it. A wait without one has to be ended by whom it waits for; so a
//! wake-up that was forgotten is a deadlock here, and not a pause of seconds that nobody notices.

use shuttle::rand::{Rng, thread_rng};
use std::cell::{Cell, RefCell};
use std::ops::Add;
use std::time::Duration;

pub(crate) use shuttle::sync::{
    Arc, LockResult, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError, Weak,
    atomic,
};

/// One timed wait in so many has an alarm.
const ALARM_ONE_IN: u32 = 4;

/// How far the clock moves between two looks at it, each as often as the others.
const STEPS_US: [u64; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 10, 10, 50, 50, 200, 500, 3_000, 150_000];
/// And once in so many looks by more than anybody waits for.
const LEAP_ONE_IN: u32 = 200;
const LEAP_US: u64 = 6_000_000;

std::thread_local! {
    /// Shuttle runs all its threads on the one that calls it. Only differences count.
    static NOW_US: Cell<u64> = const { Cell::new(0) };
}

fn move_on(by: Duration) {
    NOW_US.set(NOW_US.get().saturating_add(by.as_micros() as u64));
}

/// A moment of the made-up clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(u64);

impl Instant {
    pub(crate) fn now() -> Instant {
        let mut random = thread_rng();
        let step = random.gen_range(0..STEPS_US.len() as u32 * LEAP_ONE_IN);
        let by_us = match step {
            0 => LEAP_US,
            step => STEPS_US[step as usize % STEPS_US.len()],
        };
        move_on(Duration::from_micros(by_us));
        Instant(NOW_US.get())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(*self)
    }

    pub(crate) fn saturating_duration_since(&self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0 + duration.as_micros() as u64)
    }
}

/// As [`std::sync::Condvar`]; see the top of the file for timed waits.
#[derive(Debug, Default)]
pub(crate) struct Condvar(Arc<shuttle::sync::Condvar>);

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar::default()
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait(guard)
    }

    /// Whether the time was over comes with the guard.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        most: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        let is_over = Arc::new(atomic::AtomicBool::new(false));
        if thread_rng().gen_ratio(1, ALARM_ONE_IN) {
            let (bell, rung) = (self.0.clone(), is_over.clone());
            // It wakes all who wait here, which a wait allows at any time.
            shuttle::thread::spawn(move || {
                move_on(most);
                rung.store(true, atomic::Ordering::SeqCst);
                bell.notify_all();
            });
        }
        let woken = self.0.wait(guard);
        let is_over = is_over.load(atomic::Ordering::SeqCst);
        match woken {
            Ok(guard) => Ok((guard, is_over)),
            Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), is_over))),
        }
    }

    /// Whether the time was over comes with the guard.
    pub(crate) fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        most: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        let mut is_over = false;
        while !is_over && condition(&mut guard) {
            (guard, is_over) = self.wait_timeout(guard, most)?;
        }
        Ok((guard, is_over))
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// As [`std::sync::OnceLock`], for values that are there before they are set.
#[derive(Debug, Default)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    /// Looked at where the schedule may go elsewhere: the library's own knows no schedule.
    turn: atomic::AtomicBool,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> OnceLock<T> {
        OnceLock { value: std::sync::OnceLock::new(), turn: atomic::AtomicBool::new(false) }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.turn.load(atomic::Ordering::SeqCst);
        self.value.get()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.turn.load(atomic::Ordering::SeqCst);
        self.value.set(value)
    }
}

/// As [`std::thread`], as far as it is used.
pub(crate) mod thread {
    pub(crate) use shuttle::thread::*;
    use std::time::Duration;

    pub(crate) fn sleep(duration: Duration) {
        super::move_on(duration);
        shuttle::thread::yield_now();
    }
}

/// A cell of each thread, as [`std::thread::LocalKey`] is one.
pub(crate) struct Local<T: 'static>(pub(crate) shuttle::thread::LocalKey<RefCell<T>>);

impl<T: 'static> Local<T> {
    pub(crate) fn set(&'static self, value: T) {
        self.0.with(|cell| *cell.borrow_mut() = value);
    }

    pub(crate) fn with_borrow<A>(&'static self, look: impl FnOnce(&T) -> A) -> A {
        self.0.with(|cell| look(&cell.borrow()))
    }

    pub(crate) fn with_borrow_mut<A>(&'static self, change: impl FnOnce(&mut T) -> A) -> A {
        self.0.with(|cell| change(&mut cell.borrow_mut()))
    }
}

/// As [`std::thread_local`], for cells that are borrowed.
macro_rules! cells_of_threads {
    (@one $(#[$about:meta])* $name:ident, $kind:ty, $start:expr) => {
        $(#[$about])*
        static $name: $crate::sync::Local<$kind> = $crate::sync::Local(shuttle::thread::LocalKey {
            init: || $start,
            _p: std::marker::PhantomData,
        });
    };
    ($(#[$about:meta])* static $name:ident: RefCell<$kind:ty> = const { $start:expr };) => {
        $crate::sync::thread_local!(@one $(#[$about])* $name, $kind, $start);
    };
    ($(#[$about:meta])* static $name:ident: RefCell<$kind:ty> = $start:expr;) => {
        $crate::sync::thread_local!(@one $(#[$about])* $name, $kind, $start);
    };
}
pub(crate) use cells_of_threads as thread_local;
