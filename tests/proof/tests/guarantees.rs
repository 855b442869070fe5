//! What happens when the disk fails, fills up or lies: each guarantee with the one fault it is about.

use marconi_engine::env::sim::Loss;
use marconi_engine::{
    ClientId, Config, Durability, Engine, Error, ListFilter, MessageId, NewMessage,
};
use marconi_proof::simulated::record::Step;
use marconi_proof::simulated::world::{World, body, key, until};
use std::path::{Path, PathBuf};

fn post(engine: &Engine, number: u64, size: usize) -> Result<(), Error> {
    let body = body(number, size);
    let message = NewMessage { ttl_s: 1_000_000, body: &body };
    engine.post(&key("q"), ClientId(1), &[message], None)?.wait().map(|_| ())
}

fn count(engine: &Engine) -> usize {
    let filter = ListFilter { include_claimed: true, ..ListFilter::default() };
    let page = engine.list(&key("q"), None, usize::MAX, filter).expect("lists");
    let messages = page.wait().expect("is durable").messages;
    messages.iter().for_each(|message| assert!(message.body().is_ok()));
    messages.len()
}

fn with_queue(world: &World) -> Engine {
    let engine = world.open();
    engine.create_queue(&key("q"), None).expect("makes").wait().expect("is durable");
    engine
}

#[test]
fn after_a_failed_sync_nothing_is_written_and_reads_go_on_with_what_lasts() {
    let world = World::new(1);
    let engine = with_queue(&world);
    post(&engine, 1, 100).expect("the disk is well");
    world.disk.fail_sync(1);
    assert!(matches!(post(&engine, 2, 100), Err(Error::ReadOnly(_))));
    // The next sync would succeed: it is not asked for.
    assert!(matches!(post(&engine, 3, 100), Err(Error::ReadOnly(_))));
    let why = engine.health().expect_err("it says so").to_string();
    assert!(why.contains("syncing"), "{why}");
    assert!(engine.metrics().read_only.is_some());
    assert_eq!(count(&engine), 1, "what a power cut takes back is not shown");
    drop(engine);
    world.disk.crash(Loss::All).expect("the real disk is well");
    assert_eq!(count(&world.open()), 1, "what was acknowledged");
}

/// One write or one sync fails while several threads write and sync, each for all: whoever comes next must
/// neither write behind the hole nor make the sync again, which would succeed.
#[test]
fn a_failure_among_many_threads_is_final_and_takes_nothing_that_was_acknowledged() {
    for round in 0..120 {
        let world = World::new(round);
        let engine = with_queue(&world);
        let nth = 1 + round / 2 % 20;
        if round % 2 == 0 {
            world.disk.fail_sync(nth)
        } else {
            world.disk.fail_write(nth)
        }
        let acknowledged = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (engine, acknowledged) = (&engine, &acknowledged);
                scope.spawn(move || {
                    let _attendance = (number % 2 == 0).then(|| engine.attend());
                    let message = NewMessage { ttl_s: 1_000_000, body: &body(number, 300) };
                    loop {
                        let posted = engine.post(&key("q"), ClientId(1), &[message], None);
                        match posted.and_then(|receipt| receipt.wait()) {
                            Ok(ids) => acknowledged.lock().expect("whole").extend(ids),
                            Err(Error::ReadOnly(_)) => break,
                            Err(error) => panic!("round {round}: {error}"),
                        }
                    }
                });
            }
        });
        engine.crash();
        drop(engine);
        world.disk.crash(Loss::All).expect("the real disk is well");
        let acknowledged = acknowledged.into_inner().expect("whole");
        let found = world.open().get(&key("q"), &acknowledged).expect("gets").wait();
        assert_eq!(found.expect("is durable").len(), acknowledged.len(), "round {round}");
    }
}

#[test]
fn a_full_disk_stops_posts_loses_nothing_and_lets_deletes_make_room() {
    let world = World::new(2);
    let engine = with_queue(&world);
    world.disk.set_capacity(Some(world.disk.used_bytes() + (1 << 20)));
    let mut posted = 0;
    let refused = loop {
        match post(&engine, posted + 1, 100_000) {
            Ok(()) => posted += 1,
            Err(error) => break error,
        }
        engine.prepare().unwrap_or_default();
        assert!(posted < 1000, "the disk never fills");
    };
    assert!(matches!(refused, Error::Full), "{refused}");
    assert_eq!(count(&engine) as u64, posted);
    // Claims and deletes go on from what is left.
    let claim = engine.claim(&key("q"), 60, 60, 3, None).expect("claims").wait().expect("durable");
    let claim = claim.expect("some wait");
    for message in &claim.messages {
        let deleted = engine.delete(&key("q"), message.id, Some(Some(claim.id)), None);
        deleted.expect("deletes").wait().expect("is durable");
    }
    drop(claim);
    assert_eq!(count(&engine) as u64, posted - 3);
    engine.crash();
    drop(engine);
    world.disk.set_capacity(None);
    let engine = world.open();
    assert_eq!(count(&engine) as u64, posted - 3);
    post(&engine, 5000, 100).expect("there is room again");
}

