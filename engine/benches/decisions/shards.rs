//! Into how many shards, each behind a lock, should the queues be split?
use crate::measure::{Dice, Effort, Study, Times};
use std::hint::black_box;
use std::io;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

const QUEUE_COUNT: u64 = 10_000;
const HELD_NANOS: u64 = 300;
/// What a request costs outside the lock, where it is not nothing.
const BETWEEN_NANOS: u64 = 3_000;

/// A lock on a cache line of its own, with something to change behind it.
#[repr(align(128))]
struct Shard(Mutex<u64>);

pub(crate) fn ask(effort: Effort) -> io::Result<()> {
    let steps_per_micro = calibrate();
    let steps = |nanos: u64| nanos * steps_per_micro / 1_000;
    for thread_count in [2, 4] {
        for between_nanos in [0, BETWEEN_NANOS] {
            let title = format!(
                "{thread_count} threads, {HELD_NANOS} ns under the lock, {between_nanos} ns between"
            );
            let mut study = Study::new(title, &["operations/s", "wait p99 us", "wait p99.9 us"]);
            for shard_count in [1, 4, 16, 64, 256] {
                let shards: Vec<_> = (0..shard_count).map(|_| Shard(Mutex::new(0))).collect();
                let (held, between) = (steps(HELD_NANOS), steps(between_nanos));
                study.variant(format!("{shard_count} shards"), move || {
                    Ok(turn(&shards, thread_count, held, between, effort))
                });
            }
            study.run(effort)?;
        }
    }
    Ok(())
}

fn turn(shards: &[Shard], thread_count: u64, held: u64, between: u64, effort: Effort) -> Vec<f64> {
    let (mut waits, start) = (Times::default(), Instant::now());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..thread_count)
            .map(|seed| {
                scope.spawn(move || operate(shards, Dice::new(seed), held, between, effort))
            })
            .collect();
        for thread in threads {
            waits.append(thread.join().expect("the threads do not panic"));
        }
    });
    let rate = waits.count() / start.elapsed().as_secs_f64();
    vec![rate, waits.micros(0.99), waits.micros(0.999)]
}

/// Returns how long each operation waited for its lock.
fn operate(shards: &[Shard], mut dice: Dice, held: u64, between: u64, effort: Effort) -> Times {
    let (mut waits, start) = (Times::default(), Instant::now());
    loop {
        let queue = dice.below(QUEUE_COUNT);
        let shard = &shards[queue as usize & (shards.len() - 1)];
        let before = Instant::now();
        let mut state = shard.0.lock().expect("nobody panics with the lock");
        let waited = before.elapsed();
        *state = work(*state, held);
        drop(state);
        waits.add(waited);
        black_box(work(queue, between));
        if before - start >= effort.turn() {
            return waits;
        }
    }
}

fn work(seed: u64, steps: u64) -> u64 {
    let mut dice = Dice::new(seed);
    (0..steps).fold(0, |sum, _| sum ^ black_box(dice.below(u64::MAX)))
}

/// Steps of `work` in a microsecond, at the quickest of many tries.
fn calibrate() -> u64 {
    let steps = 100_000;
    let best = (0..50)
        .map(|seed| {
            let start = Instant::now();
            black_box(work(seed, steps));
            start.elapsed().as_nanos() as u64
        })
        .min();
    steps * 1_000 / best.expect("there were tries")
}
