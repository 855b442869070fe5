//! What a connection says to a server and understands of it, one request in flight at a time. Knows
//! nothing of sockets and time; those are `load`'s.

use std::io;

/// One connection's side of a protocol.
pub(crate) trait Conversation {
    /// Appends what is to be sent next: the greeting at first, then one request after each answer.
    fn ask(&mut self, out: &mut Vec<u8>);

    /// Reads the bytes that arrived and were not used yet. `None` where the answer is not whole yet.
    ///
    /// # Errors
    /// For an answer that refuses, or that cannot be understood.
    fn answer(&mut self, received: &[u8]) -> io::Result<Option<Answered>>;
}

/// An answer that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Bytes of it.
    pub(crate) used: usize,
    /// Messages that it finished: posted, or taken and acknowledged.
    pub(crate) messages: u32,
    /// Whether its time counts: greetings and logins are no requests.
    pub(crate) is_request: bool,
    /// Whether there was nothing to take.
    pub(crate) is_dry: bool,
}

/// What the connections of a cell do, whoever serves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Posts messages of 1 KiB, one a request.
    Post,
    /// Takes up to `limit` messages a request, and acknowledges each with a request of its own.
    Take {
        /// Most messages of one request.
        limit: usize,
    },
    /// Posts as [`Work::Post`] does, but as quickly as the protocol can: what is taken later has to come
    /// from somewhere.
    Fill {
        /// Messages of one request, where the protocol has such a thing.
        batch: usize,
    },
}
