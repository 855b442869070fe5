//! The admin API, on a listener of its own: metrics, health, the configuration in force, and care
//! for the store. Knows nothing of the public API, and asks for no password: its address is private.
//! `docs/operating.md` lists its requests; a test compares the two.

mod queues;
mod stats;

use crate::config::Settings;
use crate::http::listen::Handler;
use crate::metrics;
use crate::metrics::engine::EngineCollector;
use crate::metrics::process::{ProcessCollector, ProcessMetrics};
use crate::metrics::requests::{RequestCollector, RequestMetrics};
use crate::shutdown::Shutdown;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use marconi_engine::{CompactionMetrics, EngineMetrics, Error, QueueGlance, SegmentMetrics};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// What an operator may ask of the service behind the API. The calls may block.
pub trait Care: Send + Sync + 'static {
    /// Whether writes are taken; an error says why not.
    fn health(&self) -> Result<(), Error>;
    /// Writes a checkpoint.
    fn checkpoint(&self) -> Result<(), Error>;
    /// Gives disk space back, and says how many bytes.
    fn compact(&self) -> Result<u64, Error>;
    /// What that would gain, and whether it is under way.
    fn compaction(&self) -> CompactionMetrics;
    /// What the store counted, and its state now.
    fn store(&self) -> EngineMetrics;
    /// The segments of the store.
    fn segments(&self) -> Vec<SegmentMetrics>;
    /// Shows every queue once. What looks holds up the queue's writers.
    fn visit_queues(&self, visit: &mut dyn FnMut(QueueGlance<'_>)) -> Result<(), Error>;
    /// What the process takes now.
    fn process(&self) -> ProcessMetrics;
    /// Gives the word to stop, as a signal does.
    fn drain(&self);
}

/// Whether the part of a request's target behind `?` is one that `/queues` takes; the error is what would be
/// answered. For fuzzers.
#[doc(hidden)]
pub fn check_parameters(text: &str) -> Result<(), String> {
    queues::Query::read(text).map(drop)
}

/// The service's state, in the words of `/health` and `/ready`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// All requests are served.
    Up,
    /// Posting is refused, because the disk is full; all else is served. Counts as ready, since
    /// those who take messages away make room.
    DiskFull,
    /// Writes are refused, for this reason.
    ReadOnly(String),
    /// The service was told to stop.
    Draining,
}

impl State {
    fn of(health: Result<(), Error>, is_draining: bool) -> State {
        match health {
            _ if is_draining => State::Draining,
            Ok(()) => State::Up,
            Err(Error::Full) => State::DiskFull,
            Err(cause) => State::ReadOnly(cause.to_string()),
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self, State::Up | State::DiskFull)
    }

    fn document(&self) -> Value {
        let (word, because) = match self {
            State::Up => ("up", None),
            State::DiskFull => ("disk full", Some(Error::Full.to_string())),
            State::ReadOnly(why) => ("read only", Some(why.clone())),
            State::Draining => ("draining", Some("the server was told to stop".to_owned())),
        };
        json!({ "state": word, "because": because, "version": env!("CARGO_PKG_VERSION") })
    }
}

/// The admin API over a service.
pub struct Admin<C> {
    care: Arc<C>,
    requests: Arc<RequestMetrics>,
    measured: Registry,
    settings: Arc<RwLock<Settings>>,
    draining: Shutdown,
}

/// What the admin API can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Metrics,
    Health,
    Ready,
    Config,
    Stats,
    Queues,
    Segments,
    Gain,
    Checkpoint,
    Compact,
    Drain,
}

/// Each thing with its method and path.
const ACTIONS: [(Method, &str, Action); 11] = [
    (Method::GET, "/health", Action::Health),
    (Method::GET, "/ready", Action::Ready),
    (Method::GET, "/metrics", Action::Metrics),
    (Method::GET, "/stats", Action::Stats),
    (Method::GET, "/queues", Action::Queues),
    (Method::GET, "/segments", Action::Segments),
    (Method::GET, "/config", Action::Config),
    (Method::GET, "/compact", Action::Gain),
    (Method::POST, "/compact", Action::Compact),
    (Method::POST, "/checkpoint", Action::Checkpoint),
    (Method::POST, "/drain", Action::Drain),
];

impl<C: Care> Admin<C> {
    /// The admin API. `settings` are those in force, and change with a reload; `draining` tells when
    /// the service was told to stop.
    pub fn new(
        care: Arc<C>,
        requests: Arc<RequestMetrics>,
        settings: Arc<RwLock<Settings>>,
        draining: Shutdown,
    ) -> Admin<C> {
        let mut measured = Registry::with_prefix(metrics::PREFIX);
        let (process, store) = (Arc::clone(&care), Arc::clone(&care));
        measured.register_collector(Box::new(RequestCollector(Arc::clone(&requests))));
        measured.register_collector(Box::new(ProcessCollector::new(move || process.process())));
        measured.register_collector(Box::new(EngineCollector::new(move || store.store())));
        Admin { care, requests, measured, settings, draining }
    }

