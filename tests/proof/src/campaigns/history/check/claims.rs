//! What claims take and hold, and that no message is under two of them.

use super::facts::{Claim, Facts, Number};
use super::messages::{Range, complete, in_order, living};
use super::{Findings, Kind};
use crate::campaigns::history::operation::{Answer, Call};

/// Judges what a new claim took.
pub(super) fn made(facts: &Facts<'_>, findings: &mut Findings<'_>, number: Number) {
    let operation = facts.operation(number);
    let Call::Claim { limit, .. } = operation.call else { return };
    let messages = match &operation.answer {
        Answer::Claimed { messages, .. } => messages.as_slice(),
        _ => &[],
    };
    living(facts, findings, number, messages);
    in_order(findings, number, messages, None, limit);
    let last = messages.last().filter(|_| messages.len() >= limit).map(|one| one.position);
    complete(facts, findings, number, messages, Range { after: None, last }, |index| {
        !facts.may_be_claimed(index, number)
    });
}

/// Judges a look at a claim.
pub(super) fn looked_at(facts: &Facts<'_>, findings: &mut Findings<'_>, number: Number) {
    let operation = facts.operation(number);
    let Call::ClaimGet { claim: id } = operation.call else { return };
    let Some(claim) = facts.claim(id) else { return };
    let Answer::Claimed { messages, .. } = &operation.answer else {
        ended(facts, findings, claim, number);
        return;
    };
    lives(facts, findings, claim, number);
    living(facts, findings, number, messages);
    in_order(findings, number, messages, None, usize::MAX);
    for one in messages {
        let index = facts.message(one.key);
        if !index.is_some_and(|index| claim.messages.contains(&index)) {
            let what = format!("a claim holds message {}, which it was not given", one.key);
            findings.add(Kind::ClaimedTwice, what, &[claim.made, number]);
        }
    }
    // What another claim was given may have come to it in between.
    complete(facts, findings, number, messages, Range { after: None, last: None }, |index| {
        claim.messages.contains(&index) && facts.messages[index].claims.len() == 1
    });
}

/// Judges a renewal.
pub(super) fn renewed(facts: &Facts<'_>, findings: &mut Findings<'_>, number: Number) {
    let operation = facts.operation(number);
    let Call::Renew { claim: id, .. } = operation.call else { return };
    let Some(claim) = facts.claim(id) else { return };
    if operation.has_happened() {
        lives(facts, findings, claim, number);
    } else {
        ended(facts, findings, claim, number);
    }
}

/// A claim answers, so it must not have ended.
fn lives(facts: &Facts<'_>, findings: &mut Findings<'_>, claim: &Claim, number: Number) {
    if facts.has_ended(claim, number) {
        let mut operations = vec![claim.made];
        operations.extend(&claim.releases);
        operations.push(number);
        let what = "a claim that had ended is there again".to_owned();
        findings.add(Kind::ClaimOutlived, what, &operations);
    }
}

/// A claim does not answer, so it must have ended.
fn ended(facts: &Facts<'_>, findings: &mut Findings<'_>, claim: &Claim, number: Number) {
    let is_made = facts.operation(claim.made).ended <= facts.operation(number).begun;
    if is_made && !facts.may_have_ended(claim, number) {
        let what = "a claim that has to live is not there".to_owned();
        findings.add(Kind::ClaimEndedEarly, what, &[claim.made, number]);
    }
}

/// Of two claims that handed out the same message one may have ended before the other was made.
pub(super) fn pairs(facts: &Facts<'_>, findings: &mut Findings<'_>) {
    for message in &facts.messages {
        for (place, one) in message.claims.iter().enumerate() {
            for other in &message.claims[..place] {
                let (one, other) = (&facts.claims[*one], &facts.claims[*other]);
                let may_follow = |first: &Claim, second: &Claim| {
                    facts.operation(first.made).begun <= facts.operation(second.made).ended
                        && facts.may_have_ended(first, second.made)
                };
                if !may_follow(one, other) && !may_follow(other, one) {
                    let what = format!("message {} is under two living claims", message.key);
                    let operations = [message.post, other.made, one.made];
                    findings.add(Kind::ClaimedTwice, what, &operations);
                }
            }
        }
    }
}
