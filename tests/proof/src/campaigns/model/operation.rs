//! What may happen to a store, and how often: the operations a random sequence is made of. They
//! name messages, claims and markers by where they stand among those seen so far, so that a
//! sequence stays meaningful when it is shrunk. Runs nothing.

use marconi_engine::Durability;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::fmt;

/// One of the few queues that a sequence uses.
pub(crate) type Name = usize;
/// How many those are.
pub(crate) const NAME_COUNT: usize = 3;

/// One step.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Create {
        name: Name,
        floor: Option<Durability>,
    },
    Remove {
        name: Name,
    },
    SetMetadata {
        name: Name,
        size: usize,
    },
    Post {
        name: Name,
        by: u8,
        messages: Vec<(u32, usize)>,
    },
    List {
        name: Name,
        after: Option<Index>,
        limit: usize,
        not_by: Option<u8>,
        with_claimed: bool,
    },
    Get {
        name: Name,
        messages: Vec<Index>,
    },
    Delete {
        name: Name,
        message: Index,
        claim: NamedClaim,
    },
    DeleteMany {
        name: Name,
        messages: Vec<Index>,
    },
    Claim {
        name: Name,
        ttl_s: u32,
        grace_s: u32,
        limit: usize,
    },
    ClaimGet {
        name: Name,
        claim: Index,
    },
    Renew {
        name: Name,
        claim: Index,
        ttl_s: u32,
        grace_s: u32,
    },
    Release {
        name: Name,
        claim: Index,
    },
    Stats {
        name: Name,
    },
    Queues {
        after: Option<Name>,
        limit: usize,
    },
    ClockOn {
        by_ms: u64,
    },
    /// To where a message dies or a claim runs out, and so far beside it, if that is to come.
    ClockTo {
        end: Index,
        beside_ms: i64,
    },
    /// A stop or a crash, and a start at another time.
    StartAt {
        by_ms: i64,
        is_after_crash: bool,
    },
    Checkpoint,
    Compact,
    Restart,
    Crash,
}

/// The claim that a delete names.
#[derive(Debug, Clone)]
pub(crate) enum NamedClaim {
    None,
    Malformed,
    /// The one that holds the message, where one does.
    Holder,
    Seen(Index),
}

/// What a sequence runs on.
#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    pub(crate) durability: Durability,
    pub(crate) upkeep_interval_ms: u64,
    pub(crate) operations: Vec<Operation>,
}

impl Sequence {
    /// Whether some body or metadata is larger than small segments take.
    pub(crate) fn has_large(&self) -> bool {
        let is_large = |size: &usize| *size >= LARGE_SIZE_MIN;
        self.operations.iter().any(|operation| match operation {
            Operation::Post { messages, .. } => messages.iter().any(|(_, size)| is_large(size)),
            Operation::SetMetadata { size, .. } => is_large(size),
            _ => false,
        })
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in mode {}, upkeep every {} ms:", self.durability, self.upkeep_interval_ms)?;
        for (step, operation) in self.operations.iter().enumerate() {
            write!(f, "\n  {step}: {operation:?}")?;
        }
        Ok(())
    }
}

impl Operation {
    /// Whether it moves the clock.
    pub(crate) fn is_of_the_clock(&self) -> bool {
        use Operation::{ClockOn, ClockTo, StartAt};
        matches!(self, ClockOn { .. } | ClockTo { .. } | StartAt { .. })
    }
}

/// Any sequence. Each leaves some kinds of operations out, so that the others go further.
pub(crate) fn sequence() -> impl Strategy<Value = Sequence> {
    sequence_of(vec(prop_oneof![3 => Just(1), 1 => Just(0), 1 => Just(6)], KIND_COUNT))
}

/// Messages and claims that live while the clock jumps.
pub(crate) fn sequence_of_jumps() -> impl Strategy<Value = Sequence> {
    let weights = (0..KIND_COUNT).map(|kind| match kind {
        // Making queues, posting, claiming, renewing; and the clock.
        0 | 3 | 8 | 10 => 2,
        CLOCK_TO => 6,
        START_AT => 20,
        _ => 1,
    });
    let weights: Vec<u32> = weights.collect();
    sequence_of((Just(weights), any::<bool>()).prop_map(|(mut weights, is_frozen)| {
        if is_frozen {
            // All of it happens at the moments at which the process starts.
            weights[CLOCK_ON..START_AT].fill(0);
        }
        weights
    }))
}

fn sequence_of(weights: impl Strategy<Value = Vec<u32>>) -> impl Strategy<Value = Sequence> {
    let levels = select(Durability::ALL.to_vec());
    let operations = (weights, any::<bool>())
        .prop_flat_map(|(weights, has_large)| vec(operation(&weights, has_large), 1..200));
    (levels, select(vec![1, 200]), operations).prop_map(
        |(durability, upkeep_interval_ms, operations)| Sequence {
            durability,
            upkeep_interval_ms,
            operations,
        },
    )
}

const LARGE_SIZE_MIN: usize = 10_000;

const KIND_COUNT: usize = 21;
/// Where the kinds that move the clock stand among them.
const CLOCK_ON: usize = 14;
const CLOCK_TO: usize = 15;
const START_AT: usize = 16;

