//! What is no HTTP, or hardly: it is refused, it costs its own connection at most, and never stores
//! anything.

use marconi_tests::binary::{Binary, wait_for};
use marconi_tests::wire::{CLIENT_ID, MESSAGE, Wire, ask, assert_well, make_queue, post, request};
use std::net::Shutdown;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.roll() as u8).collect()
    }
}

#[test]
fn garbage_is_answered_with_400_or_a_closed_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Binary::start(folder.path(), &["--header-timeout-ms=2s"]);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let starts: [&[u8]; 6] = [
        b"",
        b"GET ",
        b"GET / HTTP/1.1\r\n",
        b"POST /v1/queues/q/messages HTTP/1.1\r\nContent-Length: ",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        // The preface of HTTP/2, then frames of nobody.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for round in 0..120 {
        let mut wire = Wire::to(server.address);
        let size = dice.roll() as usize % 3000;
        wire.send(starts[round % starts.len()]);
        wire.send(&dice.bytes(size));
        wire.send(b"\r\n\r\n");
        // Where it could still be the beginning of something, nothing more will come.
        let _ = wire.0.shutdown(Shutdown::Write);
        let text = wire.rest();
        let is_refusal = text.is_empty() || !text.starts_with("HTTP/1.1 2");
        assert!(is_refusal, "round {round}: {text}");
    }
    assert_well(&server);
    server.stop();
}

#[test]
fn a_head_that_is_too_large_is_431() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Binary::start(folder.path(), &["--header-size-max-bytes=8KiB"]);
    for head in [
        format!("GET /v1/health HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "x".repeat(9000)),
        format!("GET /v1/health HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(2000)),
        format!("GET /v1/queues/{} HTTP/1.1\r\nHost: x\r\n\r\n", "q".repeat(9000)),
    ] {
        let mut wire = Wire::to(server.address);
        wire.send(head.as_bytes());
        let text = wire.rest();
        let refused = ["HTTP/1.1 431 ", "HTTP/1.1 414 "].iter().any(|line| text.starts_with(line));
        assert!(refused, "{text}");
    }
    assert_well(&server);
    server.stop();
}

#[test]
fn requests_sent_at_once_are_answered_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Binary::start(folder.path(), &["--durability=os"]);
    let mut wire = Wire::to(server.address);
    let mut text = String::new();
    for number in 0..200 {
        text.push_str(&format!("PUT /v1/queues/q{number} HTTP/1.1\r\nHost: x\r\n\r\n"));
        // One that fails does not disturb the others.
        text.push_str("GET /v1/nowhere HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    text.push_str("GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(wire.send(text.as_bytes()));
    let answers = wire.rest();
    let statuses: Vec<&str> =
        answers.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)).collect();
    assert_eq!(statuses.len(), 401, "{answers}");
    assert!(statuses[..400].chunks(2).all(|pair| pair == ["201", "404"]), "{statuses:?}");
    let made: Vec<&str> =
        answers.lines().filter_map(|line| line.strip_prefix("location: ")).collect();
    let expected: Vec<String> = (0..200).map(|number| format!("/v1/queues/q{number}")).collect();
    assert_eq!(made, expected);
    assert_well(&server);
    server.stop();
}

#[test]
fn a_body_whose_framing_is_wrong_stores_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = ["--body-read-timeout-ms=500ms", "--header-timeout-ms=2s"];
    let server = Binary::start(folder.path(), &options);
    make_queue(&server, "jobs");
    let chunked = "Transfer-Encoding: chunked\r\n";
    let size = MESSAGE.len();
    let cases = [
        (chunked.to_owned(), format!("zz\r\n{MESSAGE}\r\n0\r\n\r\n")),
        (chunked.to_owned(), format!("-1\r\n{MESSAGE}\r\n0\r\n\r\n")),
        (chunked.to_owned(), format!("ffffffffffffffffff\r\n{MESSAGE}\r\n0\r\n\r\n")),
        (chunked.to_owned(), format!("ffffffffffffffff\r\n{MESSAGE}\r\n0\r\n\r\n")),
        (chunked.to_owned(), format!("{size:x}\r\n{MESSAGE}0\r\n\r\n")),
        (chunked.to_owned(), format!("{:x}\r\n{MESSAGE}\r\n0\r\n\r\n", size + 5)),
        (chunked.to_owned(), format!("{size:x}{}\r\n{MESSAGE}\r\n0\r\n\r\n", ";x=".repeat(20_000))),
        (chunked.to_owned(), "\r\n\r\n".to_owned()),
        (chunked.to_owned(), format!("{size:x}\r\n{MESSAGE}\r\n")),
        ("Transfer-Encoding: chunked, gzip\r\n".to_owned(), MESSAGE.to_owned()),
        (format!("Content-Length: {}\r\n", size + 1), MESSAGE.to_owned()),
        (format!("Content-Length: {size}\r\nContent-Length: 7\r\n"), MESSAGE.to_owned()),
        ("Content-Length: -1\r\n".to_owned(), MESSAGE.to_owned()),
        ("Content-Length: 18446744073709551616\r\n".to_owned(), MESSAGE.to_owned()),
        (String::new(), String::new()),
    ];
    for (framing, body) in &cases {
        let mut wire = Wire::to(server.address);
        wire.send(
            format!(
                "POST /v1/queues/jobs/messages HTTP/1.1\r\nHost: x\r\nClient-ID: {CLIENT_ID}\r\n\
                 X-Project-Id: p1\r\nConnection: close\r\n{framing}\r\n{body}"
            )
            .as_bytes(),
        );
        let text = wire.rest();
        let is_refusal =
            text.is_empty() || text.starts_with("HTTP/1.1 4") || text.starts_with("HTTP/1.1 5");
        assert!(is_refusal, "{framing:?} {body:.60?}: {text}");
    }
    let stats = ask(&server, request("GET", "/v1/queues/jobs/stats"));
    assert!(stats.to_string().contains(r#""total":0"#), "{stats}");
    assert_well(&server);
    server.stop();
}

#[test]
fn clients_that_leave_half_way_through_an_answer_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Binary::start(folder.path(), &["--durability=os"]);
    make_queue(&server, "large");
    let message = format!(r#"[{{"ttl": 300, "body": "{}"}}]"#, "x".repeat(200_000));
    for _ in 0..20 {
        assert_eq!(post(&server, "large", &message).status, 201);
    }
    let page = "GET /v1/queues/large/messages?limit=20&echo=true HTTP/1.1\r\nHost: x\r\n\
                X-Project-Id: p1\r\n";
    for round in 0..60 {
        let mut wire = Wire::to(server.address);
        wire.send(format!("{page}Client-ID: {CLIENT_ID}\r\n\r\n").as_bytes());
        if round % 2 == 0 {
            wire.read_to("\r\n\r\n");
        }
        // What was not read makes this a reset.
    }
    wait_for("their connections being gone", || {
        (server.metric("marconi_connections_open") == 0).then_some(())
    });
    assert_well(&server);
    server.stop();
}
