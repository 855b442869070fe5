//! What each verb sends, and what it makes of the answers.

use crate::server::{Server, Step, reply};
use marconi_client::{
    ClaimOptions, Created, Durability, Error, ListOptions, NewMessage, RawValue, Retries, Uuid,
};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(60);
const REFUSED: &str = r#"{"title":"Invalid API request","description":"ttl is 1."}"#;

fn message(id: &str, claim: &str) -> String {
    format!(r#"{{"href":"/v1/queues/q/messages/{id}{claim}","ttl":60,"age":7,"body":{{"n" : 1}}}}"#)
}

#[tokio::test]
async fn every_request_says_who_asks() {
    let server = Server::start((0..4).map(|_| reply(204, ""))).await;
    let id = Uuid::from_u128(7);
    let builder = server.builder().client_id(id).project("p/1").token("t");
    let client = builder.durability(Durability::Os).build().expect("a client");
    assert_eq!(client.client_id(), id);
    client.queue("a b/c").create().await.expect("create");
    client.with_durability(Durability::Each).queue("q").remove().await.expect("remove");
    client.health().await.expect("health");
    server.client().health().await.expect("health");

    let asked = server.asked();
    assert_eq!(asked[0].line, "PUT /v1/queues/a%20b%2Fc");
    for (index, line, is_said) in [
        (0, format!("client-id: {id}"), true),
        (0, "x-project-id: p/1".to_owned(), true),
        (0, "x-auth-token: t".to_owned(), true),
        (0, "accept: application/json".to_owned(), true),
        (0, "marconi-durability: os".to_owned(), true),
        (0, format!("host: {}", server.address), true),
        (1, "marconi-durability: each".to_owned(), true),
        (2, "marconi-durability".to_owned(), false),
        (3, "client-id: ".to_owned(), true),
        (3, format!("client-id: {id}"), false),
        (3, "x-project-id".to_owned(), false),
        (3, "x-auth-token".to_owned(), false),
    ] {
        let said = asked[index].head.lines().any(|said| said.starts_with(&line));
        assert_eq!(said, is_said, "{line} in\n{}", asked[index].head);
    }
}

#[tokio::test]
async fn queues_are_made_looked_at_and_removed() {
    let durable = Step::Reply(204, "Marconi-Durability: group\r\n", String::new());
    let stats = r#"{"messages":{"free":2,"claimed":1,"total":3,
        "oldest":{"age":9,"created":"2026-01-01T10:00:00Z","href":"/v1/queues/q/messages/a"}}}"#;
    let versions = r#"{"versions":[{"id":"1","status":"CURRENT","links":[]}]}"#;
    let steps = [
        reply(201, ""),
        reply(204, ""),
        durable,
        reply(404, ""),
        reply(200, r#"{"owner" : "ops"}"#),
        reply(204, ""),
        reply(200, stats),
        reply(204, ""),
        reply(300, versions),
        reply(200, r#"{"resources":{}}"#),
    ];
    let server = Server::start(steps).await;
    let client = server.client();
    let queue = client.queue("q");
    assert_eq!(queue.create().await.expect("PUT"), Created::New);
    assert_eq!(queue.create().await.expect("PUT"), Created::Existing);
    let state = queue.state().await.expect("GET").expect("it is there");
    assert_eq!(state.durability, Some(Durability::Group));
    assert!(!queue.exists().await.expect("GET"));
    assert_eq!(queue.metadata().await.expect("GET").get(), r#"{"owner" : "ops"}"#);
    let metadata = RawValue::from_string(r#"{ "a": 1 }"#.to_owned()).expect("JSON");
    queue.set_metadata(&metadata).await.expect("PUT");
    let stats = queue.stats().await.expect("GET");
    assert_eq!((stats.free, stats.claimed, stats.total), (2, 1, 3));
    assert_eq!(stats.oldest.expect("there is one").age_s, 9);
    assert!(stats.newest.is_none());
    queue.remove().await.expect("DELETE");
    assert_eq!(client.versions().await.expect("GET")[0].id, "1");
    assert_eq!(client.home().await.expect("GET").get(), r#"{"resources":{}}"#);
    let lines = server.lines();
    assert_eq!(
        lines[4..7],
        ["GET /v1/queues/q/metadata", "PUT /v1/queues/q/metadata", "GET /v1/queues/q/stats"]
    );
    assert_eq!(lines[7..], ["DELETE /v1/queues/q", "GET /", "GET /v1/"]);
    assert_eq!(server.asked()[5].body, r#"{ "a": 1 }"#);
}

#[tokio::test]
async fn pages_follow_links_as_they_are_and_go_on_behind_the_end() {
    let queues = |name: &str, next: &str| {
        let entry = format!(r#"{{"name":"{name}","href":"/v1/queues/{name}","metadata":{{}}}}"#);
        let body = format!(r#"{{"queues":[{entry}],"links":[{{"rel":"next","href":"{next}"}}]}}"#);
        reply(200, &body)
    };
    let messages = |id: &str, next: &str| {
        let (message, rel) = (message(id, ""), r#""rel":"next""#);
        let body = format!(r#"{{"messages":[{message}],"links":[{{{rel},"href":"{next}"}}]}}"#);
        reply(200, &body)
    };
    let steps = [
        queues("a", "/v1/queues?any=thing&marker=a"),
        queues("b", "/v1/queues?marker=b"),
        reply(204, ""),
        messages("m1", "/odd/link?limit=1&marker=x%2C1"),
        reply(204, ""),
        messages("m2", "/odd/link?marker=2"),
        messages("m3", "http://elsewhere/v1/queues/q/messages?marker=3"),
    ];
    let server = Server::start(steps).await;
    let client = server.client();
    let mut pages = client.queues(Some(1), Some("A&"), true);
    assert_eq!(pages.next().await.expect("GET").expect("a page")[0].name, "a");
    assert_eq!(pages.next().await.expect("GET").expect("a page")[0].name, "b");
    assert!(pages.next().await.expect("GET").is_none());

    let options = ListOptions { limit: Some(1), echo: true, ..ListOptions::default() };
    let mut pages = client.queue("q").messages(&options);
    assert_eq!(pages.marker(), None);
    assert_eq!(pages.next().await.expect("GET").expect("a page")[0].id, "m1");
    assert_eq!(pages.marker().as_deref(), Some("x,1"));
    assert!(pages.next().await.expect("GET").is_none());
    assert_eq!(pages.next().await.expect("GET").expect("a page")[0].id, "m2");
    let error = pages.next().await.expect_err("a link to another server is not followed");
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    assert_eq!(
        server.lines(),
        [
            "GET /v1/queues?limit=1&detailed=true&marker=A%26",
            "GET /v1/queues?any=thing&marker=a",
            "GET /v1/queues?marker=b",
            "GET /v1/queues/q/messages?limit=1&echo=true",
            "GET /odd/link?limit=1&marker=x%2C1",
            "GET /odd/link?limit=1&marker=x%2C1",
            "GET /odd/link?marker=2",
        ]
    );
}

#[tokio::test]
async fn messages_are_posted_read_and_deleted() {
    let posted =
        r#"{"resources":["/v1/queues/q/messages/a","/v1/queues/q/messages/b"],"partial":false}"#;
    let many: Vec<String> = (0..21).map(|n| format!("m{n}")).collect();
    let steps = [
        Step::Reply(201, "Marconi-Durability: each\r\n", posted.to_owned()),
        reply(201, posted),
        reply(200, &message("a", "")),
        reply(200, &format!("[{}]", message("a", ""))),
        reply(204, ""),
        reply(204, ""),
        reply(204, ""),
        reply(204, ""),
        reply(204, ""),
    ];
    let server = Server::start(steps).await;
    let queue = server.client().queue("q");
    let raw = RawValue::from_string("{\"z\" : 1.0}".to_owned()).expect("JSON");
    let batch = [NewMessage::raw(TTL, raw), NewMessage::new(TTL, &[1, 2]).expect("JSON")];
    let done = queue.post(&batch).await.expect("POST");
    let ids: Vec<&str> = done.messages.iter().map(|message| &*message.id).collect();
    assert_eq!((ids, done.durability), (vec!["a", "b"], Some(Durability::Each)));
    let sent = server.asked()[0].clone();
    assert_eq!(sent.body, r#"[{"ttl":60,"body":{"z" : 1.0}},{"ttl":60,"body":[1,2]}]"#);
    assert!(sent.head.contains("content-type: application/json"));
    assert_eq!(sent.body.len(), 1 + batch.iter().map(NewMessage::size).sum::<usize>());
    let error = queue.post(&batch[..1]).await.expect_err("two links for one message");
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    assert!(matches!(queue.post(&[]).await, Err(Error::Invalid { .. })));

    let found = queue.message("a").await.expect("GET");
    assert_eq!((&*found.id, found.age, found.body.get()), ("a", 7 * TTL / 60, r#"{"n" : 1}"#));
    assert_eq!(queue.messages_by_id(&many).await.expect("GET").len(), 1);
    queue.delete(&found).await.expect("DELETE");
    queue.delete_by_id("a/b", Some("c")).await.expect("DELETE");
    queue.delete_many(&many).await.expect("DELETE");
    assert!(matches!(queue.delete_many(&[""]).await, Err(Error::Invalid { .. })));
    let first = many[..20].join(",");
    assert_eq!(
        server.lines()[2..],
        [
            "GET /v1/queues/q/messages/a".to_owned(),
            format!("GET /v1/queues/q/messages?ids={first}"),
            "GET /v1/queues/q/messages?ids=m20".to_owned(),
            "DELETE /v1/queues/q/messages/a".to_owned(),
            "DELETE /v1/queues/q/messages/a%2Fb?claim_id=c".to_owned(),
            format!("DELETE /v1/queues/q/messages?ids={first}"),
            "DELETE /v1/queues/q/messages?ids=m20".to_owned(),
        ]
    );
}

#[tokio::test]
async fn claims_are_made_renewed_worked_off_and_released() {
    let claimed = message("a", "?claim_id=c1");
    let claim = r#"{"href":"/v1/queues/q/claims/c1","ttl":60,"age":5,"messages":[]}"#;
    let steps = [
        Step::Reply(201, "Location: /v1/queues/q/claims/c1\r\n", format!("[{claimed}]")),
        reply(204, ""),
        reply(201, &format!("[{claimed}]")),
        reply(200, claim),
        reply(204, ""),
        reply(204, ""),
        reply(204, ""),
    ];
    let server = Server::start(steps).await;
    let queue = server.client().queue("q");
    let options = ClaimOptions { limit: Some(3), ttl: Duration::from_millis(59_500), grace: TTL };
    let held = queue.claim(&options).await.expect("POST").expect("one is free");
    assert_eq!((&*held.id, held.ttl, held.messages.len()), ("c1", TTL, 1));
    assert_eq!(held.messages[0].claim_id.as_deref(), Some("c1"));
    assert!(queue.claim(&ClaimOptions::default()).await.expect("POST").is_none());
    let error = queue.claim(&options).await.expect_err("no Location");
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    assert_eq!(queue.claim_by_id("c1").await.expect("GET").age, Duration::from_secs(5));
    queue.renew(&held.id, TTL, Duration::ZERO).await.expect("PATCH");
    queue.delete(&held.messages[0]).await.expect("DELETE");
    queue.release(&held.id).await.expect("DELETE");
    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /v1/queues/q/claims?limit=3");
    assert_eq!(asked[0].body, r#"{"ttl":60,"grace":60}"#);
    assert_eq!(asked[1].line, "POST /v1/queues/q/claims");
    assert_eq!(asked[4].line, "PATCH /v1/queues/q/claims/c1");
    assert_eq!(asked[4].body, r#"{"ttl":60,"grace":0}"#);
    assert_eq!(asked[5].line, "DELETE /v1/queues/q/messages/a?claim_id=c1");
    assert_eq!(asked[6].line, "DELETE /v1/queues/q/claims/c1");
}

#[tokio::test]
async fn each_status_has_its_error() {
    let gone = r#"{"title":"Not found"}"#;
    let steps = [
        reply(404, gone),
        reply(400, REFUSED),
        reply(403, REFUSED),
        reply(400, REFUSED),
        reply(400, REFUSED),
        reply(401, "who are you?"),
        reply(302, ""),
        reply(200, "<html>"),
        reply(200, r#"{"messages":{}}"#),
    ];
    let server = Server::start(steps).await;
    let client = server.builder().retries(Retries::NONE).build().expect("a client");
    let queue = client.queue("q");
    let renewed = queue.renew("c", TTL, TTL).await;
    let Err(Error::NotFound { request, description }) = &renewed else { panic!("{renewed:?}") };
    let expected = ("PATCH /v1/queues/q/claims/c", "Not found");
    assert_eq!((request.as_str(), description.as_str()), expected);
    let posted = queue.post(&[NewMessage::new(TTL, "x").expect("a text")]).await;
    let Err(Error::Refused { status: 400, title, description, .. }) = &posted else {
        panic!("{posted:?}");
    };
    assert_eq!((title.as_str(), description.as_str()), ("Invalid API request", "ttl is 1."));
    let deleted = queue.delete_by_id("a", None).await;
    assert!(matches!(deleted, Err(Error::Claimed { .. })), "{deleted:?}");
    let deleted = queue.delete_by_id("a", Some("c")).await;
    assert!(matches!(deleted, Err(Error::ClaimMismatch { .. })), "{deleted:?}");
    let deleted = queue.delete_by_id("a", None).await;
    assert!(matches!(deleted, Err(Error::Refused { status: 400, .. })), "{deleted:?}");
    let made = queue.create().await;
    let Err(Error::Refused { status: 401, title, .. }) = &made else { panic!("{made:?}") };
    assert_eq!(title, "Unauthorized");
    for what in ["a status that is none of these", "no JSON", "JSON of another kind"] {
        let stats = queue.stats().await;
        assert!(matches!(stats, Err(Error::Malformed { .. })), "{what}: {stats:?}");
    }
}
