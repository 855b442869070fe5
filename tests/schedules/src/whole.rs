//! The engine whole, with its background threads: the order of effects, bodies held while their segment is emptied
//! and written anew, and its end. Knows what a user sees and no more.

use crate::alone::folder;
use crate::witness::Witness;
use bytes::Bytes;
use marconi_engine::env::{Environment, ManualClock};
use marconi_engine::{
    ClaimId, ClientId, Config, Engine, Error, ListFilter, MessageId, NewMessage, QueueKey, Receipt,
    Result,
};
use shuttle::thread;
use std::path::Path;
use std::sync::Arc;

const POSTER: ClientId = ClientId(1);
const NOW_MS: u64 = 1_700_000_000_000;
/// Three messages of this size fill a segment.
const BODY_SIZE: usize = 3_500;

fn key() -> QueueKey {
    QueueKey::new(None, "jobs").expect("a short name")
}

fn open(folder: &Path, disk: &Witness) -> Arc<Engine> {
    let mut config = Config::new(folder.join("data"));
    config.segment_size_bytes = 16 << 10;
    config.disk_reserve_bytes = 0;
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let environment = Environment { disk: Arc::new(disk.clone()), clock, ..Environment::system() };
    Arc::new(Engine::open_in(config, environment).expect("nothing is wrong with the folder"))
}

/// A body that no other is like.
fn body(who: u8, number: u8) -> Vec<u8> {
    vec![who << 4 | number; BODY_SIZE]
}

fn post(engine: &Engine, disk: &Witness, who: u8, number: u8) -> Result<MessageId> {
    let body = body(who, number);
    let ids = engine.post(&key(), POSTER, &[NewMessage { ttl_s: 3600, body: &body }], None)?;
    let ids = ids.wait()?;
    assert!(disk.has_synced(&body), "told before it was synced");
    Ok(ids[0])
}

/// What a user sees of the queue: each message, whose claim holds it, and its body.
fn seen(engine: &Engine) -> Result<Vec<(MessageId, Option<ClaimId>, Bytes)>> {
    let filter = ListFilter { include_claimed: true, ..ListFilter::default() };
    let page = engine.list(&key(), None, 100, filter)?.wait()?;
    page.messages.iter().map(|one| Ok((one.id, one.claim, one.body()?))).collect()
}

fn with_queue(engine: &Engine) {
    let made = engine.create_queue(&key(), None).and_then(Receipt::wait);
    made.expect("the disk works");
}

/// Only a wait of seconds ends with `Busy`, and the clock leaps.
fn done<T>(answer: Result<T>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(Error::Busy) => None,
        Err(error) => panic!("refused: {error}"),
    }
}

/// Claims two messages and deletes the first of them.
fn claim_and_delete(engine: &Engine) -> Vec<MessageId> {
    let claimed = engine.claim(&key(), 60, 60, 2, None).and_then(Receipt::wait);
    let Some(claim) = done(claimed).flatten() else { return Vec::new() };
    let ids: Vec<MessageId> = claim.messages.iter().map(|message| message.id).collect();
    let deleted = engine.delete(&key(), ids[0], Some(Some(claim.id)), None);
    done(deleted.and_then(Receipt::wait));
    ids
}

/// Posts, claims and deletes cross a segment's end. What they did is what a start makes of the log, a message is in
/// one claim, and each poster's messages keep their order.
pub(crate) fn order() {
    let (folder, disk) = (folder(), Witness::default());
    let engine = open(folder.path(), &disk);
    with_queue(&engine);
    let posters: Vec<_> = (1..=2)
        .map(|who| {
            let (engine, disk) = (engine.clone(), disk.clone());
            thread::spawn(move || {
                let ids = (0..2).filter_map(|number| done(post(&engine, &disk, who, number)));
                let ids: Vec<MessageId> = ids.collect();
                assert!(ids.is_sorted_by_key(|id| id.seq), "later posts have lower ids: {ids:?}");
            })
        })
        .collect();
    let consumers: Vec<_> = (0..2)
        .map(|_| {
            let engine = engine.clone();
            thread::spawn(move || claim_and_delete(&engine))
        })
        .collect();
    for poster in posters {
        poster.join().expect("its panic is told first");
    }
    let mut claimed = Vec::new();
    for consumer in consumers {
        claimed.extend(consumer.join().expect("its panic is told first"));
    }
    claimed.sort_by_key(|id| id.seq);
    assert!(claimed.windows(2).all(|two| two[0] != two[1]), "claimed twice: {claimed:?}");
    done(engine.sync());
    let before = done(seen(&engine));
    engine.crash();
    drop(engine);
    let engine = open(folder.path(), &disk);
    assert_eq!(done(seen(&engine)), before, "a start shows something else than the engine did");
    engine.crash();
}

/// Bodies are held while their messages are deleted, their segment emptied, and its file written anew.
pub(crate) fn recycling() {
    let (folder, disk) = (folder(), Witness::default());
    let engine = open(folder.path(), &disk);
    with_queue(&engine);
    let mut first = Vec::new();
    // One more than a segment takes: the first is full.
    for number in 0..4 {
        first.extend(done(post(&engine, &disk, 1, number)));
    }
    let reader = {
        let engine = engine.clone();
        thread::spawn(move || {
            let is_whole = |bytes: &Bytes| bytes.iter().all(|byte| *byte == bytes[0]);
            let mut held = Vec::new();
            for _ in 0..3 {
                let found = done(seen(&engine)).unwrap_or_default();
                held.extend(found.into_iter().map(|(.., body)| (body[0], body)));
                let well = held.iter().all(|(byte, body)| body[0] == *byte && is_whole(body));
                assert!(well, "a body changed while somebody held it");
            }
            held
        })
    };
    let deleted = engine.delete_many(&key(), &first, None).and_then(Receipt::wait);
    done(deleted);
    done(engine.compact());
    // Into the file that was emptied, if nobody had it.
    for number in 0..7 {
        done(post(&engine, &disk, 2, number));
    }
    let held = reader.join().expect("its panic is told first");
    for (byte, body) in held {
        assert!(body.iter().all(|found| *found == byte), "a body changed while somebody held it");
    }
    engine.crash();
}

/// The engine is closed while others work: they get what was promised, or are told; and it ends.
pub(crate) fn end() {
    let (folder, disk) = (folder(), Witness::default());
    let engine = open(folder.path(), &disk);
    with_queue(&engine);
    let posters: Vec<_> = (1..=2)
        .map(|who| {
            let (engine, disk) = (engine.clone(), disk.clone());
            thread::spawn(move || {
                let posted = (0..2).filter_map(|number| {
                    let posted = post(&engine, &disk, who, number);
                    told_if_closed(posted).map(|id| (id, body(who, number)))
                });
                let posted: Vec<_> = posted.collect();
                told_if_closed(seen(&engine));
                told_if_closed(engine.sync());
                posted
            })
        })
        .collect();
    engine.close().expect("the disk works");
    let mut posted = Vec::new();
    for poster in posters {
        posted.extend(poster.join().expect("its panic is told first"));
    }
    drop(engine);
    let engine = open(folder.path(), &disk);
    let found = done(seen(&engine)).unwrap_or_default();
    for (id, body) in posted {
        let is_there = found.iter().any(|(other, _, bytes)| *other == id && *bytes == body);
        assert!(is_there, "{id} was promised, and is not there after the next start");
    }
    engine.crash();
}

fn told_if_closed<T>(answer: Result<T>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(Error::Busy | Error::Closed | Error::ReadOnly(_)) => None,
        Err(error) => panic!("refused: {error}"),
    }
}
