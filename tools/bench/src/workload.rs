//! What connections do: actions, in which order, over which queues. Pure; the requests are made by
//! `load`.

use crate::site::document;
use crate::stats::Random;
use std::rc::Rc;

/// The workloads that every mode is measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Workload {
    /// One message a post.
    Post,
    /// Ten messages a post.
    PostBatch,
    /// Claim ten, delete each with its claim.
    ClaimDelete,
    /// Post ten one by one, claim ten, delete each.
    Mixed,
    /// Read a page of 20.
    List,
}

impl Workload {
    /// Every one.
    pub(crate) const ALL: [Workload; 5] = [
        Workload::Post,
        Workload::PostBatch,
        Workload::ClaimDelete,
        Workload::Mixed,
        Workload::List,
    ];

    /// As it is written in options and results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Post => "post",
            Workload::PostBatch => "post-batch",
            Workload::ClaimDelete => "claim-delete",
            Workload::Mixed => "mixed",
            Workload::List => "list",
        }
    }

    /// What its rate counts.
    pub(crate) fn unit(self) -> Unit {
        match self {
            Workload::Post | Workload::PostBatch => Unit::Posted,
            Workload::ClaimDelete | Workload::Mixed => Unit::Deleted,
            Workload::List => Unit::Pages,
        }
    }

    /// Messages that have to wait before it begins, where that is no matter of its speed.
    pub(crate) fn prefill(self) -> usize {
        match self {
            Workload::Post | Workload::PostBatch | Workload::ClaimDelete => 0,
            Workload::Mixed | Workload::List => 2000,
        }
    }

    /// Its script over one queue.
    pub(crate) fn script(self, queue: &str, size_bytes: usize) -> Script {
        let post = |batch| Action::Post { batch, documents: documents(batch, size_bytes) };
        let actions = match self {
            Workload::Post => vec![post(1)],
            Workload::PostBatch => vec![post(10)],
            Workload::ClaimDelete => vec![Action::Work { limit: 10 }],
            Workload::Mixed => {
                let mut actions = vec![post(1); 10];
                actions.push(Action::Work { limit: 10 });
                actions
            }
            Workload::List => vec![Action::List { limit: 20, follow: false }],
        };
        Script {
            actions: actions.into_iter().map(|action| (1, action)).collect(),
            order: Order::Cycle,
            queues: Queues { prefix: queue.to_owned(), count: 1 },
            unit: self.unit(),
            ends_dry: self == Workload::ClaimDelete,
        }
    }
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A few documents that differ, so that nothing on the way sees the same bytes for ever.
pub(crate) fn documents(batch: usize, size_bytes: usize) -> Rc<[Vec<u8>]> {
    (0..8).map(|seed| document(batch, size_bytes, seed)).collect()
}

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Messages posted.
    Posted,
    /// Messages claimed and deleted.
    Deleted,
    /// Pages read.
    Pages,
    /// Requests of any kind.
    Requests,
}

impl Unit {
    /// As it is written in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::Posted | Unit::Deleted => "messages",
            Unit::Pages => "pages",
            Unit::Requests => "requests",
        }
    }
}

/// One thing that a connection does, in one request or more.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Post `batch` messages at once.
    Post {
        /// How many.
        batch: usize,
        /// What is sent, one of these at a time.
        documents: Rc<[Vec<u8>]>,
    },
    /// Claim up to `limit` messages, and delete each with its claim.
    Work {
        /// How many.
        limit: usize,
    },
    /// Read the next page; from the first one again behind the last, or, when it follows, from
    /// where it was.
    List {
        /// Messages of a page.
        limit: usize,
        /// Whether it stays behind the last page and waits for more.
        follow: bool,
    },
    /// Count a queue's messages.
    Stats,
}

/// Queues, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queues {
    /// How their names begin.
    pub(crate) prefix: String,
    /// How many: one has the prefix for its name.
    pub(crate) count: usize,
}

impl Queues {
    /// The name of one of them.
    pub(crate) fn name(&self, number: usize) -> String {
        if self.count == 1 { self.prefix.clone() } else { format!("{}-{number}", self.prefix) }
    }
}

/// In which order a connection does its actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// One after the other, and again.
    Cycle,
    /// By chance, as often as their weights say.
    Weighted,
}

/// All that connections have to know.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// What is done, each with its weight.
    pub(crate) actions: Vec<(u32, Action)>,
    /// In which order.
    pub(crate) order: Order,
    /// Over which queues, each as often as the next.
    pub(crate) queues: Queues,
    /// What is counted.
    pub(crate) unit: Unit,
    /// Whether it is over once no message is left to claim.
    pub(crate) ends_dry: bool,
}

/// One connection's way through a script.
#[derive(Debug)]
pub(crate) struct Way {
    random: Random,
    at: usize,
    number: usize,
}

impl Way {
    /// The way of the connection of this number: connections begin at different places.
    pub(crate) fn new(number: usize) -> Way {
        Way { random: Random::new(number as u64), at: number, number }
    }

    /// The next action, and the queue it is done to.
    pub(crate) fn next<'a>(&mut self, script: &'a Script) -> (&'a Action, usize) {
        let action = match script.order {
            Order::Cycle => {
                self.at += 1;
                &script.actions[self.at % script.actions.len()].1
            }
            Order::Weighted => {
                let total: u32 = script.actions.iter().map(|(weight, _)| weight).sum();
                let mut left = self.random.below(u64::from(total.max(1))) as u32;
                let chosen = script.actions.iter().find(|(weight, _)| {
                    let is_it = left < *weight;
                    left = left.saturating_sub(*weight);
                    is_it
                });
                &chosen.unwrap_or(&script.actions[0]).1
            }
        };
        let count = script.queues.count;
        let queue = match action {
            // A follower keeps to its queue: its place is one in that.
            Action::List { follow: true, .. } => self.number % count,
            _ if count == 1 => 0,
            _ => self.random.below(count as u64) as usize,
        };
        (action, queue)
    }

    /// A number below `bound`, by chance.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_posts_as_much_as_it_claims() {
        let script = Workload::Mixed.script("q", 64);
        let mut way = Way::new(3);
        let (mut posted, mut claimed) = (0, 0);
        for _ in 0..22 {
            match way.next(&script).0 {
                Action::Post { batch, .. } => posted += batch,
                Action::Work { limit } => claimed += limit,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((posted, claimed), (20, 20));
    }

    #[test]
    fn weights_and_queues_are_met() {
        let script = Script {
            actions: vec![(3, Action::Stats), (1, Action::Work { limit: 1 })],
            order: Order::Weighted,
            queues: Queues { prefix: "q".into(), count: 10 },
            unit: Unit::Requests,
            ends_dry: false,
        };
        let mut way = Way::new(1);
        let (mut stats, mut queues) = (0, [0; 10]);
        for _ in 0..10_000 {
            let (action, queue) = way.next(&script);
            stats += usize::from(matches!(action, Action::Stats));
            queues[queue] += 1;
        }
        assert!((7200..7800).contains(&stats), "{stats}");
        assert!(queues.iter().all(|count| (800..1200).contains(count)), "{queues:?}");
        assert_eq!(script.queues.name(7), "q-7");
    }
}
