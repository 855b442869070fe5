//! A small life of the engine, ended or disturbed at every single change it makes to the disk: after
//! each, what was acknowledged is there, and no more than what was under way.

use crate::record::{Record, Step};
use crate::world::World;
use marconi_engine::Engine;
use marconi_engine::env::sim::Loss;

/// Posts, claims, deletes, queues made and removed, full segments, checkpoints, compaction.
fn script() -> Vec<Step> {
    let q = |name: &str| name.to_owned();
    let post = |name: &str, from: u64, count: u64, size: usize| {
        Step::Post(q(name), (from..from + count).map(|number| (number, size)).collect())
    };
    let claim = |claim, limit| Step::Claim { queue: q("a"), limit, claim, ttl_s: 60 };
    let delete = |number, claim| Step::Delete { queue: q("a"), number, claim };
    vec![
        Step::Create(q("a")),
        Step::Create(q("b")),
        post("a", 1, 3, 100),
        Step::SetMetadata(q("a"), 1),
        claim(1, 2),
        delete(1, Some(1)),
        post("b", 4, 2, 50),
        Step::Checkpoint,
        // Fills the first segment.
        post("a", 10, 4, 60_000),
        post("a", 14, 4, 60_000),
        post("b", 18, 4, 60_000),
        post("a", 22, 4, 60_000),
        post("a", 26, 4, 60_000),
        Step::Remove(q("b")),
        Step::Create(q("b")),
        post("b", 30, 1, 10),
        Step::DeleteMany(q("a"), (10..26).filter(|n| !(18..22).contains(n)).collect()),
        Step::Compact,
        delete(26, None),
        Step::Advance(61_000),
        claim(2, 2),
        Step::Renew(q("a"), 2, 600),
        Step::Checkpoint,
        delete(3, Some(2)),
        Step::Release(q("a"), 2),
        post("a", 40, 4, 60_000),
        post("b", 44, 4, 60_000),
        post("a", 48, 4, 60_000),
        post("a", 52, 4, 60_000),
        Step::DeleteMany(q("a"), (27..30).chain(40..44).chain(48..52).collect()),
        claim(3, 1),
        Step::Compact,
        Step::SetMetadata(q("b"), 7),
        Step::DeleteMany(q("b"), vec![30, 44, 45, 46]),
        Step::Compact,
        post("b", 60, 2, 20),
    ]
}

/// What a run leaves: the state acknowledged, and the state if what failed last was done after all.
pub(crate) struct Ran {
    pub(crate) acknowledged: Record,
    pub(crate) under_way: Option<Record>,
}

impl Ran {
    /// Checks what an engine shows, and returns which state it is.
    pub(crate) fn check(&self, world: &World, engine: &Engine, context: &str) -> Record {
        let seen = world.view(engine);
        let now_ms = world.now_ms();
        if let Some(under_way) = &self.under_way
            && seen == under_way.view(now_ms)
        {
            return under_way.clone();
        }
        assert_eq!(seen, self.acknowledged.view(now_ms), "{context}");
        self.acknowledged.clone()
    }
}

/// Takes the steps until one fails. With `on_error`, a step of upkeep that fails does not end the run.
fn run(world: &mut World, engine: &Engine, steps: &[Step], from: Record) -> Ran {
    let mut record = from;
    for step in steps {
        let next = record.after(step, world.now_ms());
        let is_upkeep = matches!(step, Step::Checkpoint | Step::Compact);
        match world.run(engine, step) {
            Err(_) if is_upkeep && !world.disk.is_stopped() => {}
            Err(_) => return Ran { acknowledged: record, under_way: Some(next) },
            Ok(()) => record = next,
        }
        if world.disk.is_stopped() {
            break;
        }
        // Twice: what failed once is done by the next round.
        let _ = engine.prepare().or_else(|_| engine.prepare());
    }
    Ran { acknowledged: record, under_way: None }
}

