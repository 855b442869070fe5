//! A store that has failed: every verb answers that the disk did. For the cases that say
//! "storage down".

use bytes::Bytes;
use marconi_engine::{
    ClaimId, ClientId, Created, Durability, Error, ListFilter, Marker, MessageId, NewMessage,
    QueueEntry, QueueInfo, QueueKey, QueueStats,
};
use marconi_server::store::{Claim, Message, Page, Store, Written};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Another store, until it is taken down.
#[derive(Debug)]
pub struct Breakable<S> {
    inner: S,
    breaker: Breaker,
}

/// Takes a [`Breakable`] down, wherever that has gone meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Breaker(Arc<AtomicBool>);

impl Breaker {
    /// From now on every verb fails.
    pub fn take_down(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl<S> Breakable<S> {
    /// `inner`, working until `breaker` is used.
    pub fn new(inner: S, breaker: Breaker) -> Breakable<S> {
        Breakable { inner, breaker }
    }

    fn up(&self) -> Result<&S, Error> {
        if self.breaker.0.load(Ordering::SeqCst) {
            return Err(Error::ReadOnly("test".into()));
        }
        Ok(&self.inner)
    }
}

impl<S: Store> Store for Breakable<S> {
    async fn create_queue(
        &self,
        key: &QueueKey,
        floor: Option<Durability>,
    ) -> Result<Written<Created>, Error> {
        self.up()?.create_queue(key, floor).await
    }

    async fn queue(&self, key: &QueueKey) -> Result<QueueInfo, Error> {
        self.up()?.queue(key).await
    }

    async fn set_metadata(
        &self,
        key: &QueueKey,
        metadata: Bytes,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.up()?.set_metadata(key, metadata, ask).await
    }

    async fn remove_queue(
        &self,
        key: &QueueKey,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.up()?.remove_queue(key, ask).await
    }

    async fn queues(
        &self,
        project: Option<&str>,
        marker: Option<&str>,
        limit: usize,
    ) -> Result<Vec<QueueEntry>, Error> {
        self.up()?.queues(project, marker, limit).await
    }

    async fn stats(&self, key: &QueueKey) -> Result<QueueStats, Error> {
        self.up()?.stats(key).await
    }

    async fn post(
        &self,
        key: &QueueKey,
        client: ClientId,
        messages: &[NewMessage<'_>],
        ask: Option<Durability>,
    ) -> Result<Written<Vec<MessageId>>, Error> {
        self.up()?.post(key, client, messages, ask).await
    }

    async fn list(
        &self,
        key: &QueueKey,
        after: Option<Marker>,
        limit: usize,
        filter: ListFilter,
    ) -> Result<Page, Error> {
        self.up()?.list(key, after, limit, filter).await
    }

    async fn get(&self, key: &QueueKey, ids: &[MessageId]) -> Result<Vec<Message>, Error> {
        self.up()?.get(key, ids).await
    }

    async fn delete(
        &self,
        key: &QueueKey,
        id: MessageId,
        claim: Option<Option<ClaimId>>,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.up()?.delete(key, id, claim, ask).await
    }

    async fn delete_many(
        &self,
        key: &QueueKey,
        ids: &[MessageId],
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.up()?.delete_many(key, ids, ask).await
    }

    async fn claim(
        &self,
        key: &QueueKey,
        ttl_s: u32,
        grace_s: u32,
        limit: usize,
        ask: Option<Durability>,
    ) -> Result<Written<Option<Claim>>, Error> {
        self.up()?.claim(key, ttl_s, grace_s, limit, ask).await
    }

    async fn claim_get(&self, key: &QueueKey, id: ClaimId) -> Result<Claim, Error> {
        self.up()?.claim_get(key, id).await
    }

    async fn renew(
        &self,
        key: &QueueKey,
        id: ClaimId,
        ttl_s: u32,
        grace_s: u32,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.up()?.renew(key, id, ttl_s, grace_s, ask).await
    }

    async fn release(
        &self,
        key: &QueueKey,
        id: ClaimId,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.up()?.release(key, id, ask).await
    }

    fn durability_of(&self, key: &QueueKey, ask: Option<Durability>) -> Durability {
        self.inner.durability_of(key, ask)
    }

    async fn health(&self) -> Result<(), Error> {
        self.up()?.health().await
    }
}
