//! The engine's life over real files: what is there after a restart, after a crash, after compaction.

use marconi_engine::env::{Background, Disk, Environment, File, ManualClock, Mapping, OsDisk};
use marconi_engine::{
    Claim, ClientId, Config, Durability, Engine, Error, ListFilter, Message, MessageId, NewMessage,
    QueueKey, Receipt, Rest,
};
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

const POSTER: ClientId = ClientId(7);

struct World {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        World { folder, clock: Arc::new(ManualClock::new(1_700_000_000_000)) }
    }

    fn config(&self) -> Config {
        Config {
            segment_size_bytes: 1 << 20,
            checkpoint_interval_bytes: 1 << 20,
            disk_reserve_bytes: 0,
            upkeep_interval_ms: 5,
            ..Config::new(self.folder.path().join("data"))
        }
    }

    fn open(&self) -> Engine {
        self.try_open(self.config()).expect("it opens")
    }

    fn try_open(&self, config: Config) -> Result<Engine, Error> {
        Engine::open_in(config, self.environment())
    }

    fn environment(&self) -> Environment {
        Environment { clock: self.clock.clone(), ..Environment::system() }
    }

    /// In which the engine does in the background only what it is told to.
    fn by_hand(&self) -> Environment {
        Environment { background: Background::Caller, ..self.environment() }
    }
}

fn queue() -> QueueKey {
    QueueKey::new(Some("p"), "jobs").expect("short")
}

fn post(engine: &Engine, bodies: &[String]) {
    let new: Vec<NewMessage<'_>> =
        bodies.iter().map(|body| NewMessage { ttl_s: 3600, body: body.as_bytes() }).collect();
    engine.post(&queue(), POSTER, &new, None).expect("posts").wait().expect("durable");
}

fn bodies(messages: &[Message]) -> Vec<String> {
    let text = |message: &Message| {
        String::from_utf8(message.body().expect("whole").to_vec()).expect("text")
    };
    messages.iter().map(text).collect()
}

fn list_all(engine: &Engine) -> Vec<String> {
    let filter = ListFilter { include_claimed: true, ..ListFilter::default() };
    let page = engine.list(&queue(), None, usize::MAX, filter).expect("lists");
    bodies(&page.wait().expect("durable").messages)
}

fn claim(engine: &Engine, limit: usize) -> Option<Claim> {
    engine.claim(&queue(), 60, 60, limit, None).expect("claims").wait().expect("durable")
}

fn delete(engine: &Engine, claim: &Claim, message: &Message) {
    let receipt = engine.delete(&queue(), message.id, Some(Some(claim.id)), None);
    receipt.expect("deletes").wait().expect("durable");
}

