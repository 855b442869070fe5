//! Power cuts within recovery and within compaction, three deep: what a first one left is opened and compacted, and
//! the power goes in the midst of it; and again. A state that was once shown after a start never changes by that, nor
//! when the newest checkpoint rots and the one before it has to do; and compaction loses sight of no segment.
//! Cannot see what only threads do to each other.

use crate::campaign::{Campaign, Width, none};
use crate::random::Random;
use crate::simulated::life::Life;
use crate::simulated::plan::Plan;
use crate::simulated::record::Record;
use crate::simulated::world::World;
use anyhow::Context;
use marconi_engine::Engine;
use marconi_engine::env::sim::Loss;
use std::collections::BTreeSet;

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "nested",
    promise: "what one start showed, the next one shows, whatever interrupted it",
    fault: "power cuts within recovery and within compaction, three deep",
    unit: "nested power cuts",
    in_tests: 2_000,
    in_ledger: 50_000,
    once_failed: &[],
    width: Width::Processors,
    trial,
    obstacle: none,
};

const MOVES: u64 = 40;
/// Points at which a life is cut first.
const FIRST_CUTS: u64 = 8;
/// Cuts of each recovery.
const CUTS: u64 = 6;
/// Where a checkpoint rots: within its header, whose checksum tells.
const ROTTEN_AT: u64 = 40;

fn trial(seed: u64) -> anyhow::Result<u64> {
    let life = Life::live(World::by_hand(seed), Plan::new(seed, MOVES), true);
    anyhow::ensure!(life.ended.is_none(), "life ended with {:?}", life.ended);
    let mut random = Random::new(seed);
    let count = life.world.disk.recorded() as u64 + 1;
    let mut points: Vec<u64> = (0..FIRST_CUTS).map(|_| random.below(count)).collect();
    points.sort_unstable();
    let mut player = life.world.disk.player();
    let mut nested = 0;
    for point in points {
        let changes = point as usize;
        player.advance_to(changes);
        let loss = loss(&mut random);
        let word = random.word();
        let left = life.world.elsewhere(player.power_cut(loss, word)?, life.time_at(changes));
        left.disk.record();
        let (engine, record) = life.check(&left, changes, &format!("{loss:?}"));
        upkeep(&engine);
        let path = format!("cut at change {changes}, {loss:?}");
        let once_more = left.elsewhere(player.power_cut(loss, word)?, left.clock_ms());
        fall_back(&once_more, &record).with_context(|| path.clone())?;
        nested += cut_again(&left, &record, &mut random, &path, 2)?;
    }
    Ok(nested)
}

/// What a server that has just started does.
fn upkeep(engine: &Engine) {
    // Whatever does not work out must not show.
    let _ = engine.prepare();
    let _ = engine.care();
    let _ = engine.compact();
    engine.crash();
}

/// A start, a checkpoint and what compaction does then; the checkpoint rots, and the next start shows `record` all the
/// same.
fn fall_back(world: &World, record: &Record) -> anyhow::Result<()> {
    let engine = world.try_open(world.config())?;
    engine.prepare()?;
    engine.checkpoint()?;
    engine.care()?;
    engine.crash();
    let names = std::fs::read_dir(world.folder().join("checkpoint"))?;
    let mut checkpoints = Vec::new();
    for name in names {
        checkpoints.push(name?.path());
    }
    checkpoints.sort();
    // There is one to fall back to unless this was the first.
    let Some(newest) = checkpoints.pop().filter(|_| !checkpoints.is_empty()) else { return Ok(()) };
    world.disk.flip(&newest, ROTTEN_AT, 1)?;
    let engine = world.try_open(world.config())?;
    anyhow::ensure!(engine.recovery().fell_back.is_some(), "nobody noticed that it is rotten");
    let (seen, expected) = (world.view(&engine), record.view(world.clock_ms()));
    anyhow::ensure!(seen == expected, "the older one shows {seen:#?}, there was {expected:#?}");
    engine.compact()?;
    segments_are_known(world, &engine)?;
    engine.crash();
    Ok(())
}

/// What is not known is never given back, and its neighbours would be joined across it.
fn segments_are_known(world: &World, engine: &Engine) -> anyhow::Result<()> {
    let known: BTreeSet<u64> = engine.segments().iter().map(|segment| segment.number).collect();
    let mut there = BTreeSet::new();
    for entry in std::fs::read_dir(world.folder().join("log"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(stem) = name.strip_suffix(".seg") {
            there.insert(stem.split('.').next().unwrap_or(stem).parse::<u64>()?);
        }
    }
    anyhow::ensure!(known == there, "the engine knows segments {known:?}, and there are {there:?}");
    Ok(())
}

/// Cuts a recorded recovery and compaction at some points, and each of what follows, so many levels deep. All have to
/// show `record`.
fn cut_again(
    world: &World,
    record: &Record,
    random: &mut Random,
    path: &str,
    levels: u32,
) -> anyhow::Result<u64> {
    let count = world.disk.recorded() as u64 + 1;
    let mut points: Vec<u64> = (0..CUTS).map(|_| random.below(count)).collect();
    points.sort_unstable();
    let mut player = world.disk.player();
    let trace = world.disk.trace();
    let mut nested = 0;
    for point in points {
        player.advance_to(point as usize);
        let loss = loss(random);
        let last = point.checked_sub(1).and_then(|last| trace.get(last as usize).cloned());
        let last = last.unwrap_or_else(|| "nothing".to_owned());
        let path = format!("{path}, then after change {point} of the recovery ({last}), {loss:?}");
        let left = world.elsewhere(player.power_cut(loss, random.word())?, world.clock_ms());
        left.disk.record();
        let engine =
            left.try_open(left.config()).map_err(|error| anyhow::anyhow!("{path}: {error}"))?;
        let (seen, expected) = (left.view(&engine), record.view(left.clock_ms()));
        anyhow::ensure!(seen == expected, "{path}: there is {seen:#?}, and was {expected:#?}");
        upkeep(&engine);
        nested += 1;
        if levels > 1 {
            nested += cut_again(&left, record, random, &path, levels - 1)?;
        }
    }
    Ok(nested)
}

fn loss(random: &mut Random) -> Loss {
    *random.pick(&Loss::ALL).expect("there are some")
}
