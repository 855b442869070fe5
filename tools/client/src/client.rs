//! The client, and what it asks of a server as a whole.

use crate::builder::{Builder, Durability, Settings};
use crate::error::Error;
use crate::pages::QueuePages;
use crate::queue::Queue;
use crate::retry::Retries;
use crate::send::{self, Answer, Ask, Connections};
use hyper::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// A client of one server. Cheap to clone: clones share their connections.
#[derive(Clone)]
pub struct Client {
    connections: Connections,
    settings: Arc<Settings>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.settings).finish()
    }
}

/// A version of the API that a server speaks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// Such as `1` or `1.1`.
    pub id: String,
    /// Such as `SUPPORTED`, `CURRENT` or `DEPRECATED`.
    pub status: String,
}

#[derive(Deserialize)]
struct WireVersions {
    versions: Vec<Version>,
}

impl Client {
    /// Begins to build a client of the server at `url`, such as `http://127.0.0.1:8888`. A path of
    /// `/v1` behind it is taken, too.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url)
    }

    pub(crate) fn new(settings: Settings) -> Client {
        Client { connections: send::connections(&settings), settings: Arc::new(settings) }
    }

    /// Who this client is to the server.
    pub fn client_id(&self) -> Uuid {
        self.settings.client_id
    }

    /// Host and port of the server.
    pub fn server(&self) -> &str {
        self.settings.authority.as_str()
    }

    /// A clone whose writes are to promise this; see [`Builder::durability`].
    pub fn with_durability(&self, level: Durability) -> Client {
        let settings = Settings { durability: Some(level), ..Settings::clone(&self.settings) };
        Client { connections: self.connections.clone(), settings: Arc::new(settings) }
    }

    /// A clone that repeats requests as often as this says.
    pub fn with_retries(&self, retries: Retries) -> Client {
        let settings = Settings { retries, ..Settings::clone(&self.settings) };
        Client { connections: self.connections.clone(), settings: Arc::new(settings) }
    }

    /// The queue of this name. Asks nothing: it may not be there.
    pub fn queue(&self, name: &str) -> Queue {
        Queue::new(self.clone(), name)
    }

    /// The queues of the project, by name, page by page. `limit` is how many there are on a page (1
    /// to 20 by default; 10 where nothing is said), `marker` the name to go on behind.
    pub fn queues(&self, limit: Option<u32>, marker: Option<&str>, detailed: bool) -> QueuePages {
        QueuePages::new(self.clone(), limit, marker, detailed)
    }

    /// The versions of the API that the server speaks.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the server is of the first release, which does not say.
    pub async fn versions(&self) -> Result<Vec<Version>, Error> {
        let answer = self.call(Ask::new(Method::GET, "/")).await?.of(&[200, 300])?;
        Ok(answer.document::<WireVersions>()?.versions)
    }

    /// The home document: which resources there are, and what they take.
    pub async fn home(&self) -> Result<Box<RawValue>, Error> {
        self.call(Ask::new(Method::GET, "/v1/")).await?.of(&[200])?.document()
    }

    /// Asks whether the server can do its work. It is asked once, whatever [`Retries`] say.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it is there but cannot; [`Error::Connect`] and
    /// [`Error::Interrupted`] where it does not answer.
    pub async fn health(&self) -> Result<(), Error> {
        let once = self.with_retries(Retries::NONE);
        once.call(Ask::new(Method::GET, "/v1/health")).await?.of(&[200, 204])?;
        Ok(())
    }

    pub(crate) async fn call(&self, ask: Ask) -> Result<Answer, Error> {
        send::call(&self.connections, &self.settings, &ask).await
    }
}
