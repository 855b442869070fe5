//! The threads that serve connections, each with a runtime of its own: a connection stays where it was put,
//! so waking its tasks never crosses threads. Knows neither sockets nor HTTP, nor what is done between tasks.

mod busy_poll;

use busy_poll::BusyPoll;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// What a worker does besides its connections.
pub trait Duty: Send + Sync + 'static {
    /// Runs on the worker beside its connections.
    fn attend(&self) -> impl Future<Output = Infallible>;
    /// Called on the worker when none of its tasks can go on, and it sleeps next.
    fn before_sleep(&self);
    /// As [`Duty::before_sleep`], for a worker that can as well look for more work. Whether it had better.
    fn before_rest(&self) -> bool;
}

/// Some workers. They end when this is dropped, which waits for them; what still runs on them is cut.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    handle: Handle,
    counts: Arc<Counts>,
    /// The worker ends when this is dropped.
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Connections it has now.
    connections: AtomicUsize,
    /// Times that one of them was run, ever.
    ran: AtomicU64,
}

/// A place on the worker that had the fewest connections; taken until it is dropped.
#[derive(Debug)]
pub struct Seat(Arc<Counts>);

/// A connection on its seat.
#[derive(Debug)]
struct Seated<F> {
    connection: Pin<Box<F>>,
    seat: Seat,
}

impl Seat {
    /// Runs a connection here, to its end.
    pub fn run<F: Future<Output = ()> + Send>(
        self,
        connection: F,
    ) -> impl Future<Output = ()> + Send + use<F> {
        Seated { connection: Box::pin(connection), seat: self }
    }
}

