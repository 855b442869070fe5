//! The [`Store`] over our own engine: awaits receipts, reads bodies. Knows neither HTTP nor JSON.

use super::{Claim, Message, Page, Store, Written};
use crate::timely;
use bytes::Bytes;
use marconi_engine::env::Environment;
use marconi_engine::{
    self as engine, ClaimId, ClientId, Config, Created, Durability, Engine, Error, ListFilter,
    Marker, MessageId, NewMessage, QueueEntry, QueueInfo, QueueKey, QueueStats, Receipt,
};
use std::pin::pin;
use std::time::Duration;

/// How long a write waits for room before it is refused as one too many.
const PATIENCE: Duration = Duration::from_secs(2);

/// A [`Store`] over an [`Engine`] of this process.
#[derive(Debug)]
pub struct EngineStore(Engine);

impl EngineStore {
    /// Opens the engine's folder.
    ///
    /// # Errors
    /// As [`Engine::open_in`].
    pub fn open(config: Config, environment: Environment) -> Result<EngineStore, Error> {
        Ok(EngineStore(Engine::open_in(config, environment)?))
    }

    /// Waits for room to write without holding up the thread; not for ever.
    async fn ready(&self) -> Result<(), Error> {
        timely::within(PATIENCE, pin!(self.0.ready())).await.map_err(|_| Error::Busy)
    }

    /// The engine itself: its metrics, checkpoints, its end.
    pub fn engine(&self) -> &Engine {
        &self.0
    }
}

async fn written<T>(receipt: Receipt<T>) -> Result<Written<T>, Error> {
    let durability = receipt.durability();
    Ok(Written { answer: receipt.await?, durability })
}

fn message(found: &engine::Message) -> Result<Message, Error> {
    let engine::Content { ttl_s, age_s, body } = found.read()?;
    Ok(Message { id: found.id, ttl_s, age_s, body, claim: found.claim })
}

fn messages(found: &[engine::Message]) -> Result<Vec<Message>, Error> {
    // Collecting would not know how many there are, since any may fail.
    let mut messages = Vec::with_capacity(found.len());
    for one in found {
        messages.push(message(one)?);
    }
    Ok(messages)
}

fn claim(found: &engine::Claim) -> Result<Claim, Error> {
    Ok(Claim {
        id: found.id,
        ttl_s: found.ttl_s,
        age_s: found.age_s,
        messages: messages(&found.messages)?,
    })
}

impl Store for EngineStore {
    async fn create_queue(
        &self,
        key: &QueueKey,
        floor: Option<Durability>,
    ) -> Result<Written<Created>, Error> {
        self.ready().await?;
        written(self.0.create_queue(key, floor)?).await
    }

    async fn queue(&self, key: &QueueKey) -> Result<QueueInfo, Error> {
        self.0.queue(key)?.await
    }

    async fn set_metadata(
        &self,
        key: &QueueKey,
        metadata: Bytes,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.ready().await?;
        written(self.0.set_metadata(key, &metadata, ask)?).await
    }

    async fn remove_queue(
        &self,
        key: &QueueKey,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.ready().await?;
        written(self.0.remove_queue(key, ask)?).await
    }

    async fn queues(
        &self,
        project: Option<&str>,
        marker: Option<&str>,
        limit: usize,
    ) -> Result<Vec<QueueEntry>, Error> {
        self.0.queues(project, marker, limit)
    }

    async fn stats(&self, key: &QueueKey) -> Result<QueueStats, Error> {
        self.0.stats(key)?.await
    }

