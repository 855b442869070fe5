//! One client under load: posts, claims, deletes, releases and lists as its numbers say, and keeps a record of each
//! request and answer. What only a look at all records can tell is not judged here.

use super::connection::{Answer, Connection};
use super::observe::{self, level_of};
use super::{Deed, Key, Plan, Seen, What};
use crate::random::Random;
use anyhow::{Context, ensure};
use marconi_engine::Durability;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A client deletes without asking whose turn it is once it knows more messages than this.
const KNOWN_MAX: usize = 60;
/// Most ids in one request.
const IDS_MAX: usize = 20;

/// What the clients of one life share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) plan: &'a Plan,
    pub(super) clock: &'a AtomicU64,
    pub(super) answered: &'a AtomicU64,
    pub(super) is_over: &'a AtomicBool,
}

/// A claim that a client holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) queue: usize,
    pub(super) id: String,
    pub(super) messages: Vec<Seen>,
}

/// What a client knows when a life of the server begins.
#[derive(Debug, Default)]
pub(super) struct Knowledge {
    /// How many posts it has made.
    pub(super) posts: u32,
    /// Its messages that live, by queue.
    pub(super) own: Vec<(usize, Seen)>,
    pub(super) claims: Vec<Held>,
}

/// A client for one life of the server.
#[derive(Debug)]
pub(super) struct Client<'a> {
    number: u32,
    /// As the API wants it: a UUID.
    id: String,
    shared: Shared<'a>,
    random: Random,
    knows: Knowledge,
    deeds: Vec<Deed>,
}

