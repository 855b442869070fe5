//! What can be asked of one queue: the verbs on it, its messages and its claims. Knows paths, and no
//! sockets.

use crate::builder::Durability;
use crate::client::Client;
use crate::documents::{
    Claim, Link, Message, NewMessage, PostedMessage, QueueState, QueueStats, WirePosted, WireStats,
    check_link, seconds,
};
use crate::error::Error;
use crate::pages::{MessagePages, Query, escape};
use crate::send::{Answer, Ask};
use hyper::Method;
use hyper::header::LOCATION;
use serde_json::value::RawValue;
use std::time::Duration;

/// Ids in one request; more are asked for in several. Servers take this many by default.
const IDS_COUNT_MAX: usize = 20;

/// A queue of a server; made by [`Client::queue`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    name: String,
    /// Path of the queue.
    path: String,
}

/// Whether a queue is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was made.
    New,
    /// It was there, and is as it was. Also where the request was repeated, and it was the first
    /// attempt that made it.
    Existing,
}

/// How a list of messages is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Where to go on, from [`MessagePages::marker`]; from the oldest message on without.
    pub marker: Option<String>,
    /// Messages on a page: 1 to 20 by default; 10 where nothing is said.
    pub limit: Option<u32>,
    /// Whether to show what this client posted itself.
    pub echo: bool,
    /// Whether to show what is claimed.
    pub include_claimed: bool,
}

/// How a claim is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimOptions {
    /// How long it holds its messages, in whole seconds; 60 s to 12 h by default.
    pub ttl: Duration,
    /// How much longer than the claim the messages live at least, in whole seconds; 60 s to 12 h by
    /// default.
    pub grace: Duration,
    /// Messages to claim at most: 1 to 20 by default; 10 where nothing is said.
    pub limit: Option<u32>,
}

impl Default for ClaimOptions {
    /// A minute, and a minute of grace.
    fn default() -> ClaimOptions {
        let minute = Duration::from_secs(60);
        ClaimOptions { ttl: minute, grace: minute, limit: None }
    }
}

/// What became of a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// The messages, in the order they were given.
    pub messages: Vec<PostedMessage>,
    /// What the answer promises, where the server says so.
    pub durability: Option<Durability>,
}

impl Queue {
    pub(crate) fn new(client: Client, name: &str) -> Queue {
        let path = format!("/v1/queues/{}", escape(name));
        Queue { client, name: name.to_owned(), path }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client it is asked by.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Makes the queue. With [`Builder::durability`] that becomes the queue's, also where it was
    /// there.
    ///
    /// [`Builder::durability`]: crate::Builder::durability
    pub async fn create(&self) -> Result<Created, Error> {
        let answer = self.ask(Method::PUT, &self.path).await?.of(&[201, 204])?;
        Ok(if answer.status == 201 { Created::New } else { Created::Existing })
    }

    /// Whether it is there, and what its writes promise; `None` where it is not.
    pub async fn state(&self) -> Result<Option<QueueState>, Error> {
        let answer = self.ask(Method::GET, &self.path).await?.of(&[200, 204, 404])?;
        let state = QueueState { durability: answer.durability() };
        Ok(Some(state).filter(|_| answer.status != 404))
    }

    /// Whether it is there.
    pub async fn exists(&self) -> Result<bool, Error> {
        Ok(self.state().await?.is_some())
    }

    /// Removes the queue with all its messages and claims, if it is there.
    pub async fn remove(&self) -> Result<(), Error> {
        self.ask(Method::DELETE, &self.path).await?.of(&[204]).map(drop)
    }

    /// Its metadata: an object.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the queue is not there.
    pub async fn metadata(&self) -> Result<Box<RawValue>, Error> {
        self.ask(Method::GET, &self.under("metadata")).await?.of(&[200])?.document()
    }

    /// Replaces its metadata by this object; no key of it may begin with `_`.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the queue is not there; [`Error::Refused`] where it is no object, or
    /// too large.
    pub async fn set_metadata(&self, metadata: &RawValue) -> Result<(), Error> {
        let body = metadata.get().as_bytes().to_vec();
        let ask = Ask::new(Method::PUT, self.under("metadata")).body(body);
        self.client.call(ask).await?.of(&[204]).map(drop)
    }

    /// Its counts, as they are at the moment of the answer.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the queue is not there.
    pub async fn stats(&self) -> Result<QueueStats, Error> {
        let answer = self.ask(Method::GET, &self.under("stats")).await?.of(&[200])?;
        Ok(answer.document::<WireStats>()?.messages)
    }

    /// Posts messages: all are stored, or none.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the queue is not there; [`Error::Refused`] where it is more than a
    /// post may hold, or a ttl is out of bounds; [`Error::OutcomeUnknown`] and [`Error::Unavailable`]
    /// where they may have been stored or not.
    pub async fn post(&self, messages: &[NewMessage]) -> Result<Posted, Error> {
        if messages.is_empty() {
            return Err(Error::invalid("a post has no messages; it needs at least one"));
        }
        let mut body = Vec::with_capacity(2 + messages.iter().map(NewMessage::size).sum::<usize>());
        body.push(b'[');
        for (index, message) in messages.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            message.write(&mut body);
        }
        body.push(b']');
        let ask = Ask::new(Method::POST, self.under("messages")).body(body);
        let answer = self.client.call(ask).await?.of(&[201])?;
        let posted: WirePosted = answer.document()?;
        if posted.resources.len() != messages.len() {
            let (found, sent) = (posted.resources.len(), messages.len());
            return Err(answer.malformed(format!("{found} links came back for {sent} messages")));
        }
        let links = posted.resources.into_iter().map(PostedMessage::new);
        let messages = links.collect::<Result<_, _>>().map_err(|what| answer.malformed(what))?;
        Ok(Posted { messages, durability: answer.durability() })
    }