fn numbered(range: std::ops::Range<u32>, size: usize) -> Vec<String> {
    range.map(|n| format!("{n:0size$}")).collect()
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash_and_after_a_close() {
    let world = World::new();
    for ending in [Engine::crash as fn(&Engine), |engine| engine.close().expect("closes")] {
        let engine = world.open();
        engine.remove_queue(&queue(), None).expect("removes").wait().expect("durable");
        engine.create_queue(&queue(), Some(Durability::Group)).expect("makes").wait().expect("ok");
        engine.set_metadata(&queue(), b"{}", None).expect("sets").wait().expect("ok");
        post(&engine, &numbered(0..10, 10));
        let held = claim(&engine, 3).expect("three wait");
        assert_eq!(bodies(&held.messages), numbered(0..3, 10));
        delete(&engine, &held, &held.messages[1]);
        ending(&engine);
        drop(engine);

        let engine = world.open();
        let expected: Vec<String> =
            numbered(0..10, 10).into_iter().filter(|body| !body.ends_with('1')).collect();
        assert_eq!(list_all(&engine), expected);
        let info = engine.queue(&queue()).expect("is there").wait().expect("durable");
        assert_eq!((&info.metadata[..], info.floor), (&b"{}"[..], Some(Durability::Group)));
        let again = engine.claim_get(&queue(), held.id).expect("lives").wait().expect("durable");
        assert_eq!(again.messages.len(), 2);
        // New ids are never old ones.
        post(&engine, &numbered(10..11, 10));
        let stats = engine.stats(&queue()).expect("counts").wait().expect("durable");
        assert_eq!((stats.free, stats.claimed), (8, 2));
        let next = claim(&engine, 1).expect("free ones wait");
        assert!(next.id > held.id);
        drop(engine);
    }
}

#[test]
fn ten_segments_are_sealed_compacted_and_read_again() {
    let world = World::new();
    let engine = world.open();
    engine.create_queue(&queue(), None).expect("makes").wait().expect("ok");
    for start in (0..10_000).step_by(100) {
        post(&engine, &numbered(start..start + 100, 1000));
    }
    let mut kept = Vec::new();
    let mut n = 0;
    while let Some(held) = claim(&engine, 500) {
        let (die, live): (Vec<_>, Vec<_>) =
            held.messages.iter().enumerate().partition(|(place, _)| (n + place) % 10 != 0);
        n += held.messages.len();
        kept.extend(live.iter().flat_map(|(_, one)| bodies(std::slice::from_ref(one))));
        let ids: Vec<_> = die.iter().map(|(_, message)| message.id).collect();
        engine.delete_many(&queue(), &ids, None).expect("deletes").wait().expect("durable");
    }
    assert_eq!(kept.len(), 1000);
    assert_eq!(list_all(&engine), kept);
    engine.compact().expect("compacts");
    assert_eq!(list_all(&engine), kept);
    let metrics = engine.metrics();
    assert!(metrics.segments.iter().any(|segment| segment.generation > 0), "{metrics:?}");
    let sealed: u64 = metrics.segments.iter().map(|segment| segment.disk_size).sum();
    assert!(sealed < 7 << 20, "{sealed}");
    for ending in [Engine::crash as fn(&Engine), |engine| engine.close().expect("closes")] {
        let engine = world.try_open(world.config());
        assert!(matches!(engine, Err(Error::Folder { .. })), "the folder is in use");
        let _ = ending;
    }
    engine.crash();
    drop(engine);
    let engine = world.open();
    assert_eq!(list_all(&engine), kept);
    engine.close().expect("closes");
    drop(engine);
    let engine = world.open();
    assert!(engine.recovery().was_clean, "{:?}", engine.recovery());
    assert_eq!(list_all(&engine), kept);
    assert_eq!(engine.metrics().live_messages, 1000);
}

#[test]
fn what_is_used_up_gives_its_space_back() {
    let world = World::new();
    let engine = world.open();
    engine.create_queue(&queue(), None).expect("makes").wait().expect("ok");
    for round in 0..200 {
        post(&engine, &numbered(round * 100..round * 100 + 100, 1000));
        let held = claim(&engine, 100).expect("all wait");
        let ids: Vec<_> = held.messages.iter().map(|message| message.id).collect();
        drop(held);
        engine.delete_many(&queue(), &ids, None).expect("deletes").wait().expect("durable");
    }
    engine.compact().expect("compacts");
    let metrics = engine.metrics();
    assert_eq!(metrics.live_messages, 0);
    assert!(metrics.segments.len() <= 3, "{:?}", metrics.segments);
    assert!(folder_size(world.folder.path()) < 6 << 20);
}

/// An empty segment in which the checkpoint ends was once removed by the next start, and the start
/// after that refused the folder.
#[test]
fn an_index_that_is_damaged_keeps_no_other_queue_from_expiring() {
    // Entries, then the runs that say where they are.
    for from_end in [128, 1024] {
        damage_an_index_and_expire(from_end);
    }
}

fn damage_an_index_and_expire(from_end: u64) {
    const QUEUES: usize = 60;
    let world = World::new();
    let engine = Engine::open_in(world.config(), world.by_hand()).expect("it opens");
    let body = vec![b'1'; 60 << 10];
    for number in 0..QUEUES {
        let key = QueueKey::new(None, &format!("q{number}")).expect("short");
        drop(engine.create_queue(&key, Some(Durability::Memory)).expect("makes"));
        let new = [NewMessage { ttl_s: 60, body: &body }];
        drop(engine.post(&key, POSTER, &new, None).expect("posts"));
    }
    engine.sync().expect("is durable");
    engine.prepare().expect("indexes what is full");
    let index = world.folder.path().join("data/log/00000000000000000001.idx");
    let size = std::fs::metadata(&index).expect("it is there").len();
    let file = std::fs::OpenOptions::new().write(true).open(&index).expect("opens");
    let place = size - from_end;
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 64], place).expect("is damaged");

    world.clock.advance_ms(3_600_000);
    engine.care().expect_err("one cannot be looked into");
    assert!(engine.metrics().expired > QUEUES as u64 / 2);
    assert!(engine.metrics().expired < QUEUES as u64);
    engine.crash();
}

