//! Whether what a started server has can be explained by what clients asked and were told before it was killed.
//!
//! Each deed has the time it was asked and the time it was answered, on one clock. What is lost is the end of the
//! log, so whatever was answered before something was asked that *is* in effect has to be in effect, too, at every
//! level; beyond that, what was acknowledged at a level that survives the fault. What nobody answered may have
//! happened or not. Once seen after a start, it stays as it was seen.
//!
//! Knows no sockets. Cannot see a loss that a delete without an answer explains as well.

use super::client::{Held as Holding, Knowledge};
use super::life::{Ask, Life};
use super::observe::Observed;
use super::{Deed, Key, Seen, What};
use anyhow::{bail, ensure};
use marconi_engine::Durability;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What ends the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The end of the process.
    Kill,
    /// The end of the machine, with what was not synced.
    PowerCut,
}

impl Fault {
    /// Whether what was acknowledged at this level has to be there afterwards.
    pub(super) fn spares(self, level: Durability) -> bool {
        level >= if self == Fault::Kill { Durability::Os } else { Durability::Group }
    }

    /// Whether what a queue of this level shows has to be there: what it shows is in the file, at every level.
    pub(super) fn spares_what_is_shown(self, level: Durability) -> bool {
        self == Fault::Kill || self.spares(level)
    }
}

/// What is known of the server's contents, over all its lives.
#[derive(Debug)]
pub struct History {
    pub(super) fault: Fault,
    pub(super) levels: Vec<Durability>,
    pub(super) messages: BTreeMap<Key, Message>,
    /// Claims that are known to be held.
    pub(super) claims: BTreeMap<String, Held>,
    /// All message ids ever told, and whose they are.
    ids: HashMap<String, Key>,
    id_by_key: HashMap<Key, String>,
    /// All claim ids ever told.
    claim_ids: BTreeSet<String>,
    /// How many posts each client has made.
    posts: BTreeMap<u32, u32>,
}

/// A message that lives or did.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) queue: usize,
    /// When it was asked for, and the latest time at which it was there.
    pub(super) posted: (u64, u64),
    pub(super) is_alive: bool,
    /// Held by a claim whose answer never came: nobody knows its id.
    pub(super) is_hidden: bool,
}

/// A claim that is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) queue: usize,
    pub(super) owner: u32,
    pub(super) keys: BTreeSet<Key>,
}

impl History {
    /// Nothing has happened yet in queues of these levels.
    pub(super) fn new(fault: Fault, levels: Vec<Durability>) -> History {
        History {
            fault,
            levels,
            messages: BTreeMap::new(),
            claims: BTreeMap::new(),
            ids: HashMap::new(),
            id_by_key: HashMap::new(),
            claim_ids: BTreeSet::new(),
            posts: BTreeMap::new(),
        }
    }

    /// How many messages live.
    pub(super) fn living(&self) -> usize {
        self.messages.values().filter(|message| message.is_alive).count()
    }

    /// What a client knows when a life begins.
    pub(super) fn knowledge(&self, client: u32) -> Knowledge {
        let seen = |key: &Key| {
            let id = self.id_by_key.get(key).cloned().unwrap_or_default();
            Seen { id, key: *key }
        };
        let own =
            self.messages.iter().filter(|(key, message)| key.from == client && message.is_alive);
        let held = self.claims.iter().filter(|(_, held)| held.owner == client);
        Knowledge {
            posts: self.posts.get(&client).copied().unwrap_or(0),
            own: own.map(|(key, message)| (message.queue, seen(key))).collect(),
            claims: held
                .map(|(id, held)| Holding {
                    queue: held.queue,
                    id: id.clone(),
                    messages: held.keys.iter().map(seen).collect(),
                })
                .collect(),
        }
    }

    /// Takes note of who posted how often, so that no key is used twice.
    pub(super) fn count_posts(&mut self, deeds: &[Deed]) {
        for deed in deeds {
            if let What::Post { post, .. } = deed.what {
                let count = self.posts.entry(deed.client).or_default();
                *count = (*count).max(post + 1);
            }
        }
    }

    /// The claims that may be there, with their queues.
    pub(super) fn claims_to_ask(&self, deeds: &[Deed]) -> Vec<(usize, String)> {
        let held = self.claims.iter().map(|(id, held)| (held.queue, id.clone()));
        let new = deeds.iter().filter_map(|deed| match &deed.what {
            What::Claim { id: Some(id), .. } => Some((deed.queue, id.clone())),
            _ => None,
        });
        held.chain(new).collect()
    }

    /// Takes note that a message has this id.
    pub(super) fn has_id(&mut self, key: Key, id: &str) -> anyhow::Result<()> {
        let other = *self.ids.entry(id.to_owned()).or_insert(key);
        ensure!(other == key, "the id {id} was given twice: to {other}, and to {key}");
        let known = self.id_by_key.entry(key).or_insert_with(|| id.to_owned());
        ensure!(known == id, "{key} had the id {known}, and has now {id}");
        Ok(())
    }

