//! The verbs on one queue, in mode `os`, on a thread that attends to the log: what is appended is
//! written on the same thread, so that all of a verb is in its figure. Knows no files.

use super::Work;
use marconi_engine::{
    Attendance, Claim, ClientId, Config, Durability, Engine, ListFilter, Marker, MessageId,
    NewMessage, QueueId, QueueKey, Seq,
};
use std::hint::black_box;
use std::path::Path;

/// Who posts.
const POSTER: ClientId = ClientId(1);
/// Who lists: nobody's own messages are left out.
const READER: ClientId = ClientId(2);
/// The longest that the API takes: nothing ends while it is measured.
const CLAIM_TTL_S: u32 = 43_200;
const MESSAGE_TTL_S: u32 = 1_209_600;
const BODY: [u8; 100] = [b'x'; 100];
const BATCH: u64 = 1000;

/// An open engine with one queue.
struct Fixture {
    /// First, so that it goes while the engine is there.
    _attendance: Attendance,
    engine: Engine,
    key: QueueKey,
}

impl Fixture {
    fn open(folder: &Path) -> Fixture {
        let engine = open(folder);
        Fixture { _attendance: engine.attend(), engine, key: key() }
    }

    /// The queue's number and that of its oldest message.
    fn oldest(&self) -> (QueueId, Seq) {
        let filter = ListFilter { not_by: None, include_claimed: true };
        let page = self.engine.list(&self.key, None, 1, filter).expect("lists");
        let id = page.wait().expect("is written").messages[0].id;
        (id.queue, id.seq)
    }
}

fn open(folder: &Path) -> Engine {
    // Upkeep is to stay out of the figures.
    let config = Config {
        durability: Durability::Os,
        upkeep_interval_ms: 60_000,
        disk_reserve_bytes: 0,
        ..Config::new(folder.join("data"))
    };
    Engine::open(config).expect("opens")
}

fn key() -> QueueKey {
    QueueKey::new(None, "q").expect("short")
}

/// A queue with `waiting` messages of 100 bytes, behind `claimed` ones that are under claims.
pub(super) fn fill(folder: &Path, waiting: u64, claimed: u64) {
    let engine = open(folder);
    engine.create_queue(&key(), None).expect("makes").wait().expect("lasts");
    let batch = [NewMessage { ttl_s: MESSAGE_TTL_S, body: &BODY }; BATCH as usize];
    for _ in 0..(waiting + claimed) / BATCH {
        engine.post(&key(), POSTER, &batch, None).expect("posts").wait().expect("lasts");
    }
    for _ in 0..claimed / BATCH {
        let claim = engine.claim(&key(), CLAIM_TTL_S, 60, BATCH as usize, None).expect("claims");
        assert!(claim.wait().expect("lasts").is_some(), "there is enough to claim");
    }
    engine.close().expect("closes");
}

/// Posts batches of `count` messages of 1 KiB.
pub(super) fn append(folder: &Path, count: usize) -> Box<dyn Work> {
    let fixture = Fixture::open(folder);
    let body = [b'x'; 1024];
    Box::new(move || {
        let batch = [NewMessage { ttl_s: MESSAGE_TTL_S, body: &body }; 20];
        let Fixture { engine, key, .. } = &fixture;
        let posted = engine.post(key, POSTER, black_box(&batch[..count]), None).expect("posts");
        black_box(posted.wait().expect("is written"));
    })
}

/// Looks up one message after another, all over a queue of `waiting`.
pub(super) fn get(folder: &Path, waiting: u64) -> Box<dyn Work> {
    let fixture = Fixture::open(folder);
    let (queue, first) = fixture.oldest();
    let mut offsets = Offsets::below(waiting);
    Box::new(move || {
        let Fixture { engine, key, .. } = &fixture;
        let id = MessageId { queue, seq: Seq(first.0 + offsets.next()) };
        let found = engine.get(key, black_box(&[id])).expect("looks").wait().expect("is written");
        assert_eq!(found.len(), 1);
        black_box(found);
    })
}

/// Lists 20 messages behind a marker, anywhere in a queue of `waiting`.
pub(super) fn list(folder: &Path, waiting: u64) -> Box<dyn Work> {
    let fixture = Fixture::open(folder);
    let (queue, first) = fixture.oldest();
    let mut offsets = Offsets::below(waiting - 20);
    Box::new(move || {
        let Fixture { engine, key, .. } = &fixture;
        let marker = Marker { queue, seq: Seq(first.0 + offsets.next()) };
        let filter = ListFilter { not_by: Some(READER), include_claimed: false };
        let page = engine.list(key, black_box(Some(marker)), 20, filter).expect("lists");
        let page = page.wait().expect("is written");
        assert_eq!(page.messages.len(), 20);
        black_box(page);
    })
}

/// Claims the ten oldest.
pub(super) fn claim(folder: &Path) -> Box<dyn Work> {
    Box::new(Claiming { fixture: Fixture::open(folder), held: None })
}

struct Claiming {
    fixture: Fixture,
    held: Option<Claim>,
}

impl Work for Claiming {
    /// Deletes what was claimed and posts as much: the queue stays as deep as it was.
    fn prepare(&mut self) {
        let Some(claim) = self.held.take() else { return };
        let Fixture { engine, key, .. } = &self.fixture;
        let ids: Vec<MessageId> = claim.messages.iter().map(|message| message.id).collect();
        engine.delete_many(key, &ids, None).expect("deletes").wait().expect("is written");
        let batch = vec![NewMessage { ttl_s: MESSAGE_TTL_S, body: &BODY }; ids.len()];
        engine.post(key, POSTER, &batch, None).expect("posts").wait().expect("is written");
    }

    fn run(&mut self) {
        let Fixture { engine, key, .. } = &self.fixture;
        let claim = engine.claim(key, CLAIM_TTL_S, 60, 10, None).expect("claims");
        let claim = claim.wait().expect("is written").expect("messages wait");
        assert_eq!(claim.messages.len(), 10);
        self.held = Some(claim);
    }
}

/// Places all over a range, the same in every process.
struct Offsets {
    below: u64,
    state: u64,
}

impl Offsets {
    fn below(below: u64) -> Offsets {
        Offsets { below, state: 1 }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) % self.below
    }
}
