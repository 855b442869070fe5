//! A folder written by format version 2, kept in `tests/golden/v2`: it opens and means the same, for
//! ever. Files are kept without the zeros behind their last byte; the sizes stand in `SIZES`.
//!
//! Written once, by `UPDATE=1 cargo test -p marconi-engine --test golden`. A new version of the format
//! gets a folder of its own, and this one stays as it is.

use marconi_engine::env::{Environment, ManualClock};
use marconi_engine::{
    ClientId, Config, Content, Durability, Engine, ListFilter, MessageId, NewMessage, QueueKey,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NOW_MS: u64 = 1_700_000_000_000;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v2")
}

fn open(folder: &Path) -> Engine {
    let config = Config {
        segment_size_bytes: 1 << 20,
        disk_reserve_bytes: 0,
        upkeep_interval_ms: 60_000,
        ..Config::new(folder)
    };
    let clock = Arc::new(ManualClock::new(NOW_MS + 10_000));
    Engine::open_in(config, Environment { clock, ..Environment::system() }).expect("it opens")
}

fn key(name: &str) -> QueueKey {
    QueueKey::new(Some("project"), name).expect("short")
}

fn write(folder: &Path) {
    let config = Config {
        segment_size_bytes: 1 << 20,
        disk_reserve_bytes: 0,
        upkeep_interval_ms: 60_000,
        ..Config::new(folder)
    };
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let env = Environment { clock, ..Environment::system() };
    let engine = Engine::open_in(config, env).expect("it opens");
    let jobs = key("jobs");
    engine.create_queue(&jobs, Some(Durability::Each)).expect("makes").wait().expect("lasts");
    engine.set_metadata(&jobs, b"{\"a\":1}", None).expect("sets").wait().expect("lasts");
    let bodies: Vec<String> = (1..=6).map(|number| format!("\"body {number}\"")).collect();
    let batch: Vec<NewMessage<'_>> =
        bodies.iter().map(|body| NewMessage { ttl_s: 600, body: body.as_bytes() }).collect();
    let ids: Vec<MessageId> =
        engine.post(&jobs, ClientId(5), &batch, None).expect("posts").wait().expect("lasts");
    let claim = engine.claim(&jobs, 500, 400, 3, None).expect("claims").wait().expect("lasts");
    let claim = claim.expect("six wait").id;
    engine.delete(&jobs, ids[1], Some(Some(claim)), None).expect("deletes").wait().expect("lasts");
    engine.create_queue(&key("gone"), None).expect("makes").wait().expect("lasts");
    // Some of it is in the checkpoint, the rest only in the log.
    engine.checkpoint().expect("writes");
    engine.delete_many(&jobs, &[ids[3]], None).expect("deletes").wait().expect("lasts");
    engine.renew(&jobs, claim, 700, 300, None).expect("renews").wait().expect("lasts");
    engine.post(&jobs, ClientId(6), &batch[..1], None).expect("posts").wait().expect("lasts");
    engine.remove_queue(&key("gone"), None).expect("removes").wait().expect("lasts");
    engine.create_queue(&key("empty"), None).expect("makes").wait().expect("lasts");
    engine.crash();
}

/// Files to be kept, below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("LOCK") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn keep(from: &Path) {
    let mut sizes = String::new();
    for path in files(from) {
        let name = path.strip_prefix(from).expect("below").to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).expect("a file");
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        sizes += &format!("{} {name}\n", bytes.len());
        let to = golden().join(&name);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::write(to, &bytes[..used]).expect("writes");
    }
    std::fs::write(golden().join("SIZES"), sizes).expect("writes");
}

fn unpack(to: &Path) {
    let sizes = std::fs::read_to_string(golden().join("SIZES")).expect("the golden folder");
    for line in sizes.lines() {
        let (size, name) = line.split_once(' ').expect("size and name");
        let mut bytes = std::fs::read(golden().join(name)).expect("a golden file");
        bytes.resize(size.parse().expect("a size"), 0);
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("writes");
    }
}

#[test]
fn version_2_stays_readable() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    if std::env::var_os("UPDATE").is_some() {
        write(&data);
        keep(&data);
        std::fs::remove_dir_all(&data).expect("removes");
    }
    unpack(&data);
    let engine = open(&data);
    assert!(!engine.recovery().was_clean);
    assert!(engine.recovery().checkpoint > 0);
    let names: Vec<String> = engine
        .queues(Some("project"), None, 10)
        .expect("lists")
        .iter()
        .map(|entry| entry.key.name().to_owned())
        .collect();
    assert_eq!(names, ["empty", "jobs"]);
    let jobs = key("jobs");
    let info = engine.queue(&jobs).expect("is there").wait().expect("lasts");
    assert_eq!((&info.metadata[..], info.floor), (&b"{\"a\":1}"[..], Some(Durability::Each)));
    let filter = ListFilter { include_claimed: true, ..ListFilter::default() };
    let page = engine.list(&jobs, None, 100, filter).expect("lists").wait().expect("lasts");
    let seen: Vec<(u64, u32, u64, bool, String)> = page
        .messages
        .iter()
        .map(|message| {
            let Content { ttl_s, age_s, body } = message.read().expect("is whole");
            let text = String::from_utf8_lossy(&body).into_owned();
            (message.id.seq.0, ttl_s, age_s, message.claim.is_some(), text)
        })
        .collect();
    let expected = [
        (1, 1000, true, "\"body 1\""),
        (3, 1000, true, "\"body 3\""),
        (5, 600, false, "\"body 5\""),
        (6, 600, false, "\"body 6\""),
        (7, 600, false, "\"body 1\""),
    ];
    let expected =
        expected.map(|(seq, ttl_s, claimed, body)| (seq, ttl_s, 10, claimed, body.to_owned()));
    assert_eq!(seen, expected);
    let claim = page.messages[0].claim.expect("it is claimed");
    let claim = engine.claim_get(&jobs, claim).expect("lives").wait().expect("lasts");
    assert_eq!((claim.ttl_s, claim.age_s, claim.messages.len()), (700, 10, 2));
    // Who posted what is in it, too.
    let others = ListFilter { not_by: Some(ClientId(5)), include_claimed: true };
    let page = engine.list(&jobs, None, 100, others).expect("lists").wait().expect("lasts");
    assert_eq!(page.messages.len(), 1);
}