/// Beside entries in memory, in the runs of indexes, in frames: who posted is told in three places.
#[test]
fn a_listing_leaves_out_ones_own_wherever_that_is_told() {
    const POSTERS: [ClientId; 3] = [ClientId(7 << 64 | 5), ClientId(6), ClientId(8)];
    let world = World::new();
    let engine = Engine::open_in(world.config(), world.by_hand()).expect("it opens");
    engine.create_queue(&queue(), None).expect("makes").wait().expect("ok");
    let body = vec![b'1'; 20 << 10];
    // Runs of one poster and of two, each in frames of one message and of three.
    let mut posted = [Vec::new(), Vec::new(), Vec::new()];
    for number in 0..200_usize {
        let poster = if number < 100 { 0 } else { number % 5 / 4 };
        let new = vec![NewMessage { ttl_s: 3600, body: &body }; [1, 3][number % 2]];
        let ids = engine.post(&queue(), POSTERS[poster], &new, None).expect("posts").wait();
        posted[poster].extend(ids.expect("durable"));
    }
    let check = |engine: &Engine, when: &str| {
        for (client, limit) in POSTERS.into_iter().flat_map(|client| [(client, 7), (client, 1000)])
        {
            let filter = ListFilter { not_by: Some(client), include_claimed: true };
            let (mut seen, mut marker) = (Vec::new(), None);
            loop {
                let page = engine.list(&queue(), marker, limit, filter).expect("lists");
                let page = page.wait().expect("durable");
                assert!(page.messages.len() <= limit);
                seen.extend(page.messages.iter().map(|message| message.id));
                marker = page.next;
                if page.messages.len() < limit {
                    break;
                }
            }
            let others = POSTERS.iter().zip(&posted).filter(|(other, _)| **other != client);
            let mut expected: Vec<_> = others.flat_map(|(_, ids)| ids).copied().collect();
            expected.sort_by_key(|id: &MessageId| id.seq);
            assert_eq!(seen, expected, "{when}, all but those of {client:?}");
        }
    };
    check(&engine, "as posted");
    engine.sync().expect("is durable");
    engine.prepare().expect("indexes what is full");
    check(&engine, "indexed");
    engine.compact().expect("compacts");
    check(&engine, "compacted");
    engine.crash();
    let engine = Engine::open_in(world.config(), world.by_hand()).expect("it opens");
    check(&engine, "opened again");
    engine.crash();
}

/// Others are to have their turn while a client's own are passed over one frame after the other.
#[test]
fn a_listing_of_little_among_much_is_done_in_parts() {
    let world = World::new();
    let engine = world.open();
    engine.create_queue(&queue(), Some(Durability::Memory)).expect("makes").wait().expect("ok");
    let (own, other) = (ClientId(7), ClientId(8));
    let post = |client: ClientId, count: usize| {
        let new = vec![NewMessage { ttl_s: 3600, body: b"1" }; count];
        engine.post(&queue(), client, &new, None).expect("posts").wait().expect("written")
    };
    let mut others = Vec::new();
    for _ in 0..20 {
        (0..10).for_each(|_| drop(post(own, 1000)));
        others.extend(post(other, 1));
    }
    (0..60).for_each(|_| drop(post(own, 1000)));
    engine.sync().expect("is durable");
    engine.prepare().expect("indexes what is full");
    let filter = ListFilter { not_by: Some(own), include_claimed: true };
    let (mut found, mut marker, mut parts) = (Vec::new(), None, 0);
    loop {
        let page = engine.list(&queue(), marker, 100, filter).expect("lists").wait().expect("ok");
        found.extend(page.messages.iter().map(|message| message.id));
        (marker, parts) = (page.next, parts + 1);
        if !page.has_more {
            break;
        }
    }
    assert_eq!(found, others);
    assert!(parts > 10, "{parts}");
}

