//! What is decided before the store is asked: the order of the checks, and what a client hears when
//! the store fails.

use super::*;
use crate::app::Observer;
use crate::store::{Claim, Message, Page, Written};
use http_body_util::{BodyExt, Full};
use marconi_engine::{
    ClaimId, Created, Error, ListFilter, Marker, MessageId, NewMessage, QueueEntry, QueueInfo,
    QueueStats,
};
use std::sync::{Arc, Mutex};

/// A store whose disk has failed.
struct Down;

fn down<T>() -> Result<T, Error> {
    Err(Error::ReadOnly("/secret/path".into()))
}

impl Store for Down {
    async fn create_queue(
        &self,
        _: &QueueKey,
        _: Option<Durability>,
    ) -> Result<Written<Created>, Error> {
        down()
    }
    async fn queue(&self, _: &QueueKey) -> Result<QueueInfo, Error> {
        down()
    }
    async fn set_metadata(
        &self,
        _: &QueueKey,
        _: Bytes,
        _: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        down()
    }
    async fn remove_queue(
        &self,
        _: &QueueKey,
        _: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        down()
    }
    async fn queues(
        &self,
        _: Option<&str>,
        _: Option<&str>,
        _: usize,
    ) -> Result<Vec<QueueEntry>, Error> {
        down()
    }
    async fn stats(&self, _: &QueueKey) -> Result<QueueStats, Error> {
        down()
    }
    async fn post(
        &self,
        _: &QueueKey,
        _: ClientId,
        _: &[NewMessage<'_>],
        _: Option<Durability>,
    ) -> Result<Written<Vec<MessageId>>, Error> {
        down()
    }
    async fn list(
        &self,
        _: &QueueKey,
        _: Option<Marker>,
        _: usize,
        _: ListFilter,
    ) -> Result<Page, Error> {
        down()
    }
    async fn get(&self, _: &QueueKey, _: &[MessageId]) -> Result<Vec<Message>, Error> {
        down()
    }
    async fn delete(
        &self,
        _: &QueueKey,
        _: MessageId,
        _: Option<Option<ClaimId>>,
        _: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        down()
    }
    async fn delete_many(
        &self,
        _: &QueueKey,
        _: &[MessageId],
        _: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        down()
    }
    async fn claim(
        &self,
        _: &QueueKey,
        _: u32,
        _: u32,
        _: usize,
        _: Option<Durability>,
    ) -> Result<Written<Option<Claim>>, Error> {
        down()
    }
    async fn claim_get(&self, _: &QueueKey, _: ClaimId) -> Result<Claim, Error> {
        down()
    }
    async fn renew(
        &self,
        _: &QueueKey,
        _: ClaimId,
        _: u32,
        _: u32,
        _: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        down()
    }
    async fn release(
        &self,
        _: &QueueKey,
        _: ClaimId,
        _: Option<Durability>,
    ) -> Result<Written<()>, Error> {
        down()
    }
    fn durability_of(&self, _: &QueueKey, _: Option<Durability>) -> Durability {
        Durability::Group
    }
    async fn health(&self) -> Result<(), Error> {
        down()
    }
}

/// Keeps status, request id and error of every request.
#[derive(Default)]
struct Seen(Mutex<Vec<(u16, String, Option<String>)>>);

impl Observer for Seen {
    fn request_done(&self, done: &RequestDone<'_>) {
        let error = done.error.map(str::to_owned);
        let mut seen = self.0.lock().expect("no test panics with it");
        seen.push((done.status, done.request_id.to_owned(), error));
    }
}

const CLIENT: &str = "550893e0-2b6e-11e3-835a-5cf9dd723690";

/// Sends one request, with headers as `name: value`; gives the answer and what was observed.
async fn send(
    method: &str,
    target: &str,
    headers: &[&str],
    body: &'static str,
) -> (u16, hyper::HeaderMap, String, Option<String>) {
    let seen = Arc::new(Seen::default());
    let app = App::new(Down, Limits::default(), Arc::clone(&seen) as Arc<dyn Observer>);
    let mut request = Request::builder().method(method).uri(target);
    for header in headers {
        let (name, value) = header.split_once(": ").expect("a header");
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from_static(body.as_bytes())));
    let (head, body) = handle(Arc::new(app), request.expect("a request")).await.into_parts();
    let body = body.collect().await.expect("it is there").to_bytes();
    let [(status, id, error)] = &seen.0.lock().expect("no test panics with it")[..] else {
        panic!("every request is observed once");
    };
    assert_eq!(*status, head.status.as_u16());
    assert_eq!(head.headers[&REQUEST_ID], id.as_str());
    let body = String::from_utf8_lossy(&body).into_owned();
    (*status, head.headers, body, error.clone())
}

