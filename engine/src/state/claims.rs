//! A queue's claim table: the claims that live, what came back, lives that a claim extended.
//! Knows numbers and times; knows neither where messages lie nor whether they live.

use crate::domain::{ClaimId, Seq};
use std::collections::{BTreeMap, BTreeSet};

/// A claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// When it was made or last renewed.
    pub(crate) renewed_ms: u64,
    pub(crate) ttl_s: u32,
    pub(crate) grace_s: u32,
    /// The messages it still holds, in their order.
    pub(crate) seqs: Vec<Seq>,
}

impl Claim {
    /// It lives while the time is below this.
    pub(crate) fn ends_ms(&self) -> u64 {
        self.renewed_ms.saturating_add(u64::from(self.ttl_s) * 1000)
    }
}

/// A life that a claim extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) expires_ms: u64,
    pub(crate) ttl_s: u32,
}

/// The claims of one queue.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    live: BTreeMap<ClaimId, Claim>,
    holders: BTreeMap<Seq, ClaimId>,
    ends: BTreeSet<(u64, ClaimId)>,
    returned: Intervals,
    lives: BTreeMap<Seq, Life>,
}

impl Claims {
    /// Ends what has run out by `now_ms`: its messages come back.
    pub(crate) fn give_back_due(&mut self, now_ms: u64) {
        while let Some((ends_ms, id)) = self.ends.first().copied() {
            if ends_ms > now_ms {
                return;
            }
            self.release(id);
        }
    }

    /// When the first claim runs out.
    pub(crate) fn due_ms(&self) -> u64 {
        self.ends.first().map_or(u64::MAX, |(ends_ms, _)| *ends_ms)
    }

    pub(crate) fn get(&self, id: ClaimId) -> Option<&Claim> {
        self.live.get(&id)
    }

    /// The claim that holds a message.
    pub(crate) fn holder(&self, seq: Seq) -> Option<ClaimId> {
        self.holders.get(&seq).copied()
    }

    /// How many claims live.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// How many messages are held.
    pub(crate) fn held_count(&self) -> u64 {
        self.holders.len() as u64
    }

    /// Makes a claim. A message that an older claim still seems to hold is taken from it: that this
    /// claim is in the log proves that the older one had run out.
    pub(crate) fn insert(&mut self, id: ClaimId, claim: Claim) {
        for seq in &claim.seqs {
            self.returned.remove(seq.0);
            if let Some(older) = self.holders.insert(*seq, id)
                && let Some(older) = self.live.get_mut(&older)
            {
                older.seqs.retain(|held| held != seq);
            }
        }
        self.ends.insert((claim.ends_ms(), id));
        self.live.insert(id, claim);
    }

    /// Starts a claim anew.
    pub(crate) fn renew(&mut self, id: ClaimId, now_ms: u64, ttl_s: u32, grace_s: u32) {
        let Some(claim) = self.live.get_mut(&id) else { return };
        self.ends.remove(&(claim.ends_ms(), id));
        claim.renewed_ms = now_ms;
        claim.ttl_s = ttl_s;
        claim.grace_s = grace_s;
        self.ends.insert((claim.ends_ms(), id));
    }

    /// Ends a claim; what it holds comes back to its old place.
    pub(crate) fn release(&mut self, id: ClaimId) {
        let Some(claim) = self.live.remove(&id) else { return };
        self.ends.remove(&(claim.ends_ms(), id));
        for seq in claim.seqs {
            self.holders.remove(&seq);
            self.returned.insert(seq.0);
        }
    }

    /// Forgets a message that died.
    pub(crate) fn forget(&mut self, seq: Seq) {
        self.lives.remove(&seq);
        self.returned.remove(seq.0);
        if let Some(id) = self.holders.remove(&seq)
            && let Some(claim) = self.live.get_mut(&id)
        {
            claim.seqs.retain(|held| *held != seq);
        }
    }

    /// The first message at or behind `from` that came back.
    pub(crate) fn next_returned(&self, from: Seq) -> Option<Seq> {
        self.returned.next(from.0).map(Seq)
    }

    /// A life that a claim extended.
    pub(crate) fn life(&self, seq: Seq) -> Option<Life> {
        self.lives.get(&seq).copied()
    }

    /// Extends a life.
    pub(crate) fn extend(&mut self, seq: Seq, life: Life) {
        self.lives.insert(seq, life);
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.returned.0.is_empty() && self.lives.is_empty()
    }

