//! Who asks whom, and how patiently: the settings of a client, checked once.

use crate::client::Client;
use crate::error::Error;
use crate::retry::Retries;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, Scheme, Uri};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use uuid::Uuid;

const CLIENT_ID: HeaderName = HeaderName::from_static("client-id");
const PROJECT: HeaderName = HeaderName::from_static("x-project-id");
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// What an answer to a write promises. The server's page on durability says what each costs and
/// loses; the order is from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// The server has it.
    Memory,
    /// The system has it.
    Os,
    /// The system has it, and a sync follows soon.
    Interval,
    /// The disk has it, by a sync shared with others.
    Group,
    /// The disk has it, by a sync of its own.
    Each,
}

impl Durability {
    /// All of them, from the weakest on.
    pub const ALL: [Durability; 5] = [
        Durability::Memory,
        Durability::Os,
        Durability::Interval,
        Durability::Group,
        Durability::Each,
    ];

    /// The word the API uses.
    pub fn name(self) -> &'static str {
        match self {
            Durability::Memory => "memory",
            Durability::Os => "os",
            Durability::Interval => "interval",
            Durability::Group => "group",
            Durability::Each => "each",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no durability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no durability; it has to be memory, os, interval, group or each")]
pub struct UnknownDurability(String);

impl FromStr for Durability {
    type Err = UnknownDurability;

    fn from_str(text: &str) -> Result<Durability, UnknownDurability> {
        let found = Durability::ALL.into_iter().find(|level| level.name() == text);
        found.ok_or_else(|| UnknownDurability(text.to_owned()))
    }
}

/// Builds a [`Client`]; made by [`Client::builder`]. All but the address has a default.
#[derive(Debug, Clone)]
pub struct Builder {
    url: String,
    project: Option<String>,
    client_id: Option<Uuid>,
    token: Option<Secret>,
    durability: Option<Durability>,
    connect_timeout: Duration,
    answer_timeout: Duration,
    answer_size_max: usize,
    idle_connection_count_max: usize,
    retries: Retries,
}

impl Builder {
    pub(crate) fn new(url: impl Into<String>) -> Builder {
        Builder {
            url: url.into(),
            project: None,
            client_id: None,
            token: None,
            durability: None,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(60),
            answer_size_max: 64 << 20,
            idle_connection_count_max: 64,
            retries: Retries::default(),
        }
    }

    /// The tenant, sent as `X-Project-Id`. Without one, the queues are those of no project.
    pub fn project(mut self, project: impl Into<String>) -> Builder {
        self.project = Some(project.into());
        self
    }

    /// Who this is, for the server to leave out what it posted itself when it lists. Without one,
    /// each client that is built is somebody new.
    pub fn client_id(mut self, id: Uuid) -> Builder {
        self.client_id = Some(id);
        self
    }

    /// A token for a proxy that asks for one, sent as `X-Auth-Token`.
    pub fn token(mut self, token: impl Into<String>) -> Builder {
        self.token = Some(Secret(token.into()));
        self
    }

    /// What writes are to promise, if more than their queue does.
    pub fn durability(mut self, level: Durability) -> Builder {
        self.durability = Some(level);
        self
    }

    /// How long making a connection may take; 5 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.connect_timeout = timeout;
        self
    }

    /// How long one attempt at a request may take, its answer included; 60 s by default.
    pub fn answer_timeout(mut self, timeout: Duration) -> Builder {
        self.answer_timeout = timeout;
        self
    }

    /// How large an answer may be, in bytes; 64 MiB by default.
    pub fn answer_size_max(mut self, size: usize) -> Builder {
        self.answer_size_max = size;
        self
    }

    /// How many connections are kept open while nobody uses them; 64 by default.
    pub fn idle_connection_count_max(mut self, count: usize) -> Builder {
        self.idle_connection_count_max = count;
        self
    }

    /// How often and how patiently requests are repeated.
    pub fn retries(mut self, retries: Retries) -> Builder {
        self.retries = retries;
        self
    }

    /// Builds the client. No connection is made before the first request.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the address is not `http://HOST[:PORT]`, and where project or token
    /// cannot stand in a header.
    pub fn build(self) -> Result<Client, Error> {
        let authority = authority(&self.url)?;
        let client_id = self.client_id.unwrap_or_else(Uuid::new_v4);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let agent = concat!("marconi-client/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(CLIENT_ID, text("client id", &client_id.to_string())?);
        if let Some(project) = &self.project {
            headers.insert(PROJECT, text("project", project)?);
        }
        if let Some(Secret(token)) = &self.token {
            let mut token = text("token", token)?;
            token.set_sensitive(true);
            headers.insert(TOKEN, token);
        }
        Ok(Client::new(Settings {
            authority,
            client_id,
            headers,
            durability: self.durability,
            connect_timeout: self.connect_timeout,
            answer_timeout: self.answer_timeout,
            answer_size_max: self.answer_size_max,
            idle_connection_count_max: self.idle_connection_count_max,
            retries: self.retries,
        }))
    }
}

/// A text that is shown to nobody.
#[derive(Clone)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What a builder was told, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) authority: Authority,
    pub(crate) client_id: Uuid,
    /// The headers of every request.
    pub(crate) headers: HeaderMap,
    pub(crate) durability: Option<Durability>,
    pub(crate) connect_timeout: Duration,
    pub(crate) answer_timeout: Duration,
    pub(crate) answer_size_max: usize,
    pub(crate) idle_connection_count_max: usize,
    pub(crate) retries: Retries,
}

/// Host and port of a server's address. The path may be that of the API: people copy it.
fn authority(url: &str) -> Result<Authority, Error> {
    let refuse = |why: &str| {
        let wanted = "it has to be http://HOST or http://HOST:PORT";
        Error::invalid(format!("the address is {url:?}{why}; {wanted}"))
    };
    let uri: Uri = url.parse().map_err(|_| refuse(""))?;
    match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => {}
        Some(scheme) if *scheme == Scheme::HTTPS => {
            return Err(refuse(", but TLS is not spoken here: put a proxy in between"));
        }
        _ => return Err(refuse("")),
    }
    if !matches!(uri.path(), "" | "/" | "/v1" | "/v1/") || uri.query().is_some() {
        return Err(refuse(", with a path of its own"));
    }
    let authority = uri.authority().ok_or_else(|| refuse(""))?;
    if authority.as_str().contains('@') {
        return Err(refuse(", with a user in it"));
    }
    Ok(authority.clone())
}

