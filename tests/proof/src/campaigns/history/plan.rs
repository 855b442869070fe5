//! What a seed decides about a trial: which server, which queues, who does what how often, and which faults come
//! when. Runs nothing.

use crate::random::Random;
use marconi_engine::Durability;
use std::time::Duration;

/// Queues of a trial. The last one is removed and made again while it is used.
pub(crate) const QUEUE_COUNT: usize = 4;
/// The queue that is removed.
pub(crate) const FLEETING: usize = QUEUE_COUNT - 1;
/// One of so many trials is against the real program.
const PROGRAM_EACH: u64 = 12;
/// The longest that a claim of the clients lasts against a clock that is set, in seconds.
pub(crate) const CLAIM_TTL_MAX_S: u32 = 150;

/// See the file's first lines.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The real program, or a server in this process.
    pub(crate) is_program: bool,
    /// Whether threads that attend to the log serve, as in the program, where it is in this process.
    pub(crate) has_workers: bool,
    pub(crate) upkeep_interval_ms: u64,
    pub(crate) durability: Durability,
    /// Levels that queues get; the fleeting one has none of its own.
    pub(crate) floors: [Option<Durability>; QUEUE_COUNT],
    pub(crate) client_count: usize,
    /// Calls of each client.
    pub(crate) call_count: u64,
    /// How often each kind of call comes, in the order of [`KINDS`].
    pub(crate) weights: [u64; KINDS.len()],
    /// Once so many calls were answered, in order.
    pub(crate) faults: Vec<(u64, Fault)>,
    /// Whether it ends with a kill.
    pub(crate) may_kill: bool,
}

/// What is done to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Killed and started again, with the clock so many milliseconds further, or back.
    Kill {
        clock_ms: i64,
    },
    Restart,
    Pause(Duration),
    ClockOn {
        by_ms: u64,
    },
    Checkpoint,
    Compact,
}

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Post,
    List,
    ListOn,
    Get,
    DeleteHeld,
    DeleteAny,
    DeleteUnderAny,
    DeleteMany,
    Claim,
    ClaimGet,
    Renew,
    Release,
    Stats,
    Create,
    Remove,
    SetMetadata,
    GetMetadata,
}

/// All kinds, and how often each comes if nothing is left out.
pub(crate) const KINDS: [(Kind, u64); 17] = [
    (Kind::Post, 20),
    (Kind::List, 6),
    (Kind::ListOn, 5),
    (Kind::Get, 6),
    (Kind::DeleteHeld, 26),
    (Kind::DeleteAny, 6),
    (Kind::DeleteUnderAny, 4),
    (Kind::DeleteMany, 5),
    (Kind::Claim, 14),
    (Kind::ClaimGet, 5),
    (Kind::Renew, 4),
    (Kind::Release, 4),
    (Kind::Stats, 5),
    (Kind::Create, 2),
    (Kind::Remove, 1),
    (Kind::SetMetadata, 2),
    (Kind::GetMetadata, 2),
];

impl Plan {
    pub(crate) fn new(seed: u64, random: &mut Random) -> Plan {
        let is_program = seed % PROGRAM_EACH == PROGRAM_EACH - 1;
        let may_kill = is_program || !random.one_in(4);
        let mut levels = vec![Durability::Os, Durability::Os, Durability::Group, Durability::Group];
        levels.extend([Durability::Interval, Durability::Each]);
        if !may_kill {
            levels.extend([Durability::Memory, Durability::Memory]);
        }
        let level = |random: &mut Random| *random.pick(&levels).expect("there are some");
        let durability = level(random);
        let mut floors = [None; QUEUE_COUNT];
        for floor in &mut floors[..FLEETING] {
            *floor = random.one_in(2).then(|| level(random));
        }
        let weights = KINDS.map(|(kind, often)| match (kind, random.below(6)) {
            (Kind::Post | Kind::Claim | Kind::DeleteHeld, _) | (_, 2..) => often,
            (_, 1) => often * 4,
            _ => 0,
        });
        let client_count = 3 + random.below(8) as usize;
        let call_count = if is_program { 4000 } else { 6000 } / client_count as u64;
        let mut plan = Plan {
            is_program,
            has_workers: random.one_in(2),
            upkeep_interval_ms: if random.one_in(2) { 5 } else { 200 },
            durability,
            floors,
            client_count,
            call_count,
            weights,
            faults: Vec::new(),
            may_kill,
        };
        plan.add_faults(random);
        plan
    }

    fn add_faults(&mut self, random: &mut Random) {
        let all = self.call_count * self.client_count as u64;
        let mut add = |count: u64, random: &mut Random, fault: &dyn Fn(&mut Random) -> Fault| {
            for _ in 0..random.below(count + 1) {
                self.faults.push((random.below(all * 9 / 10), fault(random)));
            }
        };
        if self.is_program {
            add(3, random, &|_| Fault::Kill { clock_ms: 0 });
            add(3, random, &|random| Fault::Pause(Duration::from_millis(random.below(40))));
            add(1, random, &|_| Fault::Restart);
        } else {
            add(2, random, &|_| Fault::Restart);
            if self.may_kill {
                add(4, random, &|random| Fault::Kill { clock_ms: clock_over_a_restart(random) });
            }
            add(24, random, &|random| Fault::ClockOn {
                by_ms: *random
                    .pick(&[1, 900, 5_000, 59_999, 60_000, 60_001, 200_000])
                    .expect("some"),
            });
            add(2, random, &|_| Fault::Checkpoint);
            add(2, random, &|_| Fault::Compact);
        }
        self.faults.sort_by_key(|(after, _)| *after);
    }
}

/// Mostly a little, at times back, at times a year.
fn clock_over_a_restart(random: &mut Random) -> i64 {
    match random.below(8) {
        0 => -(random.below(200_000) as i64),
        1 => -86_400_000,
        2 => random.below(200_000) as i64,
        _ => random.below(50) as i64,
    }
}
