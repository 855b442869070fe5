//! Clients that take their time: they are cut when their time is over, and hold up nobody.

use marconi_tests::binary::{Binary, wait_for};
use marconi_tests::wire::{Wire, assert_well, head_of_post, make_queue, work};
use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

const CLIENT_COUNT: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(4);

#[test]
fn a_thousand_slow_clients_are_cut_in_time_and_hold_up_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = ["--header-timeout-ms=4s", "--body-read-timeout-ms=4s", "--idle-timeout-ms=1h"];
    let server = Binary::start(folder.path(), &options);
    make_queue(&server, "jobs");
    let opened = Instant::now();
    let mut heads: Vec<Wire> = (0..CLIENT_COUNT / 2).map(|_| Wire::to(server.address)).collect();
    let mut bodies: Vec<Wire> = (0..CLIENT_COUNT / 2).map(|_| Wire::to(server.address)).collect();
    for wire in &mut heads {
        assert!(wire.send(b"GET /v1/health HTTP/1.1\r\nHost: x\r\nX-Slow: "));
    }
    for wire in &mut bodies {
        assert!(wire.send(format!("{}[{{\"ttl\"", head_of_post("jobs", 40)).as_bytes()));
    }
    wait_for("all of them being connected", || {
        let count = server.metric("marconi_connections_accepted_total");
        (count > CLIENT_COUNT as u64).then_some(())
    });

    // They go on sending, a byte at a time, while another client does its work.
    let mut closed_count = 0;
    let mut worked_count = 0;
    let first_closed = wait_for("all heads being cut", || {
        work(&server, "jobs");
        worked_count += 1;
        let mut first = None;
        for wire in &mut heads {
            if wire.is_closed() {
                first = Some(opened.elapsed());
            } else {
                wire.send(b"x");
            }
        }
        heads.retain_mut(|wire| !wire.is_closed());
        closed_count = CLIENT_COUNT / 2 - heads.len();
        (closed_count == CLIENT_COUNT / 2).then_some(first)
    });
    assert!(first_closed.is_none_or(|after| after >= PATIENCE), "{first_closed:?}");
    assert!(worked_count > 10, "the other client had {worked_count} turns");

    // Half bodies get an answer, then the connection ends.
    for wire in &mut bodies {
        let text = wire.rest();
        assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    }
    wait_for("the slow ones being gone", || {
        // The admin API's connections are not counted.
        (server.metric("marconi_connections_open") == 0).then_some(())
    });
    assert_eq!(server.metric("marconi_in_flight_bytes"), 0);
    assert_well(&server);
    server.stop();
}

#[test]
fn a_client_that_reads_nothing_is_cut_when_idle() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Binary::start(folder.path(), &["--idle-timeout-ms=500ms"]);
    let mut silent = Wire::to(server.address);
    assert!(silent.send(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n"));
    let mut deaf = Wire::to(server.address);
    // Answers no one reads fill the buffers between the two; then the server waits, but not long.
    let many = "GET /v1/ HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let mut sent_size = 0;
    deaf.0.set_nonblocking(true).expect("a socket");
    wait_for("the deaf one being cut", || {
        match deaf.0.write(&many.as_bytes()[sent_size % many.len()..]) {
            Ok(size) => sent_size += size,
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Some(()),
        }
        None
    });
    assert!(sent_size > many.len(), "it was cut early");
    assert!(silent.rest().starts_with("HTTP/1.1 204 "));
    assert_well(&server);
    server.stop();
}
