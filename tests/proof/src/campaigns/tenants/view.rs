//! What a tenant has been told by one server: ids, by what they name. Finds them in answers, and writes in their
//! place what is the same for every server. Knows no calls.

use crate::random::Random;
use marconi_engine::{ClaimId, Lsn, Marker, MessageId, QueueId};
use std::collections::HashMap;
use std::fmt::Write;

/// Where ids are moved to that a server shall not know: no log gets there.
const ELSEWHERE: u64 = 1 << 62;

/// How far back an id counts as seen.
const RECENT: usize = 64;

/// What an id is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    Claim,
    Marker,
}

impl Kind {
    pub(super) fn random(random: &mut Random) -> Kind {
        [Kind::Message, Kind::Claim, Kind::Marker][random.below(3) as usize]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    Message(MessageId),
    Claim(ClaimId),
    Marker(Marker),
}

impl Id {
    fn read(text: &str) -> Option<Id> {
        let message = || text.parse().ok().map(Id::Message);
        let claim = || text.parse().ok().map(Id::Claim);
        message().or_else(claim).or_else(|| text.parse().ok().map(Id::Marker))
    }

    fn kind(self) -> Kind {
        match self {
            Id::Message(_) => Kind::Message,
            Id::Claim(_) => Kind::Claim,
            Id::Marker(_) => Kind::Marker,
        }
    }

    fn text(self, is_elsewhere: bool) -> String {
        let moved = |place: u64| if is_elsewhere { place | ELSEWHERE } else { place };
        match self {
            Id::Message(MessageId { queue, seq }) => {
                MessageId { queue: QueueId(moved(queue.0)), seq }.to_string()
            }
            Id::Claim(ClaimId(lsn)) => ClaimId(Lsn(moved(lsn.0))).to_string(),
            Id::Marker(Marker { queue, seq }) => {
                Marker { queue: QueueId(moved(queue.0)), seq }.to_string()
            }
        }
    }
}

/// The ids a tenant has seen, in the order it saw them first.
#[derive(Debug, Default)]
pub(super) struct View {
    seen: Vec<Id>,
    queues: HashMap<QueueId, usize>,
    claims: HashMap<ClaimId, usize>,
}

impl View {
    /// The text of one of the ids of a kind, of the last ones mostly; one that is no id where there is none.
    pub(super) fn text(&self, kind: Kind, choice: u64, is_elsewhere: bool) -> String {
        let of_it: Vec<Id> = self.seen.iter().copied().filter(|id| id.kind() == kind).collect();
        let reach = if choice.is_multiple_of(4) { of_it.len() } else { of_it.len().min(12) };
        if reach == 0 {
            return "gCABvk3k".to_owned();
        }
        let back = (choice / 4) as usize % reach;
        of_it[of_it.len() - 1 - back].text(is_elsewhere)
    }

    /// An answer with each id replaced by what it names: the how manieth queue or claim seen, and the number there.
    /// What an answer only repeats of the call's target counts as no id of the tenant's own.
    pub(super) fn plain(&mut self, text: &str, target: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        let is_of_ids =
            |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            if !is_of_ids(letter) {
                plain.push(letter);
                rest = &rest[letter.len_utf8()..];
                continue;
            }
            let end = rest.find(|letter| !is_of_ids(letter)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            match Id::read(word) {
                Some(id) => {
                    let is_known = self.seen.iter().rev().take(RECENT).any(|seen| *seen == id);
                    if !is_known && !target.contains(word) {
                        self.seen.push(id);
                    }
                    self.name(id, &mut plain);
                }
                None => plain.push_str(word),
            }
            rest = behind;
        }
        plain
    }

    fn name(&mut self, id: Id, plain: &mut String) {
        let queue_count = self.queues.len();
        let claim_count = self.claims.len();
        let mut queue = |id: QueueId| *self.queues.entry(id).or_insert(queue_count);
        // Writing to a text does not fail.
        let _ = match id {
            Id::Message(id) => write!(plain, "<message {} of {}>", id.seq.0, queue(id.queue)),
            Id::Marker(id) => write!(plain, "<marker {} of {}>", id.seq.0, queue(id.queue)),
            Id::Claim(id) => {
                write!(plain, "<claim {}>", self.claims.entry(id).or_insert(claim_count))
            }
        };
    }
}
