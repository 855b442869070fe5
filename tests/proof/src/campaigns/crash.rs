//! A power cut after every single change of the disk in a small life of the engine, times everything that may happen
//! to what was not synced. What is left has to open, and to have one of the states from the last acknowledged on.
//! After the last of them, no id that was told is given to anything else.
//! Cannot see what only threads do to each other; the life is one thread's, with several requests under way.

use crate::campaign::{Campaign, Width, none};
use crate::random::Random;
use crate::simulated::life::Life;
use crate::simulated::plan::Plan;
use crate::simulated::record::Step;
use crate::simulated::world::World;
use marconi_engine::Engine;
use marconi_engine::env::sim::Loss;

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "crash",
    promise: "what was acknowledged as durable is there, and the state is that of a prefix of the log",
    fault: "a power cut after any change of the disk, with any part of what was not synced lost, torn, reordered, \
            zero or stale, in all modes mixed",
    unit: "crash points × outcomes",
    in_tests: 20_000,
    in_ledger: 1_000_000,
    once_failed: &[],
    width: Width::Processors,
    trial,
    obstacle: none,
};

/// Moves of a life.
const MOVES: u64 = 24;
/// Numbers of messages and claims that no life has.
const NEW: u64 = 1 << 40;

fn trial(seed: u64) -> anyhow::Result<u64> {
    let life = Life::live(World::by_hand(seed), Plan::new(seed, MOVES), true);
    anyhow::ensure!(life.ended.is_none(), "life ended with {:?}", life.ended);
    let mut player = life.world.disk.player();
    let mut random = Random::new(seed);
    let mut count = 0;
    for changes in 0..=life.world.disk.recorded() {
        player.advance_to(changes);
        for loss in Loss::ALL {
            let disk = player.power_cut(loss, random.word())?;
            let mut left = life.world.elsewhere(disk, life.time_at(changes));
            let (engine, _) = life.check(&left, changes, &format!("{loss:?}"));
            if changes == life.world.disk.recorded() {
                give_ids(&mut left, &engine)?;
            }
            engine.crash();
            count += 1;
        }
    }
    Ok(count)
}

/// Has every queue give ids to new messages and a claim; the world notices one that was told before.
fn give_ids(world: &mut World, engine: &Engine) -> anyhow::Result<()> {
    for (number, entry) in (NEW..).zip(engine.queues(None, None, 1000)?) {
        let queue = entry.key.name().to_owned();
        world.run(engine, &Step::Post(queue.clone(), vec![(number, 10)]))?;
        world.run(engine, &Step::Claim { queue, limit: 1, claim: number, ttl_s: 60 })?;
    }
    Ok(())
}