    /// Its messages, oldest first, page by page.
    pub fn messages(&self, options: &ListOptions) -> MessagePages {
        let mut query = Query::default();
        if let Some(limit) = options.limit {
            query.add("limit", &limit.to_string());
        }
        if options.echo {
            query.add("echo", "true");
        }
        if options.include_claimed {
            query.add("include_claimed", "true");
        }
        if let Some(marker) = &options.marker {
            query.add("marker", marker);
        }
        MessagePages::new(self.client.clone(), query.behind(&self.under("messages")))
    }

    /// One message, claimed or not.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it is not there, or no longer.
    pub async fn message(&self, id: &str) -> Result<Message, Error> {
        self.ask(Method::GET, &self.message_path(id)).await?.of(&[200])?.document()
    }

    /// Those of these messages that are there, claimed or not. They are asked for 20 at a time.
    pub async fn messages_by_id(&self, ids: &[impl AsRef<str>]) -> Result<Vec<Message>, Error> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(IDS_COUNT_MAX) {
            let answer = self.ask(Method::GET, &self.ids_path(ids)?).await?.of(&[200, 204])?;
            if answer.status == 200 {
                found.append(&mut answer.document()?);
            }
        }
        Ok(found)
    }

    /// Deletes a message by its link, which names the claim if the message came with one. That it
    /// was gone before is success.
    ///
    /// # Errors
    /// [`Error::Claimed`] where a claim holds it that its link does not name;
    /// [`Error::ClaimMismatch`] where the claim its link names does not hold it (any more).
    pub async fn delete(&self, message: &Message) -> Result<(), Error> {
        self.delete_link(&message.href, message.claim_id.is_some()).await
    }

    /// Deletes a message by its id, and by its claim if it is claimed. The rest as [`Queue::delete`].
    pub async fn delete_by_id(&self, id: &str, claim_id: Option<&str>) -> Result<(), Error> {
        let mut query = Query::default();
        if let Some(claim_id) = claim_id {
            query.add("claim_id", claim_id);
        }
        self.delete_link(&query.behind(&self.message_path(id)), claim_id.is_some()).await
    }

    async fn delete_link(&self, link: &str, names_claim: bool) -> Result<(), Error> {
        let answer = self.ask(Method::DELETE, link).await?;
        let (_, description) = answer.told();
        let request = answer.name.clone();
        match answer.status.as_u16() {
            403 => Err(Error::Claimed { request, description }),
            400 if names_claim => Err(Error::ClaimMismatch { request, description }),
            _ => answer.of(&[204]).map(drop),
        }
    }

    /// Deletes these messages, **claimed or not**, there or not. They are named 20 at a time.
    pub async fn delete_many(&self, ids: &[impl AsRef<str>]) -> Result<(), Error> {
        for ids in ids.chunks(IDS_COUNT_MAX) {
            self.ask(Method::DELETE, &self.ids_path(ids)?).await?.of(&[204])?;
        }
        Ok(())
    }

    /// Claims the oldest free messages: nobody else gets them until the claim runs out or is
    /// released. `None` where none is free, or there is no such queue.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] and [`Error::Unavailable`] where messages may be claimed without
    /// anybody knowing; they come back when the claim runs out.
    pub async fn claim(&self, options: &ClaimOptions) -> Result<Option<Claim>, Error> {
        let mut query = Query::default();
        if let Some(limit) = options.limit {
            query.add("limit", &limit.to_string());
        }
        let ask = Ask::new(Method::POST, query.behind(&self.under("claims")))
            .body(times(options.ttl, options.grace));
        let answer = self.client.call(ask).await?.of(&[201, 204])?;
        if answer.status == 204 {
            return Ok(None);
        }
        let messages: Vec<Message> = answer.document()?;
        let href = answer.header(&LOCATION).ok_or_else(|| answer.malformed("no Location"))?;
        let link = Link::read(href).map_err(|what| answer.malformed(what))?;
        let (id, href) = (link.id.to_owned(), href.to_owned());
        let ttl = Duration::from_secs(seconds(options.ttl));
        Ok(Some(Claim { id, href, ttl, age: Duration::ZERO, messages }))
    }

    /// A claim with what it still holds.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it ran out or was released.
    pub async fn claim_by_id(&self, claim_id: &str) -> Result<Claim, Error> {
        self.ask(Method::GET, &self.claim_path(claim_id)).await?.of(&[200])?.document()
    }

    /// Starts the time of a claim anew, with this ttl; its messages live at least `grace` longer.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it ran out or was released: others may have its messages.
    pub async fn renew(&self, claim_id: &str, ttl: Duration, grace: Duration) -> Result<(), Error> {
        let ask = Ask::new(Method::PATCH, self.claim_path(claim_id)).body(times(ttl, grace));
        self.client.call(ask).await?.of(&[204]).map(drop)
    }

    /// Gives back what a claim still holds, if it is there: it is free at once, at its old place.
    pub async fn release(&self, claim_id: &str) -> Result<(), Error> {
        self.ask(Method::DELETE, &self.claim_path(claim_id)).await?.of(&[204]).map(drop)
    }

    async fn ask(&self, method: Method, target: &str) -> Result<Answer, Error> {
        check_link(target).map_err(Error::invalid)?;
        self.client.call(Ask::new(method, target)).await
    }

    fn under(&self, part: &str) -> String {
        format!("{}/{part}", self.path)
    }

    fn message_path(&self, id: &str) -> String {
        format!("{}/messages/{}", self.path, escape(id))
    }

    fn claim_path(&self, id: &str) -> String {
        format!("{}/claims/{}", self.path, escape(id))
    }

    fn ids_path(&self, ids: &[impl AsRef<str>]) -> Result<String, Error> {
        // Without ids the path is that of a list.
        if ids.iter().any(|id| id.as_ref().is_empty()) {
            return Err(Error::invalid("an id is empty; leave it out"));
        }
        let ids: Vec<String> = ids.iter().map(|id| escape(id.as_ref()).to_string()).collect();
        Ok(format!("{}/messages?ids={}", self.path, ids.join(",")))
    }
}

/// The document of a claim or of a renewal.
fn times(ttl: Duration, grace: Duration) -> String {
    format!("{{\"ttl\":{},\"grace\":{}}}", seconds(ttl), seconds(grace))
}
