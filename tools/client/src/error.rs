//! What can go wrong: one variant for each different reaction of a caller. Knows no sockets.

use std::io;
use std::time::Duration;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client was asked for something that cannot be sent; nothing was. Mend the call.
    #[error("{what}")]
    Invalid {
        /// What is wrong, with the value and what it has to be.
        what: String,
    },
    /// No connection could be made, however often it was tried: nothing was sent. Is the server
    /// running, and is the address right?
    #[error("cannot connect to {server}")]
    Connect {
        /// Host and port.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection failed, or no answer came in time, however often the request was repeated. It
    /// is one that may be repeated: do so later.
    #[error("{request} got no answer")]
    Interrupted {
        /// Method and path.
        request: String,
        /// What happened to the last attempt.
        source: io::Error,
    },
    /// A POST was sent, and its answer got lost: it may or may not have happened. Posting again may
    /// store messages twice; claiming again is harmless, but what the lost claim may hold comes back
    /// only when it runs out.
    #[error("{request} got no answer: it may or may not have happened")]
    OutcomeUnknown {
        /// Method and path.
        request: String,
        /// What happened.
        source: io::Error,
    },
    /// The server cannot do this now (a status of 5xx), however often it was asked. Try again, not
    /// before `retry_after`. Whether a *write* has happened is open; see
    /// [`Error::may_have_happened`].
    #[error("the server does not take {request} now ({status}): {description}")]
    Unavailable {
        /// Method and path.
        request: String,
        /// Mostly 503.
        status: u16,
        /// When it makes sense to try again, if the server said so.
        retry_after: Option<Duration>,
        /// What the server said, for people.
        description: String,
    },
    /// There is no such queue, message or claim (404). A claim that ran out is gone, too.
    #[error("{request}: {description}")]
    NotFound {
        /// Method and path.
        request: String,
        /// What the server said, for people.
        description: String,
    },
    /// A live claim holds the message, and none or another one was named (403 to a deletion). Leave
    /// it to who holds it.
    #[error("{request}: {description}")]
    Claimed {
        /// Method and path.
        request: String,
        /// What the server said, for people.
        description: String,
    },
    /// The claim named does not hold the message (400 to a deletion that names one): it ran out or
    /// was released, and somebody else may do the work again.
    #[error("{request}: {description}")]
    ClaimMismatch {
        /// Method and path.
        request: String,
        /// What the server said, for people.
        description: String,
    },
    /// The server refuses the request as it is (another status of 4xx): a value out of bounds, a
    /// token that is not good. Repeating it does not help.
    #[error("the server refuses {request} ({status} {title}): {description}")]
    Refused {
        /// Method and path.
        request: String,
        /// The status.
        status: u16,
        /// What kind of thing is wrong, for people.
        title: String,
        /// What is wrong, for people.
        description: String,
    },
    /// The answer is not one of this API: is something else listening there? The request itself has
    /// been done.
    #[error("{request} was not answered as the v1 API does: {what}")]
    Malformed {
        /// Method and path.
        request: String,
        /// What was expected and found.
        what: String,
    },
    /// A message's body is JSON, but not of the type it was to be read as.
    #[error("message {message} is not of the type expected")]
    Body {
        /// The message's id.
        message: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Error {
    /// Whether the request may have been done although it failed. For all requests but POST that
    /// does not matter: repeat them.
    pub fn may_have_happened(&self) -> bool {
        matches!(
            self,
            Error::OutcomeUnknown { .. }
                | Error::Interrupted { .. }
                | Error::Unavailable { .. }
                | Error::Malformed { .. }
        )
    }

    /// Whether the same request may succeed later: the server was not there, or not able.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Error::Connect { .. }
                | Error::Interrupted { .. }
                | Error::OutcomeUnknown { .. }
                | Error::Unavailable { .. }
        )
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Error {
        Error::Invalid { what: what.into() }
    }
}
