//! A model of a server at work: does a group that waits for company carry more, and do two groups at once?
//!
//! One thread serves a number of producers in turn: so much work a record, then the record lies in the tail.
//! Committers take what lies there. When a group is durable, its producers are to be served again.
use super::{How, commit, made, place};
use crate::disk::{self, BLOCK, GROUP, KIB};
use crate::measure::{Effort, Study, Times, own_micros};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::mem::take;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

const RECORD: usize = KIB;
/// The largest group has as many blocks as the log is cut into: each begins at a block of its own.
const PLACE_SIZE: usize = GROUP.0.len();
/// What a server does for a request, receiving and answering included (docs/performance.md).
const SERVING: Duration = Duration::from_micros(20);

/// Whether a committer takes what lies there at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Never,
    /// So many microseconds, when the last group held more than one record.
    Fixed(u64),
    /// Until there are as many as in the last group; so many microseconds at most.
    Company(u64),
}

pub(super) fn ask(effort: Effort) -> io::Result<()> {
    for producer_count in [1, 4, 16, 64] {
        let folder = disk::scratch()?;
        let title = format!("{producer_count} producers of 1 KiB, 20 us of serving a record");
        let columns =
            &["records/s", "records a group", "p50 us", "p99 us", "processor us a record"];
        let mut study = Study::new(title, columns);
        for (name, wait, how, committer_count) in [
            ("at once", Wait::Never, How::WriteThenSync, 1),
            ("waits 10 us", Wait::Fixed(10), How::WriteThenSync, 1),
            ("waits 20 us", Wait::Fixed(20), How::WriteThenSync, 1),
            ("waits 50 us", Wait::Fixed(50), How::WriteThenSync, 1),
            ("as many as last time, 50 us at most", Wait::Company(50), How::WriteThenSync, 1),
            ("at once, two committers", Wait::Never, How::WriteThenSync, 2),
            ("at once, O_DIRECT and O_DSYNC", Wait::Never, How::Direct, 1),
            ("the same, two committers", Wait::Never, How::Direct, 2),
        ] {
            let file = made(&folder.path().join(name), how.flags())?;
            let model = Model { file, how, wait };
            study.variant(name, move || model.turn(producer_count, committer_count, effort));
        }
        study.run(effort)?;
    }
    Ok(())
}

struct Model {
    file: File,
    how: How,
    wait: Wait,
}

impl Model {
    fn turn(
        &self,
        producer_count: usize,
        committer_count: usize,
        effort: Effort,
    ) -> io::Result<Vec<f64>> {
        let state = State { answered: producer_count, ..State::default() };
        let desk = Desk { state: Mutex::new(state), work: Condvar::new(), answers: Condvar::new() };
        let (before, start) = (own_micros(), Instant::now());
        thread::scope(|scope| {
            for _ in 0..committer_count {
                scope.spawn(|| self.commit_until_the_end(&desk));
            }
            desk.serve(effort.turn());
        });
        let (processor, seconds) = (own_micros() - before, start.elapsed().as_secs_f64());
        let mut state = desk.lock();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        let (count, groups) = (state.times.count(), state.next as f64);
        let (p50, p99) = (state.times.micros(0.5), state.times.micros(0.99));
        Ok(vec![count / seconds, count / groups, p50, p99, processor / count])
    }

    fn commit_until_the_end(&self, desk: &Desk) {
        let mut last_count = 0;
        while let Some((number, count)) = desk.take(self.wait, last_count) {
            last_count = count;
            let size = (count * RECORD).next_multiple_of(BLOCK);
            desk.end(number, commit(&self.file, self.how, size, place(number, PLACE_SIZE)));
        }
    }
}

/// What the server and the committers share.
struct Desk {
    state: Mutex<State>,
    /// Committers wait here for records.
    work: Condvar,
    /// The server waits here for producers.
    answers: Condvar,
}

#[derive(Default)]
struct State {
    /// When each record that lies in the tail was put there.
    tail: Vec<Instant>,
    /// The groups being committed, the oldest first, and whether they are durable.
    under_way: VecDeque<(Vec<Instant>, bool)>,
    /// Number of the next group.
    next: u64,
    /// Producers to be served again.
    answered: usize,
    idle_committers: usize,
    server_sleeps: bool,
    is_over: bool,
    times: Times,
    failed: Option<io::Error>,
}

impl Desk {
    /// Serves one producer after the other, until `turn` is over.
    fn serve(&self, turn: Duration) {
        let start = Instant::now();
        let mut state = self.lock();
        while start.elapsed() < turn && !state.is_over {
            if state.answered == 0 {
                state.server_sleeps = true;
                state = self.answers.wait(state).expect("nobody panics with the lock");
                continue;
            }
            state.answered -= 1;
            drop(state);
            let begun = Instant::now();
            while begun.elapsed() < SERVING {
                std::hint::spin_loop();
            }
            state = self.lock();
            state.tail.push(Instant::now());
            if state.idle_committers > 0 {
                state.idle_committers -= 1;
                drop(state);
                self.work.notify_one();
                state = self.lock();
            }
        }
        state.is_over = true;
        drop(state);
        self.work.notify_all();
    }

    /// Waits for records, then for company; returns the group's number and how many records it has, or
    /// `None` at the end.
    fn take(&self, wait: Wait, last_count: usize) -> Option<(u64, usize)> {
        let mut state = self.lock();
        while state.tail.is_empty() {
            if state.is_over {
                return None;
            }
            state.idle_committers += 1;
            state = self.work.wait(state).expect("nobody panics with the lock");
        }
        let (patience_us, enough) = match wait {
            Wait::Fixed(us) if last_count > 1 => (us, usize::MAX),
            Wait::Company(us) => (us, last_count),
            Wait::Fixed(_) | Wait::Never => (0, 0),
        };
        let until = Instant::now() + Duration::from_micros(patience_us);
        while state.tail.len() < enough && Instant::now() < until && !state.is_over {
            drop(state);
            // Not asleep: the system would wake it 50 us too late.
            thread::yield_now();
            state = self.lock();
        }
        let group = take(&mut state.tail);
        let count = group.len();
        state.under_way.push_back((group, false));
        state.next += 1;
        Some((state.next - 1, count))
    }

    /// A group was committed: answers it and those behind it, unless an older one is still under way.
    fn end(&self, number: u64, done: io::Result<()>) {
        let mut state = self.lock();
        if let Err(error) = done {
            state.failed = Some(error);
            state.is_over = true;
        }
        let oldest = state.next - state.under_way.len() as u64;
        state.under_way[(number - oldest) as usize].1 = true;
        while state.under_way.front().is_some_and(|(_, is_durable)| *is_durable) {
            let (group, _) = state.under_way.pop_front().expect("it was looked at");
            state.answered += group.len();
            group.iter().for_each(|put| state.times.add(put.elapsed()));
        }
        if take(&mut state.server_sleeps) {
            drop(state);
            self.answers.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock")
    }
}