    async fn post(
        &self,
        key: &QueueKey,
        client: ClientId,
        messages: &[NewMessage<'_>],
        ask: Option<Durability>,
    ) -> Result<Written<Vec<MessageId>>, Error> {
        self.ready().await?;
        written(self.0.post(key, client, messages, ask)?).await
    }

    async fn list(
        &self,
        key: &QueueKey,
        after: Option<Marker>,
        limit: usize,
        filter: ListFilter,
    ) -> Result<Page, Error> {
        let mut page = self.0.list(key, after, limit, filter)?.await?;
        let mut found = std::mem::take(&mut page.messages);
        while page.has_more {
            // What is passed over may be long: others on this thread have their turn in between.
            tokio::task::yield_now().await;
            page = self.0.list(key, page.next, limit - found.len(), filter)?.await?;
            found.append(&mut page.messages);
        }
        let last = found.last().map(|message| message.id);
        let next = last.map(|id| Marker { queue: id.queue, seq: id.seq });
        Ok(Page { messages: messages(&found)?, next })
    }

    async fn get(&self, key: &QueueKey, ids: &[MessageId]) -> Result<Vec<Message>, Error> {
        messages(&self.0.get(key, ids)?.await?)
    }

    async fn delete(
        &self,
        key: &QueueKey,
        id: MessageId,
        claim: Option<Option<ClaimId>>,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.ready().await?;
        written(self.0.delete(key, id, claim, ask)?).await
    }

    async fn delete_many(
        &self,
        key: &QueueKey,
        ids: &[MessageId],
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.ready().await?;
        written(self.0.delete_many(key, ids, ask)?).await
    }

    async fn claim(
        &self,
        key: &QueueKey,
        ttl_s: u32,
        grace_s: u32,
        limit: usize,
        ask: Option<Durability>,
    ) -> Result<Written<Option<Claim>>, Error> {
        self.ready().await?;
        let Written { answer, durability } =
            written(self.0.claim(key, ttl_s, grace_s, limit, ask)?).await?;
        let answer = answer.as_ref().map(claim).transpose()?;
        Ok(Written { answer, durability })
    }

    async fn claim_get(&self, key: &QueueKey, id: ClaimId) -> Result<Claim, Error> {
        claim(&self.0.claim_get(key, id)?.await?)
    }

    async fn renew(
        &self,
        key: &QueueKey,
        id: ClaimId,
        ttl_s: u32,
        grace_s: u32,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.ready().await?;
        written(self.0.renew(key, id, ttl_s, grace_s, ask)?).await
    }

    async fn release(
        &self,
        key: &QueueKey,
        id: ClaimId,
        ask: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        self.ready().await?;
        written(self.0.release(key, id, ask)?).await
    }

    fn durability_of(&self, key: &QueueKey, ask: Option<Durability>) -> Durability {
        self.0.durability_of(key, ask)
    }

    async fn health(&self) -> Result<(), Error> {
        match self.0.health() {
            // A full disk stops posting; the store still answers.
            Err(Error::Full) => Ok(()),
            health => health,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine looks for one among many in parts; a page is whole all the same.
    #[tokio::test]
    async fn a_page_is_whole_however_much_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config {
            segment_size_bytes: 1 << 20,
            disk_reserve_bytes: 0,
            ..Config::new(folder.path().join("data"))
        };
        let store = EngineStore::open(config, Environment::system()).expect("it opens");
        let key = QueueKey::new(None, "q").expect("short");
        store.create_queue(&key, None).await.expect("made");
        let (own, other) = (ClientId(7), ClientId(8));
        let mut others = Vec::new();
        for _ in 0..2 {
            let many = vec![NewMessage { ttl_s: 3600, body: b"1" }; 1000];
            let memory = Some(Durability::Memory);
            others
                .extend(store.post(&key, other, &many[..1], memory).await.expect("posted").answer);
            for _ in 0..40 {
                store.post(&key, own, &many, memory).await.expect("posted");
            }
            others
                .extend(store.post(&key, other, &many[..1], memory).await.expect("posted").answer);
        }
        store.engine().sync().expect("is durable");
        store.engine().prepare().expect("indexes what is full");
        let filter = ListFilter { not_by: Some(own), include_claimed: true };
        let parted = store.engine().list(&key, None, 10, filter).expect("listed");
        assert!(parted.await.expect("durable").has_more, "it is much");
        for limit in [1, 3, 4, 10] {
            let page = store.list(&key, None, limit, filter).await.expect("listed");
            let ids: Vec<MessageId> = page.messages.iter().map(|message| message.id).collect();
            assert_eq!(ids, others[..limit.min(4)]);
            let last = ids.last().map(|id| Marker { queue: id.queue, seq: id.seq });
            assert_eq!(page.next, last);
        }
    }
}
