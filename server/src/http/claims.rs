//! The verbs on claims: request in, reply out. Knows no sockets.

use super::messages::probe;
use super::reply::{self, Reply, With};
use super::service::Call;
use crate::api::fault::Fault;
use crate::api::{shape, v1};
use crate::store::Store;
use bytes::Bytes;
use hyper::StatusCode;
use marconi_engine::{Error, QueueKey};

/// Claims the oldest free messages.
pub(super) async fn create<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
    limit: Option<i64>,
    body: &Bytes,
) -> Result<Reply, Fault> {
    let times = shape::claim(body, call.limits)?;
    let limit = call.limits.claim_page(limit)?;
    let made = store.claim(key, times.ttl_s, times.grace_s, limit, call.ask).await?;
    let mut reply = match made.answer {
        None => reply::empty(StatusCode::NO_CONTENT),
        Some(claim) => {
            let body = v1::messages(key.name(), &claim.messages, Some(claim.id));
            let path = v1::claim_path(key.name(), claim.id);
            let mut reply = reply::json(StatusCode::CREATED, body);
            reply.location(path);
            reply
        }
    };
    reply.durability(made.durability);
    Ok(reply)
}

/// A claim with what it still holds.
pub(super) async fn get<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
    id: &str,
) -> Result<Reply, Fault> {
    let Ok(id) = id.parse() else {
        probe(store, key).await?;
        return Err(Error::NoSuchClaim.into());
    };
    let claim = store.claim_get(key, id).await.map_err(no_such_claim)?;
    let body = v1::claim(key.name(), &claim);
    let mut reply = reply::json(StatusCode::OK, body);
    reply.content_location(call.target);
    Ok(reply)
}

/// Starts a claim's time anew.
pub(super) async fn renew<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
    id: &str,
    body: &Bytes,
) -> Result<Reply, Fault> {
    let times = shape::renewal(body, call.limits)?;
    let Ok(id) = id.parse() else {
        probe(store, key).await?;
        return Err(Error::NoSuchClaim.into());
    };
    let renewed = store.renew(key, id, times.ttl_s, times.grace_s, call.ask).await;
    let renewed = renewed.map_err(no_such_claim)?;
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    reply.durability(renewed.durability);
    Ok(reply)
}

/// Gives a claim's messages back.
pub(super) async fn release<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
    id: &str,
) -> Result<Reply, Fault> {
    let released = match id.parse() {
        Ok(id) => store.release(key, id, call.ask).await?,
        // Nothing to release, but the store is asked: see `messages`.
        Err(_) => store.delete_many(key, &[], call.ask).await?,
    };
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    reply.durability(released.durability);
    Ok(reply)
}

/// A claim of a missing queue is a missing claim.
fn no_such_claim(error: Error) -> Fault {
    match error {
        Error::NoSuchQueue => Error::NoSuchClaim.into(),
        other => other.into(),
    }
}
