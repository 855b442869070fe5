//! One request to its answer: sent, waited for, repeated where `retry` says so, and what went wrong
//! named. Knows HTTP, and not what is asked.

use crate::builder::{Durability, Settings};
use crate::error::Error;
use crate::retry::Failure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::{PathAndQuery, Scheme, Uri};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::io;
use std::time::Duration;
use uuid::Uuid;

const DURABILITY: HeaderName = HeaderName::from_static("marconi-durability");
/// Idle connections are given up before servers commonly do (ours: 75 s): a request sent into a
/// connection that closes is lost, and a POST cannot be repeated then.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The connections to one server.
pub(crate) type Connections = legacy::Client<HttpConnector, Full<Bytes>>;

pub(crate) fn connections(settings: &Settings) -> Connections {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(settings.connect_timeout));
    // Requests are small and wait for their answers.
    connector.set_nodelay(true);
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(settings.idle_connection_count_max)
        .build(connector)
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query, as they are to stand on the wire.
    pub(crate) target: String,
    /// JSON, if any.
    pub(crate) body: Bytes,
}

impl Ask {
    pub(crate) fn new(method: Method, target: impl Into<String>) -> Ask {
        Ask { method, target: target.into(), body: Bytes::new() }
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Ask {
        self.body = body.into();
        self
    }

    /// Method and path, as errors name it.
    pub(crate) fn name(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }

    fn to_request(&self, settings: &Settings) -> Result<Request<Full<Bytes>>, Error> {
        let malformed = |_| Error::invalid(format!("{} is no path of a server", self.target));
        let target: PathAndQuery = self.target.parse().map_err(malformed)?;
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(settings.authority.clone())
            .path_and_query(target)
            .build()
            .map_err(|_| Error::invalid(format!("{} is no path of a server", self.target)))?;
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        let mut headers = settings.headers.clone();
        if !self.body.is_empty() {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
        }
        if let Some(level) = settings.durability
            && !matches!(self.method, Method::GET | Method::HEAD)
        {
            headers.insert(DURABILITY, HeaderValue::from_static(level.name()));
        }
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// What came back. A status of 5xx never does: that is an error.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Of the request.
    pub(crate) name: String,
}

/// What a server says about a failure.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Told {
    title: String,
    description: String,
}

impl Answer {
    /// The answer if it has one of these statuses; else the error that its status stands for.
    pub(crate) fn of(self, expected: &[u16]) -> Result<Answer, Error> {
        if expected.contains(&self.status.as_u16()) { Ok(self) } else { Err(self.refusal()) }
    }

    /// The error of this status, where the verb has none of its own.
    pub(crate) fn refusal(self) -> Error {
        let (title, description) = self.told();
        let (request, status) = (self.name, self.status.as_u16());
        match status {
            404 => Error::NotFound { request, description },
            400..500 => Error::Refused { request, status, title, description },
            _ => {
                let what = format!("{status} is no status of this request");
                Error::Malformed { request, what }
            }
        }
    }

    /// Title and description, for people. Without a description the title has to do.
    pub(crate) fn told(&self) -> (String, String) {
        let mut told: Told = serde_json::from_slice(&self.body).unwrap_or_default();
        if told.title.is_empty() {
            told.title = self.status.canonical_reason().unwrap_or("without a reason").to_owned();
        }
        if told.description.is_empty() {
            told.description.clone_from(&told.title);
        }
        (told.title, told.description)
    }

    /// The body as a document of this API.
    pub(crate) fn document<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|cause| self.malformed(cause.to_string()))
    }

    pub(crate) fn malformed(&self, what: impl Into<String>) -> Error {
        Error::Malformed { request: self.name.clone(), what: what.into() }
    }

    /// A header, where it is text.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What the answer promises, where the server says so.
    pub(crate) fn durability(&self) -> Option<Durability> {
        self.header(&DURABILITY)?.parse().ok()
    }
}

/// Asks until there is an answer, or until repeating is no use.
pub(crate) async fn call(
    connections: &Connections,
    settings: &Settings,
    ask: &Ask,
) -> Result<Answer, Error> {
    let request = ask.to_request(settings)?;
    let is_post = ask.method == Method::POST;
    let mut repeated_count = 0;
    loop {
        let (failure, error) = match once(connections, settings, ask, request.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        let pause = failure
            .and_then(|failure| settings.retries.pause(failure, is_post, repeated_count, chance()));
        let Some(pause) = pause else { return Err(error) };
        tokio::time::sleep(pause).await;
        repeated_count += 1;
    }
}

/// A number from 0 to 1 that others do not have.
fn chance() -> f64 {
    let (_, low) = Uuid::new_v4().as_u64_pair();
    f64::from(low as u32) / f64::from(u32::MAX)
}

/// One attempt: the answer, or how it failed, if it may be repeated at all, with the error to give
/// if it is not.
async fn once(
    connections: &Connections,
    settings: &Settings,
    ask: &Ask,
    request: Request<Full<Bytes>>,
) -> Result<Answer, (Option<Failure>, Error)> {
    let lost = |source: io::Error| {
        let request = ask.name();
        let error = match ask.method {
            Method::POST => Error::OutcomeUnknown { request, source },
            _ => Error::Interrupted { request, source },
        };
        (Some(Failure::AnswerLost), error)
    };
    let attempt = async {
        let response = connections.request(request).await.map_err(|cause| {
            if cause.is_connect() {
                let (server, source) = (settings.authority.to_string(), innermost(&cause));
                (Some(Failure::NotSent), Error::Connect { server, source })
            } else {
                lost(innermost(&cause))
            }
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, settings.answer_size_max).collect().await;
        let body = body.map_err(|cause| {
            if cause.is::<http_body_util::LengthLimitError>() {
                let size = settings.answer_size_max;
                let what = format!("the answer is larger than {size} bytes (answer_size_max)");
                return (None, Error::Malformed { request: ask.name(), what });
            }
            lost(innermost(cause.as_ref()))
        })?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
            name: ask.name(),
        })
    };
    let answer = tokio::time::timeout(settings.answer_timeout, attempt).await.map_err(|_| {
        let text = format!("no answer came within {:?}", settings.answer_timeout);
        lost(io::Error::new(io::ErrorKind::TimedOut, text))
    })??;
    if !answer.status.is_server_error() {
        return Ok(answer);
    }
    let retry_after = answer.header(&header::RETRY_AFTER).and_then(|text| text.parse().ok());
    let retry_after = retry_after.map(Duration::from_secs);
    let (_, description) = answer.told();
    let status = answer.status.as_u16();
    let error = Error::Unavailable { request: answer.name, status, retry_after, description };
    Err((Some(Failure::Unavailable { retry_after }), error))
}

/// What the system said, out of what was wrapped around it.
fn innermost(error: &(dyn StdError + 'static)) -> io::Error {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    match last.downcast_ref::<io::Error>() {
        Some(cause) => match cause.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(cause.kind(), cause.to_string()),
        },
        None => io::Error::other(last.to_string()),
    }
}
