//! What is repeated and what is not, how patiently, and over how many connections.

use crate::server::{Server, Step, reply};
use marconi_client::{Client, Error, NewMessage, Retries};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(60);
const STATS: &str = r#"{"messages":{"free":1,"claimed":0,"total":1}}"#;
const POSTED: &str = r#"{"resources":["/v1/queues/q/messages/a"],"partial":false}"#;

fn quick() -> Retries {
    Retries { first_pause: Duration::from_millis(1), ..Retries::default() }
}

fn one() -> [NewMessage; 1] {
    [NewMessage::new(TTL, "x").expect("a text")]
}

#[tokio::test]
async fn what_may_be_repeated_is_repeated_until_it_succeeds() {
    let busy = || reply(503, "");
    for trouble in [busy(), Step::HangUp, Step::Break, reply(502, "a proxy's words")] {
        let steps = [
            trouble.clone(),
            trouble.clone(),
            reply(200, STATS),
            trouble.clone(),
            reply(201, ""),
            trouble.clone(),
            reply(204, ""),
            trouble.clone(),
            reply(204, ""),
        ];
        let server = Server::start(steps).await;
        let queue = server.builder().retries(quick()).build().expect("a client").queue("q");
        assert_eq!(queue.stats().await.expect("GET").free, 1, "{trouble:?}");
        queue.create().await.expect("PUT");
        queue.renew("c", TTL, TTL).await.expect("PATCH");
        queue.delete_by_id("a", None).await.expect("DELETE");
        assert_eq!(server.asked().len(), 9, "{trouble:?}");
    }
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    for trouble in [reply(503, ""), Step::HangUp, Step::Break] {
        let server = Server::start([trouble.clone(), reply(201, POSTED)]).await;
        let queue = server.builder().retries(quick()).build().expect("a client").queue("q");
        let error = queue.post(&one()).await.expect_err("the answer got lost");
        match (&trouble, &error) {
            (Step::Reply(..), Error::Unavailable { status: 503, .. }) => {}
            (_, Error::OutcomeUnknown { .. }) => {}
            _ => panic!("{trouble:?}: {error:?}"),
        }
        assert!(error.may_have_happened() && error.is_temporary(), "{error:?}");
        assert_eq!(server.asked().len(), 1, "{trouble:?}");
        // The next one is another post.
        queue.post(&one()).await.expect("the trouble is over");
    }
}

#[tokio::test]
async fn a_post_that_was_not_sent_is_repeated() {
    // An address that nobody listens at, until somebody does.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let client = |count_max| {
        let retries = Retries { count_max, ..quick() };
        Client::builder(format!("http://{address}")).retries(retries).build().expect("a client")
    };
    let error = client(2).queue("q").post(&one()).await.expect_err("nobody listens");
    let Error::Connect { server, source } = &error else { panic!("{error:?}") };
    assert_eq!((server, source.kind()), (&address.to_string(), ErrorKind::ConnectionRefused));
    assert!(error.is_temporary() && !error.may_have_happened());

    let patient = client(10_000).queue("q");
    let posting = tokio::spawn(async move { patient.post(&one()).await });
    let listener = loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let (stream, _) = listener.accept().await.expect("the post comes again");
    drop(stream);
    let error = posting.await.expect("no panic").expect_err("it was hung up on");
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
}

#[tokio::test]
async fn retry_after_is_honoured_and_reported() {
    let soon = Step::Reply(503, "Retry-After: 1\r\n", String::new());
    let full = r#"{"title":"Service temporarily unavailable","description":"The store is full."}"#;
    let late = Step::Reply(503, "Retry-After: 30\r\n", full.to_owned());
    let server = Server::start([soon, reply(200, STATS), late]).await;
    let queue = server.builder().retries(quick()).build().expect("a client").queue("q");
    let started = Instant::now();
    queue.stats().await.expect("it was asked again");
    assert!(started.elapsed() >= Duration::from_secs(1));
    let error = queue.stats().await.expect_err("half a minute is not waited for");
    let Error::Unavailable { retry_after, ref description, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(30)));
    assert_eq!(description, "The store is full.");
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn repeating_ends_and_health_is_asked_once() {
    let server = Server::start(std::iter::repeat_n(Step::HangUp, 20)).await;
    let retries = Retries { count_max: 3, ..quick() };
    let client = server.builder().retries(retries).build().expect("a client");
    let error = client.queue("q").stats().await.expect_err("nobody answers");
    let Error::Interrupted { request, .. } = &error else { panic!("{error:?}") };
    assert_eq!(request, "GET /v1/queues/q/stats");
    assert_eq!(server.asked().len(), 4);
    client.health().await.expect_err("nobody answers");
    assert_eq!(server.asked().len(), 5);
}

#[tokio::test]
async fn an_answer_that_does_not_come_or_is_too_large_is_an_error() {
    let large = format!("\"{}\"", "x".repeat(100));
    let server = Server::start([Step::Silence, Step::Silence, reply(200, &large)]).await;
    let builder = server.builder().retries(Retries::NONE).answer_size_max(99);
    let queue =
        builder.answer_timeout(Duration::from_millis(50)).build().expect("a client").queue("q");
    let error = queue.stats().await.expect_err("silence");
    let Error::Interrupted { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), ErrorKind::TimedOut);
    let error = queue.post(&one()).await.expect_err("silence");
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
    let error = queue.stats().await.expect_err("too large");
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::start((0..50).map(|_| reply(200, STATS))).await;
    let client = server.client();
    for _ in 0..40 {
        client.clone().queue("q").stats().await.expect("stats");
    }
    assert_eq!(server.connection_count(), 1);
    let queue = client.queue("q");
    let (one, two) = tokio::join!(queue.stats(), queue.stats());
    one.and(two).expect("stats");
    assert!(server.connection_count() <= 2, "two at a time need two at most");
}
