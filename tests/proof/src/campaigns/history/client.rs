//! A client: chooses calls, sends some at a time, keeps what it was told, and writes all of it down. What it does is
//! decided by its seed and by what it is told. Judges nothing but whether an answer was to be expected.

use super::answer;
use super::operation::{Answer, Call, Key, Moment, NEVER, Operation, Position};
use super::plan::{CLAIM_TTL_MAX_S, FLEETING, KINDS, Kind, Plan, QUEUE_COUNT};
use super::service::Site;
use super::wire::{self, Connection, Manner};
use crate::random::Random;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What clients know of each other's messages and claims, newest last.
#[derive(Debug, Default)]
pub(crate) struct Gossip([Mutex<Known>; QUEUE_COUNT]);

#[derive(Debug, Default)]
struct Known {
    messages: VecDeque<Position>,
    claims: VecDeque<u64>,
}

/// Messages and claims of a queue that are remembered.
const MESSAGES_KNOWN_MAX: usize = 200;
const CLAIMS_KNOWN_MAX: usize = 40;
/// Most messages of a post and a usual claim.
const BATCH_MAX: u64 = 10;
/// Most calls that are under way on one connection.
const DEPTH_MAX: u64 = 8;
/// One of so many times a client hangs up before it reads the answers, or before it has sent all.
const HANG_UP_EACH: u64 = 200;

/// A call without an answer, by its place in the log, when that was noticed, and why.
pub(crate) type Unanswered = (usize, Moment, String);

/// A client of a trial.
pub(crate) struct Client<'a> {
    number: usize,
    plan: &'a Plan,
    site: &'a Site,
    gossip: &'a Gossip,
    random: Random,
    manner: Manner,
    connection: Option<(u64, Connection)>,
    posted: u64,
    /// What it claimed and has not yet deleted: queue, claim, message.
    held: Vec<(usize, u64, Position)>,
    out: Vec<u8>,
    /// All it asked, in order.
    pub(crate) log: Vec<Operation>,
    /// What the server owes it an answer to.
    pub(crate) unanswered: Vec<Unanswered>,
}

