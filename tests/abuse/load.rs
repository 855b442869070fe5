//! More than was allowed for: what is over a bound is told so at once, and memory stays bounded.

use marconi_tests::binary::{Binary, wait_for};
use marconi_tests::wire::{Wire, ask, assert_well, head_of_post, make_queue, request, work};

#[test]
fn connections_over_the_limit_get_503_and_a_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Binary::start(folder.path(), &["--connections-max=8"]);
    let mut inside: Vec<Wire> = (0..8).map(|_| Wire::to(server.address)).collect();
    for wire in &mut inside {
        wire.send(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n");
        wire.read_to("\r\n\r\n");
    }
    for _ in 0..100 {
        let reply = ask(&server, request("GET", "/v1/health"));
        assert_eq!(reply.status, 503, "{reply}");
        assert_eq!(reply.header("Retry-After"), Some("1"), "{reply}");
        assert_eq!(reply.header("Connection"), Some("close"), "{reply}");
    }
    assert_eq!(server.metric("marconi_connections_refused_total"), 100);
    // Those inside go on, and when one leaves there is room.
    for wire in &mut inside {
        wire.send(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(wire.read_to("\r\n\r\n").starts_with("HTTP/1.1 204 "));
    }
    drop(inside);
    wait_for("room for others", || {
        (ask(&server, request("GET", "/v1/health")).status == 204).then_some(())
    });
    wait_for("their being gone", || (server.metric("marconi_connections_open") == 0).then_some(()));
    assert_well(&server);
    server.stop();
}

#[test]
fn bodies_beyond_the_budget_get_503_and_memory_stays_bounded() {
    const BODY_SIZE: usize = 1 << 20;
    const CLIENT_COUNT: usize = 120;
    let folder = tempfile::tempdir().expect("a folder");
    let options = [
        "--max-messages-post-size=1MiB",
        "--bytes-in-flight-max=4MiB",
        "--body-read-timeout-ms=10m",
    ];
    let server = Binary::start(folder.path(), &options);
    make_queue(&server, "jobs");
    work(&server, "jobs");
    let before = server.memory_bytes();

    // Three bodies, all but their last byte, fill the budget but for what is kept for small ones.
    let body = format!("[{}]", " ".repeat(BODY_SIZE - 2));
    let (most, last) = body.split_at(BODY_SIZE - 1);
    let mut held: Vec<Wire> = (0..3).map(|_| Wire::to(server.address)).collect();
    for wire in &mut held {
        assert!(wire.send(head_of_post("jobs", BODY_SIZE).as_bytes()));
        assert!(wire.send(most.as_bytes()));
    }
    wait_for("the budget being used up", || {
        (server.metric("marconi_in_flight_bytes") == 3 << 20).then_some(())
    });

    // All others are refused, whether they say their size or not, and keep sending all the same.
    let mut refused: Vec<Wire> = Vec::new();
    let mut peak = 0;
    for _ in 0..CLIENT_COUNT {
        let mut wire = Wire::to(server.address);
        assert!(wire.send(head_of_post("jobs", BODY_SIZE).as_bytes()));
        wire.send(most.as_bytes());
        refused.push(wire);
        peak = peak.max(server.memory_bytes());
    }
    let chunked = request("POST", "/v1/queues/jobs/messages").chunked_body(b"[1]", 3);
    let reply = ask(&server, chunked);
    assert_eq!((reply.status, reply.header("Retry-After")), (503, Some("1")), "{reply}");
    work(&server, "jobs");
    for wire in &mut refused {
        wire.send(last.as_bytes());
        let head = wire.read_to("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(head.contains("retry-after: 1\r\n"), "{head}");
    }
    peak = peak.max(server.memory_bytes());
    let grown = peak.saturating_sub(before);
    let sent = (CLIENT_COUNT * BODY_SIZE) as u64;
    // What a connection reads into is not a body, and takes a few times the largest head.
    assert!(grown < sent / 4, "{grown} bytes more for {sent} bytes that were refused");

    // What fits no more makes room once it is answered.
    for wire in &mut held {
        wire.send(last.as_bytes());
        let head = wire.read_to("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 400 "), "an empty batch: {head}");
    }
    wait_for("the budget being free", || {
        (server.metric("marconi_in_flight_bytes") == 0).then_some(())
    });
    assert_well(&server);
    server.stop();
}