    /// The claims, for a checkpoint.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClaimId, &Claim)> {
        self.live.iter().map(|(id, claim)| (*id, claim))
    }

    /// What came back, for a checkpoint: first and last number of each run.
    pub(crate) fn returned(&self) -> impl Iterator<Item = (u64, u64)> {
        self.returned.0.iter().map(|(first, last)| (*first, *last))
    }

    /// Extended lives, for a checkpoint.
    pub(crate) fn lives(&self) -> impl Iterator<Item = (Seq, Life)> {
        self.lives.iter().map(|(seq, life)| (*seq, *life))
    }

    /// Takes back what a checkpoint kept.
    pub(crate) fn restore_returned(&mut self, first: u64, last: u64) {
        self.returned.0.insert(first, last);
    }
}

/// A set of numbers, kept as runs `first -> last`: messages mostly come back in runs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Intervals(BTreeMap<u64, u64>);

impl Intervals {
    fn insert(&mut self, number: u64) {
        let before = self.0.range(..=number).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= number) {
            return;
        }
        let first = match before {
            Some((first, last)) if last + 1 == number => first,
            _ => number,
        };
        let last = match number.checked_add(1).and_then(|next| self.0.remove(&next)) {
            Some(last) => last,
            None => number,
        };
        self.0.insert(first, last);
    }

    fn remove(&mut self, number: u64) {
        let before = self.0.range(..=number).next_back().map(|(first, last)| (*first, *last));
        let Some((first, last)) = before.filter(|(_, last)| *last >= number) else { return };
        self.0.remove(&first);
        if first < number {
            self.0.insert(first, number - 1);
        }
        if number < last {
            self.0.insert(number + 1, last);
        }
    }

    /// The first number in the set that is not below `from`.
    fn next(&self, from: u64) -> Option<u64> {
        if let Some((_, last)) = self.0.range(..=from).next_back()
            && *last >= from
        {
            return Some(from);
        }
        self.0.range(from..).next().map(|(first, _)| *first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(renewed_ms: u64, seqs: &[u64]) -> Claim {
        let seqs = seqs.iter().map(|seq| Seq(*seq)).collect();
        Claim { renewed_ms, ttl_s: 60, grace_s: 60, seqs }
    }

    fn id(number: u64) -> ClaimId {
        ClaimId(crate::domain::Lsn(number))
    }

    #[test]
    fn a_claim_lives_while_the_time_is_below_its_end() {
        let mut claims = Claims::default();
        claims.insert(id(1), claim(1_000, &[4, 5]));
        claims.give_back_due(60_999);
        assert_eq!(claims.holder(Seq(4)), Some(id(1)));
        claims.give_back_due(61_000);
        assert_eq!(claims.holder(Seq(4)), None);
        assert_eq!(claims.next_returned(Seq(0)), Some(Seq(4)));
    }

    #[test]
    fn a_newer_claim_takes_messages_from_one_that_ran_out() {
        let mut claims = Claims::default();
        claims.insert(id(1), claim(0, &[4, 5]));
        claims.insert(id(2), claim(70_000, &[4]));
        assert_eq!(claims.get(id(1)).map(|claim| claim.seqs.clone()), Some(vec![Seq(5)]));
        claims.give_back_due(70_000);
        assert_eq!(claims.holder(Seq(4)), Some(id(2)));
        assert_eq!(claims.next_returned(Seq(0)), Some(Seq(5)));
    }

    proptest! {
        #[test]
        fn intervals_are_a_set(steps: Vec<(bool, u8)>, from: u8) {
            let (mut intervals, mut set) = (Intervals::default(), BTreeSet::new());
            for (add, number) in steps {
                if add {
                    intervals.insert(number.into());
                    set.insert(u64::from(number));
                } else {
                    intervals.remove(number.into());
                    set.remove(&u64::from(number));
                }
            }
            let all: Vec<u64> = intervals.0.iter().flat_map(|(a, b)| *a..=*b).collect();
            prop_assert_eq!(all, set.iter().copied().collect::<Vec<_>>());
            let mut lasts = intervals.0.iter().zip(intervals.0.iter().skip(1));
            prop_assert!(lasts.all(|((_, last), (first, _))| last + 1 < *first));
            let next = set.range(u64::from(from)..).next().copied();
            prop_assert_eq!(intervals.next(from.into()), next);
        }
    }
}
