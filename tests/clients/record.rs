//! What the processes of the test of lines told, and what must be true of it. Pure.

use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;

/// How many broken promises are shown of each kind.
const SHOWN_MAX: usize = 5;

/// One event, as `lines.py` tells it. Times are of the one monotonic clock of the machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A post is about to be sent; its messages are numbered from `at`.
    Sending { at: u64, checksums: Vec<u32> },
    /// That post was acknowledged.
    Posted { at: u64, ids: Vec<String> },
    /// A claim was answered with these messages: id, number and checksum of each.
    Claimed { claim: String, sent_ns: u64, answered_ns: u64, messages: Vec<(String, u64, u32)> },
    /// A delete was acknowledged.
    Deleted { id: String, answered_ns: u64 },
    /// A delete was refused because the claim was over.
    Refused,
}

/// Everything told so far.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// The checksum of each message ever sent, by its number.
    checksums: Vec<u32>,
    /// First number and size of every post.
    posts: Vec<(u64, u64)>,
    /// Number of each acknowledged message.
    posted: HashMap<String, u64>,
    /// When the first delete of a message was acknowledged.
    deleted: HashMap<String, u64>,
    deliveries: Vec<Delivery>,
    refused_count: u64,
}

#[derive(Debug)]
struct Delivery {
    claim: String,
    sent_ns: u64,
    answered_ns: u64,
    messages: Vec<(String, u64, u32)>,
}

impl Record {
    pub(crate) fn add(&mut self, event: Event) {
        match event {
            Event::Sending { at, checksums } => {
                assert_eq!(at, self.checksums.len() as u64, "the producer numbers without gaps");
                self.posts.push((at, checksums.len() as u64));
                self.checksums.extend(checksums);
            }
            Event::Posted { at, ids } => self.posted.extend(ids.into_iter().zip(at..)),
            Event::Claimed { claim, sent_ns, answered_ns, messages } => {
                self.deliveries.push(Delivery { claim, sent_ns, answered_ns, messages });
            }
            Event::Deleted { id, answered_ns } => {
                let first = self.deleted.entry(id).or_insert(answered_ns);
                *first = answered_ns.min(*first);
            }
            Event::Refused => self.refused_count += 1,
        }
    }

    /// Acknowledged messages.
    pub(crate) fn posted_count(&self) -> usize {
        self.posted.len()
    }

    /// Acknowledged deletes.
    pub(crate) fn deleted_count(&self) -> usize {
        self.deleted.len()
    }

    /// Compares it all. A claim lives at least `claim_ttl_ns`, and nobody gives one back.
    pub(crate) fn judge(&self, claim_ttl_ns: u64) -> Verdict {
        let mut verdict = Verdict { refused_count: self.refused_count, ..Verdict::default() };
        let mut known: HashMap<&str, Vec<&Delivery>> = HashMap::new();
        let mut stranger_ids_by_number: HashMap<u64, &str> = HashMap::new();
        let mut deliveries: Vec<&Delivery> = self.deliveries.iter().collect();
        deliveries.sort_by_key(|delivery| delivery.answered_ns);
        for delivery in deliveries {
            if !delivery.messages.is_sorted_by(|one, next| one.1 < next.1) {
                verdict.out_of_order.add(&delivery.claim);
            }
            for (id, number, checksum) in &delivery.messages {
                if self.deleted.get(id).is_some_and(|&gone_ns| gone_ns < delivery.sent_ns) {
                    verdict.undone.add(id);
                }
                if self.checksums.get(*number as usize) != Some(checksum) {
                    verdict.altered.add(id);
                }
                match self.posted.get(id) {
                    Some(posted) if posted != number => verdict.altered.add(id),
                    Some(_) => {}
                    None => {
                        let first = *stranger_ids_by_number.entry(*number).or_insert(id);
                        if first != id {
                            verdict.altered.add(id);
                        }
                    }
                }
                let earlier = known.entry(id).or_default();
                let is_held = |other: &&Delivery| {
                    other.claim != delivery.claim
                        && delivery.answered_ns < other.sent_ns + claim_ttl_ns
                };
                if earlier.iter().any(is_held) {
                    verdict.held_twice.add(id);
                }
                earlier.push(delivery);
                verdict.redelivered_count += u64::from(earlier.len() > 1);
            }
        }
        for id in self.posted.keys() {
            if !known.contains_key(id.as_str()) || !self.deleted.contains_key(id) {
                verdict.lost.add(id);
            }
        }
        let numbers: std::collections::HashSet<u64> = self.posted.values().copied().collect();
        for &(at, size) in &self.posts {
            if numbers.contains(&at) {
                continue;
            }
            verdict.unanswered_count += 1;
            let found =
                (at..at + size).filter(|number| stranger_ids_by_number.contains_key(number));
            match found.count() as u64 {
                0 => {}
                whole if whole == size => verdict.posted_again_count += size,
                _ => verdict.torn.add(&format!("the post of {at}")),
            }
        }
        for (number, id) in stranger_ids_by_number {
            if numbers.contains(&number) {
                verdict.altered.add(id);
            }
        }
        verdict
    }
}

