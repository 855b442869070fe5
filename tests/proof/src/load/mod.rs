//! Load for a server that is about to be killed: clients that work concurrently and record what they asked and what
//! was acknowledged, and the check, after the restart, that what is there can be explained by the record. Knows
//! nothing of how the server ends.

mod check;
mod client;
pub(crate) mod connection;
mod life;
mod observe;
mod server;

pub use check::{Fault, History};
pub use server::{Ended, Server, Starter};

use crate::random::Random;
use anyhow::{Context, ensure};
use client::{Client, Shared};
use connection::Connection;
use marconi_engine::Durability;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Pause between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_micros(300);
/// How long one life of the server may take, however little happens in it.
const LIFE_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a server that hung up on all its clients may take to end.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Who posts, which of his posts, which message of it. It stands in the body, so that a message tells where it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) from: u32,
    pub(crate) post: u32,
    pub(crate) part: u32,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} of post {} of client {}", self.part, self.post, self.from)
    }
}

/// A message as an answer showed it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) key: Key,
}

/// What a client asked, and what it was told.
#[derive(Debug, Clone)]
pub(crate) struct Deed {
    pub(crate) client: u32,
    pub(crate) queue: usize,
    /// When it was asked, on the clock that all clients share.
    pub(crate) began: u64,
    /// When the answer was there; `None` when none came, or one that says nothing (503).
    pub(crate) ended: Option<u64>,
    /// What the answer promised; of no meaning without one.
    pub(crate) level: Durability,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// Ids as the answer had them; none without one.
    Post {
        post: u32,
        count: u32,
        ids: Vec<String>,
    },
    /// The claim's id and messages; none without an answer.
    Claim {
        limit: u32,
        id: Option<String>,
        messages: Vec<Seen>,
    },
    Release {
        claim: String,
    },
    Delete {
        keys: Vec<Key>,
    },
    List {
        messages: Vec<Seen>,
    },
}

/// A queue of the trial.
#[derive(Debug)]
pub struct QueuePlan {
    /// Its name.
    pub name: String,
    /// Its level.
    pub level: Durability,
    /// Whether its level is asked for by header; else it has the server's.
    pub by_header: bool,
}

/// What a seed decides of a trial's world.
#[derive(Debug)]
pub struct Plan {
    /// The server's own level.
    pub level: Durability,
    /// The queues.
    pub queues: Vec<QueuePlan>,
    /// How many clients work at a time.
    pub clients: u32,
}

impl Plan {
    /// A world of one level, which loses most when it loses something, or of several side by side.
    pub fn new(random: &mut Random) -> Plan {
        let level = |random: &mut Random| Durability::ALL[random.below(5) as usize];
        let (own, is_mixed) = (level(random), !random.one_in(2));
        let queues = (0..=random.below(4))
            .map(|number| {
                let by_header = is_mixed && !random.one_in(4);
                let level = if by_header { level(random) } else { own };
                QueuePlan { name: format!("queue-{number}"), level, by_header }
            })
            .collect();
        Plan { level: own, queues, clients: 2 + random.below(5) as u32 }
    }

    /// The server's options: small segments and checkpoints, so that much happens between two kills.
    pub fn options(&self) -> Vec<String> {
        let options = [
            "--segment-size-bytes=1MiB",
            "--checkpoint-interval-bytes=1MiB",
            "--upkeep-interval-ms=20ms",
            // A nearly full disk is not what is tested.
            "--disk-reserve-bytes=0",
            "--max-messages-per-page=100000",
        ];
        let own = format!("--durability={}", self.level.name());
        options.iter().map(|&option| option.to_owned()).chain([own]).collect()
    }
}

/// A trial's clients and what they know, over all lives of the server.
#[derive(Debug)]
pub struct Load {
    plan: Plan,
    random: Random,
    /// Ticks at every question and every answer.
    clock: AtomicU64,
    history: History,
    /// Deeds since the last check.
    unchecked: Vec<Deed>,
}

/// How far the clients of one life are.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Requests answered in this life.
    pub answered: u64,
    /// Time since it began.
    pub elapsed: Duration,
}

impl Load {
    /// Clients that nothing has happened to yet. `fault` says what each level has to survive.
    pub fn new(plan: Plan, random: Random, fault: Fault) -> Load {
        let history = History::new(fault, plan.queues.iter().map(|queue| queue.level).collect());
        Load { plan, random, clock: AtomicU64::new(1), history, unchecked: Vec::new() }
    }

