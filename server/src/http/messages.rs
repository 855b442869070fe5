//! The verbs on messages: request in, reply out. Knows no sockets.
//!
//! An id that no store can have made finds nothing, but the store is asked all the same: one that
//! does not answer must not look as if the message were gone.

use super::reply::{self, Reply, With};
use super::service::Call;
use crate::api::fault::{Fault, Kind};
use crate::api::v1::PageAsked;
use crate::api::{shape, v1};
use crate::store::{Page, Store};
use bytes::Bytes;
use hyper::StatusCode;
use marconi_engine::{ClientId, Error, ListFilter, Marker, MessageId, QueueKey};

/// Stores a batch.
pub(super) async fn post<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
    client: ClientId,
    body: &Bytes,
) -> Result<Reply, Fault> {
    let batch = shape::messages(body, call.limits)?;
    let posted = store.post(key, client, &batch, call.ask).await?;
    let (body, path) = v1::posted(key.name(), &posted.answer);
    let mut reply = reply::json(StatusCode::CREATED, body);
    reply.location(path);
    reply.durability(posted.durability);
    Ok(reply)
}

/// The messages named, or a page of the queue when none are.
pub(super) async fn several<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
) -> Result<Reply, Fault> {
    let Some(ids) = call.query.ids() else { return list(store, call, key).await };
    call.limits.ids(ids.len())?;
    let found = store.get(key, &parse(&ids)).await?;
    if found.is_empty() {
        return Ok(reply::empty(StatusCode::NO_CONTENT));
    }
    Ok(reply::json(StatusCode::OK, v1::messages(key.name(), &found, None)))
}

async fn list<S: Store>(store: &S, call: &Call<'_>, key: &QueueKey) -> Result<Reply, Fault> {
    let client = call.client()?;
    let asked = PageAsked {
        limit: call.query.integer("limit")?,
        echo: call.query.boolean("echo")?,
        include_claimed: call.query.boolean("include_claimed")?,
    };
    let limit = call.limits.message_page(asked.limit)?;
    let filter = ListFilter {
        not_by: (asked.echo != Some(true)).then_some(client),
        include_claimed: asked.include_claimed == Some(true),
    };
    let page = match call.query.text("marker").map(|marker| marker.parse::<Marker>()) {
        None => store.list(key, None, limit, filter).await?,
        Some(Ok(marker)) => store.list(key, Some(marker), limit, filter).await?,
        Some(Err(_)) => {
            probe(store, key).await?;
            Page { messages: Vec::new(), next: None }
        }
    };
    match v1::page(key.name(), &page, asked) {
        Some(body) => Ok(reply::json(StatusCode::OK, body)),
        None => Ok(reply::empty(StatusCode::NO_CONTENT)),
    }
}

/// One message.
pub(super) async fn one<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
    id: &str,
) -> Result<Reply, Fault> {
    let found = match id.parse() {
        Ok(id) => store.get(key, &[id]).await?,
        Err(_) => {
            probe(store, key).await?;
            Vec::new()
        }
    };
    let message = found.first().ok_or(Error::NoSuchMessage)?;
    let body = v1::message(key.name(), message);
    let mut reply = reply::json(StatusCode::OK, body);
    reply.content_location(call.target);
    Ok(reply)
}

/// Deletes one message, within its claim if it has one.
pub(super) async fn delete<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
    id: &str,
) -> Result<Reply, Fault> {
    let claim = call.query.text("claim_id").map(|claim| claim.parse().ok());
    let deleted = match id.parse() {
        Ok(id) => store.delete(key, id, claim, call.ask).await?,
        Err(_) => store.delete_many(key, &[], call.ask).await?,
    };
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    reply.durability(deleted.durability);
    Ok(reply)
}

/// Deletes the messages named, claimed or not.
pub(super) async fn delete_many<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
) -> Result<Reply, Fault> {
    let Some(ids) = call.query.ids() else {
        let text = "ids is missing; it names the messages to delete.";
        return Err(Fault::new(Kind::MissingParameter, text));
    };
    call.limits.ids(ids.len())?;
    let deleted = store.delete_many(key, &parse(&ids), call.ask).await?;
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    reply.durability(deleted.durability);
    Ok(reply)
}

/// The ids among these texts.
fn parse(ids: &[String]) -> Vec<MessageId> {
    ids.iter().filter_map(|id| id.parse().ok()).collect()
}

/// Fails when the store does not answer; a missing queue is an answer.
pub(super) async fn probe<S: Store>(store: &S, key: &QueueKey) -> Result<(), Fault> {
    match store.queue(key).await {
        Ok(_) | Err(Error::NoSuchQueue) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
