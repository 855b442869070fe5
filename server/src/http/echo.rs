//! Wake-ups that a connection's task sends itself in vain. hyper hands a body over through a channel, and taking a
//! piece out tells the other end that there is room again. That end is the same task; and where the piece was the
//! last it has nothing to send any more, so that all it does is to look at the connection once more: a third of
//! the times that a task with a body to read is run. Knows neither requests nor bodies.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

thread_local! {
    /// The task that is not woken at this moment.
    static DEAF: Cell<Deaf> = const { Cell::new(Deaf { task: ptr::null(), was_called: false }) };
}

#[derive(Debug, Clone, Copy)]
struct Deaf {
    /// As its waker names it; only compared.
    task: *const (),
    was_called: bool,
}

/// Wakes a task unless it is deaf.
#[derive(Debug)]
struct Ear(Waker);

impl Wake for Ear {
    fn wake(self: Arc<Ear>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Ear>) {
        let deaf = DEAF.get();
        if ptr::addr_eq(deaf.task, Arc::as_ptr(self)) {
            DEAF.set(Deaf { was_called: true, ..deaf });
        } else {
            self.0.wake_by_ref();
        }
    }
}

/// The waker that a task gives to what it runs, so that [`deafly`] has an effect there.
#[derive(Debug, Default)]
pub(crate) struct Hearing(Option<(Waker, Waker)>);

impl Hearing {
    /// The waker in place of the task's own.
    pub(crate) fn of(&mut self, task: &Waker) -> &Waker {
        if !self.0.as_ref().is_some_and(|(known, _)| known.will_wake(task)) {
            self.0 = Some((task.clone(), Waker::from(Arc::new(Ear(task.clone())))));
        }
        &self.0.as_ref().expect("it was made if it was missing").1
    }
}

/// Does `work` without its wake-ups of the task that `context` is of; whether there were any. What is true
/// has to be made up for, unless it is known to be in vain. Wake-ups by other threads count as ever.
pub(crate) fn deafly<T>(
    context: &mut Context<'_>,
    work: impl FnOnce(&mut Context<'_>) -> T,
) -> (T, bool) {
    let outer = DEAF.replace(Deaf { task: context.waker().data(), was_called: false });
    let done = work(context);
    (done, DEAF.replace(outer).was_called)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_task_does_not_hear_itself_while_it_is_deaf() {
        let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
        let heard = || counts.each_ref().map(|count| count.0.load(SeqCst));
        let tasks = counts.clone().map(Waker::from);
        let mut hearings = [Hearing::default(), Hearing::default()];
        let [one, other] = &mut hearings;
        let (one, other) = (one.of(&tasks[0]).clone(), other.of(&tasks[1]).clone());
        let mut context = Context::from_waker(&one);
        let ((), was_called) = deafly(&mut context, |context| {
            context.waker().wake_by_ref();
            other.wake_by_ref();
            let elsewhere = one.clone();
            std::thread::spawn(move || elsewhere.wake()).join().expect("it only wakes");
        });
        assert!(was_called);
        assert_eq!(heard(), [1, 1], "the other task, and another thread, are heard");
        assert!(!deafly(&mut context, |_| other.wake_by_ref()).1);
        one.wake_by_ref();
        assert_eq!(heard(), [2, 2], "it hears again");
    }

    #[test]
    fn a_task_that_is_given_another_waker_is_woken_by_that() {
        let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
        let mut hearing = Hearing::default();
        for count in &counts {
            hearing.of(&Waker::from(Arc::clone(count))).wake_by_ref();
        }
        assert_eq!(counts.map(|count| count.0.load(SeqCst)), [1, 1]);
    }
}
