//! `marconi queue`, `message` and `claim`: what they print, and how they end.

use crate::{Place, programs};
use serde_json::{Value, json};
use std::process::Command;

fn numbers(count: usize) -> String {
    (0..count).map(|number| format!("{number}\n")).collect()
}

fn documents(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("a document a line")).collect()
}

#[test]
fn queues_are_made_shown_and_deleted() {
    let place = Place::new();
    let made = place.run(&["queue", "create", "jobs", "mail", "--durability", "each"]);
    assert_eq!(made.out(), "jobs: made\nmail: made\n");
    assert_eq!(place.run(&["queue", "create", "jobs"]).out(), "jobs: was there\n");
    assert_eq!(place.run(&["queue", "list"]).out(), "jobs\nmail\n");
    assert_eq!(place.run(&["queue", "list", "--page", "1"]).out(), "jobs\nmail\n");
    assert_eq!(place.run(&["queue", "list", "--after", "jobs"]).out(), "mail\n");

    assert_eq!(place.run(&["queue", "metadata", "get", "jobs"]).out(), "{}\n");
    place.run(&["queue", "metadata", "set", "jobs", r#"{"owner": "ops"}"#]).out();
    let metadata = json!({"owner": "ops"});
    assert_eq!(place.run(&["queue", "metadata", "get", "jobs"]).document(), metadata);
    place.run_with(&["queue", "metadata", "set", "mail"], "{\n\"a\":\n1}\n").out();
    let listed = place.run(&["queue", "list", "--detailed", "--json"]).out();
    let expected = [
        json!({"name": "jobs", "href": "/v1/queues/jobs", "metadata": {"owner": "ops"}}),
        json!({"name": "mail", "href": "/v1/queues/mail", "metadata": {"a": 1}}),
    ];
    assert_eq!(documents(&listed), expected);

    let shown = place.run(&["queue", "show", "jobs", "--json"]).document();
    let messages = json!({"free": 0, "claimed": 0, "total": 0});
    let expected = json!({
        "name": "jobs", "durability": "each", "messages": messages, "metadata": metadata
    });
    assert_eq!(shown, expected);
    let shown = place.run(&["queue", "show", "jobs"]).out();
    assert!(shown.starts_with("jobs\ndurability  each\n"), "{shown}");

    place.run(&["queue", "delete", "jobs", "mail", "none"]).out();
    assert_eq!(place.run(&["queue", "list"]).out(), "");
}

#[test]
fn lines_are_posted_in_batches_and_listed_in_order() {
    let place = Place::new();
    place.run(&["queue", "create", "jobs"]).out();
    let post = ["message", "post", "jobs", "--ttl", "1h", "--batch", "100"];
    let posted = place.run_with(&post, &numbers(250)).out();
    let (count, requests) = posted.split_once(" messages in ").expect("a summary");
    let requests: u32 = requests.split(' ').next().expect("a count").parse().expect("a count");
    // More are needed only where the machine is too slow to fill them.
    assert!(count == "250" && requests >= 3, "{posted}");
    assert_eq!(place.counts("jobs"), (250, 250));
    assert_eq!(place.run(&["message", "list", "jobs", "--bodies-only"]).out(), numbers(250));
    let some = ["message", "list", "jobs", "--bodies-only", "--limit", "33", "--page", "7"];
    assert_eq!(place.run(&some).out(), numbers(33));

    // What is larger than a request may be goes into several, and a blank line is nothing.
    place.run(&["queue", "create", "large"]).out();
    let large = format!("\"{}\"\n\n", "x".repeat(100_000)).repeat(5);
    place.run_with(&["message", "post", "large"], &large).out();
    assert_eq!(place.counts("large"), (5, 5));

    // From arguments, as they are or as texts.
    let posted = place.run(&["message", "post", "large", "-1", r#"{"z" : 1.0}"#]).out();
    let ids: Vec<&str> = posted.lines().collect();
    let got = place.run(&["message", "get", "large", ids[1], ids[0], "--bodies-only"]).out();
    assert_eq!(got, "{\"z\" : 1.0}\n-1\n");
    let posted = place.run(&["message", "post", "large", "--text", "--json", "{oops"]).document();
    let id = posted["id"].as_str().expect("an id");
    let message = place.run(&["message", "get", "large", id, "--json"]).document();
    assert_eq!(message["body"], "{oops");
    assert_eq!((&message["href"], &message["ttl"]), (&posted["href"], &json!(86_400)));
}

#[test]
fn a_line_that_is_no_json_is_refused_by_its_number() {
    let place = Place::new();
    place.run(&["queue", "create", "jobs"]).out();
    let post = ["message", "post", "jobs", "--batch", "2"];
    let said = place.run_with(&post, "1\n2\n3\n{oops\n5\n").failed(2);
    assert!(said.contains("line 4 of standard input"), "{said}");
    assert!(said.contains("the first 3 messages were posted"), "{said}");
    assert_eq!(place.counts("jobs"), (3, 3));
    let said = place.run(&["message", "post", "jobs", "1", "oops"]).failed(2);
    assert!(said.contains("body 2") && said.contains("--text"), "{said}");
    assert_eq!(place.counts("jobs"), (3, 3));
    let text = [&post[..], &["--text"]].concat();
    place.run_with(&text, "{oops\n\n").out();
    let listed = place.run(&["message", "list", "jobs", "--bodies-only"]).out();
    assert_eq!(listed, "1\n2\n3\n\"{oops\"\n\"\"\n");
}

#[test]
fn who_follows_sees_what_is_posted_later() {
    let place = Place::new();
    place.run(&["queue", "create", "jobs"]).out();
    place.run_with(&["message", "post", "jobs"], &numbers(30)).out();
    let follow = ["message", "list", "jobs", "--follow", "--bodies-only", "--poll", "10ms"];
    let following = place.start(&[&follow[..], &["--limit", "33"]].concat());
    place.run(&["message", "post", "jobs", "30"]).out();
    place.run(&["message", "post", "jobs", "31", "32"]).out();
    assert_eq!(following.ended().out(), numbers(33));

    // Whoever posted them is not shown them, unless he asks.
    let me = ["--client-id", "3381af92-2b9e-11e3-b191-71861300734c"];
    place.run(&["queue", "create", "mine"]).out();
    place.run(&[&["message", "post", "mine", "1"][..], &me].concat()).out();
    let list = [&["message", "list", "mine", "--bodies-only"][..], &me].concat();
    assert_eq!(place.run(&list).out(), "");
    assert_eq!(place.run(&[&list[..], &["--echo"]].concat()).out(), "1\n");
    assert_eq!(place.run(&list[..4]).out(), "1\n");
}

#[test]
fn claims_hold_messages_until_they_are_deleted_or_released() {
    let place = Place::new();
    place.run(&["queue", "create", "jobs"]).out();
    let said = place.run(&["claim", "create", "jobs"]).failed(1);
    assert!(said.contains("no message of jobs is free"), "{said}");
    place.run_with(&["message", "post", "jobs"], &numbers(3)).out();

    let claim = place.run(&["claim", "create", "jobs", "--limit", "2", "--json"]).document();
    let claim_id = claim["id"].as_str().expect("an id");
    let held = claim["messages"].as_array().expect("messages");
    assert_eq!((held.len(), &held[0]["body"], &claim["ttl"]), (2, &json!(0), &json!(60)));
    let id = held[0]["id"].as_str().expect("an id");
    assert_eq!(place.counts("jobs"), (1, 3));
    let list = ["message", "list", "jobs", "--bodies-only"];
    assert_eq!(place.run(&list).out(), "2\n");
    assert_eq!(place.run(&[&list[..], &["--claimed"]].concat()).out(), numbers(3));

    let said = place.run(&["message", "delete", "jobs", id]).failed(1);
    assert!(said.contains("claimed"), "{said}");
    place.run(&["message", "delete", "jobs", id, "--claim", "gEDiyiQ"]).failed(1);
    place.run(&["message", "delete", "jobs", id, "--claim", claim_id]).out();
    place.run(&["message", "delete", "jobs", id]).out();
    place.run(&["claim", "renew", "jobs", claim_id, "--ttl", "5m"]).out();
    let shown = place.run(&["claim", "show", "jobs", claim_id]).out();
    assert!(shown.contains(" holds 1 message for "), "{shown}");
    assert_eq!(place.run(&["claim", "show", "jobs", claim_id, "--json"]).document()["ttl"], 300);
    place.run(&["claim", "release", "jobs", claim_id]).out();
    place.run(&["claim", "release", "jobs", claim_id]).out();
    place.run(&["claim", "show", "jobs", claim_id]).failed(1);
    place.run(&["claim", "renew", "jobs", claim_id]).failed(1);
    assert_eq!(place.counts("jobs"), (2, 2));

    // Only force takes away what another one holds.
    let claim = place.run(&["claim", "create", "jobs", "--limit", "1", "--json"]).document();
    let id = claim["messages"][0]["id"].as_str().expect("an id");
    place.run(&["message", "delete", "jobs", id, "--force"]).out();
    assert_eq!(place.counts("jobs"), (1, 1));
}

#[test]
fn codes_tell_a_refusal_from_a_server_that_is_not_there() {
    let place = Place::new();
    place.run(&["queue", "create", "jobs"]).out();
    // The server says no: 1.
    for arguments in [
        &["queue", "show", "none"][..],
        &["queue", "stats", "none"],
        &["queue", "create", "no/name"],
        &["queue", "metadata", "set", "jobs", "[]"],
        &["message", "post", "none", "1"],
        &["message", "post", "jobs", "1", "--ttl", "1s"],
        &["message", "get", "jobs", "gCABHZeG"],
        &["message", "get", "jobs", "gCABHZeG", "gCACY9MD"],
        &["message", "list", "jobs", "--page", "1000"],
        &["claim", "show", "jobs", "gEDiyiQ"],
        &["work", "none", "--exit-when-empty", "--", "true"],
    ] {
        place.run(arguments).failed(1);
    }
    // Nobody could be asked: 2.
    let nobody = "http://127.0.0.1:9";
    let said = place.run(&["queue", "list", "--url", nobody]).failed(2);
    assert!(said.contains("cannot connect to 127.0.0.1:9: Connection refused"), "{said}");
    for arguments in [
        &["queue", "list", "--url", "https://127.0.0.1"][..],
        &["queue", "list", "--client-id", "me"],
        &["queue", "list", "--durability", "best"],
        &["queue", "metadata", "set", "jobs", "{"],
    ] {
        place.run(arguments).failed(2);
    }
    for arguments in [
        &["queue", "list", "--nothing"][..],
        &["message", "post", "jobs", "1", "--ttl", "1w"],
        &["message", "list", "jobs", "--page", "0"],
        &["work", "jobs"],
    ] {
        let ended = place.run(arguments);
        assert!(ended.code == Some(2) && ended.out.is_empty(), "{ended:?}");
    }
}

#[test]
fn flags_outrank_the_environment_and_that_a_file() {
    let place = Place::new();
    for (project, queue) in [("file", "a"), ("env", "b"), ("flag", "c"), ("", "d")] {
        place.run(&["queue", "create", queue, "--project", project]).out();
    }
    let url = place.server.url();
    let file = place.path("c.toml");
    std::fs::write(&file, format!("url = {url:?}\nproject = \"file\"\n")).expect("a file");
    let list = |variables: &[(&str, &str)], flags: &[&str]| {
        let mut command = place.command(&[&["queue", "list"], flags].concat());
        let output = command.env_remove("MARCONI_URL").envs(variables.iter().copied()).output();
        crate::Ended::new(output.expect("the program runs"))
    };
    let file = file.to_str().expect("text");
    let (by_variable, project) = (("MARCONI_CLIENT_CONFIG", file), ("MARCONI_PROJECT", "env"));
    assert_eq!(list(&[by_variable], &[]).out(), "a\n");
    assert_eq!(list(&[], &["--config", file]).out(), "a\n");
    assert_eq!(list(&[by_variable, project], &[]).out(), "b\n");
    assert_eq!(list(&[by_variable, project], &["--project", "flag"]).out(), "c\n");
    assert_eq!(list(&[by_variable, project], &["--project", ""]).out(), "d\n");
    let folder = place.path("marconi");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::copy(file, folder.join("client.toml")).expect("a file");
    assert_eq!(list(&[], &[]).out(), "a\n");

    std::fs::write(file, "url = \"http://a\"\nuser = \"me\"\n").expect("a file");
    let said = list(&[by_variable], &[]).failed(2);
    assert!(said.contains("c.toml:2: ") && said.contains("`user`"), "{said}");
    let said = list(&[], &["--config", "/nowhere.toml"]).failed(2);
    assert!(said.contains("/nowhere.toml"), "{said}");
}

#[test]
fn a_reader_who_has_seen_enough_is_no_fault() {
    let place = Place::new();
    place.run(&["queue", "create", "jobs"]).out();
    place.run_with(&["message", "post", "jobs", "--batch", "1000"], &numbers(20_000)).out();
    let program = programs().join("marconi");
    let line = format!("{} message list jobs --bodies-only | head -n 1", program.display());
    let script = format!("set -o pipefail; {line}");
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("MARCONI_URL", place.server.url())
        .output()
        .expect("a shell runs");
    let ended = crate::Ended::new(output);
    assert_eq!(ended.out(), "0\n");
}