#[test]
fn what_dies_after_checkpoints_that_came_to_nothing_stays_dead() {
    let world = World::by_hand(4);
    let engine = with_queue(&world);
    for number in 1..=12 {
        post(&engine, number, 10_000).expect("the disk is well");
        engine.prepare().expect("the disk is well");
    }
    let ids = || -> Vec<MessageId> {
        let page = engine.list(&key("q"), None, usize::MAX, ListFilter::default()).expect("lists");
        page.wait().expect("is durable").messages.iter().map(|message| message.id).collect()
    };
    let delete = |engine: &Engine, ids: &[MessageId]| {
        engine.delete_many(&key("q"), ids, None).expect("deletes").wait().expect("is durable");
    };
    let ids = ids();
    delete(&engine, &ids[1..]);
    engine.checkpoint().expect("the disk is well");
    engine.checkpoint().expect("the disk is well");
    // Begun, and without a file.
    world.disk.set_out_of_names(true);
    for _ in 0..3 {
        engine.checkpoint().expect_err("the disk takes no names");
    }
    world.disk.set_out_of_names(false);
    engine.care().expect("the disk is well");
    assert_eq!(files(&world, "log", ".g1.seg").len(), 1, "what little lives is written anew");
    engine.crash();
    let engine = world.try_open(world.config()).expect("opens");
    delete(&engine, &ids[..1]);
    engine.checkpoint().expect("the disk is well");
    engine.crash();
    let engine = world.try_open(world.config()).expect("opens");
    assert_eq!(count(&engine), 0);
    engine.crash();
}

#[test]
fn posts_leave_the_reserve_however_long_compaction_takes() {
    const RESERVE_SIZE: u64 = 512 << 10;
    let world = World::by_hand(3);
    let config = Config { disk_reserve_bytes: RESERVE_SIZE, ..world.config() };
    let engine = world.try_open(config).expect("opens");
    engine.create_queue(&key("q"), None).expect("is made").wait().expect("is durable");
    let capacity = world.disk.used_bytes() + RESERVE_SIZE + (256 << 10);
    world.disk.set_capacity(Some(capacity));
    // The rounds that end with compaction do not come.
    let refused = (1..1000).find_map(|number| {
        engine.prepare().expect("the reserve has room");
        post(&engine, number, 10_000).err()
    });
    assert!(matches!(refused, Some(Error::Full)), "{refused:?}");
    let free = capacity - world.disk.used_bytes();
    assert!(
        free > RESERVE_SIZE - (80 << 10),
        "a segment and an index at the most are taken: {free}"
    );
    engine.crash();
}

#[test]
fn files_kept_for_reuse_do_not_keep_posting_stopped() {
    const RESERVE_SIZE: u64 = 1 << 20;
    let world = World::by_hand(2);
    let config = Config { disk_reserve_bytes: RESERVE_SIZE, ..world.config() };
    let engine = world.try_open(config).expect("opens");
    engine.create_queue(&key("q"), None).expect("is made").wait().expect("is durable");
    let ids: Vec<MessageId> = (1..=40)
        .flat_map(|number| {
            let bytes = body(number, 10_000);
            let message = NewMessage { ttl_s: 300, body: &bytes };
            let posted = engine.post(&key("q"), ClientId(1), &[message], None);
            engine.prepare().expect("there is room");
            posted.expect("there is room").wait().expect("is durable")
        })
        .collect();
    engine.delete_many(&key("q"), &ids, None).expect("are there").wait().expect("is durable");
    engine.compact().expect("there is room");
    assert_eq!(files(&world, "log", ".tmp").len(), 2, "emptied files are kept");
    // They take what is short of the reserve.
    world.disk.set_capacity(Some(world.disk.used_bytes() + RESERVE_SIZE - 1));
    engine.care().expect("upkeep goes on");
    engine.health().expect("posts are taken");
    assert_eq!(files(&world, "log", ".tmp").len(), 0);
    engine.crash();
}

/// The files of a folder whose name ends so, in order.
fn files(world: &World, folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.folder().join(folder)).expect("a folder");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    files.sort();
    files
}

