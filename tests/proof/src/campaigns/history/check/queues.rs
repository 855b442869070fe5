//! Queues as a whole: whether they are there, their counts and their metadata.

use super::facts::{Facts, Number};
use super::{Findings, Kind};
use crate::campaigns::history::operation::{Answer, Call, Position};

/// Judges whether a post was taken.
pub(super) fn posted(
    facts: &Facts<'_>,
    findings: &mut Findings<'_>,
    number: Number,
    answer: &Answer,
) {
    exists(facts, findings, number, matches!(answer, Answer::Posted(_)));
}

/// An answer says whether its queue was there.
fn exists(facts: &Facts<'_>, findings: &mut Findings<'_>, number: Number, says_so: bool) {
    let queue = facts.operation(number).queue;
    if says_so && !facts.queue_may_be_there(queue, number) {
        let mut operations = facts.queues[queue].removals.clone();
        operations.push(number);
        let what = "a queue that is not there took a call".to_owned();
        findings.add(Kind::CameBack, what, &operations);
    } else if !says_so && facts.queue_is_there(queue, number) {
        let mut operations = facts.queues[queue].creates.clone();
        operations.truncate(1);
        operations.push(number);
        findings.add(Kind::Lost, "a queue is missing".to_owned(), &operations);
    }
}

/// Judges the making of a queue.
pub(super) fn created(
    facts: &Facts<'_>,
    findings: &mut Findings<'_>,
    number: Number,
    answer: &Answer,
) {
    exists(facts, findings, number, matches!(answer, Answer::Done));
}

/// Judges counts.
pub(super) fn counted(
    facts: &Facts<'_>,
    findings: &mut Findings<'_>,
    number: Number,
    answer: &Answer,
) {
    let Answer::Counts { free, claimed, ends } = answer else {
        exists(facts, findings, number, false);
        return;
    };
    exists(facts, findings, number, true);
    let operation = facts.operation(number);
    let mut total_of = Count::default();
    let mut claimed_of = Count::default();
    let mut free_of = Count::default();
    let mut between: Option<(Position, Position)> = None;
    for index in &facts.queues[operation.queue].messages {
        let may_be_there = facts.may_be_there(*index, number);
        if !may_be_there {
            continue;
        }
        let is_there = facts.is_there(*index, number);
        let may_be_claimed = facts.may_be_claimed(*index, number);
        let is_claimed = facts.holder(*index, number).is_some();
        total_of.add(is_there, true);
        claimed_of.add(is_there && is_claimed, may_be_claimed);
        free_of.add(is_there && !may_be_claimed, !is_claimed);
        if let Some(position) = facts.messages[*index].position.filter(|_| is_there) {
            let (first, last) = between.unwrap_or((position, position));
            between = Some((first.min(position), last.max(position)));
        }
    }
    for (what, count, bounds) in [
        ("in all", free + claimed, &total_of),
        ("claimed", *claimed, &claimed_of),
        ("free", *free, &free_of),
    ] {
        if !(bounds.least..=bounds.most).contains(&count) {
            let Count { least, most } = bounds;
            let what = format!("{count} messages {what}, where there are {least} to {most}");
            findings.add(Kind::WrongCount, what, &[number]);
        }
    }
    if ends.is_some() != (free + claimed > 0) {
        let what = "the oldest and the newest do not go with the count".to_owned();
        findings.add(Kind::WrongCount, what, &[number]);
    }
    if let (Some((oldest, newest)), Some((first, last))) = (ends, between)
        && (*oldest > first || *newest < last)
    {
        let what = format!("there are messages from {first} to {last}");
        findings.add(Kind::WrongCount, what, &[number]);
    }
    for end in ends.iter().flat_map(|(oldest, newest)| [oldest, newest]) {
        // One that no answer named yet was posted by somebody who was not answered.
        let Some(index) = facts.at(*end) else { continue };
        if !facts.may_be_there(index, number) {
            let message = &facts.messages[index];
            let what = format!("{end} is gone and counted among the ends");
            findings.add(Kind::CameBack, what, &[message.post, message.gone_by, number]);
        }
    }
}

/// How many there certainly are, and how many there may be.
#[derive(Debug, Default)]
struct Count {
    least: u64,
    most: u64,
}

impl Count {
    fn add(&mut self, is: bool, may_be: bool) {
        self.least += u64::from(is);
        self.most += u64::from(may_be);
    }
}

/// Judges the setting and the reading of metadata.
pub(super) fn metadata(
    facts: &Facts<'_>,
    findings: &mut Findings<'_>,
    number: Number,
    answer: &Answer,
) {
    exists(facts, findings, number, !matches!(answer, Answer::Refused(_)));
    let Answer::Value(found) = answer else { return };
    let at = facts.operation(number);
    let queue = &facts.queues[at.queue];
    let value_of = |set: Number| match facts.operation(set).call {
        Call::SetMetadata { value } => Some(value),
        _ => None,
    };
    // Whether something else was certainly set after `from`, and before this read.
    let is_replaced = |from: u64| {
        queue
            .metadata
            .iter()
            .map(|set| facts.operation(*set))
            .find(|set| set.has_happened() && set.begun > from && set.ended <= at.begun)
    };
    let explained = match found {
        // So it is at first, and again after each making of the queue.
        None => queue.creates.iter().any(|create| {
            let create = facts.operation(*create);
            let is_made = create.answer != Answer::Done;
            is_made && create.begun <= at.ended && is_replaced(create.ended).is_none()
        }),
        Some(value) => queue.metadata.iter().any(|set| {
            let is_it = value_of(*set) == Some(*value);
            let set = facts.operation(*set);
            let is_removed =
                queue.removals.iter().map(|removal| facts.operation(*removal)).any(|removal| {
                    removal.has_happened() && removal.begun > set.ended && removal.ended <= at.begun
                });
            is_it && set.begun <= at.ended && is_replaced(set.ended).is_none() && !is_removed
        }),
    };
    if !explained {
        let set = queue.metadata.iter().copied().filter(|set| value_of(*set) == *found);
        let mut operations: Vec<Number> = set.collect();
        operations.push(number);
        let what = "metadata that are not the last ones set".to_owned();
        findings.add(Kind::WrongMetadata, what, &operations);
    }
}
