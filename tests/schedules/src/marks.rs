//! The watermarks by themselves: who publishes, who fails, and who waits, on threads of each kind. Knows no log.

use crate::run::below;
use crate::worker::{Task, work};
use marconi_engine::internals::journal::Marks;
use marconi_engine::{Rest, Result};
use shuttle::future::block_on;
use shuttle::thread;
use std::future::poll_fn;
use std::pin::Pin;

/// Where both marks end.
const END: u32 = 20;

/// Nobody's answer comes before its mark, and everybody's comes.
pub(crate) fn publish_and_wait() {
    let marks = Marks::new(0);
    // With a failure some wait for what never comes.
    let fails = below(3) == 0;
    let highest = if fails { END + 5 } else { END };
    let publisher = {
        let marks = marks.clone();
        thread::spawn(move || {
            for is_durable in [false, true] {
                for lsn in [END / 2, END] {
                    marks.publish(is_durable, u64::from(lsn));
                }
            }
            if fails {
                marks.fail();
            }
        })
    };
    let waiter = {
        let marks = marks.clone();
        thread::spawn(move || {
            for _ in 0..2 {
                let (is_durable, lsn) = mark(highest);
                check(&marks, is_durable, lsn, fails, marks.receipt(is_durable, lsn).wait());
            }
        })
    };
    let attendant = {
        let marks = marks.clone();
        thread::spawn(move || {
            let tasks = (0..2).map(|_| -> Task {
                let marks = marks.clone();
                Box::pin(async move {
                    let (is_durable, lsn) = mark(highest);
                    let answer = marks.receipt(is_durable, lsn).await;
                    check(&marks, is_durable, lsn, fails, answer);
                })
            });
            work(marks.attend(), |_| Rest::Sleep, tasks.collect());
        })
    };
    // Attends for a moment only: what waits by then waits with everybody.
    let guest = {
        let marks = marks.clone();
        thread::spawn(move || {
            let (is_durable, lsn) = mark(highest);
            let mut receipt = marks.receipt(is_durable, lsn);
            let mut attendance = Some(marks.attend());
            let answer = block_on(poll_fn(|context| {
                let polled = Pin::new(&mut receipt).poll(context);
                drop(attendance.take());
                polled
            }));
            check(&marks, is_durable, lsn, fails, answer);
        })
    };
    for thread in [publisher, waiter, attendant, guest] {
        thread.join().expect("its panic is told first");
    }
}

fn mark(highest: u32) -> (bool, u64) {
    (below(2) == 0, 1 + u64::from(below(highest)))
}

fn check(marks: &Marks, is_durable: bool, lsn: u64, fails: bool, answer: Result<()>) {
    match answer {
        Ok(()) => assert!(marks.get(is_durable) >= lsn, "an answer came before its mark"),
        Err(error) => assert!(fails, "no failure, and still: {error}"),
    }
}
