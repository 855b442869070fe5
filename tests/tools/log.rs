//! `marconi log` on folders that the engine made: what it shows is what was done, in text and as JSON,
//! also beside a running engine; what it exports comes back the same.

use crate::run::{Ran, Running, documents, first_line, marconi, marconi_reading};
use marconi_engine::{ClientId, Config, Durability, Engine, MessageId, NewMessage, QueueKey};
use marconi_tests::binary::Binary;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

/// Who posts.
const CLIENT: ClientId = ClientId(0x3381_af92_2b9e_11e3_b191_7186_1300_734c);
/// Messages of the long queue, and how many of them were deleted.
const POSTED: u64 = 3000;
const DELETED: u64 = 2500;

const SEGMENT_SIZE: u64 = 1 << 20;

fn key(project: Option<&str>, name: &str) -> QueueKey {
    QueueKey::new(project, name).expect("short names")
}

fn config(folder: &Path) -> Config {
    Config { segment_size_bytes: SEGMENT_SIZE, disk_reserve_bytes: 0, ..Config::new(folder) }
}

fn post(engine: &Engine, queue: &QueueKey, bodies: &[&[u8]]) -> Vec<MessageId> {
    let messages: Vec<NewMessage<'_>> =
        bodies.iter().map(|body| NewMessage { ttl_s: 3600, body }).collect();
    let posted = engine.post(queue, CLIENT, &messages, Some(Durability::Memory));
    posted.expect("posted").wait().expect("written")
}