/// A body that rotted fails whoever reads it, and nobody else.
#[test]
fn a_rotten_message_stands_in_the_way_of_none_but_its_readers() {
    let world = World::new();
    let engine = Engine::open_in(world.config(), world.by_hand()).expect("it opens");
    engine.create_queue(&queue(), None).expect("makes").wait().expect("ok");
    let body = vec![b'1'; 60 << 10];
    for number in 0..40 {
        let new = [NewMessage { ttl_s: 3600, body: &body }];
        let client = ClientId(7 + number % 2);
        engine.post(&queue(), client, &new, None).expect("posts").wait().expect("durable");
    }
    engine.prepare().expect("indexes what is full");
    // The first message is the second frame of the first segment.
    let path = world.folder.path().join("data/log/00000000000000000001.seg");
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("opens");
    std::os::unix::fs::FileExt::write_all_at(&file, b"2", 4096 + 1000).expect("is damaged");

    let list = |client: u128| {
        let filter = ListFilter { not_by: Some(ClientId(client)), include_claimed: true };
        let page = engine.list(&queue(), None, 5, filter).expect("lists").wait().expect("durable");
        let read = |message: &Message| message.read().is_ok();
        page.messages.iter().map(|one| (one.id.seq.0, read(one))).collect::<Vec<_>>()
    };
    assert_eq!(list(7), [(2, true), (4, true), (6, true), (8, true), (10, true)]);
    assert_eq!(list(8), [(1, false), (3, true), (5, true), (7, true), (9, true)]);
    let stats = engine.stats(&queue()).expect("counts").wait().expect("durable");
    let (oldest, newest) = stats.ends.expect("there are some");
    assert_eq!((oldest.id.seq.0, newest.id.seq.0, oldest.age_s), (1, 40, newest.age_s));
    engine.crash();
}

#[test]
fn starts_that_write_nothing_can_follow_each_other_however_they_end() {
    let world = World::new();
    let engine = world.open();
    engine.create_queue(&queue(), None).expect("makes").wait().expect("ok");
    post(&engine, &numbered(0..5, 10));
    drop(engine);
    let endings: [fn(&Engine); 6] = [
        |engine| engine.close().expect("closes"),
        Engine::crash,
        Engine::crash,
        |engine| engine.close().expect("closes"),
        |engine| engine.compact().map(|_| engine.crash()).expect("compacts"),
        Engine::crash,
    ];
    for ending in endings {
        let engine = world.open();
        assert_eq!(list_all(&engine), numbered(0..5, 10));
        ending(&engine);
    }
}

/// Two threads once indexed the same segment, each removing the other's unfinished file.
#[test]
fn compaction_by_hand_does_not_meet_the_one_in_the_background() {
    let world = World::new();
    let engine = world.open();
    engine.create_queue(&queue(), None).expect("makes").wait().expect("ok");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..60 {
                post(&engine, &numbered(round * 100..round * 100 + 100, 1000));
            }
        });
        while !writer.is_finished() {
            engine.compact().expect("compacts");
        }
    });
    assert_eq!(list_all(&engine).len(), 6000);
}

/// A rewrite of a segment whose last messages died meanwhile once left a file that no start opened.
#[test]
fn a_queue_that_goes_while_its_segments_are_rewritten_leaves_nothing_behind() {
    let world = World::new();
    for round in 0..5 {
        let engine = world.open();
        engine.create_queue(&queue(), None).expect("makes").wait().expect("ok");
        for start in (0..3000).step_by(100) {
            post(&engine, &numbered(start..start + 100, 1000));
        }
        let held = claim(&engine, 2900).expect("all wait");
        let ids: Vec<_> = held.messages.iter().map(|message| message.id).collect();
        engine.delete_many(&queue(), &ids, None).expect("deletes").wait().expect("durable");
        std::thread::scope(|scope| {
            scope.spawn(|| engine.compact().expect("compacts"));
            engine.remove_queue(&queue(), None).expect("removes").wait().expect("durable");
        });
        engine.compact().expect("compacts");
        assert_eq!(engine.metrics().live_messages, 0, "round {round}");
        engine.crash();
    }
    assert!(list_all(&world.open()).is_empty());
}

fn folder_size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("entry"));
    entries
        .map(|entry| {
            let meta = entry.metadata().expect("metadata");
            if meta.is_dir() { folder_size(&entry.path()) } else { meta.len() }
        })
        .sum()
}

