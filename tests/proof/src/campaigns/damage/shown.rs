//! All that a folder shows through an engine: queues, metadata, counts, messages, bodies, who posted them, claims;
//! each piece as it is or as the error that stands in its place. Knows nothing of files and of what was harmed.

use bytes::Bytes;
use marconi_engine::{
    ClaimId, ClientId, Content, Engine, Error, ListFilter, MessageId, QueueKey, QueueStats,
};
use std::collections::BTreeMap;

/// Those who post.
pub(super) const CLIENTS: [ClientId; 2] = [ClientId(7 << 64 | 5), ClientId(11)];
/// The projects that have queues.
pub(super) const PROJECTS: [Option<&str>; 2] = [None, Some("p")];
/// More than any queue of the folder has.
const ALL: usize = 1000;

type Shows<T> = Result<T, Error>;

/// A message.
#[derive(Debug, Clone)]
pub(super) struct MessageShown {
    id: MessageId,
    claim: Option<ClaimId>,
    /// Its ttl, its age, its body.
    content: Shows<(u32, u64, Bytes)>,
}

/// A queue.
#[derive(Debug, Clone)]
pub(super) struct QueueShown {
    metadata: Shows<Bytes>,
    stats: Shows<QueueStats>,
    messages: Shows<Vec<MessageShown>>,
    /// What is left once those of one client are left out, for each client.
    by_others: [Shows<Vec<MessageId>>; 2],
    /// Each claim that ever was: its ttl, its age, what it holds.
    claims: BTreeMap<u64, Shows<(u32, u64, Vec<MessageId>)>>,
}

/// All of it.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    queues: BTreeMap<QueueKey, QueueShown>,
    live_messages: u64,
    claims: u64,
}

impl Shown {
    /// What an engine shows now. `claims` are those that ever were.
    pub(super) fn by(engine: &Engine, claims: &[(QueueKey, ClaimId)]) -> anyhow::Result<Shown> {
        let mut queues = BTreeMap::new();
        for project in PROJECTS {
            for found in engine.queues(project, None, ALL)? {
                let of_it = claims.iter().filter(|(key, _)| *key == found.key).map(|(_, id)| *id);
                let shown = queue(engine, &found.key, of_it);
                queues.insert(found.key, shown);
            }
        }
        let metrics = engine.metrics();
        anyhow::ensure!(
            metrics.queues == queues.len() as u64,
            "{} queues are listed, and {} are counted",
            queues.len(),
            metrics.queues
        );
        Ok(Shown { queues, live_messages: metrics.live_messages, claims: metrics.claims })
    }

    /// The ids and bodies of all messages that can be read.
    pub(super) fn bodies(&self) -> impl Iterator<Item = (MessageId, &Bytes)> {
        let lists = self.queues.values().filter_map(|queue| queue.messages.as_ref().ok());
        lists.flatten().filter_map(|message| {
            let (.., body) = message.content.as_ref().ok()?;
            Some((message.id, body))
        })
    }

    /// The queues and the ids of their messages, as far as they can be listed.
    pub(super) fn ids(&self) -> BTreeMap<&QueueKey, Vec<MessageId>> {
        let ids = |queue: &QueueShown| {
            let messages = queue.messages.as_deref().unwrap_or_default();
            messages.iter().map(|message| message.id).collect()
        };
        self.queues.iter().map(|(key, queue)| (key, ids(queue))).collect()
    }

    /// Holds what was found against what was there. Returns the errors that stand in the place of something;
    /// fails where something is shown otherwise than it was.
    pub(super) fn compare(&self, found: &Shown) -> anyhow::Result<Vec<Error>> {
        let mut errors = Vec::new();
        let (here, there) = (self.queues.keys(), found.queues.keys());
        anyhow::ensure!(
            here.clone().eq(there.clone()),
            "queues {:?} are shown as {:?}",
            here.collect::<Vec<_>>(),
            there.collect::<Vec<_>>()
        );
        for (key, was) in &self.queues {
            was.compare(&found.queues[key], &mut errors)
                .map_err(|what| anyhow::anyhow!("queue {}: {what}", key.name()))?;
        }
        let counts = |shown: &Shown| (shown.live_messages, shown.claims);
        anyhow::ensure!(
            counts(self) == counts(found),
            "messages and claims were {:?}, and are counted as {:?}",
            counts(self),
            counts(found)
        );
        Ok(errors)
    }
}

