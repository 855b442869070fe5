//! Notices what expired and which claims ran out, so that their space and memory come back even
//! where nobody looks. Exactness does not depend on it: every verb looks for itself.

use crate::core::Core;
use crate::domain::QueueKey;
use crate::error::Result;
use crate::metrics::add;

/// Queues looked at in one round, at least.
const QUEUES_A_ROUND: usize = 4096;
/// Queues looked at under one lock of their shard.
const QUEUES_AT_ONCE: usize = 16;
/// A full walk over all queues takes at most about so many rounds.
const ROUNDS_A_WALK: usize = 50;
/// A range is looked through again only when something in it has been due for so long: with ttls
/// spread over a range, something is due all the time.
const LAG_MS: u64 = 5_000;

/// A walk over all queues, in pieces.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    shard: usize,
    after: Option<QueueKey>,
}

impl Sweep {
    pub(crate) fn round(&mut self, core: &Core) -> Result<()> {
        let now_ms = core.now_ms();
        let cutoff_ms = now_ms.saturating_sub(LAG_MS);
        let mut left = QUEUES_A_ROUND.max(core.state.len() / ROUNDS_A_WALK);
        let mut shards_left = core.state.shard_count();
        let mut outcome = Ok(());
        while left > 0 && shards_left > 0 && !core.is_closing() {
            let mut shard = core.state.lock_shard(self.shard);
            self.after = shard.visit_after(self.after.as_ref(), QUEUES_AT_ONCE, |queue| {
                left = left.saturating_sub(1);
                if queue.due_ms() <= cutoff_ms {
                    match queue.expire(now_ms, cutoff_ms) {
                        Ok(count) => add(&core.counters.expired, count),
                        // It keeps no other from being looked at.
                        Err(damaged) => outcome = Err(damaged),
                    }
                }
            });
            drop(shard);
            if self.after.is_none() {
                self.shard = (self.shard + 1) % core.state.shard_count();
                shards_left -= 1;
            }
        }
        outcome
    }
}
