//! Every call of the disk fails once, or from then on, with each kind of failure, in a life that is otherwise the
//! same; then the power goes. Failures of looks are tried at the start that follows. Nothing that was acknowledged is
//! missing, and what is shown is a state that was asked for. A disk that was full for a while takes posts again once
//! it has room. Cannot see stalls: nobody waits in a world of one thread.

use crate::campaign::{Campaign, Width, none};
use crate::random::Random;
use crate::simulated::life::Life;
use crate::simulated::plan::Plan;
use crate::simulated::record::Step;
use crate::simulated::world::World;
use marconi_engine::Error;
use marconi_engine::env::sim::{Failure, Fault, Loss, Verb};
use std::collections::BTreeMap;

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "io-faults",
    promise: "a disk that fails takes nothing that was acknowledged and adds nothing",
    fault: "EIO, ENOSPC and half a write at each of the first 50 calls of every place in the engine, once and for ever",
    unit: "faults injected",
    in_tests: 500,
    in_ledger: 10_000,
    once_failed: &[],
    width: Width::Processors,
    trial,
    obstacle: none,
};

const MOVES: u64 = 40;
/// Calls of one place that are made to fail, each by itself.
const OCCURRENCES_MAX: usize = 50;

fn trial(seed: u64) -> anyhow::Result<u64> {
    let reference = World::by_hand(seed);
    reference.disk.note_sites();
    let life = Life::live(reference, Plan::new(seed, MOVES), true);
    anyhow::ensure!(life.ended.is_none(), "life ended with {:?}", life.ended);
    let mut random = Random::new(seed);
    let (mut change, mut count) = (0, 0);
    let mut occurrences: BTreeMap<_, usize> = BTreeMap::new();
    for (verb, site) in life.world.disk.sites() {
        if verb == Verb::Read {
            continue;
        }
        change += 1;
        let occurrence = occurrences.entry((verb, site.clone())).or_default();
        *occurrence += 1;
        if *occurrence > OCCURRENCES_MAX {
            continue;
        }
        // Each kind of failure in turn, and every place sees all of them over the seeds.
        let failure = Failure::ALL[random.below(3) as usize];
        let for_ever = random.one_in(2);
        let fault = Fault { failure, for_ever, ..Fault::nth(change) };
        let place = format!(
            "{} of {site}, time {occurrence}: {failure:?}, for ever {for_ever}",
            verb.name()
        );
        fail_while_alive(seed, fault, &mut random, &place)?;
        count += 1;
    }
    Ok(count + fail_at_start(&life, &mut random)? + fill_up(seed, &mut random)?)
}

/// The same life with a fault; then the power goes.
fn fail_while_alive(
    seed: u64,
    fault: Fault,
    random: &mut Random,
    place: &str,
) -> anyhow::Result<()> {
    let world = World::by_hand(seed);
    world.disk.inject(fault);
    let life = Life::live(world, Plan::new(seed, MOVES), true);
    anyhow::ensure!(life.world.disk.has_failed(), "{place}: it was not called this time");
    if let Some(error) = &life.ended {
        let is_told = matches!(
            error,
            Error::ReadOnly(_) | Error::Io { .. } | Error::Folder { .. } | Error::Full
        );
        anyhow::ensure!(is_told, "{place}: the life ended with {error:?}");
    }
    let changes = life.world.disk.recorded();
    let mut player = life.world.disk.player();
    player.advance_to(changes);
    let loss = *random.pick(&Loss::ALL).expect("there are some");
    let left = life.world.elsewhere(player.power_cut(loss, random.word())?, life.time_at(changes));
    let (engine, record) = life.check(&left, changes, &format!("{loss:?} after {place}"));
    engine.crash();
    for (queue, number) in &life.shown_at_last {
        let lasts = record.queues.get(queue).is_some_and(|kept| kept.messages.contains_key(number));
        anyhow::ensure!(
            lasts,
            "{place}, {loss:?}: message {number} of {queue} was shown after the failure, and is lost"
        );
    }
    Ok(())
}

/// The disk is full, and then has room again: whoever posts is told `Full` meanwhile, and goes on without a restart.
fn fill_up(seed: u64, random: &mut Random) -> anyhow::Result<u64> {
    let mut world = World::by_hand(seed);
    let engine = world.open();
    world.run(&engine, &Step::Create("q".into()))?;
    world.disk.set_capacity(Some(world.disk.used_bytes() + (64 << 10) + random.below(256 << 10)));
    // Small ones, all alike: some segment is filled to its last byte.
    let size = 8 + random.below(160) as usize;
    let mut number = 0;
    let mut post = |world: &mut World| {
        number += 1;
        world.run(&engine, &Step::Post("q".into(), vec![(number, size)]))
    };
    // In a world without a background a post makes its room by itself, and may hear what the disk said.
    while post(&mut world).is_ok() {
        let _ = engine.prepare();
    }
    let refused = post(&mut world);
    anyhow::ensure!(matches!(refused, Err(Error::Full)), "the disk is full: {refused:?}");
    world.disk.set_capacity(None);
    engine.prepare()?;
    engine.care()?;
    post(&mut world).map_err(|error| anyhow::anyhow!("the disk has room again: {error}"))?;
    engine.crash();
    Ok(1)
}

/// A start on what is left, of which each look fails once: it is refused or shows what is there, and harms nothing.
fn fail_at_start(life: &Life, random: &mut Random) -> anyhow::Result<u64> {
    let changes = life.world.disk.recorded();
    let mut player = life.world.disk.player();
    player.advance_to(changes);
    let seed = random.word();
    let left = || -> anyhow::Result<World> {
        Ok(life.world.elsewhere(player.power_cut(Loss::Prefix, seed)?, life.time_at(changes)))
    };
    let untouched = left()?;
    untouched.disk.note_sites();
    let (engine, record) = life.check(&untouched, changes, "Prefix");
    engine.crash();
    let looks = untouched.disk.sites().iter().filter(|(verb, _)| *verb == Verb::Read).count();
    let expected = record.view(untouched.clock_ms());
    for nth in 1..=looks as u64 {
        let world = left()?;
        world.disk.inject(Fault { verb: Some(Verb::Read), ..Fault::nth(nth) });
        if let Ok(engine) = world.try_open(world.config()) {
            let seen = world.view(&engine);
            anyhow::ensure!(
                seen == expected,
                "look {nth} of a start failed: {seen:#?} is not {expected:#?}"
            );
            engine.crash();
        }
        world.disk.crash(Loss::All)?;
        let engine = world.try_open(world.config())?;
        let seen = world.view(&engine);
        anyhow::ensure!(
            seen == expected,
            "after look {nth} of a start failed: {seen:#?} is not {expected:#?}"
        );
        engine.crash();
    }
    Ok(looks as u64)
}