/// A folder with two checkpoints, an indexed segment and a tail, closed by a crash.
fn lived_in(seed: u64) -> World {
    let world = World::new(seed);
    let engine = with_queue(&world);
    for number in 1..=30 {
        post(&engine, number, 50_000).expect("the disk is well");
        engine.prepare().expect("the disk is well");
    }
    engine.checkpoint().expect("the disk is well");
    engine.checkpoint().expect("the disk is well");
    for number in 31..=33 {
        post(&engine, number, 1000).expect("the disk is well");
    }
    engine.crash();
    world
}

fn refusal(world: &World) -> String {
    let before = snapshot(&world.folder());
    let error = world.try_open(world.config()).map(|_| ()).expect_err("it is refused");
    assert!(
        matches!(error, Error::Damaged { .. } | Error::Folder { .. } | Error::OtherVersion { .. }),
        "{error:?}"
    );
    assert_eq!(snapshot(&world.folder()), before, "a refused start changes nothing");
    error.to_string()
}

/// Every file but the lock, with its bytes.
fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else if !path.ends_with("LOCK") {
            files.push((path.clone(), std::fs::read(&path).expect("a file")));
        }
    }
    files.sort();
    files
}

#[test]
fn damage_before_the_tail_stops_the_start_with_file_and_offset() {
    let world = lived_in(3);
    let segments = files(&world, "log", ".seg");
    // The tail's segment: the first frame of it that lies behind the checkpoint is followed by
    // others, which were written after it was durable.
    let tail = segments.iter().rev().find(|path| {
        let bytes = std::fs::read(path).expect("a file");
        bytes[4096..].iter().any(|byte| *byte != 0)
    });
    let tail = tail.expect("a segment with frames");
    let bytes = std::fs::read(tail).expect("a file");
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("frames");
    world.disk.flip(tail, last as u64 - 2500, 1).expect("the real disk is well");
    let text = refusal(&world);
    let name = tail.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(text.contains(&name) && text.contains("at byte"), "{text}");
}

#[test]
fn a_torn_tail_is_cut_off_and_the_start_says_how_much() {
    let world = lived_in(4);
    let segments = files(&world, "log", ".seg");
    let tail = segments.iter().rev().find(|path| {
        let bytes = std::fs::read(path).expect("a file");
        bytes[4096..].iter().any(|byte| *byte != 0)
    });
    let tail = tail.expect("a segment with frames");
    let bytes = std::fs::read(tail).expect("a file");
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("frames");
    world.disk.flip(tail, last as u64, 1).expect("the real disk is well");
    let engine = world.open();
    assert!(engine.recovery().torn_bytes > 1000, "{:?}", engine.recovery());
    assert_eq!(count(&engine), 32, "all but the torn one");
}

#[test]
fn a_damaged_header_names_its_file() {
    let world = lived_in(5);
    let segment = files(&world, "log", ".seg").remove(0);
    world.disk.flip(&segment, 40, 1).expect("the real disk is well");
    let text = refusal(&world);
    assert!(text.contains("00000000000000000001.seg") && text.contains("checksum"), "{text}");
}

#[test]
fn a_header_that_a_disk_wrote_astray_names_its_file() {
    let segments = files(&lived_in(5), "log", ".seg").len();
    for (from, to) in (0..segments).flat_map(|from| (0..segments).map(move |to| (from, to))) {
        let world = lived_in(5);
        let all = files(&world, "log", ".seg");
        let read = |path| std::fs::read(path).expect("the real disk is well");
        let mut bytes = read(&all[to]);
        bytes[..128].copy_from_slice(&read(&all[from])[..128]);
        std::fs::write(&all[to], bytes).expect("the real disk is well");
        // One without a frame may have any name.
        if from == to || to + 1 == segments {
            continue;
        }
        let (why, name) = (refusal(&world), all[to].file_name().expect("a file").to_string_lossy());
        assert!(why.contains(&*name), "{from} over {to}: {why}");
    }
}

#[test]
fn a_damaged_index_is_made_again() {
    let world = lived_in(6);
    let index = files(&world, "log", ".idx").remove(0);
    world.disk.flip(&index, 20, 1).expect("the real disk is well");
    let engine = world.open();
    assert_eq!(engine.recovery().rebuilt_indexes, 1);
    assert_eq!(count(&engine), 33);
}

