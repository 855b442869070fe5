//! What a simulated life consists of: a list of moves that a seed decides. Whole kinds of move are left out at random
//! (Groce et al., "Swarm testing", 2012): what never happens in one life makes room for what else can. Asks nobody.

use super::record::{Record, Step};
use crate::random::Random;
use marconi_engine::Durability;

/// The queues of a life.
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// One move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// A client asks for something, and does not wait for the answer yet.
    Ask(Step),
    /// What was appended is written, and synced where somebody waits for that.
    Commit,
    /// Segments are made ready and indexed.
    Prepare,
    /// Expiry, checkpoints, compaction.
    Care,
    /// Time passes.
    Advance(u64),
}

/// Decides the moves of one life, one after the other.
#[derive(Debug)]
pub struct Plan {
    random: Random,
    kinds: Vec<Kind>,
    number: u64,
    /// Moves that are left.
    left: u64,
    /// The level of each queue.
    pub levels: [Durability; 3],
    /// Whether it ends in good order.
    pub closes: bool,
}

/// Kinds of move, each left out of half of the lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Post,
    Fill,
    Claim,
    Delete,
    DeleteMany,
    Release,
    Renew,
    Metadata,
    Remove,
    Checkpoint,
    Compact,
    Sync,
    Advance,
    Prepare,
    Care,
    Commit,
}

const KINDS: [Kind; 16] = [
    Kind::Post,
    Kind::Fill,
    Kind::Claim,
    Kind::Delete,
    Kind::DeleteMany,
    Kind::Release,
    Kind::Renew,
    Kind::Metadata,
    Kind::Remove,
    Kind::Checkpoint,
    Kind::Compact,
    Kind::Sync,
    Kind::Advance,
    Kind::Prepare,
    Kind::Care,
    Kind::Commit,
];

impl Plan {
    /// The plan of a seed, of `moves` moves.
    pub fn new(seed: u64, moves: u64) -> Plan {
        let mut random = Random::new(seed);
        let mut kinds = vec![Kind::Post, Kind::Commit];
        kinds.extend(KINDS.into_iter().filter(|_| random.below(2) == 0));
        // Mostly all are durable; the other levels' losses are easier to bear, and must not be more.
        let mut level = || match random.below(8) {
            0 => Durability::Memory,
            1 => Durability::Os,
            2 => Durability::Interval,
            3 => Durability::Each,
            _ => Durability::Group,
        };
        let levels = [level(), level(), level()];
        let closes = random.one_in(4);
        Plan { random, kinds, number: 0, left: moves, levels, closes }
    }

    /// The next move in this state; `knows` says whether the client has been told of a message or claim.
    pub fn next(&mut self, record: &Record, knows: &dyn Fn(Known) -> bool) -> Option<Move> {
        self.left = self.left.checked_sub(1)?;
        let kind = *self.random.pick(&self.kinds).expect("there are some");
        let place = self.random.below(3) as usize;
        let name = NAMES[place].to_owned();
        Some(match kind {
            Kind::Commit => Move::Commit,
            Kind::Prepare => Move::Prepare,
            Kind::Care => Move::Care,
            Kind::Advance => Move::Advance((1 + self.random.below(90)) * 1000),
            Kind::Checkpoint => Move::Ask(Step::Checkpoint),
            Kind::Compact => Move::Ask(Step::Compact),
            Kind::Sync => Move::Ask(Step::Sync),
            _ => Move::Ask(self.step(kind, name, record, knows)),
        })
    }

    /// The first of a hundred numbers for messages, larger than any before: a record has them in this order.
    pub fn new_number(&mut self) -> u64 {
        self.number += 100;
        self.number
    }

    /// Something that a client may ask for in this state.
    fn step(
        &mut self,
        kind: Kind,
        name: String,
        record: &Record,
        knows: &dyn Fn(Known) -> bool,
    ) -> Step {
        let Some(queue) = record.queues.get(&name) else {
            let place = NAMES.iter().position(|one| *one == name).expect("it is one of them");
            return Step::CreateAt(name, self.levels[place]);
        };
        let new = self.new_number();
        let random = &mut self.random;
        let told: Vec<u64> =
            queue.messages.keys().copied().filter(|one| knows(Known::Message(*one))).collect();
        let claims: Vec<u64> =
            queue.claims.keys().copied().filter(|one| knows(Known::Claim(*one))).collect();
        match kind {
            Kind::Fill => Step::Post(name, (new..new + 4).map(|n| (n, 3_500)).collect()),
            Kind::Claim => {
                let ttl_s = [60, 300][random.below(2) as usize];
                Step::Claim { queue: name, limit: 1 + random.below(4) as usize, claim: new, ttl_s }
            }
            Kind::Delete => match random.pick(&told) {
                Some(number) => {
                    // Under a claim the client was told of, or none; a claim it does not know it cannot name.
                    let claim = queue.messages[number];
                    match claim {
                        Some(claim) if !knows(Known::Claim(claim)) => Step::Sync,
                        _ => Step::Delete { queue: name, number: *number, claim },
                    }
                }
                None => Step::Sync,
            },
            Kind::DeleteMany => {
                let keep = 2 + random.below(3);
                Step::DeleteMany(name, told.into_iter().filter(|n| n % keep > 0).collect())
            }
            Kind::Release => {
                random.pick(&claims).map_or(Step::Sync, |claim| Step::Release(name, *claim))
            }
            Kind::Renew => {
                random.pick(&claims).map_or(Step::Sync, |claim| Step::Renew(name, *claim, 120))
            }
            Kind::Metadata => Step::SetMetadata(name, new as u8),
            Kind::Remove if random.one_in(3) => Step::Remove(name),
            _ => {
                let size = [10, 200, 1_000, 3_000][random.below(4) as usize];
                Step::Post(name, (new..=new + random.below(4)).map(|n| (n, size)).collect())
            }
        }
    }
}

/// Something a client has to have been told before it can name it.
#[derive(Debug, Clone, Copy)]
pub enum Known {
    /// A message by its number.
    Message(u64),
    /// A claim by its key.
    Claim(u64),
}