/// Fills an engine: `jobs` over several segments, mostly deleted; `acme/mail` with bodies of each
/// form, metadata, a floor, a claim, and a message that came back.
fn fill(engine: &Engine) {
    let (jobs, mail) = (key(None, "jobs"), key(Some("acme"), "mail"));
    engine.create_queue(&jobs, None).expect("made").wait().expect("written");
    let body = vec![b'x'; 1000];
    let mut ids = Vec::new();
    for _ in 0..POSTED / 100 {
        ids.extend(post(engine, &jobs, &vec![body.as_slice(); 100]));
    }
    for some in ids[..DELETED as usize].chunks(100) {
        engine.delete_many(&jobs, some, None).expect("deleted").wait().expect("written");
    }

    engine.create_queue(&mail, Some(Durability::Os)).expect("made").wait().expect("written");
    let metadata = br#"{"owner": "ops"}"#;
    engine.set_metadata(&mail, metadata, None).expect("set").wait().expect("written");
    post(engine, &mail, &[br#"{"n": 1.0}"#, b" two\n", b"\xff\x00three", b"", b"5"]);
    let claim = |limit: usize, ttl_s: u32| {
        let claim = engine.claim(&mail, ttl_s, 7200, limit, None).expect("claimed");
        claim.wait().expect("written").expect("messages wait")
    };
    let first = claim(1, 600);
    claim(2, 900);
    engine.release(&mail, first.id, None).expect("released").wait().expect("written");
}

/// A folder as a server leaves it that was stopped in good order.
fn filled() -> (TempDir, String) {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("data");
    let engine = Engine::open(config(&folder)).expect("it opens");
    fill(&engine);
    // What is full gets its index now, and not when the background comes to it.
    engine.prepare().expect("indexed");
    engine.close().expect("it closes");
    let folder = folder.to_str().expect("text").to_owned();
    (place, folder)
}

fn numbers(items: &[Value], field: &str) -> Vec<u64> {
    items.iter().map(|item| item[field].as_u64().unwrap_or_else(|| panic!("{item}"))).collect()
}

#[test]
fn stat_shows_a_folder_on_one_screen() {
    let (_place, folder) = filled();
    let stat = marconi(&["log", "stat", &folder, "--json"]).document();
    assert_eq!(stat["queues"], 2, "{stat}");
    assert_eq!(stat["messages_waiting"], POSTED - DELETED + 3);
    assert_eq!(stat["messages_claimed"], 2);
    assert_eq!(stat["messages_dead"], DELETED);
    assert_eq!((&stat["claims"], &stat["was_clean"]), (&json!(1), &json!(true)));
    assert_eq!(stat["in_use_by"], Value::Null);
    assert!(stat["reclaimable_bytes"].as_u64() > Some(1 << 20), "{stat}");
    let segments = stat["segments"].as_array().expect("a list");
    assert!(segments.len() >= 3, "{stat}");
    assert_eq!(stat["checkpoints"][0]["fault"], Value::Null);

    let text = marconi(&["log", "stat", &folder]).ok();
    assert!(text.lines().count() <= 24 && !text.contains('\x1b'), "{text}");
    assert!(text.contains("Messages    503 waiting, 2 claimed; 2\u{a0}500 dead on disk"), "{text}");
    assert!(text.contains("free; the last run ended in good order"), "{text}");
    assert!(text.contains(&format!("marconi log compact {folder}")), "{text}");
    let coloured = marconi(&["log", "stat", &folder, "--color", "always"]).ok();
    assert!(coloured.contains("\x1b["), "{coloured}");
}

#[test]
fn queues_messages_and_claims_are_those_of_the_engine() {
    let (_place, folder) = filled();
    let queues = marconi(&["log", "queues", &folder, "--json"]).documents();
    assert_eq!((&queues[0]["project"], &queues[0]["queue"]), (&Value::Null, &json!("jobs")));
    assert_eq!((&queues[1]["project"], &queues[1]["queue"]), (&json!("acme"), &json!("mail")));
    assert_eq!(numbers(&queues, "waiting"), [POSTED - DELETED, 3]);
    assert_eq!(numbers(&queues, "claimed"), [0, 2]);
    assert_eq!(queues[1]["metadata"], json!({"json": {"owner": "ops"}}));
    assert_eq!(queues[1]["floor"], "os");
    for (order, first) in [("name", "jobs"), ("depth", "jobs"), ("age", "jobs")] {
        let text = marconi(&["log", "queues", &folder, "--sort", order]).ok();
        let line = text.lines().nth(1).expect("a queue below the titles");
        assert!(line.starts_with(first), "{text}");
    }

    let messages = marconi(&["log", "messages", &folder, "acme/mail", "--json", "--bodies"]);
    let messages = messages.documents();
    assert_eq!(numbers(&messages, "seq"), [1, 2, 3, 4, 5]);
    let bodies: Vec<&Value> = messages.iter().map(|message| &message["body"]).collect();
    let expected = [
        json!({"json": {"n": 1.0}}),
        json!({"text": " two\n"}),
        json!({"base64": "/wB0aHJlZQ=="}),
        json!({"text": ""}),
        json!({"json": 5}),
    ];
    assert_eq!(bodies, expected.iter().collect::<Vec<_>>());
    assert_eq!(messages[0]["client"], "3381af92-2b9e-11e3-b191-71861300734c");
    let claimed: Vec<bool> = messages.iter().map(|message| !message["claim"].is_null()).collect();
    assert_eq!(claimed, [false, true, true, false, false]);
    // The claim's 900 s and its grace of 7200 s are more than the message had.
    assert_eq!(numbers(&messages, "ttl_s"), [7800, 8100, 8100, 3600, 3600]);

    let some = ["log", "messages", &folder, "/jobs", "--from", "2700", "--limit", "2", "--json"];
    assert_eq!(numbers(&marconi(&some).documents(), "seq"), [2700, 2701]);

    let claims = marconi(&["log", "claims", &folder, "--json"]).documents();
    assert_eq!(claims.len(), 1);
    assert_eq!((&claims[0]["seqs"], &claims[0]["ttl_s"]), (&json!([[2, 3]]), &json!(900)));
    assert_eq!(claims[0]["claim"], messages[1]["claim"]);
    assert_eq!(marconi(&["log", "claims", &folder, "jobs", "--json"]).ok(), "");
}

#[test]
fn inspect_walks_the_frames_that_are_asked_for() {
    let (_place, folder) = filled();
    let inspect = |more: &[&str]| -> Vec<Value> {
        let all = ["log", "inspect", &folder, "--json"].into_iter().chain(more.iter().copied());
        let lines = marconi(&all.collect::<Vec<_>>()).documents();
        lines.into_iter().filter(|line| line["type"] == "frame").collect()
    };
    let kinds = |frames: &[Value]| -> Vec<String> {
        frames.iter().map(|frame| frame["kind"].as_str().expect("a word").to_owned()).collect()
    };
    let mail = inspect(&["--queue", "acme/mail"]);
    assert_eq!(kinds(&mail), ["create", "change", "post", "claim", "claim", "release"]);
    assert_eq!(mail[2]["seqs"], json!([[1, 5]]));
    assert_eq!(mail[5]["claim"], mail[3]["claim"]);
    let bodies = inspect(&["--queue", "acme/mail", "--kind", "post", "--bodies"]);
    assert_eq!(
        bodies[0]["messages"][4],
        json!({"seq": 5, "ttl_s": 3600, "size_bytes": 1, "body": {"json": 5}})
    );

    let deleted = inspect(&["--kind", "delete,create"]);
    assert_eq!(deleted.len() as u64, DELETED / 100 + 2);
    let from = mail[3]["lsn"].as_u64().expect("a number").to_string();
    assert_eq!(kinds(&inspect(&["--from", &from])), ["claim", "claim", "release"]);
    assert_eq!(inspect(&["--limit", "7"]).len(), 7);
    assert!(numbers(&inspect(&["--segment", "2"]), "segment").iter().all(|number| *number == 2));

    let text = marconi(&["log", "inspect", &folder, "--frame", &from, "--hex"]).ok();
    let line = text.lines().nth(2).expect("the frame").split_whitespace().collect::<Vec<_>>();
    assert_eq!(line[..3], [from.as_str(), "claim", "acme/mail"], "{text}");
    assert!(text.contains("grace_s") && text.contains("7200"), "{text}");
    let refused = marconi(&["log", "inspect", &folder, "--frame", "5"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("no frame at LSN 5"), "{refused:?}");
}

/// Flips a bit in the post to `acme/mail`. Where: file and position of the frame.
fn damage_a_post(folder: &str) -> (String, u64) {
    let args = ["log", "inspect", folder, "--queue", "acme/mail", "--kind", "post", "--json"];
    let lines = marconi(&args).documents();
    let post = lines.iter().find(|line| line["type"] == "frame").expect("there is one");
    let segment = post["segment"].as_u64().expect("a number");
    let position = post["position"].as_u64().expect("a number");
    let file = format!("{folder}/log/{segment:020}.seg");
    let mut bytes = std::fs::read(&file).expect("the segment");
    bytes[position as usize + 70] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    (file, position)
}

#[test]
fn inspect_goes_on_behind_a_bad_place() {
    let (_place, folder) = filled();
    let (file, position) = damage_a_post(&folder);
    let args = ["log", "inspect", &folder, "--queue", "acme/mail", "--json"];

    let ran = marconi(&args);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""));
    let all = documents(&ran.stdout);
    let bad: Vec<&Value> = all.iter().filter(|line| line["type"] == "bad").collect();
    assert_eq!(bad.len(), 1, "{all:?}");
    assert_eq!((&bad[0]["position"], &bad[0]["file"]), (&json!(position), &json!(file)));
    assert_eq!(bad[0]["claims_to_be"]["kind"], "post");
    let kinds: Vec<&Value> =
        all.iter().filter(|line| line["type"] == "frame").map(|line| &line["kind"]).collect();
    assert_eq!(kinds, ["create", "change", "claim", "claim", "release"]);
    let text = marconi(&["log", "inspect", &folder]);
    assert!(text.stdout.contains(&format!("BAD  {file} at byte {position}, ")), "{}", text.stdout);

    let refused = marconi(&["log", "queues", &folder]).refused();
    assert!(refused.contains(&format!("Next: marconi log verify {folder}")), "{refused}");
}

#[test]
fn an_export_comes_back_the_same() {
    let (place, folder) = filled();
    let lines = |folder: &str| {
        let text = marconi(&["log", "export", folder]).ok();
        let (header, rest) = text.split_once('\n').expect("lines");
        let header: Value = serde_json::from_str(header).expect("a header");
        assert_eq!(header["marconi_export"], 1);
        (header, rest.to_owned())
    };
    let (header, exported) = lines(&folder);
    assert_eq!(exported.lines().count() as u64, 2 + POSTED - DELETED + 5 + 1);
    let path = |name: &str| place.path().join(name).to_str().expect("text").to_owned();

    // By way of a file.
    let (file, copy) = (path("export"), path("copy"));
    let told = marconi(&["log", "export", &folder, "--output", &file, "--json"]).document();
    assert_eq!((&told["queues"], &told["messages"]), (&json!(2), &json!(505)));
    marconi(&["log", "import", &copy, &file]).ok();
    let (copied_header, copied) = lines(&copy);
    assert_eq!(copied, exported);
    assert_eq!(copied_header["segment_size_bytes"], header["segment_size_bytes"]);
    let refused = marconi(&["log", "import", &copy, &file]).refused();
    assert!(refused.contains("only an empty folder can be filled"), "{refused}");
    let refused = marconi(&["log", "export", &folder, "--output", &file]).refused();
    assert!(refused.contains("is there already"), "{refused}");

    // What cannot be read of the copy stands in the place of it, and the rest is shown.
    let hurt = path("hurt");
    marconi(&["log", "import", &hurt, &file]).ok();
    let segment = format!("{hurt}/log/{:020}.g1.seg", 1);
    let mut bytes = std::fs::read(&segment).expect("a segment");
    let third = bytes.windows(5).rposition(|bytes| bytes == b"three").expect("a body");
    bytes[third] ^= 1;
    std::fs::write(&segment, bytes).expect("written");
    let ran = marconi(&["log", "messages", &hurt, "acme/mail", "--json"]);
    let all = documents(&ran.stdout);
    assert_eq!((ran.code, all.len()), (Some(1), 5), "{ran:?}");
    let (read, unread): (Vec<Value>, Vec<Value>) =
        all.into_iter().partition(|line| line["fault"].is_null());
    assert!(read.iter().all(|line| !line["ttl_s"].is_null()));
    assert_eq!(numbers(&unread, "seq"), [3]);
    assert!(unread[0]["fault"].as_str().expect("a text").contains(&segment), "{unread:?}");
    assert_eq!(unread[0]["ttl_s"], Value::Null);
    let text = marconi(&["log", "messages", &hurt, "acme/mail"]).stdout;
    assert!(text.contains("cannot be read: "), "{text}");

    // By way of a pipe, one queue of them.
    let (bodies, other) = (path("bodies"), path("other"));
    let one = ["log", "export", &folder, "--queue", "acme/mail", "--bodies", &bodies];
    let piped = marconi(&one).ok();
    marconi_reading(&["log", "import", &other, "-"], piped.as_bytes()).ok();
    let queues = marconi(&["log", "queues", &other, "--json"]).documents();
    assert_eq!(queues.len(), 1);
    let body = |seq: u64| std::fs::read(format!("{bodies}/acme%2Fmail/{seq}")).expect("a body");
    assert_eq!((body(2), body(3)), (b" two\n".to_vec(), b"\xff\x00three".to_vec()));

    // A server goes on with the copy as with the folder it was taken from.
    let engine = Engine::open(config(Path::new(&copy))).expect("it opens");
    let mail = key(Some("acme"), "mail");
    let posted = post(&engine, &mail, &[b"six"]);
    assert_eq!(posted[0].seq.0, 6);
    let claim = engine.claim(&mail, 60, 60, 10, None).expect("claimed").wait().expect("written");
    let seqs: Vec<u64> =
        claim.expect("some").messages.iter().map(|message| message.id.seq.0).collect();
    assert_eq!(seqs, [1, 4, 5, 6]);
}

#[test]
fn an_import_names_the_line_that_is_wrong() {
    let (place, folder) = filled();
    let text = marconi(&["log", "export", &folder, "--queue", "acme/mail"]).ok();
    let mut tried = 0;
    let mut import = |text: &str| -> Ran {
        tried += 1;
        let copy = place.path().join(format!("copy-{tried}"));
        marconi_reading(&["log", "import", copy.to_str().expect("text"), "-"], text.as_bytes())
    };
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 8);
    for (text, said) in [
        (String::new(), "- line 1: the file is empty"),
        (lines[1..].join("\n"), "- line 1: this is no export"),
        (lines[..7].join("\n"), "- line 8: "),
        (text.replace("\"seq\":4", "\"seq\":3"), "- line 6: "),
        (text.replace("\"seq\":4", "\"sequence\":4"), "- line 6: "),
        (text.replace("/wB0aHJlZQ==", "/wB0aHJlZQ="), "- line 5: "),
        (text.replace("\"messages\":5", "\"messages\":6"), "- line 8: "),
        (format!("{text}{}", lines[3]), "- line 9: "),
    ] {
        let refused = import(&text).refused();
        assert!(refused.contains(said), "{said}: {refused}");
    }
    import(&text).ok();
}