/// A few steps more, on whatever is there.
fn go_on(world: &mut World, engine: &Engine, record: Record, number: u64) -> Ran {
    let mut steps = Vec::new();
    for name in ["a", "b"] {
        steps.push(Step::Create(name.to_owned()));
        steps.push(Step::Post(name.to_owned(), vec![(number, 30), (number + 1, 3000)]));
        let queue = name.to_owned();
        steps.push(Step::Claim { queue, limit: 2, claim: number, ttl_s: 60 });
    }
    let steps: Vec<Step> = steps
        .into_iter()
        .enumerate()
        .map(|(place, step)| match step {
            Step::Post(name, batch) => Step::Post(
                name,
                batch.into_iter().map(|(n, size)| (n + place as u64 * 10, size)).collect(),
            ),
            Step::Claim { queue, limit, claim, ttl_s } => {
                Step::Claim { queue, limit, claim: claim + place as u64, ttl_s }
            }
            step => step,
        })
        .collect();
    run(world, engine, &steps, record)
}

/// Crash, open, look, go on, crash again, open, look.
fn survive(world: &mut World, ran: &Ran, loss: Loss, cut: u64, context: &str) {
    world.disk.crash(loss).expect("the real disk is well");
    // The power goes again while the engine recovers; the same must be there afterwards.
    world.disk.stop_at(cut);
    if let Ok(engine) = world.try_open(world.config()) {
        engine.crash();
    }
    world.disk.crash(loss).expect("the real disk is well");
    let engine = world
        .try_open(world.config())
        .unwrap_or_else(|error| panic!("{context}: cannot open: {error}"));
    world.settle(&engine);
    let record = ran.check(world, &engine, context);
    world.adopt(&engine, &record.groups());
    let ran = go_on(world, &engine, record, 1000);
    assert!(ran.under_way.is_none(), "{context}: going on failed");
    engine.crash();
    drop(engine);
    world.disk.crash(Loss::All).expect("the real disk is well");
    let engine = world
        .try_open(world.config())
        .unwrap_or_else(|error| panic!("{context}: cannot open again: {error}"));
    ran.check(world, &engine, context);
    engine.close().expect("closes");
}

fn change_count() -> u64 {
    let mut world = World::new(0);
    let engine = world.open();
    let ran = run(&mut world, &engine, &script(), Record::default());
    assert!(ran.under_way.is_none());
    ran.check(&world, &engine, "nothing went wrong");
    let sealed = engine.metrics().segments.iter().filter(|one| one.generation > 0).count();
    assert!(sealed > 0, "the script compacts: {:?}", engine.metrics().segments);
    engine.close().expect("closes");
    world.disk.change_count()
}

#[test]
fn after_a_power_cut_at_any_change_all_acknowledged_is_there() {
    let count = change_count();
    for n in 1..=count {
        let loss = Loss::ALL[n as usize % 4];
        let context = format!("power cut at change {n} of {count}, {loss:?}");
        let mut world = World::new(n);
        world.disk.stop_at(n);
        let ran = match world.try_open(world.config()) {
            Ok(engine) => {
                world.settle(&engine);
                let ran = run(&mut world, &engine, &script(), Record::default());
                if !world.disk.is_stopped() {
                    let _ = engine.close();
                }
                engine.crash();
                ran
            }
            Err(_) => Ran { acknowledged: Record::default(), under_way: None },
        };
        survive(&mut world, &ran, loss, 1 + n % 41, &context);
    }
}

#[test]
fn after_a_failure_of_any_change_all_acknowledged_is_there() {
    let count = change_count();
    for n in 1..=count {
        let loss = Loss::ALL[n as usize % 4];
        let context = format!("failure of change {n} of {count}, then {loss:?}");
        let mut world = World::new(n);
        world.disk.fail_change(n);
        let ran = match world.try_open(world.config()) {
            Ok(engine) => {
                world.settle(&engine);
                let ran = run(&mut world, &engine, &script(), Record::default());
                // Reads go on, and show what was acknowledged, whatever failed.
                ran.check(&world, &engine, &context);
                if n % 2 == 0 {
                    let _ = engine.close();
                }
                engine.crash();
                ran
            }
            Err(_) => Ran { acknowledged: Record::default(), under_way: None },
        };
        survive(&mut world, &ran, loss, 1 + n % 41, &context);
    }
}
