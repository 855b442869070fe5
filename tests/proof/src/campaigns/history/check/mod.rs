//! The checker: a history in, violations out. Pure, and without any idea of how the server works.
//!
//! Nobody knows when, between its call and its answer, an operation took effect; one that was never answered took
//! effect at any later moment up to the kill, or not at all. So each fact about a message or a claim is kept as two
//! moments, "possibly from then on" and "certainly from then on", and each answer is held against what was certain:
//!
//! 1. [`Facts`] goes through the history once. A message is *possibly* there from the begin of its post and
//!    *certainly* from the answer to it, or from the end of the first answer that showed it. It is possibly gone from
//!    the begin of the first delete of it (or of its queue) that was not refused, and certainly gone from the end of
//!    the first that was acknowledged. Its life ends where the server's clock says: between the earliest and the
//!    latest reading that the post, and every claim that extended it, may have had. Claims likewise: from the answer
//!    on, until a release, or until the clock says so, counted from the claim or a renewal that was not certainly
//!    replaced by a later one. The clock may step; what was only done because something had run out counts as
//!    possible, but not as certain, if the clock is put back later.
//! 2. Every answer is then judged by itself. What it shows must have been posted and must not be certainly gone; what
//!    it leaves out must not be certainly there; what it took must have been possibly free; what it refused must not
//!    have been certainly right, and what it did not certainly wrong; counts lie between what is certain and what is
//!    possible, which in a quiet queue are the same.
//! 3. Pairs of operations: for two claims that handed out the same message one must possibly have ended before the
//!    other was made, and the places of messages agree with the order of posts that did not overlap.
//!
//! It refuses no history that could have been right. It does not look for one order of all operations that explains
//! every answer at once, so it may accept some that could not.

mod claims;
mod facts;
mod messages;
mod queues;
#[cfg(test)]
mod tests;

use super::operation::{Answer, Call, History};
use facts::Facts;
use std::fmt;

/// Violations that are told one by one.
const TOLD_MAX: usize = 10;

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// What was acknowledged, and neither deleted nor expired, is missing.
    Lost,
    /// Something that nobody posted, or not here.
    Invented,
    /// A message under two live claims.
    ClaimedTwice,
    /// Messages in another order than they were posted in, or taken out of turn.
    OutOfOrder,
    /// What was deleted, or had expired, was there again.
    CameBack,
    /// A claim that had ended still counted.
    ClaimOutlived,
    /// A claim that had to live did not count any more.
    ClaimEndedEarly,
    /// Counts that nothing explains.
    WrongCount,
    /// Metadata that were not the last set.
    WrongMetadata,
    /// An answer that a server in order never gives.
    Nonsense,
}

/// A broken promise, and the operations that show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// Collects violations.
struct Findings<'a> {
    history: &'a History,
    found: Vec<Violation>,
}

impl Findings<'_> {
    /// Notes a violation that these operations show, the one that is judged last.
    fn add(&mut self, kind: Kind, what: String, operations: &[usize]) {
        if self.found.len() >= TOLD_MAX {
            return;
        }
        let mut text = what;
        for number in operations {
            text.push_str("\n    ");
            text.push_str(&self.history.tell(*number));
        }
        self.found.push(Violation { kind, text });
    }
}

/// What is wrong with a history, the first few of it; nothing where it may have been right.
pub(crate) fn check(history: &History) -> Vec<Violation> {
    let mut findings = Findings { history, found: Vec::new() };
    let facts = Facts::gather(history, &mut findings);
    for (number, operation) in history.operations.iter().enumerate() {
        match (&operation.call, &operation.answer) {
            (_, Answer::None | Answer::NotSent) => {}
            (_, Answer::Nonsense(text)) => {
                findings.add(Kind::Nonsense, text.clone(), &[number]);
            }
            (Call::Post { .. }, answer) => queues::posted(&facts, &mut findings, number, answer),
            (Call::List { .. } | Call::Get { .. }, _) => {
                messages::read(&facts, &mut findings, number);
            }
            (Call::Delete { .. }, _) => messages::deleted(&facts, &mut findings, number),
            (Call::DeleteMany { .. } | Call::Release { .. } | Call::Remove, _) => {}
            (Call::Claim { .. }, _) => claims::made(&facts, &mut findings, number),
            (Call::ClaimGet { .. }, _) => claims::looked_at(&facts, &mut findings, number),
            (Call::Renew { .. }, _) => claims::renewed(&facts, &mut findings, number),
            (Call::Stats, answer) => queues::counted(&facts, &mut findings, number, answer),
            (Call::Create, answer) => queues::created(&facts, &mut findings, number, answer),
            (Call::SetMetadata { .. } | Call::GetMetadata, answer) => {
                queues::metadata(&facts, &mut findings, number, answer);
            }
        }
    }
    claims::pairs(&facts, &mut findings);
    messages::order(&facts, &mut findings);
    findings.found
}
