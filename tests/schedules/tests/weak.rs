//! The watermarks under loom, which goes through every interleaving of two and three threads, and through every value
//! that a load may return where memory is weakly ordered: what a processor may do and the scheduler of the other
//! scenarios does not. The file is the engine's own, compiled here with loom's locks, atomics and threads. Knows
//! no log.

#[path = "../../../engine/src/log/watermark.rs"]
#[allow(dead_code, unreachable_pub, reason = "the engine uses and shows the rest")]
mod watermark;

mod domain {
    pub(crate) use marconi_engine::Lsn;
}

mod error {
    pub(crate) use marconi_engine::{Error, Result};
}

mod sync {
    pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, atomic};
    use std::cell::RefCell;
    pub(crate) use std::sync::{Arc, PoisonError, Weak};

    /// The standard library's, and what loom has to know of it: a look that finds a value sees all that was done
    /// before it was set.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        is_set: atomic::AtomicBool,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> OnceLock<T> {
            OnceLock { value: std::sync::OnceLock::new(), is_set: atomic::AtomicBool::new(false) }
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            let set = self.value.set(value);
            self.is_set.store(true, atomic::Ordering::Release);
            set
        }

        pub(crate) fn get(&self) -> Option<&T> {
            if self.is_set.load(atomic::Ordering::Acquire) { self.value.get() } else { None }
        }
    }

    /// A cell of each thread, as [`std::thread::LocalKey`] is one.
    pub(crate) struct Local<T: 'static>(pub(crate) loom::thread::LocalKey<RefCell<T>>);

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

    macro_rules! cells_of_threads {
        ($(#[$about:meta])* static $name:ident: RefCell<$kind:ty> = const { $start:expr };) => {
            $(#[$about])*
            static $name: $crate::sync::Local<$kind> = $crate::sync::Local(loom::thread::LocalKey {
                init: || $start,
                _p: std::marker::PhantomData,
            });
        };
    }
    pub(crate) use cells_of_threads as thread_local;
}

use domain::Lsn;
use loom::future::block_on;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use watermark::{Mark, Watermarks};

/// How far the marks go.
const END: Lsn = Lsn(2);
/// Threads are stopped where others go on so many times at the most: two suffice for most mistakes there are, and
/// with no bound it takes half a minute.
const PREEMPTIONS_MAX: usize = 4;

fn explore(scenario: impl Fn() + Sync + Send + 'static) {
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound = Some(PREEMPTIONS_MAX);
    explorer.check(scenario);
}

/// The file's bytes, as far as a mark tells of them: whoever is told of it has to see them.
#[derive(Debug)]
struct World {
    marks: Arc<Watermarks>,
    file: AtomicU64,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World { marks: Arc::new(Watermarks::new(Lsn(0))), file: AtomicU64::new(0) })
    }

    fn write_and_publish(&self) {
        for lsn in 1..=END.0 {
            self.file.store(lsn, Ordering::Relaxed);
            self.marks.publish(Mark::Written, Lsn(lsn));
        }
    }

    /// Waits as a receipt does, and looks.
    fn wait_and_see(&self, lsn: Lsn) {
        let answer =
            block_on(poll_fn(|context| self.marks.poll(Mark::Written, lsn, context.waker())));
        answer.expect("nothing fails");
        assert!(self.file.load(Ordering::Relaxed) >= lsn.0, "a mark was told before its bytes");
    }
}

#[test]
fn whoever_is_told_of_a_mark_sees_what_was_written_below_it() {
    explore(|| {
        let world = World::new();
        let writer = {
            let world = world.clone();
            thread::spawn(move || world.write_and_publish())
        };
        world.wait_and_see(Lsn(1));
        world.wait_and_see(END);
        writer.join().expect("its panic is told first");
    });
}

#[test]
fn a_thread_that_attends_is_rung_for_its_tasks() {
    explore(|| {
        let world = World::new();
        let writer = {
            let world = world.clone();
            thread::spawn(move || world.write_and_publish())
        };
        let mut attendance = world.marks.attend();
        let answer = block_on(poll_fn(|context| {
            // A task of this thread, and beside it what the thread does for the log.
            if let Poll::Ready(answer) = world.marks.poll(Mark::Written, END, context.waker()) {
                return Poll::Ready(answer);
            }
            Pin::new(&mut attendance).poll(context).map(|never| match never {})
        }));
        answer.expect("nothing fails");
        assert_eq!(world.file.load(Ordering::Relaxed), END.0);
        drop(attendance);
        writer.join().expect("its panic is told first");
    });
}

#[test]
fn what_waits_with_a_thread_that_leaves_waits_with_everybody() {
    explore(|| {
        let world = World::new();
        let writer = {
            let world = world.clone();
            thread::spawn(move || world.write_and_publish())
        };
        let mut attendance = Some(world.marks.attend());
        let answer = block_on(poll_fn(|context| {
            let polled = world.marks.poll(Mark::Written, END, context.waker());
            // It attended for as long as it took to begin to wait.
            drop(attendance.take());
            polled
        }));
        answer.expect("nothing fails");
        writer.join().expect("its panic is told first");
    });
}

#[test]
fn a_failure_ends_every_wait() {
    explore(|| {
        let world = World::new();
        let writer = {
            let world = world.clone();
            thread::spawn(move || {
                world.marks.publish(Mark::Written, Lsn(1));
                world.marks.fail("the disk is gone");
            })
        };
        let wait =
            |mark, lsn| block_on(poll_fn(|context| world.marks.poll(mark, lsn, context.waker())));
        assert!(wait(Mark::Durable, Lsn(1)).is_err(), "nothing ever was durable");
        // What was written before is told all the same.
        assert!(wait(Mark::Written, Lsn(1)).is_ok());
        writer.join().expect("its panic is told first");
    });
}