impl<F: Future<Output = ()>> Future for Seated<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Only the worker's thread counts.
        let ran = &self.seat.0.ran;
        ran.store(ran.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.connection.as_mut().poll(context)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What makes a worker look at its sockets again instead of sleeping: a task that is woken while it is
/// about to sleep.
#[derive(Debug)]
struct Lookout(Mutex<(BusyPoll, Option<Waker>)>);

impl Lookout {
    fn lock(&self) -> MutexGuard<'_, (BusyPoll, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the worker look again, if its duty wants that or it is worth while, after whoever else wants
    /// this core.
    fn before_rest(&self, ran: u64, duty: &impl Duty) {
        let has_to = duty.before_rest();
        let mut state = self.lock();
        let (poll, waker) = &mut *state;
        match waker {
            Some(waker) if poll.looks_again(ran, Instant::now(), has_to) => {
                waker.wake_by_ref();
                std::thread::yield_now();
            }
            Some(_) => {}
            None => duty.before_sleep(),
        }
    }

    fn after_sleep(&self) {
        self.lock().0.looked(Instant::now());
    }

    /// The task that is woken. Has nothing to do.
    async fn stand(self: Arc<Self>) {
        std::future::poll_fn(|context| {
            self.lock().1 = Some(context.waker().clone());
            Poll::<()>::Pending
        })
        .await;
    }
}

/// While a worker runs. Afterwards the task that stands is not woken any more: its waker leads to the runtime, which
/// leads to the lookout and the duty, and all of them would stay for ever.
struct Standing(Arc<Lookout>);

impl Drop for Standing {
    fn drop(&mut self) {
        self.0.lock().1 = None;
    }
}

impl Workers {
    /// Starts `count` workers, at least one. Each polls for up to `busy_poll` for the next request before
    /// it sleeps, while requests mostly come that soon; zero for never.
    ///
    /// # Errors
    /// When the system has no thread or no poll for them.
    pub fn start(count: usize, busy_poll: Duration, duty: &Arc<impl Duty>) -> io::Result<Workers> {
        let mut workers = Workers(Vec::with_capacity(count));
        for _ in 0..count.max(1) {
            let counts = Arc::new(Counts::default());
            let lookout = (!busy_poll.is_zero())
                .then(|| Arc::new(Lookout(Mutex::new((BusyPoll::new(busy_poll), None)))));
            let mut builder = Builder::new_current_thread();
            let (idle, ran) = (Arc::clone(duty), Arc::clone(&counts));
            if let Some(lookout) = &lookout {
                let (before, after) = (Arc::clone(lookout), Arc::clone(lookout));
                builder.on_thread_park(move || {
                    before.before_rest(ran.ran.load(Ordering::Relaxed), &*idle);
                });
                builder.on_thread_unpark(move || after.after_sleep());
            } else {
                builder.on_thread_park(move || idle.before_sleep());
            }
            let runtime = builder.enable_all().build()?;
            let handle = runtime.handle().clone();
            let (stop, stopping) = oneshot::channel();
            let duty = Arc::clone(duty);
            let thread =
                std::thread::Builder::new().name("marconi-serve".into()).spawn(move || {
                    let standing = lookout.as_ref().map(|lookout| Standing(Arc::clone(lookout)));
                    runtime.block_on(async {
                        if let Some(lookout) = lookout {
                            tokio::spawn(lookout.stand());
                        }
                        tokio::select! {
                            never = duty.attend() => match never {},
                            _ = stopping => {}
                        }
                    });
                    drop(standing);
                    // The last that was done may wait for it still.
                    duty.before_sleep();
                })?;
            workers.0.push(Worker { handle, counts, stop: Some(stop), thread: Some(thread) });
        }
        Ok(workers)
    }

    /// Where the next connection goes.
    pub fn seat(&self) -> (Handle, Seat) {
        let load = |worker: &&Worker| worker.counts.connections.load(Ordering::Relaxed);
        let worker = self.0.iter().min_by_key(load).expect("there is one at least");
        worker.counts.connections.fetch_add(1, Ordering::Relaxed);
        (worker.handle.clone(), Seat(Arc::clone(&worker.counts)))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|worker| drop(worker.stop.take()));
        for thread in self.0.iter_mut().filter_map(|worker| worker.thread.take()) {
            // A connection that is the last to go ends on one of these threads, which cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                // Its panic was reported by the hook.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::thread::ThreadId;

    #[derive(Default)]
    struct Count {
        slept: AtomicUsize,
        rested: AtomicUsize,
    }

    impl Duty for Count {
        fn attend(&self) -> impl Future<Output = Infallible> {
            std::future::pending()
        }

        fn before_sleep(&self) {
            self.slept.fetch_add(1, Ordering::SeqCst);
        }

        fn before_rest(&self) -> bool {
            self.rested.fetch_add(1, Ordering::SeqCst);
            false
        }
    }

    #[test]
    fn seats_go_to_the_worker_that_has_fewest() {
        let duty = Arc::new(Count::default());
        let workers = Workers::start(2, Duration::ZERO, &duty).expect("threads");
        let (seen, sent) =
            (Arc::new(Mutex::new(Vec::<ThreadId>::new())), std::sync::mpsc::channel());
        let mut seats = Vec::new();
        for _ in 0..4 {
            let (handle, seat) = workers.seat();
            let (seen, done) = (Arc::clone(&seen), sent.0.clone());
            handle.spawn(async move {
                seen.lock().expect("whole").push(std::thread::current().id());
                done.send(()).expect("heard");
            });
            seats.push(seat);
            sent.1.recv().expect("it ran");
        }
        let seen = seen.lock().expect("whole").clone();
        assert_eq!((seen[0], seen[1]), (seen[2], seen[3]));
        assert_ne!(seen[0], seen[1]);
        // The place that is given up is the next one taken.
        seats.remove(1);
        let (handle, _seat) = workers.seat();
        let done = sent.0.clone();
        let (tell, told) = std::sync::mpsc::channel();
        handle.spawn(async move {
            tell.send(std::thread::current().id()).expect("heard");
            drop(done);
        });
        assert_eq!(told.recv().expect("it ran"), seen[1]);
        drop(workers);
        assert!(duty.slept.load(Ordering::SeqCst) >= 2, "each worker slept");
        assert_eq!(duty.rested.load(Ordering::SeqCst), 0, "none that never looks was asked to");
    }

    /// Wants to look again until it has looked a hundred times.
    #[derive(Default)]
    struct Restless(AtomicUsize);

    impl Duty for Restless {
        fn attend(&self) -> impl Future<Output = Infallible> {
            std::future::pending()
        }

        fn before_sleep(&self) {}

        fn before_rest(&self) -> bool {
            self.0.fetch_add(1, Ordering::SeqCst) < 100
        }
    }

    #[test]
    fn a_worker_whose_duty_wants_it_looks_again_instead_of_sleeping() {
        let duty = Arc::new(Restless::default());
        let workers = Workers::start(1, Duration::from_micros(100), &duty).expect("threads");
        let deadline = Instant::now() + Duration::from_secs(20);
        while duty.0.load(Ordering::SeqCst) < 100 {
            assert!(Instant::now() < deadline, "it sleeps, and nothing wakes it");
            std::thread::yield_now();
        }
        drop(workers);
        assert_eq!(Arc::strong_count(&duty), 1, "workers that ended keep what they worked for");
    }

    #[test]
    fn workers_that_are_dropped_on_one_of_their_own_threads_end_all_the_same() {
        let duty = Arc::new(Count::default());
        let workers = Arc::new(Workers::start(2, Duration::ZERO, &duty).expect("threads"));
        let (handle, seat) = workers.seat();
        let (tell, told) = std::sync::mpsc::channel();
        let (go, going) = tokio::sync::oneshot::channel::<()>();
        let last = Arc::clone(&workers);
        handle.spawn(seat.run(async move {
            let _ = going.await;
            drop(last);
            tell.send(()).expect("heard");
        }));
        // It leads to what the worker does when it sleeps.
        drop(handle);
        drop(workers);
        go.send(()).expect("it waits");
        told.recv().expect("no panic ended it");
        let deadline = Instant::now() + Duration::from_secs(20);
        while Arc::strong_count(&duty) > 1 {
            assert!(Instant::now() < deadline, "a worker never ends");
            std::thread::yield_now();
        }
    }
}
