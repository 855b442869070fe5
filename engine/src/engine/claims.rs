//! The verbs of claims: claim, look, renew, release. Knows how a write is decided, not how it is
//! appended.

use super::messages::Message;
use super::{Decision, Engine, PAYLOAD, Written};
use crate::domain::{ClaimId, Durability, QueueId, QueueKey, Seq};
use crate::error::{Error, Result};
use crate::log::frame::Kind;
use crate::log::record::Payload;
use crate::metrics::add;
use crate::receipt::Receipt;
use crate::state::queue::{Located, Queue};

/// A claim and what it holds.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its id.
    pub id: ClaimId,
    /// Its ttl, as made or last renewed.
    pub ttl_s: u32,
    /// Whole seconds since then.
    pub age_s: u64,
    /// The messages it holds, oldest first.
    pub messages: Vec<Message>,
}

impl Engine {
    /// Claims up to `limit` of the oldest free messages; `None` when there is none. Messages that
    /// would die before the claim's end and the grace live until then.
    ///
    /// # Errors
    /// `TooLarge` for a limit beyond what a frame takes, and those of every write.
    pub fn claim(
        &self,
        key: &QueueKey,
        ttl_s: u32,
        grace_s: u32,
        limit: usize,
        ask: Option<Durability>,
    ) -> Result<Receipt<Option<Claim>>> {
        self.check_count("messages in one claim", limit)?;
        self.check_size(limit as u64 * 8)?;
        let at_ms = self.core.now_ms();
        let claimed = PAYLOAD.with_borrow_mut(|payload| {
            let decide = |queue: &mut Queue, payload: &mut Payload| {
                let (taken, expired) = queue.decide_claim(limit, at_ms)?;
                add(&self.core.counters.expired, expired);
                if taken.is_empty() {
                    return Ok(Decision::Nothing(None));
                }
                let seqs: Vec<Seq> = taken.iter().map(|located| located.seq).collect();
                payload.claimed(ttl_s, grace_s, &seqs);
                let draft = Some((queue.id, taken));
                Ok(Decision::Write { kind: Kind::Claimed, seq: 0, draft })
            };
            let finish = |draft: Option<(QueueId, Vec<Located>)>, written: Written<'_>| {
                let (queue, taken) = draft?;
                let (state, lsn) = written?;
                add(&self.core.counters.claimed, taken.len() as u64);
                let id = ClaimId(lsn);
                let messages = taken.into_iter().map(|mut located| {
                    located.claim = Some(id);
                    located.ttl_s = state.ttl_s(located.seq).or(located.ttl_s);
                    Message::new(queue, located, at_ms)
                });
                Some(Claim { id, ttl_s, age_s: 0, messages: messages.collect() })
            };
            self.write(key, ask, at_ms, payload, None, decide, finish)
        });
        self.or_absent(key, ask, claimed)
    }

    /// A live claim with the messages it still holds.
    ///
    /// # Errors
    /// `NoSuchClaim`, also where there is no such queue; `Damaged`, `Closed`.
    pub fn claim_get(&self, key: &QueueKey, id: ClaimId) -> Result<Receipt<Claim>> {
        let view = self.view();
        let found = self.read(key, view, |queue, now_ms| {
            let (claim, held) = queue.claim_get(id, now_ms)?.ok_or(Error::NoSuchClaim)?;
            let shown = |located: &Located| self.shows(view, queue.durability, located);
            let held = held.into_iter().filter(shown);
            Ok(Claim {
                id,
                ttl_s: claim.ttl_s,
                age_s: now_ms.saturating_sub(claim.renewed_ms) / 1000,
                messages: held.map(|located| Message::new(queue.id, located, now_ms)).collect(),
            })
        });
        found.map_err(absent_claim)
    }

    /// Starts a live claim's time anew.
    ///
    /// # Errors
    /// `NoSuchClaim`, also where there is no such queue, and those of every write.
    pub fn renew(
        &self,
        key: &QueueKey,
        id: ClaimId,
        ttl_s: u32,
        grace_s: u32,
        ask: Option<Durability>,
    ) -> Result<Receipt<()>> {
        let at_ms = self.core.now_ms();
        let renewed = self.change_at(key, ask, at_ms, |queue, payload| {
            queue.decide_claim_change(id, at_ms)?;
            payload.renewed(ttl_s, grace_s);
            Ok(Decision::Write { kind: Kind::Renewed, seq: id.0.0, draft: () })
        });
        renewed.map_err(absent_claim)
    }

    /// Gives a claim's remaining messages back to their old places. Succeeds also where there is no
    /// such claim.
    ///
    /// # Errors
    /// Those of every write.
    pub fn release(
        &self,
        key: &QueueKey,
        id: ClaimId,
        ask: Option<Durability>,
    ) -> Result<Receipt<()>> {
        let at_ms = self.core.now_ms();
        let released = self.change_at(key, ask, at_ms, |queue, payload| {
            if queue.decide_claim_change(id, at_ms).is_err() {
                return Ok(Decision::Nothing(()));
            }
            payload.empty();
            Ok(Decision::Write { kind: Kind::Released, seq: id.0.0, draft: () })
        });
        self.or_absent(key, ask, released)
    }
}

fn absent_claim(error: Error) -> Error {
    match error {
        Error::NoSuchQueue => Error::NoSuchClaim,
        error => error,
    }
}