#[tokio::test]
async fn the_first_check_that_fails_answers() {
    // Every row mends the fault that the row before it met.
    let form = "content-type: application/x-www-form-urlencoded";
    let zero = "content-length: 0";
    let long = format!("x-project-id: {}", "x".repeat(257));
    for (method, target, headers, status, title) in [
        (
            "POST",
            "/v1/none",
            &[form, zero, "accept: a/b", "client-id: zz", "x-project-id: "][..],
            404,
            "404 Not Found",
        ),
        (
            "PATCH",
            "/v1/queues/@",
            &[form, zero, "accept: a/b", "client-id: zz", "x-project-id: "],
            400,
            "Invalid Content-Type",
        ),
        (
            "PATCH",
            "/v1/queues/@",
            &[form, "accept: a/b", "client-id: zz", "x-project-id: "],
            406,
            "Only application/json is served",
        ),
        ("PATCH", "/v1/queues/@", &["client-id: zz", "x-project-id: "], 400, "Wrong UUID value"),
        ("PATCH", "/v1/queues/@", &["x-project-id: "], 400, "Empty project header not allowed"),
        ("PATCH", "/v1/queues/@", &[], 400, "Invalid queue identification"),
        ("PATCH", "/v1/queues/q", &[&long], 400, "Invalid queue identification"),
        ("PATCH", "/v1/queues/q", &[], 405, "405 Method Not Allowed"),
        (
            "GET",
            "/v1/queues/q/messages?limit=x",
            &["marconi-durability: x"],
            400,
            "Invalid header value",
        ),
        ("GET", "/v1/queues/q/messages?limit=x", &[], 400, "Missing header value"),
        ("GET", "/v1/queues?limit=x", &[], 400, "Invalid parameter"),
        ("GET", "/v1/queues?limit=0", &[], 400, "Invalid API request"),
        ("POST", "/v1/queues/q/claims?limit=x", &[], 400, "Invalid parameter"),
        ("POST", "/v1/queues/q/claims?limit=0", &[], 400, "Invalid request body"),
        ("DELETE", "/v1/queues/q/messages", &[], 400, "Missing parameter"),
        ("DELETE", "/v1/queues/q/messages?ids=,", &[], 400, "Invalid API request"),
        ("GET", "/v1/queues", &[], 503, "Service temporarily unavailable"),
    ] {
        let (answered, _, body, _) = send(method, target, headers, "").await;
        assert_eq!(answered, status, "{method} {target} {headers:?}");
        let document: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(document["title"], title, "{method} {target} {headers:?}");
    }
}

#[tokio::test]
async fn a_failed_store_is_never_taken_for_an_answer() {
    let client = format!("client-id: {CLIENT}");
    let post = r#"[{"ttl":60,"body":1}]"#;
    let times = r#"{"ttl":60,"grace":60}"#;
    for (method, target, body) in [
        ("PUT", "/v1/queues/q", ""),
        ("GET", "/v1/queues/q", ""),
        ("HEAD", "/v1/queues/q", ""),
        ("DELETE", "/v1/queues/q", ""),
        ("GET", "/v1/queues", ""),
        ("GET", "/v1/queues/q/metadata", ""),
        ("PUT", "/v1/queues/q/metadata", "{}"),
        ("GET", "/v1/queues/q/stats", ""),
        ("POST", "/v1/queues/q/messages", post),
        ("GET", "/v1/queues/q/messages", ""),
        ("GET", "/v1/queues/q/messages?marker=x", ""),
        ("GET", "/v1/queues/q/messages?ids=x", ""),
        ("DELETE", "/v1/queues/q/messages?ids=x", ""),
        ("GET", "/v1/queues/q/messages/x", ""),
        ("DELETE", "/v1/queues/q/messages/x?claim_id=y", ""),
        ("POST", "/v1/queues/q/claims", times),
        ("GET", "/v1/queues/q/claims/x", ""),
        ("PATCH", "/v1/queues/q/claims/x", times),
        ("DELETE", "/v1/queues/q/claims/x", ""),
    ] {
        let (status, headers, text, error) = send(method, target, &[&client], body).await;
        assert_eq!(status, 503, "{method} {target}");
        assert_eq!(headers["retry-after"], "30");
        assert!(!headers.contains_key("location"));
        assert!(!text.contains("secret"), "the client reads {text}");
        assert!(error.is_some_and(|error| error.contains("/secret/path")), "{method} {target}");
    }
    let (status, headers, text, error) = send("GET", "/v1/health", &[], "").await;
    assert_eq!((status, &text[..]), (503, ""));
    assert!(headers.contains_key("retry-after"));
    assert!(error.is_some());
    for (method, target, status) in
        [("HEAD", "/v1/health", 204), ("GET", "/v1/", 200), ("GET", "/", 300)]
    {
        assert_eq!(send(method, target, &[], "").await.0, status, "{target}");
    }
}

#[tokio::test]
async fn methods_are_listed_where_one_is_refused_or_asked_for() {
    for (method, target, status, allow) in [
        ("HEAD", "/", 405, "GET, OPTIONS"),
        ("POST", "/v1/health", 405, "GET, HEAD, OPTIONS"),
        ("HEAD", "/v1/queues", 405, "GET, OPTIONS"),
        ("POST", "/v1/queues/q", 405, "PUT, GET, HEAD, DELETE, OPTIONS"),
        ("PUT", "/v1/queues/q/claims/k", 405, "GET, PATCH, DELETE, OPTIONS"),
        ("OPTIONS", "/v1/queues/q/claims", 200, "POST, OPTIONS"),
    ] {
        let (answered, headers, ..) = send(method, target, &[], "").await;
        assert_eq!(answered, status, "{method} {target}");
        assert_eq!(headers["allow"], allow, "{method} {target}");
    }
}
