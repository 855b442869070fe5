//! The threads that serve connections, each with a runtime of its own: a connection stays where it was put,
//! so waking its tasks never crosses threads. Knows neither sockets nor HTTP, nor what is done between tasks.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// What a worker does besides its connections.
pub trait Duty: Send + Sync + 'static {
    /// Runs on the worker beside its connections.
    fn attend(&self) -> impl Future<Output = Infallible>;
    /// Called on the worker when none of its tasks can go on.
    fn before_sleep(&self);
}

/// Some workers. They end when this is dropped, which waits for them; what still runs on them is cut.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    handle: Handle,
    /// Connections it has now.
    load: Arc<AtomicUsize>,
    /// The worker ends when this is dropped.
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

/// A place on the worker that had the fewest connections; taken until it is dropped.
#[derive(Debug)]
pub struct Seat {
    load: Arc<AtomicUsize>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts `count` workers, at least one.
    ///
    /// # Errors
    /// When the system has no thread or no poll for them.
    pub fn start(count: usize, duty: &Arc<impl Duty>) -> io::Result<Workers> {
        let mut workers = Workers(Vec::with_capacity(count));
        for _ in 0..count.max(1) {
            let idle = Arc::clone(duty);
            let runtime = Builder::new_current_thread()
                .enable_all()
                .on_thread_park(move || idle.before_sleep())
                .build()?;
            let handle = runtime.handle().clone();
            let (stop, stopping) = oneshot::channel();
            let duty = Arc::clone(duty);
            let thread =
                std::thread::Builder::new().name("marconi-serve".into()).spawn(move || {
                    runtime.block_on(async {
                        tokio::select! {
                            never = duty.attend() => match never {},
                            _ = stopping => {}
                        }
                    });
                })?;
            workers.0.push(Worker {
                handle,
                load: Arc::default(),
                stop: Some(stop),
                thread: Some(thread),
            });
        }
        Ok(workers)
    }

    /// Where the next connection goes.
    pub fn seat(&self) -> (Handle, Seat) {
        let load = |worker: &&Worker| worker.load.load(Ordering::Relaxed);
        let worker = self.0.iter().min_by_key(load).expect("there is one at least");
        worker.load.fetch_add(1, Ordering::Relaxed);
        (worker.handle.clone(), Seat { load: Arc::clone(&worker.load) })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|worker| drop(worker.stop.take()));
        for thread in self.0.iter_mut().filter_map(|worker| worker.thread.take()) {
            // Its panic was reported by the hook.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::thread::ThreadId;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Duty for Count {
        fn attend(&self) -> impl Future<Output = Infallible> {
            std::future::pending()
        }

        fn before_sleep(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn seats_go_to_the_worker_that_has_fewest() {
        let duty = Arc::new(Count::default());
        let workers = Workers::start(2, &duty).expect("threads");
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
        assert!(duty.0.load(Ordering::SeqCst) >= 2, "each worker slept");
    }
}
