//! The admin API, on a listener of its own: metrics, health, the configuration in force, and care
//! for the store. Knows nothing of the public API, and asks for no password: its address is private.
//!
//! | request | answer |
//! |---|---|
//! | `GET /metrics` | all metrics, as OpenMetrics text |
//! | `GET /health` | 200 while the process runs, with its state |
//! | `GET /ready` | the same, but 503 when requests should go elsewhere |
//! | `GET /config` | the values in force, with units and origins |
//! | `POST /checkpoint` | writes a checkpoint now |
//! | `POST /compact` | gives disk space back now |

use crate::config::Settings;
use crate::http::listen::Handler;
use crate::metrics;
use crate::shutdown::Shutdown;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use marconi_engine::Error;
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
    /// Adds what is measured on demand to the metrics.
    fn register(self: Arc<Self>, registry: &mut Registry);
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
    requests: Arc<metrics::RequestMetrics>,
    measured: Registry,
    settings: Arc<RwLock<Settings>>,
    draining: Shutdown,
}

/// What the admin API can do: each a path and the one method it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Metrics,
    Health,
    Ready,
    Config,
    Checkpoint,
    Compact,
}

const ACTIONS: [(&str, Method, Action); 6] = [
    ("/metrics", Method::GET, Action::Metrics),
    ("/health", Method::GET, Action::Health),
    ("/ready", Method::GET, Action::Ready),
    ("/config", Method::GET, Action::Config),
    ("/checkpoint", Method::POST, Action::Checkpoint),
    ("/compact", Method::POST, Action::Compact),
];

impl<C: Care> Admin<C> {
    /// The admin API. `settings` are those in force, and change with a reload; `draining` tells when
    /// the service was told to stop.
    pub fn new(
        care: Arc<C>,
        requests: Arc<metrics::RequestMetrics>,
        settings: Arc<RwLock<Settings>>,
        draining: Shutdown,
    ) -> Admin<C> {
        let mut measured = Registry::with_prefix(metrics::PREFIX);
        Arc::clone(&care).register(&mut measured);
        Admin { care, requests, measured, settings, draining }
    }

    /// Answers a request. May block.
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let Some((_, takes, action)) = ACTIONS.iter().find(|(known, ..)| *known == path) else {
            let known: Vec<_> =
                ACTIONS.iter().map(|(path, method, _)| format!("{method} {path}")).collect();
            let document = json!({ "error": "there is no such path", "there_are": known });
            return reply(StatusCode::NOT_FOUND, &document);
        };
        if method != takes {
            let document = json!({ "error": format!("{path} takes {takes} only") });
            let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, &document);
            let allow = HeaderValue::from_str(takes.as_str()).expect("a method is a header value");
            response.headers_mut().insert(ALLOW, allow);
            return response;
        }
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
        }
    }

    fn state(&self) -> State {
        State::of(self.care.health(), self.draining.is_requested())
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let text = metrics::text(&[self.requests.registry(), &self.measured]);
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

impl<C: Care> Handler for Arc<Admin<C>> {
    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let admin = Arc::clone(self);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = tokio::task::spawn_blocking(move || admin.answer(&method, &path)).await;
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
        Err(cause) => {
            tracing::warn!(%cause, "an admin request failed");
            let document = json!({ "error": cause.to_string() });
            reply(StatusCode::SERVICE_UNAVAILABLE, &document)
        }
    }
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
mod tests {
    use super::*;
    use crate::shutdown::shutdown;
    use http_body_util::BodyExt;
    use std::sync::Mutex;

    struct Patient(Mutex<Result<(), Error>>);

    impl Care for Patient {
        fn health(&self) -> Result<(), Error> {
            self.0.lock().expect("no panic").clone()
        }
        fn checkpoint(&self) -> Result<(), Error> {
            self.health()
        }
        fn compact(&self) -> Result<u64, Error> {
            self.health().map(|()| 5)
        }
        fn register(self: Arc<Self>, _: &mut Registry) {}
    }

    struct World {
        care: Arc<Patient>,
        admin: Admin<Patient>,
        trigger: crate::shutdown::ShutdownTrigger,
    }

    fn world() -> World {
        let (trigger, draining) = shutdown();
        let care = Arc::new(Patient(Mutex::new(Ok(()))));
        let settings = Arc::new(RwLock::new(Settings::default()));
        let admin = Admin::new(Arc::clone(&care), Arc::default(), settings, draining);
        World { care, admin, trigger }
    }

    impl World {
        async fn ask(&self, method: Method, path: &str) -> (u16, String) {
            let response = self.admin.answer(&method, path);
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.expect("it is whole").to_bytes();
            (status, String::from_utf8(body.to_vec()).expect("text"))
        }

        async fn health(&self) -> (u16, u16, Value) {
            let (health, text) = self.ask(Method::GET, "/health").await;
            let (ready, same) = self.ask(Method::GET, "/ready").await;
            assert_eq!(text, same);
            let document: Value = serde_json::from_str(&text).expect("JSON");
            (health, ready, document["state"].clone())
        }
    }

    #[tokio::test]
    async fn health_tells_the_states_apart_and_ready_sends_requests_elsewhere() {
        let world = world();
        assert_eq!(world.health().await, (200, 200, json!("up")));
        *world.care.0.lock().expect("no panic") = Err(Error::Full);
        assert_eq!(world.health().await, (200, 200, json!("disk full")));
        *world.care.0.lock().expect("no panic") = Err(Error::ReadOnly("sync: EIO".into()));
        assert_eq!(world.health().await, (200, 503, json!("read only")));
        let (_, text) = world.ask(Method::GET, "/health").await;
        assert!(text.contains("sync: EIO"), "{text}");
        world.trigger.trigger();
        assert_eq!(world.health().await, (200, 503, json!("draining")));
    }

    #[tokio::test]
    async fn care_is_asked_for_by_post() {
        let world = world();
        let (status, text) = world.ask(Method::POST, "/compact").await;
        assert_eq!(status, 200);
        assert!(text.contains("\"freed_bytes\":5"), "{text}");
        assert_eq!(world.ask(Method::GET, "/checkpoint").await.0, 405);
        assert_eq!(world.ask(Method::GET, "/").await.0, 404);
        *world.care.0.lock().expect("no panic") = Err(Error::Closed);
        let (status, text) = world.ask(Method::POST, "/checkpoint").await;
        assert_eq!((status, text.as_str()), (503, "{\"error\":\"the engine is closed\"}\n"));
    }

    #[tokio::test]
    async fn the_configuration_in_force_is_shown_with_its_origins() {
        let (status, text) = world().ask(Method::GET, "/config").await;
        assert_eq!(status, 200);
        let document: Value = serde_json::from_str(&text).expect("JSON");
        let options = document["options"].as_array().expect("a list");
        let ttl = options.iter().find(|option| option["name"] == "max_message_ttl");
        let ttl = ttl.expect("it is an option");
        assert_eq!(ttl["value"], "14d");
        assert_eq!(ttl["origin"], "default");
    }
}
