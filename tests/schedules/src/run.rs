//! Which scenario and which scheduler a seed means, and the run itself. Knows nothing of what is tried.

use crate::{alone, marks, whole};
use shuttle::scheduler::{
    PctScheduler, RandomScheduler, ReplayScheduler, Scheduler, UrwRandomScheduler,
};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::io::Write;
use std::process::ExitCode;

/// Something that threads do to each other; it panics where a promise was broken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// What it is called in commands.
    pub(crate) name: &'static str,
    /// One run, with threads made by shuttle.
    pub(crate) run: fn(),
}

/// Every scenario. Seeds name them by their place: new ones go to the end.
const ALL: [Scenario; 12] = [
    Scenario { name: "marks", run: marks::publish_and_wait },
    Scenario { name: "group", run: alone::group },
    Scenario { name: "attending", run: alone::attending },
    Scenario { name: "room", run: alone::room },
    Scenario { name: "failure", run: alone::failure },
    Scenario { name: "failure-without-room", run: alone::failure_without_room },
    Scenario { name: "close", run: alone::close },
    Scenario { name: "abandon", run: alone::abandon },
    Scenario { name: "order", run: whole::order },
    Scenario { name: "recycling", run: whole::recycling },
    Scenario { name: "end", run: whole::end },
    Scenario { name: "failure-at-the-door", run: alone::failure_at_the_door },
];

/// Switches of threads in one schedule: more are a loop that waits for nothing.
const STEPS_MAX: usize = 200_000;
/// Bytes of stack for each thread. Opening an engine takes most of it.
const STACK_SIZE: usize = 512 << 10;
/// Changes of priority within a schedule of the PCT scheduler: it finds what takes so many preemptions.
const PCT_DEPTH: usize = 3;

/// See the first lines of `main.rs`.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let known = match words[..] {
        ["replay", name, schedule] => {
            ALL.iter().find(|scenario| scenario.name == name).map(|found| {
                go(ReplayScheduler::new_from_encoded(schedule), *found);
            })
        }
        [seed, count] => {
            seed.parse().ok().zip(count.parse().ok()).map(|(seed, count)| schedules(seed, count))
        }
        _ => None,
    };
    if known.is_some() {
        return ExitCode::SUCCESS;
    }
    let names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
    let _ = writeln!(
        std::io::stderr(),
        "usage: schedules SEED COUNT, or: schedules replay SCENARIO SCHEDULE; scenarios: {}",
        names.join(", ")
    );
    ExitCode::FAILURE
}

/// Tries `count` schedules.
fn schedules(seed: u64, count: usize) {
    let scenarios = ALL.len() as u64;
    let scenario = ALL[(seed % scenarios) as usize];
    let kind = seed / scenarios % 3;
    let _ = writeln!(std::io::stderr(), "scenario {}", scenario.name);
    match kind {
        0 => go(RandomScheduler::new_from_seed(seed, count), scenario),
        1 => go(PctScheduler::new_from_seed(seed, PCT_DEPTH, count), scenario),
        _ => go(UrwRandomScheduler::new_from_seed(seed, count), scenario),
    }
}

fn go(scheduler: impl Scheduler + 'static, scenario: Scenario) {
    let mut config = Config::new();
    config.stack_size = STACK_SIZE;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.failure_persistence = FailurePersistence::Print;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(scenario.run);
}

/// A number below `bound` that belongs to the schedule.
pub(crate) fn below(bound: u32) -> u32 {
    use shuttle::rand::Rng;
    shuttle::rand::thread_rng().gen_range(0..bound)
}

/// One of a list.
pub(crate) fn pick<T: Copy>(list: &[T]) -> T {
    list[below(list.len() as u32) as usize]
}