fn text(name: &str, value: &str) -> Result<HeaderValue, Error> {
    if value.is_empty() {
        return Err(Error::invalid(format!("the {name} is empty; leave it out instead")));
    }
    HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_| Error::invalid(format!("the {name} cannot stand in a header of HTTP")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for (url, expected) in [
            ("http://127.0.0.1:8888", Some("127.0.0.1:8888")),
            ("http://queues.example/", Some("queues.example")),
            ("http://[::1]:8888/v1", Some("[::1]:8888")),
            ("http://a/v1/", Some("a")),
            ("https://a", None),
            ("a:8888", None),
            ("127.0.0.1", None),
            ("http://a/queues", None),
            ("http://a/?x=1", None),
            ("http://me@a", None),
            ("ftp://a", None),
            ("", None),
        ] {
            let found = authority(url);
            assert_eq!(found.as_ref().ok().map(Authority::as_str), expected, "{url}");
        }
        let refused = authority("https://a").expect_err("no TLS").to_string();
        assert!(refused.contains("https://a") && refused.contains("TLS"), "{refused}");
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let builder = || Builder::new("http://a");
        for refused in [
            builder().project(""),
            builder().project("a\nb"),
            builder().token("a\rb"),
            builder().token(""),
        ] {
            assert!(matches!(refused.build(), Err(Error::Invalid { .. })));
        }
        let shown = format!("{:?}", builder().token("hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!("group".parse(), Ok(Durability::Group));
        assert!("Group".parse::<Durability>().is_err());
    }
}
