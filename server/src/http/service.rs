//! One request from its head to its answer; read from top to bottom. Knows the order of the checks,
//! and no details of any of them.

use super::body::{self, Held};
use super::reply::{self, Reply, With};
use super::route::{self, Route};
use super::{claims, messages, queues};
use crate::api::fault::{Fault, Kind};
use crate::api::headers::RequestHeaders;
use crate::api::homedoc;
use crate::api::limits::Limits;
use crate::api::query::Query;
use crate::app::{App, RequestDone};
use crate::store::Store;
use bytes::Bytes;
use hyper::body::Body;
use hyper::header::HeaderName;
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use marconi_engine::{ClientId, Durability, QueueKey};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tells the answer's request in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers a request. Never fails: whatever goes wrong is an answer.
///
/// No `async fn`: its arguments would be kept twice, as they were given and as they are used.
pub fn handle<S, B>(
    app: Arc<App<S>>,
    request: Request<B>,
) -> impl Future<Output = Reply> + Send + 'static
where
    S: Store,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let started = Instant::now();
    let (head, mut body) = request.into_parts();
    async move {
        let limits = app.limits();
        let bytes_in = body.size_hint().lower();
        let headers = RequestHeaders::of(&head.headers);
        let path = route::decode(head.uri.path());
        let route = Route::of(&path);

        let mut fault = None;
        let outcome = answer(&app, &limits, &head, &headers, &route, &mut body).await;
        let mut reply = outcome.unwrap_or_else(|cause| {
            let reply = refusal(route, &cause);
            fault = Some(cause);
            reply
        });
        // Reading messages says what was asked for, whatever comes of it.
        if matches!(route, Some(Route::Messages(_))) && head.method == Method::GET {
            reply.content_location(target(&head));
        }
        let request_id = app.next_request_id();
        app.observer().request_done(&RequestDone {
            route: route.map_or("unknown", |route| route.label()),
            method: head.method.as_str(),
            status: reply.status().as_u16(),
            elapsed: started.elapsed(),
            bytes_in,
            bytes_out: reply.body().size_hint().lower(),
            request_id: request_id.to_str().unwrap_or_default(),
            project: headers.project().ok().flatten(),
            queue: route.and_then(|route| route.queue()),
            error: fault.as_ref().map(Fault::log_text),
        });
        reply.headers_mut().insert(REQUEST_ID, request_id);
        let timeout = Duration::from_millis(limits.body_read_timeout_ms);
        body::discard(&mut body, &head.headers, timeout).await;
        reply
    }
}

/// The answer to a request that failed.
fn refusal(route: Option<Route<'_>>, fault: &Fault) -> Reply {
    let mut reply = match (route, fault.kind) {
        // Whoever watches over health reads the status only.
        (Some(Route::Health), Kind::Unavailable | Kind::Busy) => reply::bare(fault),
        _ => reply::fault(fault),
    };
    if let (Some(route), Kind::BadMethod) = (route, fault.kind) {
        reply.allow(route.methods());
    }
    reply
}

/// The path and query as sent.
fn target(head: &Parts) -> &str {
    head.uri.path_and_query().map_or("", |target| target.as_str())
}

/// A request whose head is in order, as the verbs see it.
pub(super) struct Call<'a> {
    pub(super) limits: &'a Limits,
    /// The path and query as sent.
    pub(super) target: &'a str,
    /// The path as sent.
    pub(super) path: &'a str,
    pub(super) query: Query<'a>,
    pub(super) project: Option<&'a str>,
    client: Option<ClientId>,
    /// The durability asked for.
    pub(super) ask: Option<Durability>,
    /// What is asked for; it takes the method.
    route: Route<'a>,
    method: &'a Method,
    /// The queue it belongs to.
    key: Option<QueueKey>,
}

impl<'a> Call<'a> {
    /// Checks the head in the order the API promises.
    fn of(
        limits: &'a Limits,
        head: &'a Parts,
        headers: &RequestHeaders<'a>,
        route: &Option<Route<'a>>,
    ) -> Result<Call<'a>, Fault> {
        let no_route = || Fault::new(Kind::NoRoute, "No resource has this path.");
        let route = route.ok_or_else(no_route)?;
        headers.content_type()?;
        headers.accept()?;
        let client = headers.client_id()?;
        let project = match route {
            Route::Versions => None,
            _ => headers.project()?,
        };
        let key = queue_key(limits, project, route)?;
        if !route.allows(&head.method) {
            return Err(Fault::new(Kind::BadMethod, "The resource does not take this method."));
        }
        let is_question = head.method == Method::OPTIONS;
        let ask = if is_question { None } else { headers.durability()? };
        Ok(Call {
            limits,
            target: target(head),
            path: head.uri.path(),
            query: Query::new(head.uri.query()),
            project,
            client,
            ask,
            route,
            method: &head.method,
            key,
        })
    }

    /// The poster, who has to be named.
    pub(super) fn client(&self) -> Result<ClientId, Fault> {
        self.client.ok_or_else(|| {
            Fault::new(Kind::MissingHeader, "Client-ID is missing; it has to be a UUID.")
        })
    }
}

