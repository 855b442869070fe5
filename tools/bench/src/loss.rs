//! What a power cut takes, measured: an engine on the simulated disk, posts at a steady rate, the
//! power cut at a moment that the seed chooses, the engine opened again and its messages counted
//! against those that were acknowledged.

use crate::results::Loss;
use crate::stats::Random;
use anyhow::{Context as _, bail};
use marconi_engine::env::Environment;
use marconi_engine::env::sim::{self, SimDisk};
use marconi_engine::{ClientId, Config, Durability, Engine, ListFilter, NewMessage, QueueKey};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// Bytes of a body.
const SIZE: usize = 4096;
/// Posts a second. With [`SIZE`] this is 16 MiB/s, so that the log's checkpoints, which bound the
/// loss where nobody syncs, come every few seconds.
const RATE: f64 = 4096.0;
/// Messages of a page when they are counted.
const PAGE: usize = 1000;

/// How the cuts of one mode are made.
#[derive(Debug, Clone, Copy)]
struct Series {
    mode: Durability,
    seed: u64,
    /// Power cuts; crashes of the process come on top where they take anything.
    cuts: usize,
    /// The shortest and the longest time that it goes well.
    runs: (Duration, Duration),
}

/// Cuts the power again and again in each of these modes, within about `time`, all modes at the same
/// time: at this rate the machine is mostly idle.
///
/// `stop` ends it early.
///
/// # Errors
/// When an engine does not do its work; never because messages were lost.
pub(crate) fn measure(
    modes: &[Durability],
    time: Duration,
    seed: u64,
    stop: &AtomicBool,
) -> anyhow::Result<Vec<Loss>> {
    let all: Vec<Series> = modes.iter().flat_map(|mode| series(*mode, time, seed)).collect();
    let (found, losses) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let threads: Vec<_> = all
            .iter()
            .map(|series| {
                let found = found.clone();
                scope.spawn(move || run(*series, &found, stop))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(ended) => ended,
            Err(_) => bail!("a thread that cuts the power panicked"),
        })
    })?;
    drop(found);
    let mut losses: Vec<Loss> = losses.into_iter().collect();
    let place = |mode: &str| crate::results::MODES.iter().position(|known| *known == mode);
    losses.sort_by_key(|loss| (place(&loss.mode), loss.event.clone()));
    Ok(losses)
}

/// The series of one mode. Where only checkpoints sync, runs have to be longer than the time between
/// two of them; several disks then run at once to get enough cuts.
fn series(mode: Durability, time: Duration, seed: u64) -> Vec<Series> {
    let (longest, disks) = match mode {
        Durability::Memory | Durability::Os => (Duration::from_secs(10), 3),
        _ => (Duration::from_millis(1200), 1),
    };
    let longest = longest.min(time / 3);
    let runs = (longest / 4, longest);
    // Opening and counting take their time, too.
    let mean = (runs.0 + runs.1).as_secs_f64() / 2.0 + 0.15;
    let cuts = ((time.as_secs_f64() / mean).floor() as usize).max(2);
    (0..disks)
        .map(|disk| {
            let seed = seed ^ ((mode as u64) << 32 | disk << 40);
            Series { mode, seed, cuts, runs }
        })
        .collect()
}

fn run(series: Series, found: &Sender<Loss>, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut random = Random::new(series.seed);
    let disk = SimDisk::new(random.word()).context("the simulated disk")?;
    let mut engine = open(&disk, series.mode)?;
    for cut in 1..=series.cuts {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let spread = (series.runs.1 - series.runs.0).mul_f64(random.share());
        // In a crash of the process only what it still held itself is lost.
        let crash = series.mode == Durability::Memory && cut % 3 == 0;
        let writes = sim::Loss::ALL[cut % sim::Loss::ALL.len()];
        let queue = QueueKey::new(None, &format!("cut-{cut}")).context("a queue's name")?;
        engine.create_queue(&queue, None)?.wait()?;
        engine.sync()?;
        let posted = post(&engine, &queue, series.runs.0 + spread)?;
        let ended = Instant::now();
        if !crash {
            // The next change of the disk, and all that follow, do not happen.
            disk.stop_at(1);
        }
        engine.crash();
        drop(engine);
        if !crash {
            disk.crash(writes).context("the simulated disk")?;
        }
        engine = open(&disk, series.mode)?;
        let left = numbers(&engine, &queue)?;
        let lost: Vec<&Acknowledged> =
            posted.acknowledged.iter().filter(|one| !left.contains(&one.number)).collect();
        let oldest = lost.iter().map(|one| one.at).min();
        let age = oldest.map_or(Duration::ZERO, |at| ended.saturating_duration_since(at));
        let loss = Loss {
            mode: series.mode.to_string(),
            event: if crash { "process-crash" } else { "power-cut" }.to_owned(),
            writes: if crash { "none".to_owned() } else { format!("{writes:?}").to_lowercase() },
            cut,
            rate: posted.acknowledged.len() as f64 / posted.ran.as_secs_f64(),
            size_bytes: SIZE,
            ran_ms: posted.ran.as_secs_f64() * 1e3,
            acknowledged: posted.acknowledged.len() as u64,
            lost: lost.len() as u64,
            lost_ms: age.as_secs_f64() * 1e3,
        };
        // Nobody listens any more only when another series failed.
        let _ = found.send(loss);
        engine.remove_queue(&queue, None)?.wait()?;
    }
    engine.crash();
    Ok(())
}

