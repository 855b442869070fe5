//! Every place in the engine that syncs a file or a folder, as if it did not: power cuts in some life have to show it.
//! A place whose absence nobody notices is superfluous, or the trials are too weak. Nothing is built anew for it: an
//! engine cannot tell a sync that was made from one that was not, so the tape of a life is played back without them.
//! Cannot see places that no life comes by: those of repair.

use crate::campaign::{Campaign, Width, none};
use crate::random::Random;
use crate::simulated::life::Life;
use crate::simulated::plan::Plan;
use crate::simulated::world::World;
use marconi_engine::env::sim::{Loss, Site, Verb};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "syncs",
    promise: "a sync that is forgotten in the engine is noticed by these trials",
    fault: "each place that syncs, left out by itself",
    unit: "places left out and noticed",
    in_tests: 1,
    in_ledger: 1,
    once_failed: &[],
    width: Width::One,
    trial,
    obstacle: none,
};

/// Places, one in each of these files, that are known to be needless for what is promised, and why they are there.
const NEEDLESS: [(&str, &str); 2] = [
    (
        "files/segment_index.rs",
        "an index that is not whole is made again; written in pieces, it holds up no commit",
    ),
    (
        "log/segment.rs",
        "zeros are synced again with the header; synced before, they hold up no commit",
    ),
];

/// Lives that are tried before a place counts as unnoticed.
const LIVES_MAX: u64 = 100;
/// Lives after which no new places are expected.
const LIVES_MIN: u64 = 8;

fn trial(seed: u64) -> anyhow::Result<u64> {
    let mut known: BTreeSet<Site> = BTreeSet::new();
    let mut noticed: BTreeSet<Site> = BTreeSet::new();
    for number in 0..LIVES_MAX {
        if number >= LIVES_MIN && wrongly_unnoticed(&known, &noticed).is_empty() {
            break;
        }
        // Most are noticed in short lives; some only once segments were given back.
        let moves = if number < LIVES_MIN { 40 } else { 150 };
        let seed = seed * LIVES_MAX + number;
        let world = World::by_hand(seed);
        world.disk.note_sites();
        let life = Life::live(world, Plan::new(seed, moves), true);
        anyhow::ensure!(life.ended.is_none(), "life ended with {:?}", life.ended);
        for (site, places) in syncs_of(&life) {
            known.insert(site.clone());
            if !noticed.contains(&site) && is_noticed(&life, &places, seed)? {
                noticed.insert(site);
            }
        }
    }
    let unnoticed = wrongly_unnoticed(&known, &noticed);
    anyhow::ensure!(unnoticed.is_empty(), "nobody noticed the absence of {unnoticed:?}");
    Ok(noticed.len() as u64)
}

/// The places whose absence should have been noticed and was not.
fn wrongly_unnoticed(known: &BTreeSet<Site>, noticed: &BTreeSet<Site>) -> Vec<Site> {
    let mut unnoticed: Vec<Site> = known.difference(noticed).cloned().collect();
    for (file, _) in NEEDLESS {
        let place = unnoticed.iter().position(|site| site.to_string().starts_with(file));
        place.map(|place| unnoticed.remove(place));
    }
    unnoticed
}

/// The places in the engine that synced in a life, each with its syncs among the changes of the disk.
fn syncs_of(life: &Life) -> BTreeMap<Site, BTreeSet<usize>> {
    let mut found: BTreeMap<Site, BTreeSet<usize>> = BTreeMap::new();
    let is_sync = |verb: &Verb| matches!(verb, Verb::Sync | Verb::SyncFolder);
    let sites = life.world.disk.sites().into_iter().filter(|(verb, _)| is_sync(verb));
    for ((_, site), place) in sites.zip(life.world.disk.player().syncs()) {
        found.entry(site).or_default().insert(place);
    }
    found
}

/// Whether some power cut leaves what it must not, without these syncs.
fn is_noticed(life: &Life, places: &BTreeSet<usize>, seed: u64) -> anyhow::Result<bool> {
    let mut player = life.world.disk.player();
    player.leave_out(places);
    let mut random = Random::new(seed);
    for changes in 0..=life.world.disk.recorded() {
        player.advance_to(changes);
        // Before the first of them nothing is different.
        if places.first().is_none_or(|first| changes <= *first) {
            continue;
        }
        for loss in Loss::ALL {
            let disk = player.power_cut(loss, random.word())?;
            let left = life.world.elsewhere(disk, life.time_at(changes));
            let found = catch_unwind(AssertUnwindSafe(|| life.find(&left, changes, "")));
            match found {
                Ok(Ok((engine, _))) => engine.crash(),
                Ok(Err(_)) | Err(_) => return Ok(true),
            }
        }
    }
    Ok(false)
}
