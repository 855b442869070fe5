//! Random lives, random ends: after each the state is that of a prefix of what was asked, with all that
//! was acknowledged as durable in it. One seed decides the steps, the faults and what is lost.

use crate::record::{Record, Step};
use crate::world::World;
use marconi_engine::env::sim::Loss;
use marconi_engine::{Durability, Engine};

/// Lives of one seed before the next: each ends in a crash.
const LIVES: usize = 3;
const STEPS: u64 = 25;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        (!list.is_empty()).then(|| list[self.below(list.len() as u64) as usize])
    }

    /// A step that makes sense in this state; `number` names what is new.
    fn step(&mut self, record: &Record, number: &mut u64) -> Step {
        let names = ["a", "b", "c"];
        let name = names[self.below(3) as usize].to_owned();
        let Some(queue) = record.queues.get(&name) else { return Step::Create(name) };
        let numbers: Vec<u64> = queue.messages.keys().copied().collect();
        let claims: Vec<u64> = queue.claims.keys().copied().collect();
        *number += 100;
        let new = *number;
        match self.below(20) {
            0..6 => {
                let size = [10, 500, 5_000, 60_000][self.below(4) as usize];
                Step::Post(name, (new..=new + self.below(4)).map(|n| (n, size)).collect())
            }
            6..9 => {
                let ttl_s = [60, 300][self.below(2) as usize];
                let limit = 1 + self.below(4) as usize;
                Step::Claim { queue: name, limit, claim: new, ttl_s }
            }
            9..12 => match self.pick(&numbers) {
                Some(number) => {
                    let claim = queue.messages[&number];
                    Step::Delete { queue: name, number, claim }
                }
                None => Step::Sync,
            },
            12 => Step::DeleteMany(name, numbers.into_iter().filter(|n| n % 3 > 0).collect()),
            13 => self.pick(&claims).map_or(Step::Sync, |claim| Step::Release(name, claim)),
            14 => self.pick(&claims).map_or(Step::Sync, |claim| Step::Renew(name, claim, 120)),
            15 => Step::Advance(self.below(90) * 1000),
            16 => Step::SetMetadata(name, new as u8),
            17 => Step::Checkpoint,
            18 => Step::Compact,
            _ if self.below(4) == 0 => Step::Remove(name),
            _ => Step::Sync,
        }
    }
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    PowerCut(Loss),
    ProcessCrash,
    Close,
}

fn live(seed: u64, durability: Durability) {
    let command = format!(
        "MARCONI_SIM_SEEDS={seed}..{} cargo test -p marconi-engine --features sim --test faults {}",
        seed + 1,
        durability.name(),
    );
    let mut random = Random(seed);
    let mut world = World::new(seed);
    world.durability = durability;
    let mut number = 0;
    let mut record = Record::default();
    for life in 0..LIVES {
        let context = format!("seed {seed}, life {life}; again: {command}");
        let engine = world
            .try_open(world.config())
            .unwrap_or_else(|error| panic!("cannot open: {error}; {context}"));
        world.settle(&engine);
        // In every second seed this thread writes and syncs by itself what it can.
        let attendance = (seed % 2 == 1).then(|| engine.attend());
        // Every state so far; which of them a crash must not go behind.
        let mut history = vec![record.clone()];
        let mut durable = 0;
        let ending = match random.below(6) {
            0 => Ending::ProcessCrash,
            1 => Ending::Close,
            _ => Ending::PowerCut(Loss::ALL[random.below(4) as usize]),
        };
        if let Ending::PowerCut(_) = ending {
            world.disk.stop_at(1 + random.below(150));
        }
        for _ in 0..STEPS {
            record.expire(world.now_ms());
            let step = random.step(&record, &mut number);
            let next = record.after(&step, world.now_ms());
            let done = world.run(&engine, &step);
            // What failed may have been done all the same.
            history.push(next.clone());
            match done {
                Ok(()) => record = next,
                Err(error) => {
                    assert!(world.disk.is_stopped(), "{step:?}: {error}; {context}");
                    break;
                }
            }
            let is_synced = matches!(step, Step::Sync | Step::Checkpoint | Step::Compact);
            if is_synced || durability >= Durability::Group {
                durable = history.len() - 1;
            }
            if world.disk.is_stopped() {
                break;
            }
            engine.prepare().unwrap_or_else(|error| {
                assert!(world.disk.is_stopped(), "{error}; {context}");
            });
        }
        if ending == Ending::Close && engine.close().is_ok() {
            durable = history.len() - 1;
        }
        engine.crash();
        drop((attendance, engine));
        match ending {
            Ending::PowerCut(loss) => world.disk.crash(loss).expect("the real disk is well"),
            // All that was acknowledged is with the operating system.
            Ending::ProcessCrash if durability >= Durability::Os => durable = history.len() - 1,
            _ => {}
        }
        record = check(&mut world, &history[durable..], &context);
    }
}

/// The state must be one of `states`; returns which.
fn check(world: &mut World, states: &[Record], context: &str) -> Record {
    let engine: Engine = world
        .try_open(world.config())
        .unwrap_or_else(|error| panic!("cannot open: {error}; {context}"));
    world.settle(&engine);
    let seen = world.view(&engine);
    let now_ms = world.now_ms();
    let found = states.iter().rev().find(|state| state.view(now_ms) == seen);
    let Some(record) = found.cloned() else {
        let last = states.last().expect("there is one").view(now_ms);
        panic!(
            "no prefix of what was asked: {seen:#?}, of {} up to {last:#?}; {context}",
            states.len()
        );
    };
    world.adopt(&engine, &record.groups());
    engine.crash();
    record
}

/// `count` seeds, or what `MARCONI_SIM_SEEDS` says: a count, or `from..to`.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("MARCONI_SIM_SEEDS") else { return 0..count };
    let number = |text: &str| text.parse::<u64>().expect("MARCONI_SIM_SEEDS is `n` or `from..to`");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}

#[test]
fn in_group_mode_every_crash_leaves_a_prefix_with_all_acknowledged() {
    seeds(60).for_each(|seed| live(seed, Durability::Group));
}

#[test]
fn in_each_mode_every_crash_leaves_a_prefix_with_all_acknowledged() {
    seeds(30).for_each(|seed| live(seed, Durability::Each));
}

#[test]
fn in_interval_mode_a_power_cut_takes_a_suffix_at_the_most() {
    seeds(40).for_each(|seed| live(seed, Durability::Interval));
}

#[test]
fn in_os_mode_a_process_crash_takes_nothing_and_a_power_cut_a_suffix() {
    seeds(40).for_each(|seed| live(seed, Durability::Os));
}

#[test]
fn in_memory_mode_every_crash_takes_a_suffix_at_the_most() {
    seeds(30).for_each(|seed| live(seed, Durability::Memory));
}