/// What was found: figures, and broken promises of each kind.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Posts that got no answer.
    pub(crate) unanswered_count: u64,
    /// Messages of those that are there all the same: their lines are there twice.
    pub(crate) posted_again_count: u64,
    /// Deliveries of messages delivered before.
    pub(crate) redelivered_count: u64,
    /// Deletes that came when their claim was over.
    pub(crate) refused_count: u64,
    /// Acknowledged messages that no worker got, or whose delete was never acknowledged though the
    /// queue is empty.
    pub(crate) lost: Broken,
    /// Claims whose messages are not in the order of their posting.
    pub(crate) out_of_order: Broken,
    /// Messages seen after their delete was acknowledged.
    pub(crate) undone: Broken,
    /// Messages that are not what was posted under their number.
    pub(crate) altered: Broken,
    /// Messages under two live claims.
    pub(crate) held_twice: Broken,
    /// Posts of which a part is there.
    pub(crate) torn: Broken,
}

impl Verdict {
    pub(crate) fn is_clean(&self) -> bool {
        let promises =
            [&self.lost, &self.out_of_order, &self.undone, &self.altered, &self.held_twice];
        promises.iter().all(|broken| broken.count == 0) && self.torn.count == 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} posts unanswered ({} messages there twice for it), {} redelivered, {} deletes \
             refused as too late; {} lost, {} out of order, {} undone, {} altered, \
             {} under two claims, {} posts torn",
            self.unanswered_count,
            self.posted_again_count,
            self.redelivered_count,
            self.refused_count,
            self.lost,
            self.out_of_order,
            self.undone,
            self.altered,
            self.held_twice,
            self.torn,
        )
    }
}

/// How often a promise was broken, and a few of the places.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    pub(crate) count: u64,
    shown: Vec<String>,
}

impl Broken {
    fn add(&mut self, what: &str) {
        self.count += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(what.to_owned());
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count)?;
        if self.shown.is_empty() { Ok(()) } else { write!(f, " {:?}", self.shown) }
    }
}

/// Two posts of two messages, the second unanswered; all delivered and deleted but where `change`
/// says otherwise.
fn check(change: impl FnOnce(&mut Vec<Event>)) -> Verdict {
    let claimed = |claim: &str, sent_ns, messages: &[(&str, u64, u32)]| Event::Claimed {
        claim: claim.to_owned(),
        sent_ns,
        answered_ns: sent_ns + 1,
        messages: messages.iter().map(|&(id, at, sum)| (id.to_owned(), at, sum)).collect(),
    };
    let deleted = |id: &str, answered_ns| Event::Deleted { id: id.to_owned(), answered_ns };
    let mut events = vec![
        Event::Sending { at: 0, checksums: vec![10, 11] },
        Event::Posted { at: 0, ids: vec!["a".to_owned(), "b".to_owned()] },
        Event::Sending { at: 2, checksums: vec![12, 13] },
        claimed("one", 100, &[("a", 0, 10), ("b", 1, 11), ("c", 2, 12)]),
        claimed("two", 110, &[("d", 3, 13)]),
        deleted("a", 120),
        deleted("d", 121),
        claimed("three", 200, &[("b", 1, 11), ("c", 2, 12)]),
        deleted("b", 220),
        deleted("c", 221),
    ];
    change(&mut events);
    let mut record = Record::default();
    events.into_iter().for_each(|event| record.add(event));
    record.judge(50)
}

#[test]
fn what_may_happen_is_counted_and_clean() {
    let verdict = check(|_| {});
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(verdict.redelivered_count, 2);
    assert_eq!((verdict.unanswered_count, verdict.posted_again_count), (1, 2));
}

#[test]
fn every_broken_promise_is_found() {
    let take = |index: usize| check(|events| drop(events.remove(index)));
    assert_eq!(take(5).lost.count, 1);
    assert_eq!(take(4).torn.count, 1);
    let reclaim = |sent_ns: u64, id: &str, at: u64, checksum: u32| {
        check(|events| {
            events.push(Event::Claimed {
                claim: "four".to_owned(),
                sent_ns,
                answered_ns: sent_ns + 1,
                messages: vec![(id.to_owned(), at, checksum)],
            });
        })
    };
    assert_eq!(reclaim(300, "a", 0, 10).undone.count, 1);
    assert_eq!(reclaim(230, "b", 1, 11).held_twice.count, 1);
    assert_eq!(reclaim(300, "e", 0, 10).altered.count, 1);
    assert_eq!(reclaim(300, "c", 2, 99).altered.count, 1);
    let swapped = check(|events| {
        if let Event::Claimed { messages, .. } = &mut events[3] {
            messages.swap(0, 1);
        }
    });
    assert_eq!(swapped.out_of_order.count, 1);
}
