//! A thread that attends to the log and runs tasks beside, as the server's do: it polls what was woken, does its
//! chores when nothing was, and then sleeps. Knows nothing of what the tasks do.

use crate::run::below;
use marconi_engine::{Attendance, Rest};
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread::{self, Thread};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// Something to do on a worker.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Alarm {
    rung: AtomicBool,
    sleeper: Thread,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        self.sleeper.unpark();
    }
}

impl Alarm {
    fn new() -> Arc<Alarm> {
        Arc::new(Alarm { rung: AtomicBool::new(true), sleeper: thread::current() })
    }

    fn take(&self) -> bool {
        self.rung.swap(false, Ordering::SeqCst)
    }
}

/// Runs all tasks to their end. `do_chores` is what the thread does before it sleeps, told whether it can as well
/// look for more work.
pub(crate) fn work(attendance: Attendance, do_chores: impl Fn(bool) -> Rest, tasks: Vec<Task>) {
    let mut tasks: Vec<(Task, Arc<Alarm>)> =
        tasks.into_iter().map(|task| (task, Alarm::new())).collect();
    let mut attendance = attendance;
    let bell = Alarm::new();
    loop {
        let mut did_something = false;
        if bell.take() {
            did_something = true;
            let waker = Waker::from(bell.clone());
            let _ = Pin::new(&mut attendance).poll(&mut Context::from_waker(&waker));
        }
        tasks.retain_mut(|(task, alarm)| {
            if !alarm.take() {
                return true;
            }
            did_something = true;
            let waker = Waker::from(alarm.clone());
            task.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending
        });
        if tasks.is_empty() {
            break;
        }
        if did_something {
            continue;
        }
        match do_chores(below(2) == 0) {
            Rest::Look => thread::yield_now(),
            Rest::Sleep => thread::park(),
        }
    }
}