impl<'a> Client<'a> {
    pub(crate) fn new(
        number: usize,
        plan: &'a Plan,
        site: &'a Site,
        gossip: &'a Gossip,
        seed: u64,
    ) -> Client<'a> {
        let mut random = Random::new(seed.wrapping_mul(1009).wrapping_add(number as u64));
        let manner = match random.below(12) {
            0 => Manner::Drips,
            1 => Manner::Sips,
            _ => Manner::Usual,
        };
        Client {
            number,
            plan,
            site,
            gossip,
            random,
            manner,
            connection: None,
            posted: 0,
            held: Vec::new(),
            out: Vec::new(),
            log: Vec::new(),
            unanswered: Vec::new(),
        }
    }

    /// Makes the calls of the plan. `answered` counts those of all clients.
    ///
    /// # Errors
    /// When the server is not to be found.
    pub(crate) fn work(&mut self, answered: &AtomicU64) -> anyhow::Result<()> {
        let depth_max = 1 + self.random.below(DEPTH_MAX);
        while (self.log.len() as u64) < self.plan.call_count {
            let depth = 1 + self.random.below(depth_max);
            let calls: Vec<(usize, Call)> = (0..depth).map(|_| self.choose()).collect();
            if self.random.one_in(HANG_UP_EACH) {
                self.hang_up(calls)?;
            } else {
                self.ask(calls, None)?;
            }
            answered.fetch_add(depth, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Asks one thing and returns the answer.
    ///
    /// # Errors
    /// When the server is not to be found.
    pub(crate) fn call(
        &mut self,
        queue: usize,
        call: Call,
        ask: Option<&str>,
    ) -> anyhow::Result<&Answer> {
        self.ask(vec![(queue, call)], ask)?;
        Ok(&self.log.last().expect("it was just written down").answer)
    }

    // ---- choosing ----

    fn choose(&mut self) -> (usize, Call) {
        let weights = &self.plan.weights;
        let mut pick = self.random.below(weights.iter().sum());
        let mut chosen = Kind::Post;
        for ((kind, _), weight) in KINDS.iter().zip(weights) {
            if pick < *weight {
                chosen = *kind;
                break;
            }
            pick -= weight;
        }
        let queue = self.random.below(QUEUE_COUNT as u64) as usize;
        // What needs something that is not known yet turns into a post.
        self.call_of(chosen, queue).unwrap_or_else(|| (queue, self.post()))
    }

    fn post(&mut self) -> Call {
        let count = 1 + self.random.below(BATCH_MAX);
        let first = Key::new(self.number, self.posted);
        self.posted += count;
        let ttl_s = match self.random.below(6) {
            _ if self.plan.is_program => 86_400,
            0 => 60 + self.random.below(200) as u32,
            _ => 1_209_600,
        };
        Call::Post { first, count, ttl_s }
    }

    fn call_of(&mut self, kind: Kind, queue: usize) -> Option<(usize, Call)> {
        let call = match kind {
            Kind::Post => self.post(),
            Kind::List | Kind::ListOn => {
                let after = match kind {
                    Kind::List => None,
                    _ => Some(self.known_message(queue)?),
                };
                let limit = 1 + self.random.below(20) as usize;
                let (echo, with_claimed) = (!self.random.one_in(4), self.random.one_in(2));
                Call::List { after, limit, echo, with_claimed }
            }
            Kind::Get => Call::Get { message: self.known_message(queue)? },
            Kind::DeleteHeld => {
                let place = self.random.below(self.held.len().max(1) as u64) as usize;
                let (queue, claim, message) =
                    (place < self.held.len()).then(|| self.held.swap_remove(place))?;
                return Some((queue, Call::Delete { message, claim: Some(claim) }));
            }
            Kind::DeleteAny => Call::Delete { message: self.known_message(queue)?, claim: None },
            Kind::DeleteUnderAny => {
                let message = self.known_message(queue)?;
                Call::Delete { message, claim: Some(self.known_claim(queue)?) }
            }
            Kind::DeleteMany => {
                let count = 1 + self.random.below(5);
                let messages: Option<Vec<_>> =
                    (0..count).map(|_| self.known_message(queue)).collect();
                Call::DeleteMany { messages: messages? }
            }
            Kind::Claim => {
                let (ttl_s, grace_s) = self.times();
                Call::Claim { ttl_s, grace_s, limit: 1 + self.random.below(BATCH_MAX) as usize }
            }
            Kind::ClaimGet => Call::ClaimGet { claim: self.known_claim(queue)? },
            Kind::Renew => {
                let (ttl_s, grace_s) = self.times();
                Call::Renew { claim: self.known_claim(queue)?, ttl_s, grace_s }
            }
            Kind::Release => Call::Release { claim: self.known_claim(queue)? },
            Kind::Stats => Call::Stats,
            Kind::Create => Call::Create,
            Kind::Remove => return Some((FLEETING, Call::Remove)),
            Kind::SetMetadata => {
                self.posted += 1;
                Call::SetMetadata { value: Key::new(self.number, self.posted).0 }
            }
            Kind::GetMetadata => Call::GetMetadata,
        };
        Some((queue, call))
    }

    /// The ttl and grace of a claim.
    fn times(&mut self) -> (u32, u32) {
        let ttl_s = if self.plan.is_program {
            // Some run out while the trial runs.
            *self.random.pick(&[1, 1, 2, 100]).expect("there are some")
        } else {
            60 + self.random.below(u64::from(CLAIM_TTL_MAX_S) - 59) as u32
        };
        (ttl_s, 1 + self.random.below(100) as u32)
    }

    fn known_message(&mut self, queue: usize) -> Option<Position> {
        let known = self.gossip.0[queue].lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.random.below(known.messages.len().max(1) as u64) as usize;
        known.messages.get(place).copied()
    }

    fn known_claim(&mut self, queue: usize) -> Option<u64> {
        let known = self.gossip.0[queue].lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.random.below(known.claims.len().max(1) as u64) as usize;
        known.claims.get(place).copied()
    }

    // ---- asking ----

    /// A connection to the server that is up, and the moment before which nothing was sent on it.
    fn connect(&mut self) -> anyhow::Result<(Moment, &mut Connection)> {
        loop {
            let begun = self.site.now();
            let epoch = self.site.epoch();
            if self.connection.as_ref().is_some_and(|(of, _)| *of == epoch) {
                let (_, connection) = self.connection.as_mut().expect("it was just looked at");
                return Ok((begun, connection));
            }
            let (epoch, address) = self.site.find()?;
            // Where that fails it went down again, or the next look says so.
            self.connection = match Connection::open(address, self.manner) {
                Ok(connection) => Some((epoch, connection)),
                Err(cause) if self.site.epoch() == epoch => return Err(cause),
                Err(_) => None,
            };
        }
    }

    /// Sends these calls at once, and reads the answers.
    fn ask(&mut self, calls: Vec<(usize, Call)>, ask: Option<&str>) -> anyhow::Result<()> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        for (queue, call) in &calls {
            wire::write(&mut out, self.number, *queue, call, ask);
        }
        let (begun, connection) = self.connect()?;
        let mut failure = connection.send(&out).err();
        self.out = out;
        for (queue, call) in calls {
            let mut answer = Answer::None;
            if failure.is_none() {
                let (_, connection) = self.connection.as_mut().expect("it was just used");
                match connection.receive() {
                    Ok(reply) => {
                        let location = reply.location.as_deref();
                        answer = answer::read(&call, reply.status, location, &reply.body);
                    }
                    Err(cause) => failure = Some(cause),
                }
            }
            let ended = self.site.now();
            if answer == Answer::None {
                let why = failure.as_ref().map_or("503".to_owned(), |cause| format!("{cause:#}"));
                self.unanswered.push((self.log.len(), ended, why));
            }
            self.learn(queue, &call, &answer);
            self.note(queue, call, begun, ended, answer);
        }
        if failure.is_some() {
            self.connection = None;
        }
        Ok(())
    }

    /// Sends these calls, or a part of the first, and hangs up.
    fn hang_up(&mut self, mut calls: Vec<(usize, Call)>) -> anyhow::Result<()> {
        let is_cut = self.random.one_in(2);
        if is_cut {
            calls.truncate(1);
        }
        let mut out = Vec::new();
        for (queue, call) in &calls {
            wire::write(&mut out, self.number, *queue, call, None);
        }
        if is_cut {
            out.truncate(self.random.below(out.len() as u64) as usize);
        }
        let (begun, connection) = self.connect()?;
        // Whether all of it left does not matter: nobody waits for an answer.
        let _ = connection.send(&out);
        self.connection = None;
        for (queue, call) in calls {
            let answer = if is_cut { Answer::NotSent } else { Answer::None };
            self.note(queue, call, begun, NEVER, answer);
        }
        Ok(())
    }

    fn note(&mut self, queue: usize, call: Call, begun: Moment, ended: Moment, answer: Answer) {
        self.log.push(Operation { client: self.number, queue, call, begun, ended, answer });
    }

    /// Keeps what an answer told.
    fn learn(&mut self, queue: usize, call: &Call, answer: &Answer) {
        let mut known = self.gossip.0[queue].lock().unwrap_or_else(PoisonError::into_inner);
        match (call, answer) {
            (_, Answer::Posted(positions)) => known.messages.extend(positions),
            (Call::List { .. }, Answer::Shown(messages)) => {
                // Those that nobody was told of, too.
                known.messages.extend(messages.iter().take(2).map(|one| one.position));
            }
            (Call::Claim { .. }, Answer::Claimed { claim, messages }) => {
                known.claims.push_back(*claim);
                self.held.extend(messages.iter().map(|one| (queue, *claim, one.position)));
            }
            _ => {}
        }
        let surplus = known.messages.len().saturating_sub(MESSAGES_KNOWN_MAX);
        known.messages.drain(..surplus);
        let surplus = known.claims.len().saturating_sub(CLAIMS_KNOWN_MAX);
        known.claims.drain(..surplus);
    }
}