#[test]
fn an_index_that_belongs_to_another_segment_is_made_again() {
    let (world, other) = (lived_in(6), lived_in(7));
    let index = |world| files(world, "log", ".idx").remove(0);
    std::fs::copy(index(&other), index(&world)).expect("the real disk is well");
    let engine = world.open();
    assert_eq!(engine.recovery().rebuilt_indexes, 1);
    assert_eq!(count(&engine), 33);
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_older_one_and_two_refuse_the_start() {
    let world = lived_in(7);
    let checkpoints = files(&world, "checkpoint", ".ckp");
    assert_eq!(checkpoints.len(), 2);
    world.disk.flip(&checkpoints[1], 200, 1).expect("the real disk is well");
    let engine = world.open();
    assert!(engine.recovery().fell_back.is_some());
    assert_eq!(count(&engine), 33);
    engine.crash();
    drop(engine);
    for path in files(&world, "checkpoint", ".ckp") {
        world.disk.flip(&path, 210, 1).expect("the real disk is well");
    }
    let text = refusal(&world);
    assert!(text.contains("no checkpoint can be used"), "{text}");
}

#[test]
fn a_damaged_body_is_reported_and_never_served() {
    let world = lived_in(8);
    let segment = files(&world, "log", ".seg").remove(0);
    world.disk.flip(&segment, 4096 + 60_000, 4).expect("the real disk is well");
    // It lies below the checkpoint, in a segment with an index: the start does not read it.
    let engine = world.open();
    let page = engine.list(&key("q"), None, 10, ListFilter::default()).expect("lists");
    let messages = page.wait().expect("is durable").messages;
    let damaged = messages.iter().filter(|one| matches!(one.body(), Err(Error::Damaged { .. })));
    assert_eq!(damaged.count(), 1);
}

#[test]
fn folders_that_are_not_ours_in_use_or_newer_are_refused_untouched() {
    let world = lived_in(9);
    let engine = world.open();
    assert!(refusal_text(&world).contains("another process has it open"));
    engine.crash();
    drop(engine);
    let format = world.folder().join("FORMAT");
    world.disk.flip(&format, 8, 11).expect("the real disk is well");
    assert!(refusal(&world).contains("newer"), "format version 9");
    world.disk.flip(&format, 8, 11).expect("the real disk is well");
    std::fs::remove_file(&format).expect("the real disk is well");
    assert!(refusal(&world).contains("FORMAT"));
    let stranger = World::new(10);
    std::fs::create_dir(stranger.folder()).expect("the real disk is well");
    std::fs::write(stranger.folder().join("thesis.tex"), "x").expect("the real disk is well");
    assert!(refusal(&stranger).contains("thesis.tex"));
}

fn refusal_text(world: &World) -> String {
    world.try_open(world.config()).map(|_| ()).expect_err("it is refused").to_string()
}

#[test]
fn ids_told_before_a_power_cut_are_never_given_to_something_else() {
    let mut world = World::new(11);
    world.durability = marconi_engine::Durability::Os;
    let engine = with_queue(&world);
    engine.sync().expect("the disk is well");
    world.run(&engine, &Step::Create("x".into())).expect("the disk is well");
    let told = |engine: &Engine, number| {
        let body = body(number, 10);
        let message = NewMessage { ttl_s: 1_000_000, body: &body };
        let posted = engine.post(&key("q"), ClientId(1), &[message], None).expect("posts");
        posted.wait().expect("is written")[0]
    };
    let lost = told(&engine, 1);
    let claim = engine.claim(&key("q"), 60, 60, 1, None).expect("claims").wait().expect("ok");
    let lost_claim = claim.expect("one waits").id;
    engine.crash();
    drop(engine);
    world.disk.crash(Loss::All).expect("the real disk is well");
    let engine = world.open();
    assert_eq!(count(&engine), 0, "os promises nothing over a power cut");
    assert_ne!(told(&engine, 2), lost);
    let claim = engine.claim(&key("q"), 60, 60, 1, None).expect("claims").wait().expect("ok");
    assert_ne!(claim.expect("one waits").id, lost_claim);
    until("nothing is left to do", || engine.health().is_ok());
}

#[test]
fn a_clock_set_back_or_far_ahead_over_a_restart_loses_nothing() {
    let world = lived_in(12);
    for by_ms in [-86_400_000_i64, 500_000_000, -400_000_000] {
        world.clock.set_ms(world.clock_ms().saturating_add_signed(by_ms));
        let engine = world.open();
        assert_eq!(count(&engine), 33);
        let stats = engine.stats(&key("q")).expect("counts").wait().expect("is durable");
        assert_eq!(stats.free + stats.claimed, 33);
        engine.crash();
    }
}

/// Where nobody has to wait, messages are claimed that nobody has written yet: they are written before they are read.
#[test]
fn what_was_just_posted_can_be_claimed_and_read_in_every_mode() {
    for durability in Durability::ALL {
        let mut world = World::by_hand(13);
        world.durability = durability;
        let engine = with_queue(&world);
        post(&engine, 1, 100).expect("the disk is well");
        let claim = engine.claim(&key("q"), 60, 60, 1, None).expect("claims").wait().expect("ok");
        let found = claim.expect("one waits").messages[0].body().expect("it can be read");
        assert_eq!(found, body(1, 100), "{durability:?}");
    }
}
