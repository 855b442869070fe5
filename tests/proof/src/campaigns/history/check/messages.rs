//! What pages and single messages show, what deletes answer, and the order of all messages.

use super::facts::{Facts, Number};
use super::{Findings, Kind};
use crate::campaigns::history::operation::{Answer, Call, NEVER, Position, Shown};
use std::collections::HashSet;

/// Judges a page, or one message.
pub(super) fn read(facts: &Facts<'_>, findings: &mut Findings<'_>, number: Number) {
    let operation = facts.operation(number);
    let shown: &[Shown] = match &operation.answer {
        Answer::Shown(messages) => messages,
        _ => &[],
    };
    living(facts, findings, number, shown);
    match operation.call {
        Call::List { after, limit, echo, with_claimed } => {
            in_order(findings, number, shown, after, limit);
            let is_foreign = |key| {
                let post = facts.message(key).map(|index| facts.messages[index].post);
                post.is_none_or(|post| facts.operation(post).client != operation.client)
            };
            if let Some(own) = shown.iter().find(|one| !echo && !is_foreign(one.key)) {
                let what = format!("a page without one's own messages shows {}", own.key);
                findings.add(Kind::Invented, what, &[number]);
            }
            if !with_claimed {
                for one in shown {
                    let Some(index) = facts.message(one.key) else { continue };
                    if let Some(claim) = facts.holder(index, number) {
                        let what = format!("{} is shown as free while a claim holds it", one.key);
                        findings.add(Kind::ClaimEndedEarly, what, &[claim.made, number]);
                    }
                }
            }
            let last = shown.last().filter(|_| shown.len() >= limit).map(|one| one.position);
            complete(facts, findings, number, shown, Range { after, last }, |index| {
                (echo || is_foreign(facts.messages[index].key))
                    && (with_claimed || !facts.may_be_claimed(index, number))
            });
        }
        Call::Get { message } => {
            let is_other = |one: &Shown| one.position != message;
            if shown.len() > 1 || shown.iter().any(is_other) {
                let what = "another message than was asked for".to_owned();
                findings.add(Kind::Invented, what, &[number]);
            }
            let Some(index) = facts.at(message) else { return };
            if shown.is_empty() && facts.is_there(index, number) {
                lost(facts, findings, index, number);
            }
        }
        _ => {}
    }
}

/// What is shown must not be gone.
pub(super) fn living(
    facts: &Facts<'_>,
    findings: &mut Findings<'_>,
    number: Number,
    shown: &[Shown],
) {
    let operation = facts.operation(number);
    for one in shown {
        let Some(index) = facts.message(one.key) else { continue };
        let message = &facts.messages[index];
        if message.gone <= operation.begun {
            let what = format!("message {} was deleted and is there again", one.key);
            findings.add(Kind::CameBack, what, &[message.post, message.gone_by, number]);
        } else if facts.has_expired(index, number) {
            let what = format!("message {} has expired and is shown", one.key);
            findings.add(Kind::CameBack, what, &[message.post, number]);
        }
    }
}

/// Messages come by their positions, behind `after`, and no more than asked for.
pub(super) fn in_order(
    findings: &mut Findings<'_>,
    number: Number,
    shown: &[Shown],
    after: Option<Position>,
    limit: usize,
) {
    let rises = shown.iter().zip(shown.iter().skip(1)).all(|(one, next)| {
        one.position.queue == next.position.queue && one.position < next.position
    });
    let begins = after
        .zip(shown.first())
        .is_none_or(|(after, first)| first.position.queue == after.queue && first.position > after);
    if !rises || !begins || shown.len() > limit {
        let what = "messages out of order, or other ones than asked for".to_owned();
        findings.add(Kind::OutOfOrder, what, &[number]);
    }
}

/// The part of a queue that an answer speaks for.
pub(super) struct Range {
    pub(super) after: Option<Position>,
    /// Where a full answer ended.
    pub(super) last: Option<Position>,
}

impl Range {
    fn holds(&self, position: Position) -> bool {
        self.after.is_none_or(|after| position.queue == after.queue && position > after)
            && self.last.is_none_or(|last| position.queue == last.queue && position < last)
    }
}

/// What is certainly there, and passes the filter, has to be shown.
pub(super) fn complete(
    facts: &Facts<'_>,
    findings: &mut Findings<'_>,
    number: Number,
    shown: &[Shown],
    range: Range,
    passes: impl Fn(usize) -> bool,
) {
    let keys: HashSet<_> = shown.iter().map(|one| one.key).collect();
    for index in &facts.queues[facts.operation(number).queue].order {
        let message = &facts.messages[*index];
        let is_asked = message.position.is_some_and(|position| range.holds(position));
        if is_asked
            && facts.is_there(*index, number)
            && !keys.contains(&message.key)
            && passes(*index)
        {
            lost(facts, findings, *index, number);
        }
    }
}