fn queue(engine: &Engine, key: &QueueKey, claims: impl Iterator<Item = ClaimId>) -> QueueShown {
    let list = |filter| {
        let page = engine.list(key, None, ALL, filter).and_then(|receipt| receipt.wait());
        page.map(|page| page.messages)
    };
    let messages = list(ListFilter { not_by: None, include_claimed: true });
    let messages = messages.map(|messages| {
        let shown = messages.iter().map(|message| MessageShown {
            id: message.id,
            claim: message.claim,
            content: message.read().map(|Content { ttl_s, age_s, body }| (ttl_s, age_s, body)),
        });
        shown.collect()
    });
    let by_others = CLIENTS.map(|client| {
        let found = list(ListFilter { not_by: Some(client), include_claimed: true })?;
        // Who posted is checked where a message is read.
        found.iter().map(|message| message.read().map(|_| message.id)).collect()
    });
    let claims = claims.map(|id| {
        let claim = engine.claim_get(key, id).and_then(|receipt| receipt.wait());
        let shown = claim.map(|claim| {
            let ids = claim.messages.iter().map(|message| message.id).collect();
            (claim.ttl_s, claim.age_s, ids)
        });
        (id.0.0, shown)
    });
    QueueShown {
        metadata: engine.queue(key).and_then(|receipt| receipt.wait()).map(|queue| queue.metadata),
        stats: engine.stats(key).and_then(|receipt| receipt.wait()),
        messages,
        by_others,
        claims: claims.collect(),
    }
}

impl QueueShown {
    fn compare(&self, found: &QueueShown, errors: &mut Vec<Error>) -> Result<(), String> {
        same("its metadata", &self.metadata, &found.metadata, errors)?;
        same("its counts", &self.stats, &found.stats, errors)?;
        for (was, is) in self.by_others.iter().zip(&found.by_others) {
            same("what others posted", was, is, errors)?;
        }
        for (id, was) in &self.claims {
            same("a claim", was, found.claims.get(id).unwrap_or(&Err(Error::NoSuchClaim)), errors)?;
        }
        let (was, is) = match (&self.messages, &found.messages) {
            (Ok(was), Ok(is)) => (was, is),
            (_, Err(error)) => {
                errors.push(error.clone());
                return Ok(());
            }
            (Err(error), Ok(_)) => return Err(format!("was not sound at first: {error}")),
        };
        let ids = |list: &[MessageShown]| -> Vec<_> {
            list.iter().map(|one| (one.id.seq, one.claim)).collect()
        };
        if ids(was) != ids(is) {
            return Err(format!("messages {:?} are shown as {:?}", ids(was), ids(is)));
        }
        for (was, is) in was.iter().zip(is) {
            same(&format!("{:?}", was.id.seq), &was.content, &is.content, errors)?;
        }
        Ok(())
    }
}

/// Fails where both are there and differ, or where the answer says "there is none" of what was there.
fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    was: &Shows<T>,
    is: &Shows<T>,
    errors: &mut Vec<Error>,
) -> Result<(), String> {
    match (was, is) {
        (Ok(was), Ok(is)) if was == is => Ok(()),
        (Err(was), Err(is)) if was.to_string() == is.to_string() => Ok(()),
        (_, Err(error @ (Error::Damaged { .. } | Error::Io { .. }))) => {
            errors.push(error.clone());
            Ok(())
        }
        (was, is) => Err(format!("{what} was {was:?} and is shown as {is:?}")),
    }
}