/// What waits for a sync has one made, also where those who wrote asked for none and it writes nothing.
#[test]
fn an_answer_that_wrote_nothing_does_not_wait_for_somebody_elses_sync() {
    let world = World::new();
    // No upkeep comes along and syncs.
    let config = Config {
        upkeep_interval_ms: 60_000,
        checkpoint_interval_bytes: 1 << 30,
        sync_interval_ms: 60_000,
        ..world.config()
    };
    let engine = Arc::new(world.try_open(config).expect("it opens"));
    let within_a_while = |what: &str, ask: Box<dyn FnOnce(&Engine) + Send>| {
        let (done, told) = std::sync::mpsc::channel();
        let engine = engine.clone();
        std::thread::spawn(move || {
            ask(&engine);
            let _ = done.send(());
        });
        told.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("in vain: {what}"));
    };
    let os = Some(Durability::Os);
    let make = |engine: &Engine| {
        engine.create_queue(&queue(), os).expect("makes").wait().expect("written");
        let message = NewMessage { ttl_s: 60, body: b"1" };
        engine.post(&queue(), POSTER, &[message], None).expect("posts").wait().expect("written");
    };
    make(&engine);
    let group = Some(Durability::Group);
    within_a_while(
        "a delete of nothing",
        Box::new(move |engine| {
            engine.delete_many(&queue(), &[], group).expect("deletes").wait().expect("durable");
        }),
    );
    engine.remove_queue(&queue(), None).expect("removes").wait().expect("written");
    within_a_while(
        "an absent queue",
        Box::new(|engine| {
            engine.remove_queue(&queue(), None).expect("removes").wait().expect("durable");
        }),
    );
}

/// Frames that somebody wants durable while others write: nobody waits for ever, on whatever thread.
#[test]
fn a_sync_that_is_asked_for_is_made_while_others_write() {
    let world = World::new();
    let config = Config { upkeep_interval_ms: 60_000, ..world.config() };
    let engine = world.try_open(config).expect("it opens");
    engine.create_queue(&queue(), Some(Durability::Memory)).expect("makes").wait().expect("made");
    let post = |level| {
        let message = NewMessage { ttl_s: 60, body: b"1" };
        let posted = engine.post(&queue(), POSTER, &[message], Some(level)).expect("posts");
        posted.wait().expect("is as durable as asked");
    };
    // Each round ends with nobody left who might make the sync that was forgotten.
    for round in 0..1500 {
        std::thread::scope(|scope| {
            let (engine, post) = (&engine, &post);
            scope.spawn(move || {
                let _attendance = (round % 3 == 0).then(|| engine.attend());
                post(Durability::Group);
            });
            scope.spawn(move || {
                let _attendance = (round % 4 == 0).then(|| engine.attend());
                post(Durability::Memory);
                engine.sync().expect("is durable");
            });
        });
    }
}

/// A thread that attends and never sleeps, since it is asked without end, holds up nobody.
#[test]
fn a_busy_thread_does_not_keep_what_it_appended() {
    let world = World::new();
    let config = Config { upkeep_interval_ms: 60_000, ..world.config() };
    let engine = world.try_open(config).expect("it opens");
    engine.create_queue(&queue(), None).expect("makes").wait().expect("made");
    let _attendance = engine.attend();
    let message = NewMessage { ttl_s: 60, body: b"1" };
    let group = Some(Durability::Group);
    let receipt = engine.post(&queue(), POSTER, &[message], group).expect("posts");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| receipt.wait().expect("is durable"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !waiter.is_finished() {
            if Instant::now() > deadline {
                engine.sync().expect("lets the other thread go");
                panic!("it waits for a thread that never sleeps");
            }
            drop(engine.stats(&queue()).expect("counts"));
        }
    });
}