    /// What was planned.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Looks at everything the started server has and holds it against the record. `false` when the server was
    /// killed before everything was seen.
    ///
    /// # Errors
    /// When something is there or missing that should not be.
    pub fn check(&mut self, server: &Server) -> anyhow::Result<bool> {
        let asked = self.history.claims_to_ask(&self.unchecked);
        let Some(observed) = observe::observe(server.address, &self.plan, &asked)? else {
            return Ok(false);
        };
        let now = self.clock.fetch_add(1, Ordering::SeqCst);
        let deeds = std::mem::take(&mut self.unchecked);
        self.history.settle(&deeds, now, &observed)?;
        Ok(true)
    }

    /// Has the server give all that is free to claims, which ends the trial: no client knows of them.
    ///
    /// # Errors
    /// When it gives something else, or in another order.
    pub fn claim_all(&self, server: &Server) -> anyhow::Result<()> {
        observe::claim_all(server.address, &self.plan)
    }

    /// Has the clients work until the server is dead. `look` is called again and again; it says `true` once it knows
    /// that it has killed the server, or that this is dead.
    ///
    /// # Errors
    /// When an answer is none that the API allows there, and when the server hung up on everybody and lives.
    pub fn work(
        &mut self,
        server: &mut Server,
        mut look: impl FnMut(&mut Server, Progress) -> bool,
    ) -> anyhow::Result<()> {
        let answered = AtomicU64::new(0);
        let is_over = AtomicBool::new(false);
        let began = Instant::now();
        let (address, admin) = (server.address, server.admin);
        let shared =
            Shared { plan: &self.plan, clock: &self.clock, answered: &answered, is_over: &is_over };
        let mut clients: Vec<Client<'_>> = (0..self.plan.clients)
            .map(|number| {
                let random = Random::new(self.random.word());
                Client::new(number, shared, random, self.history.knowledge(number))
            })
            .collect();
        let operator_random = Random::new(self.random.word());
        let deeds = thread::scope(|scope| -> anyhow::Result<Vec<Deed>> {
            let workers: Vec<_> =
                clients.drain(..).map(|client| scope.spawn(move || client.work(address))).collect();
            let operator = scope.spawn(|| operate(admin, shared, operator_random));
            let mut all_left = None;
            let mut stuck = None;
            loop {
                let progress = Progress {
                    answered: answered.load(Ordering::SeqCst),
                    elapsed: began.elapsed(),
                };
                if look(server, progress) {
                    break;
                }
                if workers.iter().all(thread::ScopedJoinHandle::is_finished) {
                    let since: Instant = *all_left.get_or_insert_with(Instant::now);
                    if since.elapsed() > END_DEADLINE {
                        stuck = Some("the server hung up on all clients, and lives");
                        break;
                    }
                }
                if progress.elapsed > LIFE_TIME_MAX {
                    break;
                }
                thread::park_timeout(LOOK_INTERVAL);
            }
            server.kill();
            is_over.store(true, Ordering::SeqCst);
            let mut deeds = Vec::new();
            let mut broken = None;
            for worker in workers {
                match worker.join() {
                    Ok(Ok(of_one)) => deeds.extend(of_one),
                    Ok(Err(cause)) => broken = Some(cause),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            let operated = operator.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            if let Some(cause) = broken.or(operated.err()) {
                return Err(cause.context(format!("the server's log ends with\n{}", server.log())));
            }
            ensure!(
                stuck.is_none(),
                "{}; its log ends with\n{}",
                stuck.unwrap_or_default(),
                server.log()
            );
            Ok(deeds)
        })?;
        self.history.count_posts(&deeds);
        self.unchecked.extend(deeds);
        Ok(())
    }
}

/// Asks for compaction and checkpoints now and then, until the server is gone.
fn operate(
    admin: std::net::SocketAddr,
    shared: Shared<'_>,
    mut random: Random,
) -> anyhow::Result<()> {
    let Some(mut connection) = Connection::open(admin) else { return Ok(()) };
    loop {
        let next = shared.answered.load(Ordering::SeqCst) + 30 + random.below(300);
        while shared.answered.load(Ordering::SeqCst) < next {
            if shared.is_over.load(Ordering::SeqCst) {
                return Ok(());
            }
            thread::park_timeout(LOOK_INTERVAL);
        }
        let target = if random.one_in(3) { "/checkpoint" } else { "/compact" };
        let answer = connection.ask("POST", target, &[], "").context("the operator")?;
        if answer.is_none() {
            return Ok(());
        }
    }
}