    /// Takes note that a claim was told to have this id.
    pub(super) fn has_claim_id(&mut self, id: &str) -> anyhow::Result<()> {
        ensure!(self.claim_ids.insert(id.to_owned()), "the claim id {id} was given twice");
        Ok(())
    }

    /// Holds what is there against the deeds of the life that ended, and takes it as it is from then on.
    ///
    /// # Errors
    /// When no fate of the deeds without an answer, and no loss that the level allows, explains what is there.
    pub(super) fn settle(
        &mut self,
        deeds: &[Deed],
        now: u64,
        observed: &Observed,
    ) -> anyhow::Result<()> {
        let life = Life::read(self, deeds)?;
        let present = self.present(&life, observed)?;
        let frontier = self.frontier(&life, &present, observed);
        let holds = |ask: &Ask| ask.ended.is_some_and(|ended| ask.is_spared || ended < frontier);
        self.settle_messages(&life, &present, now, holds)?;
        self.check_order(observed)?;
        self.settle_claims(&life, &present, observed, holds)
    }

    /// The messages that are there. Each was posted, into this queue, and is there once.
    fn present(
        &mut self,
        life: &Life,
        observed: &Observed,
    ) -> anyhow::Result<BTreeMap<Key, String>> {
        let mut present = BTreeMap::new();
        for (number, queue) in observed.queues.iter().enumerate() {
            for Seen { id, key } in &queue.all {
                let posted_to =
                    match (self.messages.get(key), life.posts.get(&(key.from, key.post))) {
                        (Some(message), _) => {
                            ensure!(
                                message.is_alive,
                                "{key} was gone after an earlier start, and is back"
                            );
                            message.queue
                        }
                        (None, Some(post)) if key.part < post.count => post.queue,
                        _ => bail!("{key} is there, and was never posted"),
                    };
                ensure!(posted_to == number, "{key} was posted to queue {posted_to}, not {number}");
                self.has_id(*key, id)?;
                let before = present.insert(*key, id.clone());
                ensure!(before.is_none(), "{key} is there twice");
            }
        }
        Ok(present)
    }

    /// The last time at which something was asked that is in effect: all that was answered before has to be, too.
    fn frontier(&self, life: &Life, present: &BTreeMap<Key, String>, observed: &Observed) -> u64 {
        let is_there = |(from, post): (u32, u32), count: u32| {
            (0..count).any(|part| present.contains_key(&Key { from, post, part }))
        };
        let posts = life.posts.iter().filter(|(key, post)| {
            is_there(**key, post.count) || (post.ask.ended.is_some() && post.ask.is_spared)
        });
        let claims = life.claims.iter().filter(|(id, claim)| {
            claim.ask.is_spared || matches!(observed.claims.get(*id), Some(Some(_)))
        });
        let spared = |ask: &&Ask| ask.ended.is_some() && ask.is_spared;
        let releases = life.releases.values().flatten().filter(spared);
        // Of several deletes of a message only one writes anything, and nobody is told which.
        let deletes = life.deletes.iter().filter_map(|(key, asks)| {
            let was_there = self.messages.contains_key(key);
            let is_one_in_effect = was_there && !present.contains_key(key);
            let first = asks.iter().map(|ask| ask.began).min()?;
            (is_one_in_effect || (asks.len() == 1 && spared(&&asks[0]))).then_some(first)
        });
        let began = posts.map(|(_, post)| post.ask.began);
        let began = began.chain(claims.map(|(_, claim)| claim.ask.began));
        let began = began.chain(releases.map(|ask| ask.began)).chain(deletes);
        began.max().unwrap_or(0)
    }

    /// Nothing is missing that has to be there, nothing is there that has to be gone, and no batch is half there.
    fn settle_messages(
        &mut self,
        life: &Life,
        present: &BTreeMap<Key, String>,
        now: u64,
        holds: impl Fn(&Ask) -> bool,
    ) -> anyhow::Result<()> {
        let none = Vec::new();
        let deletes = |key: &Key| life.deletes.get(key).unwrap_or(&none);
        let judge = |key: &Key, has_to_be: bool| -> anyhow::Result<bool> {
            let is_there = present.contains_key(key);
            let (deletes, id) = (deletes(key), self.id_by_key.get(key));
            if is_there && let Some(delete) = deletes.iter().find(|delete| holds(delete)) {
                bail!("{key} ({id:?}) is back; its delete was acknowledged: {delete:?}");
            }
            ensure!(is_there || !has_to_be || !deletes.is_empty(), "{key} ({id:?}) is lost");
            Ok(is_there)
        };
        let mut alive = Vec::new();
        for (key, _) in self.messages.iter().filter(|(_, message)| message.is_alive) {
            alive.push((*key, judge(key, true)?));
        }
        let mut new = Vec::new();
        for ((from, number), post) in &life.posts {
            let keys = (0..post.count).map(|part| Key { from: *from, post: *number, part });
            let has_to_be = holds(&post.ask);
            let mut is_any_there = false;
            let mut missing = None;
            for key in keys {
                let is_there = judge(&key, has_to_be)
                    .map_err(|cause| cause.context(format!("posted: {:?}", post.ask)))?;
                is_any_there |= is_there;
                if !is_there && deletes(&key).is_empty() {
                    missing = Some(key);
                }
                let posted = (post.ask.began, post.ask.ended.unwrap_or(now));
                let message =
                    Message { queue: post.queue, posted, is_alive: is_there, is_hidden: false };
                new.push((key, message));
            }
            if let Some(key) = missing {
                ensure!(!is_any_there, "half a batch: {key} is missing, others of it are there");
            }
        }
        for (key, is_alive) in alive {
            if let Some(message) = self.messages.get_mut(&key) {
                message.is_alive = is_alive;
            }
        }
        self.messages.extend(new);
        Ok(())
    }