/// A message that has to be there is not.
pub(super) fn lost(facts: &Facts<'_>, findings: &mut Findings<'_>, index: usize, number: Number) {
    let message = &facts.messages[index];
    let mut operations = vec![message.post];
    operations.extend(message.seen_by.filter(|seen_by| *seen_by != message.post));
    operations.extend(message.claims.iter().map(|claim| facts.claims[*claim].made));
    operations.push(number);
    let what = format!("message {}, there and not deleted, is missing", message.key);
    findings.add(Kind::Lost, what, &operations);
}

/// Judges the answer to a delete of one message.
pub(super) fn deleted(facts: &Facts<'_>, findings: &mut Findings<'_>, number: Number) {
    let operation = facts.operation(number);
    let Call::Delete { message, claim: named } = operation.call else { return };
    // One whose post was never answered and that was never seen: nobody knows its name.
    let Some(index) = facts.at(message) else { return };
    let post = facts.messages[index].post;
    // Not by this delete itself.
    let is_there = facts.messages[index].there <= operation.begun
        && !facts.may_have_expired(index, number)
        && !facts.may_be_deleted_before(index, number);
    let holder = facts.holder(index, number);
    let claim = named.and_then(|named| facts.claim(named));
    let may_hold = named.is_some_and(|_| {
        claim
            .is_some_and(|claim| claim.messages.contains(&index) && !facts.has_ended(claim, number))
    });
    match (&operation.answer, named) {
        (Answer::Done, None) => {
            if let Some(holder) = holder.filter(|_| is_there) {
                let what = "a delete without a claim took a message out of one".to_owned();
                findings.add(Kind::ClaimEndedEarly, what, &[post, holder.made, number]);
            }
        }
        (Answer::Done, Some(_)) => {
            let is_held_by_another = holder.is_some_and(|holder| Some(holder.id) != named);
            if is_there && (!may_hold || is_held_by_another) {
                let mut operations = vec![post];
                operations.extend(claim.map(|claim| claim.made));
                operations.extend(holder.map(|holder| holder.made));
                operations.push(number);
                let what = "a delete under a claim that had ended was not refused".to_owned();
                findings.add(Kind::ClaimOutlived, what, &operations);
            }
        }
        (Answer::Refused(status), _) => {
            let is_right = named.is_some() && holder.map(|holder| holder.id) == named;
            if let Some(holder) = holder.filter(|_| is_right) {
                let what = format!("a delete under a living claim was refused: {status}");
                findings.add(Kind::ClaimEndedEarly, what, &[post, holder.made, number]);
            } else if *status == 403 && !facts.may_be_claimed(index, number) {
                let what =
                    "a delete was refused for a claim, but none holds the message".to_owned();
                findings.add(Kind::ClaimOutlived, what, &[post, number]);
            } else if named.is_none() && *status != 403 {
                let what = format!("a delete without a claim was refused: {status}");
                findings.add(Kind::Nonsense, what, &[post, number]);
            } else if !facts.may_be_there(index, number) {
                let message = &facts.messages[index];
                let what = "a delete of what is gone was refused".to_owned();
                findings.add(Kind::CameBack, what, &[post, message.gone_by, number]);
            }
        }
        (answer, _) => {
            findings.add(Kind::Nonsense, format!("a delete was answered {answer}"), &[number]);
        }
    }
}

/// Messages lie in the order of the posts that did not overlap.
pub(super) fn order(facts: &Facts<'_>, findings: &mut Findings<'_>) {
    for queue in &facts.queues {
        // The earliest that any message further back was there.
        let (mut earliest, mut of) = (NEVER, None);
        let mut queue_id = None;
        for index in queue.order.iter().rev() {
            let message = &facts.messages[*index];
            let making = message.position.map(|position| position.queue);
            if making != queue_id {
                (earliest, of, queue_id) = (NEVER, None, making);
            }
            let begun = facts.operation(message.post).begun;
            if let Some(later) = of.filter(|_| earliest < begun) {
                let other: &super::facts::Message = &facts.messages[later];
                let what = format!("message {} lies behind {}", other.key, message.key);
                findings.add(Kind::OutOfOrder, what, &[other.post, message.post]);
            }
            if message.there < earliest {
                (earliest, of) = (message.there, Some(*index));
            }
        }
    }
}
