//! A disk without room: posting stops, all else goes on, and posting comes back by itself.

use marconi_tests::binary::{Binary, wait_for};
use marconi_tests::small_disk::SmallDisk;
use marconi_tests::wire::{
    MESSAGE, ask, assert_well, claim_and_delete, make_queue, post, request, work,
};

/// The state that both addresses of the admin API tell, and that `/ready` does so with 200.
fn assert_state(server: &Binary, state: &str) {
    for path in ["/health", "/ready"] {
        let reply = server.admin("GET", path);
        assert_eq!(reply.status, 200, "{reply}");
        assert!(reply.to_string().contains(&format!(r#""state":"{state}""#)), "{path}: {reply}");
    }
}

#[test]
fn below_the_reserve_posting_stops_and_taking_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Binary::start(folder.path(), &["--disk-reserve-bytes=0"]);
    make_queue(&server, "jobs");
    for _ in 0..3 {
        assert_eq!(post(&server, "jobs", MESSAGE).status, 201);
    }
    server.stop();

    // More than any disk here has free.
    let server = Binary::start(folder.path(), &["--disk-reserve-bytes=1TiB"]);
    wait_for("the disk counting as full", || {
        let reply = server.admin("GET", "/health");
        reply.to_string().contains("disk full").then_some(())
    });
    assert_state(&server, "disk full");
    for _ in 0..3 {
        let reply = post(&server, "jobs", MESSAGE);
        assert_eq!(reply.status, 503, "{reply}");
        assert!(reply.header("Retry-After").is_some(), "{reply}");
    }
    assert_eq!(server.metric("marconi_disk_full"), 1);
    let health = ask(&server, request("GET", "/v1/health"));
    assert_eq!(health.status, 204, "a full disk is still served: {health}");
    assert_eq!(claim_and_delete(&server, "jobs", 2), 2);
    server.stop();

    let server = Binary::start(folder.path(), &["--disk-reserve-bytes=0"]);
    assert_eq!(claim_and_delete(&server, "jobs", 5), 1);
    assert_state(&server, "up");
    assert_well(&server);
    server.stop();
}

#[test]
fn posting_resumes_by_itself_once_messages_were_taken_away() {
    let disk = match SmallDisk::mount(16 << 20) {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("{why}; nothing was tested");
            return;
        }
    };
    // Its log lies elsewhere, and does not fill.
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(disk.path(), folder.path().join("data")).expect("a link");
    let options = ["--disk-reserve-bytes=5MiB", "--checkpoint-interval-bytes=1MiB"];
    let server = Binary::start(folder.path(), &options);
    make_queue(&server, "jobs");
    let large = format!(r#"[{{"ttl": 3000, "body": "{}"}}]"#, "x".repeat(100_000));
    let mut posted_count = 0;
    let refused = wait_for("the disk being full", || {
        let reply = post(&server, "jobs", &large);
        posted_count += usize::from(reply.status == 201);
        (reply.status != 201).then_some(reply)
    });
    assert_eq!(refused.status, 503, "{refused}");
    assert!(refused.header("Retry-After").is_some(), "{refused}");
    assert!(posted_count > 20, "only {posted_count} messages fit");
    assert_state(&server, "disk full");

    let mut taken_count = 0;
    while taken_count < posted_count {
        let count = claim_and_delete(&server, "jobs", 20);
        assert!(count > 0, "{taken_count} of {posted_count} were there");
        taken_count += count;
    }
    wait_for("posting coming back", || {
        (post(&server, "jobs", MESSAGE).status == 201).then_some(())
    });
    assert_eq!(claim_and_delete(&server, "jobs", 5), 1);
    assert_state(&server, "up");
    work(&server, "jobs");
    assert_well(&server);
    server.stop();
}
