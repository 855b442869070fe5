//! Two tenants of one server, and beside it two servers that have one of them alone: whatever calls are made,
//! each tenant gets from the shared server what it gets from its own. Projects and queues have names that are
//! easily taken for each other, and each tenant also calls with the other's ids.
//!
//! Message ids, markers, claim ids and request ids are positions in the log, and counts, that all tenants share;
//! they are compared by what they name, so a tenant may guess from them how much others write. Answers are
//! compared whole otherwise. Cannot see what only sockets do, nor small differences in time: times are compared
//! for queues that another has and queues that nobody has, where one takes several times as long.

mod call;
mod view;
mod world;

use crate::campaign::{Campaign, Width, none};
use crate::random::Random;
use anyhow::{Context, ensure};
use call::{Names, Template};
use std::time::{Duration, Instant};
use world::World;

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "tenants",
    promise: "no call of a project sees, counts, changes or times what another project has",
    fault: "any call with any parameters, names that are easily confused, the other's own ids",
    unit: "calls compared",
    in_tests: 20_000,
    in_ledger: 1_000_000,
    once_failed: &[13],
    width: Width::Processors,
    trial,
    obstacle: none,
};

const CALL_COUNT: u64 = 500;
/// One step in so many lets time pass.
const CLOCK_EVERY: u64 = 40;
/// One step in so many has a server tidy up its files, which no tenant is to notice.
const UPKEEP_EVERY: u64 = 150;

fn trial(seed: u64) -> anyhow::Result<u64> {
    let mut random = Random::new(seed);
    let names = Names::choose(&mut random);
    let mut shared = World::start()?;
    let mut alone = [World::start()?, World::start()?];
    let mut count = 0;
    for step in 0..CALL_COUNT {
        if random.one_in(CLOCK_EVERY) {
            // Within a claim's life, at its end, or beyond that of all messages.
            let by_ms = [1, 999, 30_000, 60_000, 600_000][random.below(5) as usize];
            for world in alone.iter().chain([&shared]) {
                world.clock.advance_ms(by_ms);
            }
        }
        if random.one_in(UPKEEP_EVERY) {
            let world = random.below(3) as usize;
            alone.get(world).unwrap_or(&shared).tidy_up(&mut random)?;
        }
        let who = random.below(2) as usize;
        let template = Template::random(&mut random, &names, who);
        compare(&template, who, &mut shared, &mut alone[who])
            .with_context(|| format!("call {step}, of projects {:?}", names.projects))?;
        count += 1;
    }
    // What a call changed and none has looked at since.
    for (who, alone) in alone.iter_mut().enumerate() {
        for template in Template::all_there_is(&names, who) {
            compare(&template, who, &mut shared, alone)
                .with_context(|| format!("at the end, of projects {:?}", names.projects))?;
            count += 1;
        }
    }
    compare_times(&names, &mut shared)?;
    Ok(count)
}

/// Makes a call of tenant `who` to the shared server and to its own, which have to give one answer.
fn compare(
    template: &Template,
    who: usize,
    shared: &mut World,
    alone: &mut World,
) -> anyhow::Result<()> {
    // The one who is alone knows of the other's ids what only an oracle could tell: their texts, moved to where
    // its server has nothing.
    let in_shared = template.fill(&shared.views[who], &shared.views[1 - who], false);
    let in_alone = template.fill(&alone.views[who], &shared.views[1 - who], true);
    let beside_another = shared.answer(who, &in_shared)?;
    let by_itself = alone.answer(who, &in_alone)?;
    ensure!(
        beside_another == by_itself,
        "tenant {who} is told another thing since there is a tenant beside it\n---- sent\n{in_shared}\n\
         ---- beside another\n{beside_another}\n---- alone\n{by_itself}"
    );
    Ok(())
}

/// Calls of each kind that are timed.
const TIMED_COUNT: usize = 31;
/// How many times as long a call may take for what another has; and how much longer it has to be at the least.
const TIMES_MAX: u32 = 4;
const TIME_NOTED: Duration = Duration::from_micros(300);
/// How often times have to differ in a row, since the machine has other things to do.
const TIMING_ATTEMPTS: usize = 5;

/// Asking for a queue that only the other has takes as long as for one that nobody has.
fn compare_times(names: &Names, shared: &mut World) -> anyhow::Result<()> {
    for template in Template::of_the_others(names) {
        shared.answer(1, &template.fill(&shared.views[1], &shared.views[0], false))?;
    }
    for (theirs, nobodys) in Template::probes(names) {
        let mut told = (Duration::ZERO, Duration::ZERO);
        let differs = (0..TIMING_ATTEMPTS).all(|_| {
            told = (Duration::ZERO, Duration::ZERO);
            let mut times = [Vec::new(), Vec::new()];
            for _ in 0..TIMED_COUNT {
                for (template, times) in [&theirs, &nobodys].into_iter().zip(&mut times) {
                    let call = template.fill(&shared.views[0], &shared.views[1], false);
                    let started = Instant::now();
                    let answered = shared.answer(0, &call);
                    times.push(started.elapsed());
                    if answered.is_err() {
                        return true;
                    }
                }
            }
            let [theirs, nobodys] = times.map(median);
            told = (theirs, nobodys);
            let (more, less) = (theirs.max(nobodys), theirs.min(nobodys));
            more > less * TIMES_MAX && more - less > TIME_NOTED
        });
        ensure!(
            !differs,
            "{} takes {:?} where another project has the queue, {:?} where nobody has",
            theirs.fill(&shared.views[0], &shared.views[1], false),
            told.0,
            told.1
        );
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