#[test]
fn what_waits_for_company_waits_for_a_moment() {
    let world = World::new();
    let engine = world.try_open(world.config()).expect("it opens");
    engine.create_queue(&queue(), None).expect("makes").wait().expect("made");
    let _attendance = engine.attend();
    let message = [NewMessage { ttl_s: 60, body: b"1" }];
    let post = || {
        let posted = engine.post(&queue(), POSTER, &message, Some(Durability::Group));
        Box::pin(posted.expect("posts"))
    };
    let mut context = Context::from_waker(Waker::noop());
    let deadline = Instant::now() + Duration::from_secs(20);
    // Groups of all sizes: the next one waits for as many as the last one answered, who may not come.
    for count in [3, 1, 4, 4, 2, 9, 1, 1, 8] {
        let mut receipts: Vec<_> = (0..count).map(|_| post()).collect();
        while !receipts.is_empty() {
            assert!(Instant::now() < deadline, "{} wait for ever", receipts.len());
            // It never sleeps, whatever it is told: nobody else does the work.
            engine.before_rest();
            receipts.retain_mut(|receipt| receipt.as_mut().poll(&mut context).is_pending());
        }
    }
}

/// A disk on which every sync takes as long as on a quick one of its own, and makes nothing durable.
#[derive(Debug)]
struct EvenDisk(OsDisk);

#[derive(Debug)]
struct EvenFile(Arc<dyn File>);

const EVEN_SYNC: Duration = Duration::from_micros(300);

impl Disk for EvenDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.0.create_folder(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.0.list(folder)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(EvenFile(self.0.create(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(EvenFile(self.0.open(path)?)))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.0.open_to_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.0.sync_folder(folder)
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        self.0.free_bytes(folder)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.0.lock(path, holder)
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>> {
        self.0.lock_holder(path)
    }
}

impl File for EvenFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let started = Instant::now();
        while started.elapsed() < EVEN_SYNC {
            std::hint::spin_loop();
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_size(size)
    }

    fn map(&self) -> io::Result<Mapping> {
        self.0.map()
    }
}

/// Writers who come back after each sync get one together, and who wants none does not wait with them. A wait
/// lasts for a moment, which a machine that is busy elsewhere may let pass: then it is tried again.
#[test]
fn a_sync_waits_for_those_who_come_back_each_time() {
    let world = World::new();
    let config = Config { upkeep_interval_ms: 60_000, ..world.config() };
    let disk = Arc::new(EvenDisk(OsDisk));
    let env = Environment { disk, ..world.environment() };
    let engine = Engine::open_in(config, env).expect("it opens");
    engine.create_queue(&queue(), None).expect("makes").wait().expect("made");
    engine.create_queue(&other(), Some(Durability::Os)).expect("makes").wait().expect("made");
    let _attendance = engine.attend();
    let mut context = Context::from_waker(Waker::noop());
    let deadline = Instant::now() + Duration::from_secs(20);
    let (mut together, mut apart) = (0, 0);
    while together < 20 || apart < 5 {
        assert!(Instant::now() < deadline, "{together} times together, {apart} apart");
        // Whoever was answered hears of it first: only who comes after that has come back.
        engine.before_rest();
        // Three are answered, and then there is nothing to do.
        let mut receipts: Vec<_> = (0..3).map(|_| post_one(&engine, &queue())).collect();
        while !receipts.is_empty() {
            engine.before_rest();
            receipts.retain_mut(|receipt| receipt.as_mut().poll(&mut context).is_pending());
        }
        engine.before_rest();
        // They come back one by one.
        receipts.push(post_one(&engine, &queue()));
        if engine.before_rest() != Rest::Look {
            continue;
        }
        if together > 3 * apart {
            let mut receipt = post_one(&engine, &other());
            assert_eq!(engine.before_rest(), Rest::Sleep, "somebody waits for no sync");
            apart += u32::from(receipt.as_mut().poll(&mut context).is_ready());
            continue;
        }
        receipts.push(post_one(&engine, &queue()));
        if engine.before_rest() != Rest::Look {
            continue;
        }
        receipts.push(post_one(&engine, &queue()));
        engine.before_rest();
        receipts.retain_mut(|receipt| receipt.as_mut().poll(&mut context).is_pending());
        together += u32::from(receipts.is_empty());
    }
}

fn other() -> QueueKey {
    QueueKey::new(Some("p"), "telemetry").expect("short")
}

fn post_one(engine: &Engine, queue: &QueueKey) -> Pin<Box<Receipt<Vec<MessageId>>>> {
    let message = NewMessage { ttl_s: 60, body: b"1" };
    Box::pin(engine.post(queue, POSTER, &[message], None).expect("posts"))
}
