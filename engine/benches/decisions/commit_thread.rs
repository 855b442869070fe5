//! Who syncs for writers that wait: each for itself, a commit thread, or the first that waits?
use crate::disk::{self, KIB, MIB, Made};
use crate::measure::{Effort, Study, Times, repeat};
use rustix::fs::OFlags;
use rustix::process::setpriority_process;
use std::fs::File;
use std::io;
use std::mem::take;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::{self, Thread};

const MESSAGE_SIZE: usize = KIB;
/// The log goes round in so much of its file; the rest is room for one group.
const LOG_SIZE: u64 = 64 * MIB as u64;
const GROUP_SIZE_MAX: usize = MIB;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Each,
    /// One thread commits, and wakes all who wait with one call.
    ThreadWakesAll,
    /// One thread commits, and wakes each who waits with a call of its own.
    ThreadWakesEach,
    /// The same, and the system is asked to prefer that thread.
    PreferredThread,
    FirstWaiter,
}

pub(crate) fn ask(effort: Effort) -> io::Result<()> {
    let folder = disk::scratch()?;
    let (made, size) = (Made::Zeroed { piece: MIB }, LOG_SIZE as usize + GROUP_SIZE_MAX);
    for (writer_count, busy_count) in [(1, 0), (16, 0), (64, 0), (16, 2), (64, 2)] {
        let title =
            format!("{writer_count} writers of {MESSAGE_SIZE} bytes, {busy_count} busy threads");
        let columns = &["messages/s", "commits/s", "p10 us", "p50 us", "p99 us"];
        let mut study = Study::new(title, columns);
        for (name, how) in [
            ("each syncs for itself", How::Each),
            ("commit thread, one wake-up", How::ThreadWakesAll),
            ("commit thread, a wake-up each", How::ThreadWakesEach),
            ("the same, nice -10", How::PreferredThread),
            ("first waiter commits", How::FirstWaiter),
        ] {
            let file = disk::make(&folder.path().join(name), made, size, OFlags::empty())?;
            let log = Log::new(file);
            study.variant(name, move || turn(&log, how, writer_count, busy_count, effort));
        }
        study.run(effort)?;
    }
    Ok(())
}

fn turn(
    log: &Log,
    how: How,
    writer_count: usize,
    busy_count: usize,
    effort: Effort,
) -> io::Result<Vec<f64>> {
    let commits_before = log.commits.load(Ordering::Relaxed);
    let (mut all, mut longest, over) = (Times::default(), 0.0_f64, AtomicBool::new(false));
    thread::scope(|scope| -> io::Result<()> {
        for _ in 0..busy_count {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop(); // As if others compiled.
                }
            });
        }
        let committer = match how {
            How::Each | How::FirstWaiter => None,
            How::PreferredThread => Some(scope.spawn(|| {
                setpriority_process(None, -10)?; // On Linux: of this thread only.
                log.serve()
            })),
            How::ThreadWakesAll | How::ThreadWakesEach => Some(scope.spawn(|| log.serve())),
        };
        let writers: Vec<_> = (0..writer_count)
            .map(|_| scope.spawn(|| repeat(effort.turn(), || log.post(how, &[7; MESSAGE_SIZE]))))
            .collect();
        for writer in writers {
            let (times, seconds) = writer.join().expect("writers do not panic")?;
            all.append(times);
            longest = longest.max(seconds);
        }
        log.stop();
        over.store(true, Ordering::Relaxed);
        committer.map_or(Ok(()), |thread| thread.join().expect("the committer does not panic"))
    })?;
    let commits = (log.commits.load(Ordering::Relaxed) - commits_before) as f64;
    let (p10, p50, p99) = (all.micros(0.1), all.micros(0.5), all.micros(0.99));
    Ok(vec![all.count() / longest, commits / longest, p10, p50, p99])
}

struct Log {
    file: File,
    tail: Mutex<Tail>,
    work: Condvar,
    done: Condvar,
    durable: AtomicU64,
    commits: AtomicU64,
}

#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    spare: Vec<u8>,
    /// Where the log ends once `bytes` are written.
    end: u64,
    waiters: Vec<Thread>,
    committing: bool,
    stopped: bool,
}

impl Log {
    fn new(file: File) -> Log {
        Log {
            file,
            tail: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            durable: AtomicU64::new(0),
            commits: AtomicU64::new(0),
        }
    }

    /// Appends, and waits until that is durable.
    fn post(&self, how: How, message: &[u8]) -> io::Result<()> {
        let mut tail = self.lock();
        tail.end += message.len() as u64;
        let end = tail.end;
        if how == How::Each {
            drop(tail);
            return self.sync(message, end);
        }
        tail.bytes.extend_from_slice(message);
        if how == How::FirstWaiter {
            return self.commit_or_wait(tail, end);
        }
        if how != How::ThreadWakesAll {
            tail.waiters.push(thread::current());
            drop(tail);
            self.work.notify_one();
            while self.durable.load(Ordering::Acquire) < end {
                thread::park();
            }
            return Ok(());
        }
        self.work.notify_one();
        while self.durable.load(Ordering::Acquire) < end {
            tail = self.done.wait(tail).expect("nobody panics with the lock");
        }
        Ok(())
    }

    fn commit_or_wait<'a>(&'a self, mut tail: MutexGuard<'a, Tail>, end: u64) -> io::Result<()> {
        while self.durable.load(Ordering::Acquire) < end {
            if tail.committing {
                tail = self.done.wait(tail).expect("nobody panics with the lock");
                continue;
            }
            tail.committing = true;
            tail = self.commit(tail)?;
            tail.committing = false;
        }
        Ok(())
    }

    /// The commit thread.
    fn serve(&self) -> io::Result<()> {
        let mut tail = self.lock();
        loop {
            if !tail.bytes.is_empty() {
                tail = self.commit(tail)?;
            } else if tail.stopped {
                tail.stopped = false;
                return Ok(());
            } else {
                tail = self.work.wait(tail).expect("nobody panics with the lock");
            }
        }
    }

    /// Makes the tail durable with the lock released, and wakes whoever waits.
    fn commit<'a>(&'a self, mut tail: MutexGuard<'a, Tail>) -> io::Result<MutexGuard<'a, Tail>> {
        let spare = take(&mut tail.spare);
        let mut group = std::mem::replace(&mut tail.bytes, spare);
        let (end, waiters) = (tail.end, take(&mut tail.waiters));
        drop(tail);
        self.sync(&group, end)?;
        group.clear();
        let mut tail = self.lock();
        tail.spare = group;
        self.durable.store(end, Ordering::Release);
        self.done.notify_all();
        if !waiters.is_empty() {
            drop(tail);
            waiters.iter().for_each(Thread::unpark);
            tail = self.lock();
        }
        Ok(tail)
    }

    fn sync(&self, bytes: &[u8], end: u64) -> io::Result<()> {
        assert!(bytes.len() <= GROUP_SIZE_MAX, "a group has to fit behind the log");
        self.file.write_all_at(bytes, (end - bytes.len() as u64) % LOG_SIZE)?;
        self.file.sync_data()?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.work.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().expect("nobody panics with the lock")
    }
}
