//! The reference model as a store behind the API: a lock, a clock and a counter of ids around it.
//! Nothing is kept beyond the process.

use crate::model::Model;
use bytes::Bytes;
use marconi_engine::env::Clock;
use marconi_engine::{
    ClaimId, ClientId, Created, Durability, Error, ListFilter, Lsn, Marker, MessageId, NewMessage,
    QueueEntry, QueueId, QueueInfo, QueueKey, QueueStats,
};
use marconi_server::store::{Claim, Message, Page, Store, Written};
use std::sync::{Arc, Mutex, MutexGuard};

/// A [`Store`] over a [`Model`].
#[derive(Debug)]
pub struct ModelStore {
    clock: Arc<dyn Clock>,
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    model: Model,
    ids_given: u64,
}

impl Content {
    fn fresh_id(&mut self) -> u64 {
        self.ids_given += 1;
        self.ids_given
    }
}

impl ModelStore {
    /// An empty store that lives by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> ModelStore {
        let content = Content { model: Model::new(Durability::Group), ids_given: 0 };
        ModelStore { clock, content: Mutex::new(content) }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("no operation of the model panics")
    }

    fn written<T>(&self, key: &QueueKey, ask: Option<Durability>, answer: T) -> Written<T> {
        Written { answer, durability: self.durability_of(key, ask) }
    }
}

impl Store for ModelStore {
    async fn create_queue(
        &self,
        key: &QueueKey,
        floor: Option<Durability>,
    ) -> Result<Written<Created>, Error> {
        let answer = {
            let mut content = self.content();
            let fresh = QueueId(content.fresh_id());
            content.model.create_queue(key, floor, fresh)
        };
        Ok(self.written(key, None, answer))
    }

    async fn queue(&self, key: &QueueKey) -> Result<QueueInfo, Error> {
        self.content().model.queue(key)
    }

    async fn set_metadata(
        &self,
        key: &QueueKey,
        metadata: Bytes,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.content().model.set_metadata(key, metadata)?;
        Ok(self.written(key, ask, ()))
    }

    async fn remove_queue(
        &self,
        key: &QueueKey,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        let written = self.written(key, ask, ());
        self.content().model.remove_queue(key);
        Ok(written)
    }

    async fn queues(
        &self,
        project: Option<&str>,
        marker: Option<&str>,
        limit: usize,
    ) -> Result<Vec<QueueEntry>, Error> {
        Ok(self.content().model.queues(project, marker, limit))
    }

    async fn stats(&self, key: &QueueKey) -> Result<QueueStats, Error> {
        self.content().model.stats(self.clock.now_ms(), key)
    }

    async fn post(
        &self,
        key: &QueueKey,
        client: ClientId,
        messages: &[NewMessage<'_>],
        ask: Option<Durability>,
    ) -> Result<Written<Vec<MessageId>>, Error> {
        let ids = self.content().model.post(self.clock.now_ms(), key, client, messages)?;
        Ok(self.written(key, ask, ids))
    }

    async fn list(
        &self,
        key: &QueueKey,
        after: Option<Marker>,
        limit: usize,
        filter: ListFilter,
    ) -> Result<Page, Error> {
        Ok(self.content().model.list(self.clock.now_ms(), key, after, limit, filter))
    }

    async fn get(&self, key: &QueueKey, ids: &[MessageId]) -> Result<Vec<Message>, Error> {
        Ok(self.content().model.get(self.clock.now_ms(), key, ids))
    }

    async fn delete(
        &self,
        key: &QueueKey,
        id: MessageId,
        claim: Option<Option<ClaimId>>,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.content().model.delete(self.clock.now_ms(), key, id, claim)?;
        Ok(self.written(key, ask, ()))
    }

    async fn delete_many(
        &self,
        key: &QueueKey,
        ids: &[MessageId],
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.content().model.delete_many(self.clock.now_ms(), key, ids);
        Ok(self.written(key, ask, ()))
    }

    async fn claim(
        &self,
        key: &QueueKey,
        ttl_s: u32,
        grace_s: u32,
        limit: usize,
        ask: Option<Durability>,
    ) -> Result<Written<Option<Claim>>, Error> {
        let claim = {
            let mut content = self.content();
            let fresh = ClaimId(Lsn(content.fresh_id()));
            content.model.claim(self.clock.now_ms(), key, ttl_s, grace_s, limit, fresh)
        };
        Ok(self.written(key, ask, claim))
    }

    async fn claim_get(&self, key: &QueueKey, id: ClaimId) -> Result<Claim, Error> {
        self.content().model.claim_get(self.clock.now_ms(), key, id)
    }

    async fn renew(
        &self,
        key: &QueueKey,
        id: ClaimId,
        ttl_s: u32,
        grace_s: u32,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.content().model.renew(self.clock.now_ms(), key, id, ttl_s, grace_s)?;
        Ok(self.written(key, ask, ()))
    }

    async fn release(
        &self,
        key: &QueueKey,
        id: ClaimId,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.content().model.release(key, id);
        Ok(self.written(key, ask, ()))
    }

    fn durability_of(&self, key: &QueueKey, ask: Option<Durability>) -> Durability {
        self.content().model.durability_of(key, ask)
    }

    async fn health(&self) -> Result<(), Error> {
        Ok(())
    }
}
