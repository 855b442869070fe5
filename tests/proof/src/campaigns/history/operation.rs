//! What clients asked and were told, with times: the history that is checked, and how it is put into words. Knows
//! neither how requests travel nor what makes an answer right.

use super::clock::Clock;
use std::fmt;

/// A moment of the one monotonic clock of a trial, in nanoseconds since its start.
pub(crate) type Moment = u64;

/// Later than everything.
pub(crate) const NEVER: Moment = u64::MAX;

/// Where a message lies, as its id says: in which making of its queue, and at which place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) queue: u64,
    pub(crate) seq: u64,
}

/// What tells one body from all others: [`Key::new`] of the client that posted it, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) u64);

impl Key {
    /// Messages that a client can tell apart.
    const PER_CLIENT: u64 = 1_000_000;

    pub(crate) fn new(client: usize, number: u64) -> Key {
        Key(client as u64 * Key::PER_CLIENT + number % Key::PER_CLIENT)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0 / Key::PER_CLIENT, self.0 % Key::PER_CLIENT)
    }
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// Bodies `first` to `first + count - 1`, in this order.
    Post {
        first: Key,
        count: u64,
        ttl_s: u32,
    },
    /// A page; `echo` shows the client's own, too.
    List {
        after: Option<Position>,
        limit: usize,
        echo: bool,
        with_claimed: bool,
    },
    Get {
        message: Position,
    },
    Delete {
        message: Position,
        claim: Option<u64>,
    },
    DeleteMany {
        messages: Vec<Position>,
    },
    Claim {
        ttl_s: u32,
        grace_s: u32,
        limit: usize,
    },
    ClaimGet {
        claim: u64,
    },
    Renew {
        claim: u64,
        ttl_s: u32,
        grace_s: u32,
    },
    Release {
        claim: u64,
    },
    Stats,
    Create,
    Remove,
    SetMetadata {
        value: u64,
    },
    GetMetadata,
}

/// A message in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) position: Position,
    pub(crate) key: Key,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// None, since the server was killed or the client hung up: it may have happened or not.
    None,
    /// The request was never sent to its end, so it must not have happened.
    NotSent,
    /// Done, with nothing to say; also a queue that was there already.
    Done,
    /// A queue was made.
    Made,
    /// 400, 403 or 404.
    Refused(u16),
    Posted(Vec<Position>),
    /// A page, or one message.
    Shown(Vec<Shown>),
    /// What a new claim, or one that was looked at, holds.
    Claimed {
        claim: u64,
        messages: Vec<Shown>,
    },
    Counts {
        free: u64,
        claimed: u64,
        ends: Option<(Position, Position)>,
    },
    /// Metadata; `None` where nobody set any.
    Value(Option<u64>),
    /// Something that no server in order says.
    Nonsense(String),
}

/// A call and its answer.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    /// The queue's number among those of the trial.
    pub(crate) queue: usize,
    pub(crate) call: Call,
    /// Just before its first byte was sent.
    pub(crate) begun: Moment,
    /// When its answer was read; where none came, the moment after which it cannot happen any more.
    pub(crate) ended: Moment,
    pub(crate) answer: Answer,
}

impl Operation {
    /// Whether it may have changed something: it was done, or nobody knows.
    pub(crate) fn may_have_happened(&self) -> bool {
        matches!(self.answer, Answer::None) || self.has_happened()
    }

    /// Whether it was done for certain.
    pub(crate) fn has_happened(&self) -> bool {
        !matches!(
            self.answer,
            Answer::None | Answer::NotSent | Answer::Refused(_) | Answer::Nonsense(_)
        )
    }
}

/// All that happened in a trial.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) operations: Vec<Operation>,
    /// The server's clock.
    pub(crate) clock: Clock,
}

impl History {
    /// An operation in words, with its times.
    pub(crate) fn tell(&self, number: usize) -> String {
        let Operation { client, queue, call, begun, ended, answer } = &self.operations[number];
        let (low_ms, high_ms) = self.clock.range(*begun, *ended);
        let end = if *ended == NEVER { "end".to_owned() } else { seconds(*ended) };
        format!(
            "client {client}, {} to {end} s (clock {low_ms} to {high_ms} ms), queue {queue}: {call} -> {answer}",
            seconds(*begun)
        )
    }
}

fn seconds(moment: Moment) -> String {
    format!("{}.{:06}", moment / 1_000_000_000, moment / 1000 % 1_000_000)
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.queue, self.seq)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Post { first, count, ttl_s } => {
                write!(f, "post {count} from {first} on, ttl {ttl_s} s")
            }
            Call::List { after, limit, echo, with_claimed } => {
                write!(f, "list up to {limit}")?;
                if let Some(after) = after {
                    write!(f, " behind {after}")?;
                }
                write!(f, ", echo {echo}, claimed ones {with_claimed}")
            }
            Call::Get { message } => write!(f, "get {message}"),
            Call::Delete { message, claim: None } => write!(f, "delete {message}"),
            Call::Delete { message, claim: Some(claim) } => {
                write!(f, "delete {message} under claim {claim}")
            }
            Call::DeleteMany { messages } => write!(f, "delete {}", Several(messages)),
            Call::Claim { ttl_s, grace_s, limit } => {
                write!(f, "claim up to {limit}, ttl {ttl_s} s, grace {grace_s} s")
            }
            Call::ClaimGet { claim } => write!(f, "look at claim {claim}"),
            Call::Renew { claim, ttl_s, grace_s } => {
                write!(f, "renew claim {claim}, ttl {ttl_s} s, grace {grace_s} s")
            }
            Call::Release { claim } => write!(f, "release claim {claim}"),
            Call::Stats => f.write_str("stats"),
            Call::Create => f.write_str("make the queue"),
            Call::Remove => f.write_str("remove the queue"),
            Call::SetMetadata { value } => write!(f, "set metadata to {value}"),
            Call::GetMetadata => f.write_str("get metadata"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::None => f.write_str("no answer"),
            Answer::NotSent => f.write_str("never sent to its end"),
            Answer::Done => f.write_str("204"),
            Answer::Made => f.write_str("201"),
            Answer::Refused(status) => write!(f, "{status}"),
            Answer::Posted(positions) => write!(f, "posted as {}", Several(positions)),
            Answer::Shown(messages) => write!(f, "{}", Several(messages)),
            Answer::Claimed { claim, messages } => {
                write!(f, "claim {claim} with {}", Several(messages))
            }
            Answer::Counts { free, claimed, ends } => {
                write!(f, "{free} free, {claimed} claimed")?;
                ends.map_or(Ok(()), |(oldest, newest)| write!(f, ", from {oldest} to {newest}"))
            }
            Answer::Value(None) => f.write_str("none"),
            Answer::Value(Some(value)) => write!(f, "{value}"),
            Answer::Nonsense(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.position, self.key)
    }
}

/// The first few of a list.
struct Several<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Several<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 20;
        f.write_str("[")?;
        for (place, item) in self.0.iter().take(SHOWN_MAX).enumerate() {
            write!(f, "{}{item}", if place > 0 { ", " } else { "" })?;
        }
        if self.0.len() > SHOWN_MAX {
            write!(f, ", ... {} in all", self.0.len())?;
        }
        f.write_str("]")
    }
}