    /// Answers a request. May block.
    fn answer(&self, method: &Method, path: &str, query: &str) -> Response<Full<Bytes>> {
        let action = match find(method, path) {
            Ok(action) => action,
            Err(refusal) => return *refusal,
        };
        match action {
            Action::Metrics => self.metrics(),
            Action::Health => reply(StatusCode::OK, &self.state().document()),
            Action::Ready => {
                let state = self.state();
                let ready = if state.is_ready() { 200 } else { 503 };
                let status = StatusCode::from_u16(ready).expect("both are statuses");
                reply(status, &state.document())
            }
            Action::Config => reply(StatusCode::OK, &self.config()),
            Action::Checkpoint => {
                timed(|| self.care.checkpoint().map(|()| json!({ "checkpoint": "written" })))
            }
            Action::Compact => {
                timed(|| self.care.compact().map(|freed| json!({ "freed_bytes": freed })))
            }
            Action::Gain => reply(StatusCode::OK, &stats::compaction(&self.care.compaction())),
            Action::Stats => reply(StatusCode::OK, &self.stats()),
            Action::Segments => reply(StatusCode::OK, &stats::segments(&self.care.segments())),
            Action::Queues => self.queues(query),
            Action::Drain => {
                tracing::info!("POST /drain: finishing what is in flight");
                self.care.drain();
                reply(StatusCode::ACCEPTED, &self.state().document())
            }
        }
    }

    fn stats(&self) -> Value {
        let mut document = self.state().document();
        let process = self.care.process();
        document["uptime_ms"] = json!(stats::millis(process.uptime));
        document["engine"] = stats::engine(&self.care.store());
        document["process"] = stats::process(&process);
        document["requests"] = stats::requests(&self.requests.stats());
        document
    }

    fn queues(&self, query: &str) -> Response<Full<Bytes>> {
        let query = match queues::Query::read(query) {
            Ok(query) => query,
            Err(what) => return reply(StatusCode::BAD_REQUEST, &json!({ "error": what })),
        };
        let mut top = queues::Top::new(query);
        match self.care.visit_queues(&mut |glance| top.add(&glance)) {
            Ok(()) => reply(StatusCode::OK, &top.document()),
            Err(cause) => failed(&cause),
        }
    }

    fn state(&self) -> State {
        State::of(self.care.health(), self.draining.is_requested())
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let text = metrics::text(&self.measured);
        let mut response = Response::new(Full::new(text.into()));
        let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    fn config(&self) -> Value {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        let options: Vec<_> = settings
            .iter()
            .map(|(spec, value, origin)| {
                json!({
                    "section": spec.section,
                    "name": spec.name,
                    "value": spec.show(value),
                    "unit": spec.kind.unit(),
                    "origin": origin.to_string(),
                    "reloads": spec.reloads,
                })
            })
            .collect();
        let rules: Vec<_> = settings
            .rules()
            .iter()
            .map(|(rule, origin)| {
                json!({
                    "match": rule.pattern,
                    "durability": rule.durability.name(),
                    "origin": origin.to_string(),
                })
            })
            .collect();
        json!({ "options": options, "queue": rules })
    }
}

impl<C: Care> Handler for Admin<C> {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, _) = request.into_parts();
        let answer = tokio::task::spawn_blocking(move || {
            self.answer(&head.method, head.uri.path(), head.uri.query().unwrap_or(""))
        });
        let answer = answer.await;
        answer.unwrap_or_else(|_| {
            let document = json!({ "error": "a fault of the program; the log says more" });
            reply(StatusCode::INTERNAL_SERVER_ERROR, &document)
        })
    }
}

/// Does something that takes time, and tells how long it took.
fn timed(act: impl FnOnce() -> Result<Value, Error>) -> Response<Full<Bytes>> {
    let started = Instant::now();
    match act() {
        Ok(mut document) => {
            document["seconds"] = json!(started.elapsed().as_secs_f64());
            reply(StatusCode::OK, &document)
        }
        Err(cause) => failed(&cause),
    }
}

/// What was asked for could not be done.
fn failed(cause: &Error) -> Response<Full<Bytes>> {
    tracing::warn!(%cause, "an admin request failed");
    reply(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": cause.to_string() }))
}

/// What is to be done, or the answer that says what there is instead.
fn find(method: &Method, path: &str) -> Result<Action, Box<Response<Full<Bytes>>>> {
    let here = || ACTIONS.iter().filter(|(_, known, _)| *known == path);
    if let Some((.., action)) = here().find(|(takes, ..)| takes == method) {
        return Ok(*action);
    }
    let takes: Vec<_> = here().map(|(takes, ..)| takes.as_str()).collect();
    if takes.is_empty() {
        let known: Vec<_> =
            ACTIONS.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
        let document = json!({ "error": "there is no such path", "there_are": known });
        return Err(Box::new(reply(StatusCode::NOT_FOUND, &document)));
    }
    let document = json!({ "error": format!("{path} takes {} only", takes.join(" and ")) });
    let mut refusal = reply(StatusCode::METHOD_NOT_ALLOWED, &document);
    let allow = HeaderValue::from_str(&takes.join(", ")).expect("methods are a header value");
    refusal.headers_mut().insert(ALLOW, allow);
    Err(Box::new(refusal))
}

fn reply(status: StatusCode, document: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(format!("{document}\n").into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
