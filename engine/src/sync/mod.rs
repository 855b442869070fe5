//! Threads, locks and monotonic time as the parts that run beside each other take them: the standard library's.
//! Built with `--cfg shuttle` they are those of a scheduler that tries one interleaving after another
//! (`docs/testing.md`). Knows nothing of what they guard.

#[cfg(shuttle)]
mod scheduled;

#[cfg(shuttle)]
pub(crate) use scheduled::*;
#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{
        Arc, Condvar, LockResult, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        RwLockReadGuard, TryLockError, Weak, atomic,
    },
    thread, thread_local,
    time::Instant,
};
