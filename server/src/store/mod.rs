//! The border to storage: the verbs of the domain, and what each promises.
//! Knows `marconi_engine::domain`; knows neither HTTP nor JSON, nor how anything is stored.
//!
//! Every future resolves only when the answer may be told: what it reports is as durable as
//! [`Written::durability`] says, and what it shows can no longer be lost in a mode that promises so.

use bytes::Bytes;
use marconi_engine::{
    ClaimId, ClientId, Created, Durability, Error, ListFilter, Marker, MessageId, NewMessage,
    QueueEntry, QueueInfo, QueueKey, QueueStats,
};
use std::future::Future;

mod engine;
pub use engine::EngineStore;

/// The answer to a write, and the durability it had reached before it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// The answer.
    pub answer: T,
    /// How durable the change is.
    pub durability: Durability,
}

/// A message as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Seconds to live: as posted, unless a claim extended them.
    pub ttl_s: u32,
    /// Whole seconds since it was posted.
    pub age_s: u64,
    /// The bytes posted.
    pub body: Bytes,
    /// The live claim that holds it, if one does.
    pub claim: Option<ClaimId>,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Where the next page begins; `None` when nothing matched.
    pub next: Option<Marker>,
}

/// A claim as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its id.
    pub id: ClaimId,
    /// Its ttl, as created or last renewed.
    pub ttl_s: u32,
    /// Whole seconds since then.
    pub age_s: u64,
    /// The messages it still holds, oldest first.
    pub messages: Vec<Message>,
}

/// The verbs. A write's `ask` is the durability this one request wants; it gets at least what the
/// queue demands. Errors are those of the engine: [`Error::is_storage`] tells a fault of the store
/// from a refusal.
pub trait Store: Send + Sync + 'static {
    /// Makes a queue, or finds it; `floor`, when given, becomes its durability floor either way.
    fn create_queue(
        &self,
        key: &QueueKey,
        floor: Option<Durability>,
    ) -> impl Future<Output = Result<Written<Created>, Error>> + Send;

    /// What is kept with a queue. Fails with `NoSuchQueue`.
    fn queue(&self, key: &QueueKey) -> impl Future<Output = Result<QueueInfo, Error>> + Send;

    /// Replaces a queue's metadata. Fails with `NoSuchQueue`.
    fn set_metadata(
        &self,
        key: &QueueKey,
        metadata: Bytes,
        ask: Option<Durability>,
    ) -> impl Future<Output = Result<Written<()>, Error>> + Send;

    /// Removes a queue with all it holds; succeeds also where there is none.
    fn remove_queue(
        &self,
        key: &QueueKey,
        ask: Option<Durability>,
    ) -> impl Future<Output = Result<Written<()>, Error>> + Send;

    /// Up to `limit` queues of a project whose names come after `marker`, sorted by name.
    fn queues(
        &self,
        project: Option<&str>,
        marker: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<QueueEntry>, Error>> + Send;

    /// Exact counts. Fails with `NoSuchQueue`.
    fn stats(&self, key: &QueueKey) -> impl Future<Output = Result<QueueStats, Error>> + Send;

    /// Stores all messages or none; ids in the order given. Fails with `NoSuchQueue`.
    fn post(
        &self,
        key: &QueueKey,
        client: ClientId,
        messages: &[NewMessage<'_>],
        ask: Option<Durability>,
    ) -> impl Future<Output = Result<Written<Vec<MessageId>>, Error>> + Send;

    /// Up to `limit` messages after `after` that pass the filter. An absent queue and a marker of
    /// another queue give an empty page.
    fn list(
        &self,
        key: &QueueKey,
        after: Option<Marker>,
        limit: usize,
        filter: ListFilter,
    ) -> impl Future<Output = Result<Page, Error>> + Send;

    /// The messages with these ids that exist, in the order asked, each once.
    fn get(
        &self,
        key: &QueueKey,
        ids: &[MessageId],
    ) -> impl Future<Output = Result<Vec<Message>, Error>> + Send;

    /// Deletes one message. `claim` is `None` when no claim was named, `Some(None)` when what was
    /// named is no claim id at all. Succeeds also where there is no such message (or queue); fails
    /// with `Claimed` when a live claim holds the message and none or another live claim of this
    /// queue was named, and with `ClaimMismatch` when the claim named is not live, or the message is
    /// not under a claim.
    fn delete(
        &self,
        key: &QueueKey,
        id: MessageId,
        claim: Option<Option<ClaimId>>,
        ask: Option<Durability>,
    ) -> impl Future<Output = Result<Written<()>, Error>> + Send;

    /// Deletes all of these that exist, claimed or not.
    fn delete_many(
        &self,
        key: &QueueKey,
        ids: &[MessageId],
        ask: Option<Durability>,
    ) -> impl Future<Output = Result<Written<()>, Error>> + Send;

    /// Claims up to `limit` of the oldest free messages; `None` when there is none (or no queue).
    fn claim(
        &self,
        key: &QueueKey,
        ttl_s: u32,
        grace_s: u32,
        limit: usize,
        ask: Option<Durability>,
    ) -> impl Future<Output = Result<Written<Option<Claim>>, Error>> + Send;

    /// A live claim with the messages it still holds. Fails with `NoSuchClaim`.
    fn claim_get(
        &self,
        key: &QueueKey,
        id: ClaimId,
    ) -> impl Future<Output = Result<Claim, Error>> + Send;

    /// Starts a live claim's time anew. Fails with `NoSuchClaim`.
    fn renew(
        &self,
        key: &QueueKey,
        id: ClaimId,
        ttl_s: u32,
        grace_s: u32,
        ask: Option<Durability>,
    ) -> impl Future<Output = Result<Written<()>, Error>> + Send;

    /// Gives a claim's remaining messages back; succeeds also where there is no such claim.
    fn release(
        &self,
        key: &QueueKey,
        id: ClaimId,
        ask: Option<Durability>,
    ) -> impl Future<Output = Result<Written<()>, Error>> + Send;

    /// The durability a write to this key gets when it asks for nothing: what an answer reports that
    /// had nothing to write.
    fn durability_of(&self, key: &QueueKey, ask: Option<Durability>) -> Durability;

    /// Whether storage answers. An error says why writes are refused.
    fn health(&self) -> impl Future<Output = Result<(), Error>> + Send;
}
