//! Starts, signals and ends of the process.

use marconi_tests::binary::{Binary, Signal, run_to_end, wait_for};
use marconi_tests::wire::{
    MESSAGE, Wire, ask, assert_well, claim_and_delete, head_of_post, make_queue, post, request,
};
use std::net::TcpStream;

#[test]
fn told_to_stop_it_answers_what_is_in_flight_and_takes_nothing_new() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Binary::start(folder.path(), &[]);
    assert!(server.start_line.contains("a new folder"), "{}", server.start_line);
    make_queue(&server, "jobs");
    let mut idle = Wire::to(server.address);
    idle.send(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n");
    idle.read_to("\r\n\r\n");
    let mut slow = Wire::to(server.address);
    assert!(slow.send(head_of_post("jobs", MESSAGE.len()).as_bytes()));
    assert!(slow.send(&MESSAGE.as_bytes()[..9]));
    wait_for("the post being in flight", || {
        (server.metric("marconi_in_flight_bytes") > 0).then_some(())
    });

    server.signal(Signal::TERM);
    wait_for("new connections being refused", || {
        TcpStream::connect(server.address).is_err().then_some(())
    });
    assert_eq!(idle.rest(), "", "an idle connection ends without a word");
    let ready = server.admin("GET", "/ready");
    assert_eq!(ready.status, 503, "{ready}");
    assert!(ready.to_string().contains("draining"), "{ready}");
    assert!(slow.send(&MESSAGE.as_bytes()[9..]));
    let answer = slow.rest();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let status = server.ended();
    assert_eq!(status.code(), Some(0), "{}", server.log());

    let server = Binary::start(folder.path(), &[]);
    assert!(server.start_line.contains("after a stop in good order"), "{}", server.start_line);
    assert_eq!(claim_and_delete(&server, "jobs", 5), 1, "what was answered is there");
    drop(server);
    let server = Binary::start(folder.path(), &[]);
    assert!(server.start_line.contains("after a crash"), "{}", server.start_line);
    assert_eq!(claim_and_delete(&server, "jobs", 5), 0, "what was deleted stays so");
    server.stop();
}

#[test]
fn draining_is_not_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Binary::start(folder.path(), &["--drain-timeout-ms=100ms"]);
    make_queue(&server, "jobs");
    let mut slow = Wire::to(server.address);
    assert!(slow.send(head_of_post("jobs", MESSAGE.len()).as_bytes()));
    wait_for("the post being in flight", || {
        (server.metric("marconi_in_flight_bytes") > 0).then_some(())
    });
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    assert_eq!(slow.rest(), "");
    assert!(server.log().contains("connections were cut"), "{}", server.log());
}

#[test]
fn told_twice_to_stop_it_ends_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Binary::start(folder.path(), &["--drain-timeout-ms=1h"]);
    make_queue(&server, "jobs");
    let mut slow = Wire::to(server.address);
    assert!(slow.send(head_of_post("jobs", MESSAGE.len()).as_bytes()));
    wait_for("the post being in flight", || {
        (server.metric("marconi_in_flight_bytes") > 0).then_some(())
    });
    server.signal(Signal::INT);
    wait_for("the first being heard", || server.log().contains("once more").then_some(()));
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(1), "{}", server.log());
}

#[test]
fn a_hang_up_puts_new_limits_in_force_unless_they_are_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("marconi.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("the folder takes a file");
    write("[transport]\nmax_messages_per_post = 1\n");
    let flag = format!("--config={}", file.display());
    let server = Binary::start(folder.path(), &[&flag]);
    make_queue(&server, "jobs");
    let two = r#"[{"ttl": 300, "body": 1}, {"ttl": 300, "body": 2}]"#;
    assert_eq!(post(&server, "jobs", two).status, 400);

    write("[transport]\nmax_messages_per_post = 2\n[server]\nconnections_max = 7\n");
    server.signal(Signal::HUP);
    wait_for("two being enough", || (post(&server, "jobs", two).status == 201).then_some(()));
    wait_for("the log saying what waits", || {
        server.log().contains("needs a restart").then_some(())
    });

    write("[transport]\nmax_messages_per_post = 1\nmax_message_ttl = \"soon\"\n");
    server.signal(Signal::HUP);
    wait_for("the refusal", || server.log().contains("nothing changed").then_some(()));
    assert!(server.log().contains("marconi.toml:3: max_message_ttl"), "{}", server.log());
    assert_eq!(post(&server, "jobs", two).status, 201);
    assert_well(&server);
    server.stop();
}

/// What it says when it does not start: a line, and an exit code.
fn refusal(options: &[&str]) -> (Option<i32>, String) {
    let output = run_to_end(options);
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    let line = String::from_utf8(output.stderr).expect("text");
    assert_eq!(line.lines().count(), 1, "{line}");
    (output.status.code(), line)
}

#[test]
fn a_second_server_on_a_folder_is_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Binary::start(folder.path(), &[]);
    let flag = format!("--folder={}", folder.path().join("data").display());
    let (code, line) = refusal(&["--listen=127.0.0.1:0", "--admin-listen=off", &flag]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("another process has it open"), "{line}");
    assert!(line.contains("data"), "{line}");
    assert_well(&server);
    server.stop();
}

#[test]
fn an_address_in_use_is_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Binary::start(folder.path(), &[]);
    let flags = [
        format!("--listen={}", server.address),
        format!("--folder={}", folder.path().join("other").display()),
    ];
    let (code, line) = refusal(&[&flags[0], &flags[1], "--admin-listen=off"]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("Address already in use"), "{line}");
    assert_eq!(ask(&server, request("GET", "/v1/health")).status, 204);
    server.stop();
}

#[test]
fn a_name_nobody_knows_stops_the_start_with_file_and_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("marconi.toml");
    std::fs::write(&file, "[storage]\ndurability = \"os\"\ndurabilty = \"each\"\n")
        .expect("a file");
    let (code, line) = refusal(&[&format!("--config={}", file.display())]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("marconi.toml:3: unknown option \"durabilty\""), "{line}");
    let (code, line) = refusal(&["--max-message-ttl=soon"]);
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("--max-message-ttl") && line.contains("soon"), "{line}");
}