/// An engine as a server has it, but for the reserve: the simulated disk has no end.
fn open(disk: &SimDisk, mode: Durability) -> anyhow::Result<Engine> {
    let folder = disk.root().join("data");
    let config = Config { durability: mode, disk_reserve_bytes: 0, ..Config::new(folder) };
    let env = Environment { disk: Arc::new(disk.clone()), ..Environment::system() };
    let engine = Engine::open_in(config, env)
        .with_context(|| format!("{mode}: the engine does not open after a power cut"))?;
    engine.prepare()?;
    Ok(engine)
}

struct Posted {
    acknowledged: Vec<Acknowledged>,
    ran: Duration,
}

struct Acknowledged {
    number: u64,
    at: Instant,
}

/// Posts at the rate until `time` is over, and notes when each was acknowledged.
fn post(engine: &Engine, queue: &QueueKey, time: Duration) -> anyhow::Result<Posted> {
    let began = Instant::now();
    let mut schedule = crate::schedule::Schedule::new(RATE, time);
    let mut body = vec![b'x'; SIZE];
    let mut acknowledged = Vec::new();
    let mut number = 0u64;
    while let Some(due) = schedule.next_due() {
        if let Some(early) = due.checked_sub(began.elapsed()) {
            std::thread::park_timeout(early);
            continue;
        }
        while schedule.take(began.elapsed()).is_some() && began.elapsed() < time {
            body[..8].copy_from_slice(&number.to_le_bytes());
            let message = NewMessage { ttl_s: 86_400, body: &body };
            engine.post(queue, ClientId(1), &[message], None)?.wait()?;
            acknowledged.push(Acknowledged { number, at: Instant::now() });
            number += 1;
        }
    }
    Ok(Posted { acknowledged, ran: began.elapsed() })
}

/// The numbers of the messages that are there.
fn numbers(engine: &Engine, queue: &QueueKey) -> anyhow::Result<HashSet<u64>> {
    let mut numbers = HashSet::new();
    let mut from = None;
    loop {
        let page = engine.list(queue, from, PAGE, ListFilter::default())?.wait()?;
        for message in &page.messages {
            let body = message.read()?.body;
            let number = body.get(..8).and_then(|bytes| bytes.try_into().ok());
            numbers.insert(u64::from_le_bytes(number.context("a message that nobody posted")?));
        }
        if page.messages.len() < PAGE && !page.has_more {
            return Ok(numbers);
        }
        from = page.next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_takes_from_os_and_nothing_from_group() {
        let modes = [Durability::Os, Durability::Group, Durability::Memory];
        let stop = AtomicBool::new(false);
        let losses = measure(&modes, Duration::from_millis(900), 1, &stop).expect("engines work");
        let cuts = |mode: &'static str| losses.iter().filter(move |one| one.mode == mode);
        assert!(cuts("group").count() >= 2);
        for loss in cuts("group") {
            assert_eq!((loss.lost, loss.lost_ms), (0, 0.0), "{loss:?}");
            assert!(loss.acknowledged > 0, "{loss:?}");
        }
        for mode in ["os", "memory"] {
            let worst =
                cuts(mode).filter(|one| one.event == "power-cut").max_by_key(|one| one.lost);
            let worst = worst.expect("the power was cut");
            assert!(worst.lost > 0 && worst.lost_ms <= worst.ran_ms + 50.0, "{worst:?}");
        }
    }

    #[test]
    fn stopping_ends_it_at_once() {
        let stop = AtomicBool::new(true);
        let losses = measure(&[Durability::Each], Duration::from_secs(60), 1, &stop);
        assert_eq!(losses.expect("engines work"), []);
    }
}
