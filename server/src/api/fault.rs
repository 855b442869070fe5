//! What a client is told when its request fails: the one table of kinds, and which engine error is
//! of which kind. Pure; knows no sockets. No text here names a file, a folder or another tenant.

use super::write::Json;
use marconi_engine::Error;
use std::borrow::Cow;

/// Why a request fails; one for each different reaction of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value is out of range, too large or reserved, or a batch is empty.
    Refused,
    /// The body is absent, no JSON, of the wrong type, or lacks a field.
    BadBody,
    /// A query parameter is not of its type.
    BadParameter,
    /// A query parameter is needed.
    MissingParameter,
    /// A header is needed.
    MissingHeader,
    /// A header's value is not understood.
    BadHeader,
    /// `Client-ID` is no UUID.
    BadUuid,
    /// `X-Project-Id` is there but empty.
    EmptyProject,
    /// The queue's name or the project's is malformed.
    BadQueue,
    /// The body claims to be a form.
    BadContentType,
    /// The claim named does not allow the deletion.
    ClaimMismatch,
    /// A live claim holds the message.
    Claimed,
    /// The thing asked for is not there.
    NotFound,
    /// No resource has this path.
    NoRoute,
    /// The resource does not take this method.
    BadMethod,
    /// The client takes no JSON.
    NotAcceptable,
    /// Too much is going on; soon it will be less.
    Busy,
    /// The store does not answer.
    Unavailable,
}

impl Kind {
    /// The table: status, title, and the seconds after which trying again makes sense.
    pub fn row(self) -> (u16, &'static str, Option<&'static str>) {
        match self {
            Kind::Refused => (400, "Invalid API request", None),
            Kind::BadBody => (400, "Invalid request body", None),
            Kind::BadParameter => (400, "Invalid parameter", None),
            Kind::MissingParameter => (400, "Missing parameter", None),
            Kind::MissingHeader => (400, "Missing header value", None),
            Kind::BadHeader => (400, "Invalid header value", None),
            Kind::BadUuid => (400, "Wrong UUID value", None),
            Kind::EmptyProject => (400, "Empty project header not allowed", None),
            Kind::BadQueue => (400, "Invalid queue identification", None),
            Kind::BadContentType => (400, "Invalid Content-Type", None),
            Kind::ClaimMismatch => (400, "Unable to delete", None),
            Kind::Claimed => (403, "Unable to delete", None),
            Kind::NotFound => (404, "Not found", None),
            Kind::NoRoute => (404, "404 Not Found", None),
            Kind::BadMethod => (405, "405 Method Not Allowed", None),
            Kind::NotAcceptable => (406, "Only application/json is served", None),
            Kind::Busy => (503, "Service temporarily unavailable", Some("1")),
            Kind::Unavailable => (503, "Service temporarily unavailable", Some("30")),
        }
    }
}

/// A failed request: its kind, what the client reads, and what the log reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Why it failed.
    pub kind: Kind,
    /// What the client is told.
    pub description: Cow<'static, str>,
    /// What only the log is told.
    pub detail: Option<String>,
}

impl Fault {
    /// A fault whose log line says what the client is told.
    pub fn new(kind: Kind, description: impl Into<Cow<'static, str>>) -> Fault {
        Fault { kind, description: description.into(), detail: None }
    }

    /// The error document.
    pub fn body(&self) -> Vec<u8> {
        let (_, title, _) = self.kind.row();
        let mut out = Json::with_capacity(48 + title.len() + self.description.len());
        out.raw("{\"title\":").string(title);
        if !self.description.is_empty() {
            out.raw(",\"description\":").string(&self.description);
        }
        out.raw("}");
        out.into_bytes()
    }

    /// What the log is told.
    pub fn log_text(&self) -> &str {
        let text = self.detail.as_deref().unwrap_or(&self.description);
        if text.is_empty() { self.kind.row().1 } else { text }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let (kind, description): (Kind, Cow<'static, str>) = match &error {
            Error::NoSuchQueue => (Kind::NotFound, "There is no such queue.".into()),
            Error::NoSuchMessage => (Kind::NotFound, "There is no such message.".into()),
            Error::NoSuchClaim => {
                (Kind::NotFound, "There is no such claim, or it has expired.".into())
            }
            Error::Claimed => {
                let text = "The message is claimed; name the claim that holds it in claim_id.";
                (Kind::Claimed, text.into())
            }
            Error::ClaimMismatch => {
                let text = "The claim_id named does not hold this message: it was released, has \
                            expired, or never was.";
                (Kind::ClaimMismatch, text.into())
            }
            Error::TooLarge { .. } => (Kind::Refused, error.to_string().into()),
            Error::Busy => (Kind::Busy, "Too much is waiting to be written; try again.".into()),
            Error::Full => {
                let text = "The store is full; nothing was stored. Deleting still works.";
                (Kind::Unavailable, text.into())
            }
            _ => (Kind::Unavailable, "The store does not answer; try again later.".into()),
        };
        let detail = error.is_storage().then(|| error.to_string());
        Fault { kind, description, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_read_no_internals() {
        let error = Error::ReadOnly("sync of /var/lib/secret/000.log failed".into());
        let fault = Fault::from(error);
        assert_eq!(fault.kind, Kind::Unavailable);
        assert!(!fault.description.contains('/'));
        assert!(fault.log_text().contains("/var/lib"));
    }

    #[test]
    fn the_document_has_a_title_and_a_description() {
        let fault = Fault::new(Kind::BadBody, "say \"what\"");
        let document: serde_json::Value =
            serde_json::from_slice(&fault.body()).expect("a document");
        assert_eq!(
            document,
            serde_json::json!({"title": "Invalid request body", "description": "say \"what\""})
        );
    }

    #[test]
    fn every_503_says_when_to_come_back() {
        assert_eq!(Fault::from(Error::Busy).kind.row().2, Some("1"));
        for error in [Error::Full, Error::Closed] {
            assert_eq!(Fault::from(error).kind.row(), Kind::Unavailable.row());
        }
    }
}