/// The queue a route belongs to; its name and project have to be well-formed.
fn queue_key(
    limits: &Limits,
    project: Option<&str>,
    route: Route<'_>,
) -> Result<Option<QueueKey>, Fault> {
    let Some(queue) = route.queue() else { return Ok(None) };
    limits.queue_name(queue)?;
    if let Some(project) = project {
        limits.project(project)?;
    }
    match QueueKey::new(project, queue) {
        Some(key) => Ok(Some(key)),
        None => Err(Fault::new(Kind::BadQueue, "The queue name or X-Project-Id is too long.")),
    }
}

/// Checks the head, then calls the verb.
async fn answer<S, B>(
    app: &App<S>,
    limits: &Limits,
    head: &Parts,
    headers: &RequestHeaders<'_>,
    route: &Option<Route<'_>>,
    body: &mut B,
) -> Result<Reply, Fault>
where
    S: Store,
    B: Body<Data = Bytes> + Send + Unpin,
{
    let call = &Call::of(limits, head, headers, route)?;
    if call.method == Method::OPTIONS {
        let mut reply = reply::empty(StatusCode::OK);
        reply.allow(call.route.methods());
        return Ok(reply);
    }
    let Some(key) = &call.key else { return on_service(app, call).await };
    let store = app.store();
    let post_size = call.limits.max_messages_post_size;
    match (call.route, call.method.as_str()) {
        (Route::Queue(_), "PUT") => queues::create(store, call, key).await,
        (Route::Queue(_), "DELETE") => queues::remove(store, call, key).await,
        (Route::Queue(_), _) => queues::exists(store, call, key).await,
        (Route::Metadata(_), "GET") => queues::metadata(store, call, key).await,
        (Route::Metadata(_), _) => {
            let held = read(app, call, body, call.limits.max_queue_metadata).await?;
            queues::set_metadata(store, call, key, &held.bytes).await
        }
        (Route::Stats(_), _) => queues::stats(store, call, key).await,
        (Route::Messages(_), "POST") => {
            let client = call.client()?;
            let held = read(app, call, body, post_size).await?;
            messages::post(store, call, key, client, &held.bytes).await
        }
        (Route::Messages(_), "GET") => messages::several(store, call, key).await,
        (Route::Messages(_), _) => messages::delete_many(store, call, key).await,
        (Route::Message(_, id), "GET") => messages::one(store, call, key, id).await,
        (Route::Message(_, id), _) => messages::delete(store, call, key, id).await,
        (Route::Claims(_), _) => {
            let limit = call.query.integer("limit")?;
            let held = read(app, call, body, post_size).await?;
            claims::create(store, call, key, limit, &held.bytes).await
        }
        (Route::Claim(_, id), "GET") => claims::get(store, call, key, id).await,
        (Route::Claim(_, id), "PATCH") => {
            let held = read(app, call, body, post_size).await?;
            claims::renew(store, call, key, id, &held.bytes).await
        }
        (Route::Claim(_, id), _) => claims::release(store, call, key, id).await,
        (Route::Versions | Route::Home | Route::Health | Route::Queues, _) => {
            on_service(app, call).await
        }
    }
}

/// The resources that belong to no queue.
async fn on_service<S: Store>(app: &App<S>, call: &Call<'_>) -> Result<Reply, Fault> {
    match call.route {
        Route::Versions => Ok(reply::json(StatusCode::MULTIPLE_CHOICES, homedoc::VERSIONS)),
        Route::Home => Ok(reply::home(homedoc::HOME)),
        Route::Queues => queues::list(app.store(), call).await,
        // HEAD asks whether the process is there, GET whether its store is.
        Route::Health if call.method == Method::HEAD => Ok(reply::empty(StatusCode::NO_CONTENT)),
        _ => {
            app.store().health().await?;
            Ok(reply::empty(StatusCode::NO_CONTENT))
        }
    }
}

async fn read<'a, S, B>(
    app: &'a App<S>,
    call: &Call<'_>,
    body: &mut B,
    size_max: usize,
) -> Result<Held<'a>, Fault>
where
    B: Body<Data = Bytes> + Send + Unpin,
{
    body::read(body, size_max, call.limits, app.in_flight()).await
}

#[cfg(test)]
mod tests;
