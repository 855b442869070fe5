//! Two watermarks that climb through the log, who waits for them, and the failure all waiters then
//! get. Knows neither files nor frames.

use crate::domain::Lsn;
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Poll, Waker};

/// Which watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Below it, the operating system has everything.
    Written,
    /// Below it, stable storage has everything.
    Durable,
}

/// The watermarks of one log.
#[derive(Debug)]
pub(crate) struct Watermarks {
    written: AtomicU64,
    durable: AtomicU64,
    failure: OnceLock<Arc<str>>,
    waiters: Mutex<Vec<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    mark: Mark,
    lsn: Lsn,
    waker: Waker,
}

impl Watermarks {
    pub(crate) fn new(start: Lsn) -> Watermarks {
        Watermarks {
            written: AtomicU64::new(start.0),
            durable: AtomicU64::new(start.0),
            failure: OnceLock::new(),
            waiters: Mutex::new(Vec::new()),
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
            Mark::Written => self.written.store(lsn.0, Ordering::Release),
            Mark::Durable => self.durable.store(lsn.0, Ordering::Release),
        }
        self.wake(|waiter| waiter.mark == mark && waiter.lsn <= lsn);
    }

    /// Records the first failure, for good, and wakes everybody.
    pub(crate) fn fail(&self, why: &str) {
        if self.failure.set(why.into()).is_ok() {
            tracing::error!(why, "the log takes no more writes");
        }
        self.wake(|_| true);
    }

    /// Why the log takes no more writes.
    pub(crate) fn failure(&self) -> Option<&Arc<str>> {
        self.failure.get()
    }

    fn wake(&self, due: impl Fn(&Waiter) -> bool) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        let woken: Vec<Waiter> = waiters.extract_if(.., |waiter| due(waiter)).collect();
        drop(waiters);
        for waiter in woken {
            waiter.waker.wake();
        }
    }

    /// Ready once `mark` has reached `lsn`, or with the failure.
    pub(crate) fn poll(&self, mark: Mark, lsn: Lsn, waker: &Waker) -> Poll<Result<()>> {
        if let Some(answer) = self.reached(mark, lsn) {
            return Poll::Ready(answer);
        }
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at again under the lock: who publishes raises the mark first and takes it then.
        if let Some(answer) = self.reached(mark, lsn) {
            return Poll::Ready(answer);
        }
        waiters.push(Waiter { mark, lsn, waker: waker.clone() });
        Poll::Pending
    }

    fn reached(&self, mark: Mark, lsn: Lsn) -> Option<Result<()>> {
        if self.get(mark) >= lsn {
            return Some(Ok(()));
        }
        self.failure().map(|why| Err(Error::ReadOnly(why.clone())))
    }
}