#[test]
fn verify_ends_with_what_it_found() {
    let (place, folder) = filled();
    let text = marconi(&["log", "verify", &folder]).ok();
    assert!(text.ends_with(&format!("\n{folder} is in order.\n")), "{text}");
    let document = marconi(&["log", "verify", &folder, "--json"]).document();
    assert_eq!((&document["is_clean"], &document["is_compared"]), (&json!(true), &json!(true)));
    assert_eq!(document["messages"], POSTED + 5);

    let (file, position) = damage_a_post(&folder);
    let ran = marconi(&["log", "verify", &folder, "--json"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let findings = documents(&ran.stdout)[0]["findings"].clone();
    let found = &findings[0];
    assert_eq!((&found["kind"], &found["severity"]), (&json!("frame-damaged"), &json!("error")));
    assert_eq!((&found["file"], &found["offset"]), (&json!(file), &json!(position)));
    let ran = marconi(&["log", "verify", &folder]);
    assert_eq!(ran.code, Some(1));
    let head = format!("error: frame-damaged  {file} at byte {position}\n  found    ");
    assert!(ran.stdout.contains(&head), "{}", ran.stdout);

    let missing = place.path().join("missing");
    let missing = missing.to_str().expect("text");
    assert!(marconi(&["log", "verify", missing]).refused().contains(missing));
}

#[test]
fn repair_does_what_its_plan_said() {
    let (_place, folder) = filled();
    let nothing = marconi(&["log", "repair", &folder, "--plan"]).ok();
    assert_eq!(nothing, "There is nothing to repair.\n");
    assert_eq!(marconi(&["log", "repair", &folder]).code, Some(2));

    damage_a_post(&folder);
    let file =
        |name: &str| std::fs::read_dir(format!("{folder}/{name}")).expect("it is there").count();
    let before = (file("log"), file("checkpoint"));
    let plan = marconi(&["log", "repair", &folder, "--plan", "--json"]).document();
    assert_eq!(plan["is_applied"], false);
    assert!(!plan["steps"].as_array().expect("a list").is_empty(), "{plan}");
    let text = marconi(&["log", "repair", &folder, "--plan"]).ok();
    assert!(text.contains("\nA repair would:\n"), "{text}");
    assert!(text.contains(&format!("marconi log repair {folder} --apply")), "{text}");
    assert_eq!((file("log"), file("checkpoint")), before);

    let done = marconi(&["log", "repair", &folder, "--apply", "--json"]).document();
    assert_eq!(done["is_applied"], true);
    for field in ["findings", "steps", "kept_messages", "kept_queues"] {
        assert_eq!(done[field], plan[field], "{field}");
    }
    let aside = done["set_aside"].as_str().expect("a folder");
    assert!(Path::new(aside).join("LIST").is_file(), "{done}");
    assert_eq!(marconi(&["log", "verify", &folder]).code, Some(0));
    let queues = marconi(&["log", "queues", &folder, "--json"]).documents();
    assert_eq!(queues[0]["waiting"], POSTED - DELETED);
    assert_eq!(
        (&done["kept_messages"], &done["kept_queues"]),
        (&json!(POSTED - DELETED), &json!(2))
    );
    assert_eq!(marconi(&["log", "messages", &folder, "acme/mail", "--json"]).ok(), "");
}

#[test]
fn compaction_gives_back_what_it_said() {
    let (_place, folder) = filled();
    let stat = || marconi(&["log", "stat", &folder, "--json"]).document();
    let size = |stat: &Value| stat["disk_bytes"].as_u64().expect("a number");
    let before = stat();
    let export = marconi(&["log", "export", &folder]).ok();

    let dry = marconi(&["log", "compact", &folder, "--dry-run"]).ok();
    assert!(dry.contains("Compaction gives back about "), "{dry}");
    let refused = marconi(&["log", "compact", &folder]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("say --yes"), "{refused:?}");
    assert_eq!(size(&stat()), size(&before));

    let done = marconi(&["log", "compact", &folder, "--yes", "--json"]).document();
    assert_eq!((&done["done"], &done["interrupted"]), (&json!(true), &json!(false)));
    let after = stat();
    assert_eq!(done["disk_bytes_after"], after["disk_bytes"]);
    assert_eq!(after["messages_waiting"], before["messages_waiting"]);
    let freed = size(&before) - size(&after);
    let said = before["reclaimable_bytes"].as_u64().expect("a number");
    // Opening took a new segment, and the one before it got an index.
    assert!((freed + SEGMENT_SIZE) * 10 >= said * 9, "{freed} of {said}");
    let state = |export: &str| export.split_once('\n').expect("lines").1.to_owned();
    assert_eq!(state(&marconi(&["log", "export", &folder]).ok()), state(&export));
}

#[test]
fn a_server_compacts_when_it_is_asked() {
    let (place, folder) = filled();
    let server = Binary::start(place.path(), &[]);
    let url = format!("http://{}", server.admin);
    let refused = marconi(&["log", "compact", &folder, "--yes"]);
    assert_eq!(refused.code, Some(2));
    let expected = format!("in use by process {}", server.pid());
    assert!(refused.stderr.contains(&expected), "{refused:?}");
    let dry = marconi(&["log", "compact", "--server", &url, "--dry-run", "--json"]).document();
    assert_eq!((&dry["done"], &dry["freed_bytes"]), (&json!(false), &Value::Null));
    let done = marconi(&["log", "compact", "--server", &url, "--yes", "--json"]).document();
    assert_eq!((&done["done"], &done["interrupted"]), (&json!(true), &json!(false)));
    let after = marconi(&["log", "stat", &folder, "--json"]).document();
    assert_eq!(after["messages_waiting"], POSTED - DELETED + 3);
    assert_eq!(after["in_use_by"], server.pid().to_string());
    assert_eq!(after["reclaimable_bytes"], 0, "{after}");
    server.stop();
    let refused = marconi(&["log", "compact", "--server", &url, "--yes"]).refused();
    assert!(refused.contains(&url), "{refused}");
}

#[test]
fn compaction_can_be_interrupted_at_any_moment() {
    let (_place, folder) = filled();
    let state =
        || marconi(&["log", "export", &folder]).ok().split_once('\n').expect("lines").1.to_owned();
    let before = state();
    // Whatever it was doing when the signal came: nothing is lost, and another one can begin.
    for _ in 0..5 {
        let running = Running::start(&["log", "compact", &folder, "--yes"]);
        running.line("what it will gain");
        running.interrupted();
        assert_eq!(state(), before);
    }
    let stat = marconi(&["log", "stat", &folder, "--json"]).document();
    assert_eq!(stat["in_use_by"], Value::Null);
}

#[test]
fn a_running_engine_is_looked_at_and_left_alone() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("data");
    let engine = Engine::open(config(&folder)).expect("it opens");
    fill(&engine);
    let folder = folder.to_str().expect("text");
    let stat = marconi(&["log", "stat", folder, "--json"]).document();
    assert_eq!(stat["in_use_by"], std::process::id().to_string());
    assert_eq!(stat["messages_waiting"], POSTED - DELETED + 3);
    let refused = marconi(&["log", "compact", folder, "--yes"]);
    assert_eq!(refused.code, Some(2));
    let expected = format!("is in use by process {}", std::process::id());
    assert!(refused.stderr.contains(&expected), "{refused:?}");

    let tail =
        Running::start(&["log", "tail", folder, "acme/mail", "-n", "1", "--bodies", "--json"]);
    let next = || -> Value { serde_json::from_str(&tail.line("a message")).expect("JSON") };
    assert_eq!((&next()["seq"], &next_body(&tail, &engine)), (&json!(5), &json!({"json": 6})));
    // Beyond the end of a segment.
    let body = vec![b'y'; 1000];
    for _ in 0..15 {
        post(&engine, &key(None, "jobs"), &vec![body.as_slice(); 100]);
    }
    assert_eq!(next_body(&tail, &engine), json!({"json": 6}));
    drop(tail);
    engine.close().expect("it closes");
}

/// Posts a message to `acme/mail`; the body of the next one that the tail shows.
fn next_body(tail: &Running, engine: &Engine) -> Value {
    post(engine, &key(Some("acme"), "mail"), &[b"6"]);
    let line = tail.line("the message just posted");
    let message: Value = serde_json::from_str(&line).expect("JSON");
    message["body"].clone()
}

#[test]
fn who_stops_reading_ends_it_quietly() {
    let (_place, folder) = filled();
    for arguments in [
        &["log", "inspect", &folder, "--bodies"][..],
        &["log", "messages", &folder, "jobs"],
        &["log", "export", &folder],
        &["log", "tail", &folder, "jobs"],
    ] {
        let (line, status) = first_line(arguments);
        assert!(!line.is_empty() && status.success(), "{arguments:?}: {line} {status}");
    }
}

#[test]
fn what_is_no_folder_is_refused_with_the_next_step() {
    let (place, folder) = filled();
    let empty = place.path().join("empty");
    std::fs::create_dir(&empty).expect("made");
    let empty = empty.to_str().expect("text");
    for command in ["stat", "inspect", "queues", "claims", "export"] {
        let refused = marconi(&["log", command, empty]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("name a data folder"), "{refused:?}");
        assert!(refused.stderr.contains(empty), "{refused:?}");
    }
    let refused = marconi(&["log", "messages", &folder, "nobody"]).refused();
    assert!(refused.contains(&format!("marconi log queues {folder}")), "{refused}");
}

/// The names of all fields in a document, but for those of bodies.
fn fields(document: &Value, found: &mut Vec<String>) {
    match document {
        Value::Object(object) => {
            for (name, value) in object {
                found.push(name.clone());
                if !["body", "metadata", "json"].contains(&name.as_str()) {
                    fields(value, found);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| fields(value, found)),
        _ => {}
    }
}

#[test]
fn every_field_that_is_printed_is_documented() {
    let (place, folder) = filled();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the top of the tree");
    let page = std::fs::read_to_string(root.join("docs/tools.md")).expect("the page");
    let file = place.path().join("export").to_str().expect("text").to_owned();
    let copy = place.path().join("copy").to_str().expect("text").to_owned();
    damage_a_post(&folder);
    // Those that go by the whole state need it whole: the others meet the damage as well.
    let hurt: [&[&str]; 3] = [
        &["inspect", &folder, "--bodies", "--hex"],
        &["verify", &folder],
        &["repair", &folder, "--apply"],
    ];
    let well: [&[&str]; 7] = [
        &["stat", &folder],
        &["queues", &folder],
        &["messages", &folder, "jobs", "--bodies"],
        &["claims", &folder],
        &["export", &folder, "--output", &file],
        &["import", &copy, &file],
        &["compact", &folder, "--yes"],
    ];
    let mut found = Vec::new();
    for arguments in hurt.into_iter().chain(well) {
        let ran = marconi(&[&["log"], arguments, &["--json"]].concat());
        assert!(ran.code <= Some(1) && ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
        documents(&ran.stdout).iter().for_each(|document| fields(document, &mut found));
    }
    let lines = documents(&std::fs::read_to_string(&file).expect("the export"));
    lines.iter().for_each(|document| fields(document, &mut found));
    found.sort();
    found.dedup();
    assert!(found.len() > 80, "{found:?}");
    let named = |name: &String| {
        ["`", "\""].iter().any(|quote| page.contains(&format!("{quote}{name}{quote}")))
    };
    let missing: Vec<&String> = found.iter().filter(|name| !named(name)).collect();
    assert!(missing.is_empty(), "docs/tools.md does not name {missing:?}");
}