impl<'a> Client<'a> {
    pub(super) fn new(
        number: u32,
        shared: Shared<'a>,
        random: Random,
        knows: Knowledge,
    ) -> Client<'a> {
        let id = format!("00000000-0000-4000-8000-{number:012}");
        Client { number, id, shared, random, knows, deeds: Vec::new() }
    }

    /// Works until the connection breaks; returns what it did.
    ///
    /// # Errors
    /// When an answer is none that the API allows there.
    pub(super) fn work(mut self, server: SocketAddr) -> anyhow::Result<Vec<Deed>> {
        let Some(mut connection) = Connection::open(server) else { return Ok(Vec::new()) };
        while !self.shared.is_over.load(Ordering::SeqCst) {
            if !self.step(&mut connection)? {
                break;
            }
        }
        Ok(self.deeds)
    }

    /// One request; `false` when the connection broke.
    fn step(&mut self, connection: &mut Connection) -> anyhow::Result<bool> {
        let roll = self.random.below(100);
        if self.knows.own.len() > KNOWN_MAX && roll < 60 {
            return self.delete_many(connection);
        }
        match roll {
            0..42 => self.post(connection),
            42..58 => self.claim(connection),
            58..78 if !self.knows.claims.is_empty() => self.delete_one(connection),
            78..84 if !self.knows.own.is_empty() => self.delete_many(connection),
            84..92 if !self.knows.claims.is_empty() => self.release(connection),
            92..100 => self.list(connection),
            _ => self.post(connection),
        }
    }

    fn post(&mut self, connection: &mut Connection) -> anyhow::Result<bool> {
        let queue = self.any_queue();
        let count = if self.random.one_in(2) { 1 } else { 1 + self.random.below(6) as u32 };
        let post = self.knows.posts;
        self.knows.posts += 1;
        let mut document = String::from("[");
        for part in 0..count {
            let key = Key { from: self.number, post, part };
            let body = body(key, self.fill_size());
            let comma = if part == 0 { "" } else { "," };
            let _ = write!(document, "{comma}{{\"ttl\":1000000,\"body\":{body}}}");
        }
        document.push(']');
        let target = format!("{}/messages", self.path(queue));
        let what = What::Post { post, count, ids: Vec::new() };
        let Some(answer) = self.ask(connection, queue, what, "POST", &target, &document)? else {
            return Ok(false);
        };
        if answer.status == 503 {
            return Ok(true);
        }
        ensure!(answer.status == 201, "a post is answered {}: {}", answer.status, answer.body);
        let ids = observe::ids_of_post(&answer.body)?;
        ensure!(ids.len() == count as usize, "a post of {count} got {} ids", ids.len());
        for (part, id) in (0..count).zip(&ids) {
            let key = Key { from: self.number, post, part };
            self.knows.own.push((queue, Seen { id: id.clone(), key }));
        }
        if let Some(What::Post { ids: noted, .. }) = self.answered(queue, &answer)? {
            *noted = ids;
        }
        Ok(true)
    }

    fn claim(&mut self, connection: &mut Connection) -> anyhow::Result<bool> {
        let queue = self.any_queue();
        let limit = 1 + self.random.below(8) as u32;
        let target = format!("{}/claims?limit={limit}", self.path(queue));
        let what = What::Claim { limit, id: None, messages: Vec::new() };
        // Longer than any trial: no claim ends by itself here.
        let body = r#"{"ttl":43000,"grace":60}"#;
        let Some(answer) = self.ask(connection, queue, what, "POST", &target, body)? else {
            return Ok(false);
        };
        match answer.status {
            503 => return Ok(true),
            204 => {
                self.answered(queue, &answer)?;
                return Ok(true);
            }
            status => ensure!(status == 201, "a claim is answered {status}: {}", answer.body),
        }
        let location = answer.header("Location").context("a claim without Location")?;
        let claim = location.rsplit('/').next().unwrap_or_default().to_owned();
        let seen = observe::messages(&answer.body)?;
        ensure!(!seen.is_empty() && seen.len() <= limit as usize, "{} claimed", seen.len());
        self.knows.claims.push(Held { queue, id: claim.clone(), messages: seen.clone() });
        if let Some(What::Claim { id, messages, .. }) = self.answered(queue, &answer)? {
            *id = Some(claim);
            *messages = seen;
        }
        Ok(true)
    }

    /// Deletes a message of a claim, as a worker that is done with it.
    fn delete_one(&mut self, connection: &mut Connection) -> anyhow::Result<bool> {
        let number = self.random.below(self.knows.claims.len() as u64) as usize;
        let held = &mut self.knows.claims[number];
        let Some(message) = held.messages.pop() else {
            self.knows.claims.remove(number);
            return Ok(true);
        };
        let (queue, claim) = (held.queue, held.id.clone());
        self.knows.own.retain(|(_, own)| own.key != message.key);
        let target = format!("{}/messages/{}?claim_id={claim}", self.path(queue), message.id);
        let what = What::Delete { keys: vec![message.key] };
        self.ask_for_204(connection, queue, what, &target)
    }

    /// Deletes messages of its own, claimed or not.
    fn delete_many(&mut self, connection: &mut Connection) -> anyhow::Result<bool> {
        let from = self.random.below(self.knows.own.len() as u64) as usize;
        let queue = self.knows.own[from].0;
        let count_max = 1 + self.random.below(IDS_MAX as u64) as usize;
        let mut gone = Vec::new();
        self.knows.own.retain(|(other, seen)| {
            let goes = *other == queue && gone.len() < count_max;
            if goes {
                gone.push(seen.clone());
            }
            !goes
        });
        let ids: Vec<&str> = gone.iter().map(|seen| seen.id.as_str()).collect();
        let target = format!("{}/messages?ids={}", self.path(queue), ids.join(","));
        let what = What::Delete { keys: gone.iter().map(|seen| seen.key).collect() };
        self.ask_for_204(connection, queue, what, &target)
    }

    fn release(&mut self, connection: &mut Connection) -> anyhow::Result<bool> {
        let number = self.random.below(self.knows.claims.len() as u64) as usize;
        let held = self.knows.claims.swap_remove(number);
        let target = format!("{}/claims/{}", self.path(held.queue), held.id);
        self.ask_for_204(connection, held.queue, What::Release { claim: held.id }, &target)
    }

    fn list(&mut self, connection: &mut Connection) -> anyhow::Result<bool> {
        let queue = self.any_queue();
        let target =
            format!("{}/messages?echo=true&include_claimed=true&limit=50", self.path(queue));
        let what = What::List { messages: Vec::new() };
        let Some(answer) = self.ask(connection, queue, what, "GET", &target, "")? else {
            return Ok(false);
        };
        let seen = match answer.status {
            503 => return Ok(true),
            204 => Vec::new(),
            200 => observe::page(&answer.body)?,
            status => anyhow::bail!("a listing is answered {status}: {}", answer.body),
        };
        let now = self.shared.clock.fetch_add(1, Ordering::SeqCst);
        if let Some(deed) = self.deeds.last_mut() {
            deed.ended = Some(now);
            deed.what = What::List { messages: seen };
        }
        Ok(true)
    }

    /// A delete of any kind: with what it names it never fails but for the store.
    fn ask_for_204(
        &mut self,
        connection: &mut Connection,
        queue: usize,
        what: What,
        target: &str,
    ) -> anyhow::Result<bool> {
        let Some(answer) = self.ask(connection, queue, what, "DELETE", target, "")? else {
            return Ok(false);
        };
        if answer.status != 503 {
            let Answer { status, body, .. } = &answer;
            ensure!(*status == 204, "DELETE {target} is answered {status}: {body}");
            self.answered(queue, &answer)?;
        }
        Ok(true)
    }

    /// Notes the deed, then asks; `None` when the connection broke.
    fn ask(
        &mut self,
        connection: &mut Connection,
        queue: usize,
        what: What,
        method: &str,
        target: &str,
        body: &str,
    ) -> anyhow::Result<Option<Answer>> {
        let mut headers = vec![("Client-ID", self.id.as_str())];
        // Some writes ask for more than their queue has.
        if method != "GET" && self.random.one_in(8) {
            let level = self.random.below(5) as usize;
            headers.push(("Marconi-Durability", Durability::ALL[level].name()));
        }
        let began = self.shared.clock.fetch_add(1, Ordering::SeqCst);
        let level = Durability::Memory;
        let client = self.number;
        self.deeds.push(Deed { client, queue, began, ended: None, level, what });
        let answer = connection.ask(method, target, &headers, body)?;
        self.shared.answered.fetch_add(u64::from(answer.is_some()), Ordering::SeqCst);
        Ok(answer)
    }

    /// Notes that the last deed was acknowledged, and how durable it is said to be.
    fn answered(&mut self, queue: usize, answer: &Answer) -> anyhow::Result<Option<&mut What>> {
        let level = level_of(answer)?;
        let least = self.shared.plan.queues[queue].level;
        ensure!(level >= least, "a queue of level {} answers {}", least.name(), level.name());
        let now = self.shared.clock.fetch_add(1, Ordering::SeqCst);
        Ok(self.deeds.last_mut().map(|deed| {
            deed.ended = Some(now);
            deed.level = level;
            &mut deed.what
        }))
    }

    fn any_queue(&mut self) -> usize {
        self.random.below(self.shared.plan.queues.len() as u64) as usize
    }

    fn path(&self, queue: usize) -> String {
        format!("/v1/queues/{}", self.shared.plan.queues[queue].name)
    }

    /// Mostly small, sometimes many pages of the disk.
    fn fill_size(&mut self) -> usize {
        let most = match self.random.below(20) {
            0..10 => 100,
            10..18 => 4_000,
            _ => 40_000,
        };
        self.random.below(most) as usize
    }
}

/// The body of a message: where it is from, and so much more that follows from that.
pub(crate) fn body(key: Key, fill_size: usize) -> String {
    let Key { from, post, part } = key;
    let mut random = Random::new(u64::from(from) << 48 | u64::from(post) << 8 | u64::from(part));
    let mut fill = String::with_capacity(fill_size + 16);
    while fill.len() < fill_size {
        let _ = write!(fill, "{:016x}", random.word());
    }
    fill.truncate(fill_size);
    format!("{{\"from\":{from},\"post\":{post},\"part\":{part},\"fill\":\"{fill}\"}}")
}