/// What a clock is wrong by: a second, a minute, an hour, a day, a month, a year, ten years.
const STEPS_MS: [i64; 7] =
    [1_000, 60_000, 3_600_000, 86_400_000, 2_592_000_000, 31_536_000_000, 315_360_000_000];

/// One of all kinds. Without large bodies a sequence fits small segments, of which it uses up more.
fn operation(weights: &[u32], has_large: bool) -> BoxedStrategy<Operation> {
    let name = || 0..NAME_COUNT;
    let ttl_s = || prop_oneof![1..200_u32, Just(60), Just(1_209_600)];
    let claim_ttl_s = || prop_oneof![1..150_u32, Just(60)];
    let grace_s = || prop_oneof![Just(0), 1..150_u32];
    let limit = || 1..21_usize;
    let messages = || vec(any::<Index>(), 1..8);
    let size = || prop_oneof![12 => 0..300_usize, u32::from(has_large) => LARGE_SIZE_MIN..60_000];
    // Around the round numbers that lives are made of, and anywhere.
    let by_ms = || prop_oneof![0..3_000_u64, 59_990..60_010_u64, 0..400_000_u64];
    let beside_ms = prop_oneof![Just(0), Just(-1), Just(1), -1000..1000_i64];
    let step_ms = (select(STEPS_MS.to_vec()), any::<bool>(), 0..1000_i64)
        .prop_map(|(step_ms, is_back, more_ms)| (step_ms + more_ms) * if is_back { -1 } else { 1 });
    let floor = option::of(select(Durability::ALL.to_vec()));
    let claim = prop_oneof![
        4 => Just(NamedClaim::None),
        1 => Just(NamedClaim::Malformed),
        4 => Just(NamedClaim::Holder),
        3 => any::<Index>().prop_map(NamedClaim::Seen),
    ];
    let kinds: [(u32, BoxedStrategy<Operation>); KIND_COUNT] = [
        (24, (name(), floor).prop_map(|(name, floor)| Operation::Create { name, floor }).boxed()),
        (4, name().prop_map(|name| Operation::Remove { name }).boxed()),
        (
            8,
            (name(), size()).prop_map(|(name, size)| Operation::SetMetadata { name, size }).boxed(),
        ),
        (
            40,
            (name(), 0..3_u8, vec((ttl_s(), size()), 1..6))
                .prop_map(|(name, by, messages)| Operation::Post { name, by, messages })
                .boxed(),
        ),
        (
            20,
            (name(), option::of(any::<Index>()), limit(), option::of(0..3_u8), any::<bool>())
                .prop_map(|(name, after, limit, not_by, with_claimed)| Operation::List {
                    name,
                    after,
                    limit,
                    not_by,
                    with_claimed,
                })
                .boxed(),
        ),
        (
            12,
            (name(), messages())
                .prop_map(|(name, messages)| Operation::Get { name, messages })
                .boxed(),
        ),
        (
            28,
            (name(), any::<Index>(), claim)
                .prop_map(|(name, message, claim)| Operation::Delete { name, message, claim })
                .boxed(),
        ),
        (
            12,
            (name(), messages())
                .prop_map(|(name, messages)| Operation::DeleteMany { name, messages })
                .boxed(),
        ),
        (
            32,
            (name(), claim_ttl_s(), grace_s(), limit())
                .prop_map(|(name, ttl_s, grace_s, limit)| Operation::Claim {
                    name,
                    ttl_s,
                    grace_s,
                    limit,
                })
                .boxed(),
        ),
        (
            12,
            (name(), any::<Index>())
                .prop_map(|(name, claim)| Operation::ClaimGet { name, claim })
                .boxed(),
        ),
        (
            16,
            (name(), any::<Index>(), claim_ttl_s(), grace_s())
                .prop_map(|(name, claim, ttl_s, grace_s)| Operation::Renew {
                    name,
                    claim,
                    ttl_s,
                    grace_s,
                })
                .boxed(),
        ),
        (
            12,
            (name(), any::<Index>())
                .prop_map(|(name, claim)| Operation::Release { name, claim })
                .boxed(),
        ),
        (12, name().prop_map(|name| Operation::Stats { name }).boxed()),
        (
            4,
            (option::of(name()), limit())
                .prop_map(|(after, limit)| Operation::Queues { after, limit })
                .boxed(),
        ),
        (28, by_ms().prop_map(|by_ms| Operation::ClockOn { by_ms }).boxed()),
        (
            8,
            (any::<Index>(), beside_ms)
                .prop_map(|(end, beside_ms)| Operation::ClockTo { end, beside_ms })
                .boxed(),
        ),
        (
            2,
            (step_ms, any::<bool>())
                .prop_map(|(by_ms, is_after_crash)| Operation::StartAt { by_ms, is_after_crash })
                .boxed(),
        ),
        (2, Just(Operation::Checkpoint).boxed()),
        (2, Just(Operation::Compact).boxed()),
        (2, Just(Operation::Restart).boxed()),
        (2, Just(Operation::Crash).boxed()),
    ];
    // Posting stays, or nothing would ever happen.
    let always = Just(Operation::Create { name: 0, floor: None }).boxed();
    let chosen = kinds.into_iter().zip(weights).filter(|(_, weight)| **weight > 0);
    let mut union = vec![(1, always)];
    union.extend(chosen.map(|((often, kind), weight)| (often * weight, kind)));
    proptest::strategy::Union::new_weighted(union).boxed()
}
