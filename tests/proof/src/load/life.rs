//! One life of the server as its clients saw it: their deeds by what they are about, and what answers alone show to be
//! wrong. Knows nothing of what came after.

use super::check::{History, in_order};
use super::{Deed, Key, Seen, What};
use anyhow::{bail, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// When something was asked and answered.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) began: u64,
    /// The first time at which it is known to have happened; `None` when nobody knows.
    pub(super) ended: Option<u64>,
    /// Whether it was acknowledged, or shown, at a level that survives.
    pub(super) is_spared: bool,
}

#[derive(Debug)]
pub(super) struct Post {
    pub(super) queue: usize,
    pub(super) count: u32,
    pub(super) ask: Ask,
}

#[derive(Debug)]
pub(super) struct Claim {
    pub(super) queue: usize,
    pub(super) owner: u32,
    pub(super) ask: Ask,
    pub(super) keys: BTreeSet<Key>,
}

/// The deeds of a life by what they are about.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// By client and number.
    pub(super) posts: BTreeMap<(u32, u32), Post>,
    pub(super) deletes: BTreeMap<Key, Vec<Ask>>,
    pub(super) releases: BTreeMap<String, Vec<Ask>>,
    pub(super) claims: BTreeMap<String, Claim>,
    /// By queue, how many messages may be held by claims whose answers never came.
    pub(super) unanswered_claims: BTreeMap<usize, u64>,
}

impl Life {
    /// Sorts deeds, and looks at what answers showed while the server lived.
    ///
    /// # Errors
    /// When an answer showed what cannot have been there, or in a wrong order, or gave a held message to another.
    pub(super) fn read(history: &mut History, deeds: &[Deed]) -> anyhow::Result<Life> {
        let mut life = Life::default();
        for deed in deeds {
            life.sort(history, deed)?;
        }
        for deed in deeds {
            let (Some(ended), seen) = (deed.ended, shown(&deed.what)) else { continue };
            let is_spared = match &deed.what {
                What::List { .. } => history.fault.spares_what_is_shown(history.levels[deed.queue]),
                _ => history.fault.spares(deed.level),
            };
            for message in seen {
                life.look(history, deed, ended, message, is_spared)?;
            }
            in_order(seen.iter().map(|message| (message.key, life.posted(history, message.key))))?;
        }
        life.check_claims(history)?;
        Ok(life)
    }

    fn sort(&mut self, history: &mut History, deed: &Deed) -> anyhow::Result<()> {
        let is_spared = deed.ended.is_some() && history.fault.spares(deed.level);
        let ask = Ask { began: deed.began, ended: deed.ended, is_spared };
        match &deed.what {
            What::Post { post, count, ids } => {
                for (part, id) in (0..*count).zip(ids) {
                    history.has_id(Key { from: deed.client, post: *post, part }, id)?;
                }
                let new = Post { queue: deed.queue, count: *count, ask };
                self.posts.insert((deed.client, *post), new);
            }
            What::Claim { id: Some(id), messages, .. } => {
                history.has_claim_id(id)?;
                let keys = messages.iter().map(|message| message.key).collect();
                let new = Claim { queue: deed.queue, owner: deed.client, ask, keys };
                self.claims.insert(id.clone(), new);
            }
            What::Claim { limit, .. } if deed.ended.is_none() => {
                *self.unanswered_claims.entry(deed.queue).or_default() += u64::from(*limit);
            }
            What::Release { claim } => self.releases.entry(claim.clone()).or_default().push(ask),
            What::Delete { keys } => {
                for key in keys {
                    self.deletes.entry(*key).or_default().push(ask.clone());
                }
            }
            What::Claim { .. } | What::List { .. } => {}
        }
        Ok(())
    }

    /// A message that an answer showed was there then.
    fn look(
        &mut self,
        history: &mut History,
        deed: &Deed,
        ended: u64,
        Seen { id, key }: &Seen,
        is_spared: bool,
    ) -> anyhow::Result<()> {
        history.has_id(*key, id)?;
        let queue = match self.posts.get_mut(&(key.from, key.post)) {
            Some(post) if key.part < post.count && post.ask.began < ended => {
                post.ask.ended = Some(post.ask.ended.map_or(ended, |other| other.min(ended)));
                post.ask.is_spared |= is_spared;
                post.queue
            }
            _ => match history.messages.get(key) {
                Some(message) if message.is_alive => message.queue,
                Some(_) => bail!("{key} was gone after a start, and was shown later"),
                None => bail!("{key} was shown, and was never posted"),
            },
        };
        ensure!(queue == deed.queue, "{key} was posted to queue {queue}, shown in {}", deed.queue);
        let gone = self.deletes.get(key).and_then(|asks| {
            asks.iter().find(|ask| ask.ended.is_some_and(|ended| ended < deed.began))
        });
        ensure!(gone.is_none(), "{key} was deleted ({gone:?}) and shown later, by {deed:?}");
        Ok(())
    }

    fn posted(&self, history: &History, key: Key) -> (u64, u64) {
        let of_life = self.posts.get(&(key.from, key.post));
        match (of_life, history.messages.get(&key)) {
            (Some(post), _) => (post.ask.began, post.ask.ended.unwrap_or(u64::MAX)),
            (None, Some(message)) => message.posted,
            (None, None) => (0, u64::MAX),
        }
    }

    /// No message was given to two claims, unless one was released before the other can have been made.
    fn check_claims(&self, history: &History) -> anyhow::Result<()> {
        let mut holders: BTreeMap<Key, Vec<(&str, u64)>> = BTreeMap::new();
        for (id, held) in &history.claims {
            for key in &held.keys {
                holders.entry(*key).or_default().push((id, 0));
            }
        }
        for (id, claim) in &self.claims {
            for key in &claim.keys {
                let is_hidden = history.messages.get(key).is_some_and(|message| message.is_hidden);
                ensure!(!is_hidden, "{key} was held after a start, and was given to claim {id}");
                let ended = claim.ask.ended.unwrap_or(u64::MAX);
                holders.entry(*key).or_default().push((id, ended));
            }
        }
        let is_released_before = |id: &str, time: u64| {
            let releases = self.releases.get(id).map_or(&[][..], Vec::as_slice);
            releases.iter().any(|release| release.began < time)
        };
        for (key, holders) in holders {
            for (place, (one, one_ended)) in holders.iter().enumerate() {
                for (other, other_ended) in &holders[place + 1..] {
                    let is_well = is_released_before(one, *other_ended)
                        || is_released_before(other, *one_ended);
                    ensure!(is_well, "{key} was in two claims at a time: {one} and {other}");
                }
            }
        }
        Ok(())
    }
}

/// The messages that an answer showed.
fn shown(what: &What) -> &[Seen] {
    match what {
        What::Claim { messages, .. } | What::List { messages } => messages,
        _ => &[],
    }
}