    /// Messages lie in the order in which they were posted, where one was answered before the other was asked.
    fn check_order(&self, observed: &Observed) -> anyhow::Result<()> {
        for queue in &observed.queues {
            in_order(queue.all.iter().map(|seen| {
                let posted =
                    self.messages.get(&seen.key).map_or((0, u64::MAX), |found| found.posted);
                (seen.key, posted)
            }))?;
        }
        Ok(())
    }

    /// Claims that were acknowledged hold what they held, and nothing else is held but by claims nobody heard of.
    fn settle_claims(
        &mut self,
        life: &Life,
        present: &BTreeMap<Key, String>,
        observed: &Observed,
        holds: impl Fn(&Ask) -> bool,
    ) -> anyhow::Result<()> {
        let mut candidates: Vec<(String, Held, bool)> = std::mem::take(&mut self.claims)
            .into_iter()
            .map(|(id, held)| (id, held, true))
            .collect();
        for (id, claim) in &life.claims {
            let held = Held { queue: claim.queue, owner: claim.owner, keys: claim.keys.clone() };
            candidates.push((id.clone(), held, holds(&claim.ask)));
        }
        let mut holder: BTreeMap<String, String> = BTreeMap::new();
        for (id, mut held, has_to_be) in candidates {
            let releases = life.releases.get(&id).map_or(&[][..], Vec::as_slice);
            let Some(Some(found)) = observed.claims.get(&id) else {
                ensure!(!has_to_be || !releases.is_empty(), "the claim {id} is lost");
                continue;
            };
            let is_released = releases.iter().any(&holds);
            ensure!(!is_released, "the claim {id} is back; its release was acknowledged");
            held.keys.retain(|key| present.contains_key(key));
            let should: BTreeSet<&String> = held.keys.iter().map(|key| &present[key]).collect();
            let found: BTreeSet<&String> = found.iter().collect();
            ensure!(should == found, "the claim {id} held {should:?}, and holds {found:?}");
            for message in found {
                let other = holder.insert(message.clone(), id.clone());
                ensure!(other.is_none(), "{message} is in two claims: {id} and {other:?}");
            }
            self.claims.insert(id, held);
        }
        for (number, queue) in observed.queues.iter().enumerate() {
            let mut unknown = 0;
            for Seen { id, key } in &queue.all {
                let Some(message) = self.messages.get_mut(key) else { continue };
                let (is_free, is_held) = (queue.free.contains(id), holder.contains_key(id));
                ensure!(!(is_free && is_held), "{key} is free, and held by {:?}", holder.get(id));
                ensure!(!(is_free && message.is_hidden), "{key} was claimed, and is free");
                if !is_free && !is_held && !message.is_hidden {
                    unknown += 1;
                    message.is_hidden = true;
                }
            }
            let most = life.unanswered_claims.get(&number).copied().unwrap_or(0);
            ensure!(
                unknown <= most,
                "{unknown} messages are claimed by nobody, at most {most} can be"
            );
            let (free, total) = (queue.free.len() as u64, queue.all.len() as u64);
            let counted = (free, total - free, total);
            ensure!(queue.stats == counted, "stats say {:?}, listings {counted:?}", queue.stats);
        }
        Ok(())
    }
}

/// Whether messages, each with when it was asked for and when it was there, lie in the order of their posts.
pub(super) fn in_order(messages: impl Iterator<Item = (Key, (u64, u64))>) -> anyhow::Result<()> {
    let mut newest: Option<(Key, u64)> = None;
    let mut parts: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for (key, (began, ended)) in messages {
        if let Some((other, other_began)) = newest {
            ensure!(ended >= other_began, "{key} lies behind {other}, which was posted after it");
        }
        if newest.is_none_or(|(_, other)| began > other) {
            newest = Some((key, began));
        }
        if let Some(other) = parts.insert((key.from, key.post), key.part) {
            ensure!(other < key.part, "{key} lies behind message {other} of its batch");
        }
    }
    Ok(())
}
