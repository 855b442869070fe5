//! Answers: a status, a few headers, a body that is there as a whole. Knows no routes.

use crate::api::fault::Fault;
use crate::api::headers::DURABILITY;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LOCATION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER,
};
use hyper::{Response, StatusCode};
use marconi_engine::Durability;

/// An answer with its body in memory.
pub type Reply = Response<Full<Bytes>>;

/// An answer without a body.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::new()));
    *reply.status_mut() = status;
    reply
}

/// An answer whose body is JSON.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// The home document, which may be kept for a day.
pub fn home(body: &'static str) -> Reply {
    let mut reply = json(StatusCode::OK, body);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json-home"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=86400"));
    reply
}

/// The error document of a fault, with its status.
pub fn fault(fault: &Fault) -> Reply {
    let mut reply = bare(fault);
    *reply.body_mut() = Full::new(fault.body().into());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// A fault's status without its document.
pub fn bare(fault: &Fault) -> Reply {
    let (status, _, retry_after) = fault.kind.row();
    let mut reply = empty(StatusCode::from_u16(status).expect("the table holds valid statuses"));
    if let Some(seconds) = retry_after {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    reply
}

/// What is added to an answer.
pub trait With {
    /// Says where what was made is found.
    fn location(&mut self, path: impl Into<Vec<u8>>);
    /// Says what was answered: the target as the client sent it.
    fn content_location(&mut self, target: &str);
    /// Says which methods there are.
    fn allow(&mut self, methods: &[&str]);
    /// Says how durable what was done is.
    fn durability(&mut self, level: Durability);
}

impl With for Reply {
    fn location(&mut self, path: impl Into<Vec<u8>>) {
        insert(self, LOCATION, path.into());
    }

    fn content_location(&mut self, target: &str) {
        insert(self, CONTENT_LOCATION, target.as_bytes().to_vec());
    }

    fn allow(&mut self, methods: &[&str]) {
        insert(self, ALLOW, methods.join(", ").into_bytes());
    }

    fn durability(&mut self, level: Durability) {
        self.headers_mut().insert(DURABILITY, HeaderValue::from_static(level.name()));
    }
}

/// Sets a header; text that no header may hold, which no checked name and no request target is,
/// sets none.
fn insert(reply: &mut Reply, name: HeaderName, text: Vec<u8>) {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
        reply.headers_mut().insert(name, value);
    }
}
