//! `marconi work`: each message is done, whoever dies.

use crate::{Place, Started, report};
use marconi_tests::binary::{Signal, wait_for};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// How many commands run at a time where workers are killed.
const JOBS: usize = 8;

/// A number the environment may set.
fn setting(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name} is {text}, not a number"))
}

/// What was written to a file so far.
fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// How often each line stands in a text.
fn count_by_line(text: &str) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        *counts.entry(line).or_default() += 1;
    }
    counts
}

fn post_numbers(place: &Place, count: u64) {
    place.run(&["queue", "create", "jobs"]).out();
    let numbers: String = (0..count).map(|number| format!("{number}\n")).collect();
    place.run_with(&["message", "post", "jobs", "--batch", "1000"], &numbers).out();
    assert_eq!(place.counts("jobs"), (count, count));
}

#[test]
fn every_message_is_done_however_often_the_worker_is_killed() {
    let message_count = setting("MARCONI_WORK_MESSAGES", 400);
    let kill_count = setting("MARCONI_WORK_KILLS", 8);
    let seed = setting("MARCONI_WORK_SEED", 1);
    let place = Place::new();
    post_numbers(&place, message_count);

    let file = place.path("done");
    let script = format!("read n; echo $n >> {}", file.display());
    let jobs = JOBS.to_string();
    let start = || {
        place.start(&[
            "work",
            "jobs",
            "--jobs",
            &jobs,
            "--ttl",
            "5s",
            "--poll",
            "100ms",
            "--exit-when-empty",
            "--",
            "sh",
            "-c",
            &script,
        ])
    };
    let started = Instant::now();
    let mut random = seed;
    let mut worker = start();
    for kill in 0..kill_count {
        // A moment in this kill's part of the first nine tenths of the work.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let part = message_count * 9 / 10 / kill_count;
        let moment = kill * part + (random >> 33) % part.max(1);
        wait_for(&format!("{moment} lines of seed {seed}"), || {
            assert!(!worker.has_ended(), "the worker ends before its work does");
            (read(&file).lines().count() as u64 >= moment).then_some(())
        });
        worker.signal(Signal::KILL);
        worker.ended();
        worker = start();
    }
    // The bound on one wait is not one on all the work.
    let mut seen = 0;
    while !worker.has_ended() {
        seen = wait_for("one more line, or the end", || {
            let count = read(&file).lines().count();
            (count > seen || worker.has_ended()).then_some(count)
        });
    }
    let ended = worker.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let done = read(&file);
    let counts = count_by_line(&done);
    let missing = (0..message_count).filter(|number| !counts.contains_key(&*number.to_string()));
    assert_eq!(missing.collect::<Vec<u64>>(), [0; 0], "seed {seed}: lost");
    assert_eq!(counts.len() as u64, message_count, "seed {seed}: something else was done");
    let again: usize = counts.values().map(|count| count - 1).sum();
    report(&format!(
        "marconi work: {message_count} messages, {JOBS} jobs, {kill_count} kills (seed {seed}): all \
         done, {again} done again; {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    assert!(again as u64 <= kill_count * JOBS as u64, "seed {seed}: {again} were done again");
    assert_eq!(place.counts("jobs"), (0, 0));
}

#[test]
fn a_server_that_comes_back_finds_its_workers_waiting() {
    let mut place = Place::new();
    post_numbers(&place, 60);
    let file = place.path("done");
    let script = format!("read n; echo $n >> {}", file.display());
    let worker = place.start(&[
        "work",
        "jobs",
        "--jobs",
        "4",
        "--ttl",
        "30s",
        "--exit-when-empty",
        "--",
        "sh",
        "-c",
        &script,
    ]);
    for count in [10, 30] {
        wait_for("some work", || (read(&file).lines().count() >= count).then_some(()));
        place.server.kill().expect("it runs");
        place.server.restart().expect("it starts again");
    }
    let ended = worker.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let done = read(&file);
    assert_eq!(count_by_line(&done).len(), 60, "{ended:?}");
    assert_eq!(place.counts("jobs"), (0, 0));
}

#[test]
fn what_fails_is_tried_again_and_knows_its_names() {
    let place = Place::new();
    place.run(&["queue", "create", "jobs"]).out();
    let id = place.run(&["message", "post", "jobs", "--text", "a b"]).out();
    let script = "echo \"$(cat) $MARCONI_QUEUE $MARCONI_MESSAGE_ID\" >> tried
        [ $(wc -l < tried) -ge 2 ] || exit 3";
    let work = ["work", "jobs", "--text", "--exit-when-empty", "--poll", "50ms", "--json"];
    let ended = place.start(&[&work[..], &["--", "sh", "-c", script]].concat()).ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(read(&place.path("tried")), format!("a b jobs {0}\na b jobs {0}\n", id.trim()));
    assert_eq!(ended.out, "{\"done\":1,\"failed\":1,\"lost\":0}\n");
    let line = format!("marconi: message {}: exit code 3; failed 1×, released in 1s", id.trim());
    assert_eq!(ended.errors.lines().next(), Some(line.as_str()), "{ended:?}");

    // Without --text the body comes as it is; a signal is a failure, too.
    place.run(&["message", "post", "jobs", r#"{"z" : "é"}"#]).out();
    let script = "cat >> body; [ -e second ] || { touch second; kill -9 $$; }";
    let work = ["work", "jobs", "--exit-when-empty", "--", "sh", "-c", script];
    let ended = place.start(&work).ended();
    assert_eq!(read(&place.path("body")), r#"{"z" : "é"}{"z" : "é"}"#);
    assert!(ended.errors.contains(": signal 9; failed 1×"), "{ended:?}");
    assert_eq!(place.counts("jobs"), (0, 0));
}

#[test]
fn a_command_that_cannot_be_run_ends_the_work_and_takes_nothing() {
    let place = Place::new();
    post_numbers(&place, 5);
    let ended = place.start(&["work", "jobs", "--jobs", "2", "--", "./nothing"]).ended();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.errors.contains("cannot run ./nothing: No such file"), "{ended:?}");
    assert_eq!(place.counts("jobs"), (5, 5));
}

/// A worker whose command waits for the file `go` before it ends well, and the id of its claim.
fn waiting_worker(place: &Place, ttl: &str) -> (Started, String) {
    post_numbers(place, 2);
    let script = "echo $MARCONI_CLAIM_ID >> claim; while [ ! -e go ]; do sleep 0.02; done";
    let worker = place.start(&["work", "jobs", "--ttl", ttl, "--", "sh", "-c", script]);
    let claim = wait_for("the command's start", || {
        Some(read(&place.path("claim"))).filter(|text| text.ends_with('\n'))
    });
    assert_eq!(place.counts("jobs"), (1, 2));
    (worker, claim.trim().to_owned())
}

#[test]
fn a_signal_lets_work_end_and_long_work_keeps_its_claim() {
    let place = Place::new();
    let (mut worker, claim) = waiting_worker(&place, "1s");
    worker.signal(Signal::TERM);
    // The command takes three times as long as its claim lives by itself.
    let started = Instant::now();
    wait_for("three lives of a claim", || {
        (started.elapsed() > Duration::from_secs(3)).then_some(())
    });
    assert!(!worker.has_ended(), "it does not wait for its command");
    place.run(&["claim", "show", "jobs", &claim]).out();
    std::fs::write(place.path("go"), "").expect("a file");
    let ended = worker.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.errors.contains("1 done, 0 failed"), "{ended:?}");
    // The other one was not begun.
    assert_eq!(place.counts("jobs"), (1, 1));
}

#[test]
fn a_second_signal_kills_the_work_and_gives_it_back() {
    let place = Place::new();
    let (mut worker, _) = waiting_worker(&place, "10m");
    worker.signal(Signal::INT);
    worker.signal(Signal::TERM);
    let ended = worker.ended();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.errors.contains("killed; given back"), "{ended:?}");
    assert_eq!(place.counts("jobs"), (2, 2));
}

#[test]
fn a_message_whose_claim_is_lost_is_not_deleted() {
    let place = Place::new();
    let (mut worker, claim) = waiting_worker(&place, "3s");
    place.run(&["claim", "release", "jobs", &claim]).out();
    // Somebody else has it now.
    place.run(&["claim", "create", "jobs", "--limit", "2", "--ttl", "10m"]).out();
    worker.signal(Signal::TERM);
    // A renewal comes after a third of the claim's life and tells the worker.
    let started = Instant::now();
    wait_for("a renewal", || (started.elapsed() > Duration::from_secs(2)).then_some(()));
    std::fs::write(place.path("go"), "").expect("a file");
    let ended = worker.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.errors.contains("its claim ran out while it was worked on"), "{ended:?}");
    assert!(ended.errors.contains("exit code 0, without a claim"), "{ended:?}");
    assert_eq!(place.counts("jobs"), (0, 2));
}
