//! The verbs on queues, their metadata and their counts: request in, reply out. Knows no sockets.

use super::reply::{self, Reply, With};
use super::service::Call;
use crate::api::fault::Fault;
use crate::api::{shape, v1};
use crate::store::Store;
use bytes::Bytes;
use hyper::StatusCode;
use marconi_engine::{Created, Error, QueueKey};

/// Makes a queue; a durability asked for becomes the queue's.
pub(super) async fn create<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
) -> Result<Reply, Fault> {
    let made = store.create_queue(key, call.ask).await?;
    let status = match made.answer {
        Created::New => StatusCode::CREATED,
        Created::Existing => StatusCode::NO_CONTENT,
    };
    let mut reply = reply::empty(status);
    reply.location(v1::queue_path(key.name()));
    reply.durability(made.durability);
    Ok(reply)
}

/// Says whether a queue is there, and how durable its writes are.
pub(super) async fn exists<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
) -> Result<Reply, Fault> {
    let mut reply = match store.queue(key).await {
        Ok(info) => {
            let mut reply = reply::empty(StatusCode::NO_CONTENT);
            reply.durability(info.durability);
            reply
        }
        Err(Error::NoSuchQueue) => reply::empty(StatusCode::NOT_FOUND),
        Err(error) => return Err(error.into()),
    };
    reply.content_location(call.path);
    Ok(reply)
}

/// Removes a queue with all it holds.
pub(super) async fn remove<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
) -> Result<Reply, Fault> {
    let removed = store.remove_queue(key, call.ask).await?;
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    reply.durability(removed.durability);
    Ok(reply)
}

/// Lists the queues of the project.
pub(super) async fn list<S: Store>(store: &S, call: &Call<'_>) -> Result<Reply, Fault> {
    let limit = call.query.integer("limit")?;
    let detailed = call.query.boolean("detailed")?;
    let page = call.limits.queue_page(limit)?;
    let marker = call.query.text("marker");
    // No queue can have been made under a project id that is too long.
    if call.project.is_some_and(|project| !call.limits.project_fits(project)) {
        return Ok(reply::empty(StatusCode::NO_CONTENT));
    }
    let entries = store.queues(call.project, marker.as_deref(), page).await?;
    match v1::queues(&entries, limit, detailed) {
        Some(body) => {
            let mut reply = reply::json(StatusCode::OK, body);
            reply.content_location(call.target);
            Ok(reply)
        }
        None => Ok(reply::empty(StatusCode::NO_CONTENT)),
    }
}

/// A queue's metadata.
pub(super) async fn metadata<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
) -> Result<Reply, Fault> {
    let info = store.queue(key).await?;
    let body = if info.metadata.is_empty() {
        Bytes::from_static(v1::metadata(b""))
    } else {
        info.metadata
    };
    let mut reply = reply::json(StatusCode::OK, body);
    reply.content_location(call.path);
    Ok(reply)
}

/// Replaces a queue's metadata.
pub(super) async fn set_metadata<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
    body: &Bytes,
) -> Result<Reply, Fault> {
    let metadata = shape::metadata(body, call.limits)?;
    let written = store.set_metadata(key, metadata, call.ask).await?;
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    reply.location(v1::metadata_path(key.name()));
    reply.durability(written.durability);
    Ok(reply)
}

/// A queue's counts.
pub(super) async fn stats<S: Store>(
    store: &S,
    call: &Call<'_>,
    key: &QueueKey,
) -> Result<Reply, Fault> {
    let stats = store.stats(key).await?;
    let body = v1::stats(key.name(), &stats);
    let mut reply = reply::json(StatusCode::OK, body);
    reply.content_location(call.path);
    Ok(reply)
}
