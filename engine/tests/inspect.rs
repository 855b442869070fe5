//! Folders as tools look at them: what a view shows is what the engine has, beside it and after it; a
//! folder that is built holds what it was told; a walk and a follower come by every frame.

use marconi_engine::env::{Environment, ManualClock};
use marconi_engine::inspect::{
    self, BuildOptions, FolderBuilder, Follow, FrameOptions, MessageImage, Step, View, ViewContent,
    ViewMessage,
};
use marconi_engine::log::record::Record;
use marconi_engine::{
    ClientId, Config, Durability, Engine, Lsn, NewMessage, QueueKey, Seq, Severity,
};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const NOW_MS: u64 = 1_700_000_000_000;

fn env(now_ms: u64) -> Environment {
    Environment { clock: Arc::new(ManualClock::new(now_ms)), ..Environment::system() }
}

fn config(folder: &Path) -> Config {
    Config {
        segment_size_bytes: 1 << 20,
        checkpoint_interval_bytes: 1 << 20,
        disk_reserve_bytes: 0,
        upkeep_interval_ms: 5,
        ..Config::new(folder)
    }
}

fn key(name: &str) -> QueueKey {
    QueueKey::new(Some("p"), name).expect("short")
}

fn post(engine: &Engine, queue: &QueueKey, client: u128, ttl_s: u32, bodies: &[Vec<u8>]) {
    let batch: Vec<NewMessage<'_>> = bodies.iter().map(|body| NewMessage { ttl_s, body }).collect();
    engine.post(queue, ClientId(client), &batch, None).expect("posts").wait().expect("lasts");
}

/// All of a folder's state as text, a line for each thing: equal texts are equal states.
fn state(folder: &Path, now_ms: u64) -> Vec<String> {
    let view = View::open_in(folder, env(now_ms)).expect("it opens");
    let mut lines = Vec::new();
    for queue in view.queues().expect("reads") {
        lines.push(format!("{queue:?}"));
        lines.push(format!("{:?}", view.image(&queue.key).expect("reads")));
        let visit = &mut |message: ViewMessage| {
            let ViewContent { created_ms, posted_ttl_s, ttl_s, client, body, .. } =
                message.read().expect("reads");
            let ViewMessage { id, expires_ms, claim, .. } = message;
            lines.push(format!(
                "{id} {created_ms} {posted_ttl_s} {ttl_s} {expires_ms} {claim:?} {client:?} {body:?}"
            ));
            ControlFlow::Continue(())
        };
        view.messages(&queue.key, Seq(0), visit).expect("reads");
    }
    lines.extend(view.claims(None).expect("reads").iter().map(|claim| format!("{claim:?}")));
    lines
}

/// Two queues with claims that live, ran out and extended lives, metadata, deletes, bodies of any bytes.
fn fill(engine: &Engine, clock: &ManualClock) {
    let (jobs, mail) = (key("jobs"), key("mail"));
    for queue in [&jobs, &mail] {
        engine.create_queue(queue, Some(Durability::Os)).expect("makes").wait().expect("lasts");
    }
    engine.set_metadata(&jobs, b"{\"owner\":\"ops\"}", None).expect("sets").wait().expect("lasts");
    for round in 0..60u8 {
        let bodies: Vec<Vec<u8>> =
            (0..20).map(|one| vec![round ^ one; 700 + usize::from(one)]).collect();
        post(engine, &jobs, u128::from(round % 3), 900 + u32::from(round), &bodies);
        post(engine, &mail, 9, 400, &bodies[..2]);
        clock.advance_ms(7);
    }
    let claim = |ttl_s: u32, limit: usize| {
        let claimed = engine.claim(&jobs, ttl_s, 2000, limit, None).expect("claims").wait();
        claimed.expect("lasts").expect("messages wait")
    };
    claim(60, 30);
    let kept = claim(5000, 50);
    engine
        .delete(&jobs, kept.messages[3].id, Some(Some(kept.id)), None)
        .expect("deletes")
        .wait()
        .expect("lasts");
    // The first claim runs out; some of what it held is claimed again.
    clock.advance_ms(70_000);
    claim(4000, 5);
    engine.checkpoint().expect("writes");
}

#[test]
fn a_folder_built_from_a_view_is_the_same_state_and_goes_on() {
    let place = tempfile::tempdir().expect("a folder");
    let (old, new) = (place.path().join("old"), place.path().join("new"));
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let world = Environment { clock: clock.clone(), ..Environment::system() };
    let engine = Engine::open_in(config(&old), world).expect("opens");
    fill(&engine, &clock);
    engine.crash();

    let now_ms = NOW_MS + 100_000;
    let view = View::open_in(&old, env(now_ms)).expect("opens");
    // Far on: LSNs of which a frame's head holds the lower half take more than that.
    let end = Lsn(view.end().0 + (5 << 32));
    let options = BuildOptions { end, segment_size_bytes: 1 << 20 };
    let mut builder = FolderBuilder::create_in(&new, options, &env(now_ms)).expect("begins");
    assert!(View::open_in(&new, env(now_ms)).is_err(), "not a data folder yet");
    for queue in view.queues().expect("reads") {
        builder.queue(view.image(&queue.key).expect("reads").expect("it is there")).expect("takes");
        let visit = &mut |message: ViewMessage| {
            let content = message.read().expect("reads");
            let image = MessageImage {
                seq: message.id.seq,
                created_ms: content.created_ms,
                ttl_s: content.posted_ttl_s,
                client: content.client,
                body: &content.body,
            };
            builder.message(image).expect("takes");
            ControlFlow::Continue(())
        };
        view.messages(&queue.key, Seq(0), visit).expect("reads");
    }
    let built = builder.finish().expect("ends");
    assert_eq!(built.queues, 2);
    let before = state(&old, now_ms);
    assert!(before.len() > 1200, "{}", before.len());
    assert_eq!(state(&new, now_ms), before);
    let sound = inspect::verify_in(&new, &env(now_ms), &mut ()).expect("checks");
    assert_eq!(sound.worst(), None, "{:#?}", sound.findings);
    assert!(FolderBuilder::create_in(&new, options, &env(now_ms)).is_err(), "it is full");

    // An engine takes it up: the claims go on, new numbers lie above, compaction finds its way.
    let engine = Engine::open_in(config(&new), env(now_ms)).expect("opens");
    assert!(engine.recovery().was_clean);
    post(&engine, &key("jobs"), 1, 100, &[b"more".to_vec()]);
    engine.compact().expect("compacts");
    engine.close().expect("closes");
    let after = state(&new, now_ms);
    assert_eq!(after.len(), before.len() + 1, "one message more");
}

#[test]
fn looks_beside_a_running_engine_see_a_sound_folder_and_every_frame() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("data");
    let engine = Arc::new(Engine::open(config(&folder)).expect("opens"));
    let jobs = key("jobs");
    engine.create_queue(&jobs, Some(Durability::Os)).expect("makes").wait().expect("lasts");
    let mut follow = Follow::new(&folder, Lsn(0)).expect("follows");
    let mut view_end = View::open(&folder).expect("opens").end();
    follow = {
        drop(follow);
        Follow::new(&folder, view_end).expect("follows")
    };

    // It posts, deletes and gives space back, as fast as it can.
    let (stop, posted) = (Arc::new(AtomicBool::new(false)), 8000usize);
    let worker = {
        let (engine, stop, jobs) = (engine.clone(), stop.clone(), jobs.clone());
        std::thread::spawn(move || {
            for number in 0..posted {
                post(&engine, &jobs, 1, 3600, &[number.to_string().into_bytes(), vec![7; 5000]]);
                if number % 3 == 0 {
                    let claim = engine.claim(&jobs, 60, 60, 20, None).expect("claims").wait();
                    let ids: Vec<_> = claim.expect("lasts").map_or_else(Vec::new, |claim| {
                        claim.messages.iter().map(|one| one.id).collect()
                    });
                    engine.delete_many(&jobs, &ids, None).expect("deletes").wait().expect("lasts");
                }
            }
            stop.store(true, Ordering::SeqCst);
        })
    };
    let mut seen = Vec::new();
    let mut looks = 0;
    while !stop.load(Ordering::SeqCst) || looks < 3 {
        looks += 1;
        let view = View::open(&folder).expect("opens beside it");
        assert!(view.end() >= view_end);
        view_end = view.end();
        assert!(view.summary().expect("counts").holder.is_some());
        let found = inspect::verify(&folder, &mut ()).expect("checks beside it");
        assert!(found.worst() < Some(Severity::Warning), "{:#?}", found.findings);
        follow.poll(&mut |frame| collect(&frame.record, &mut seen)).expect("follows");
        let mut frames = 0u64;
        let walked = inspect::frames(&folder, FrameOptions::default(), &mut |step| {
            frames += u64::from(matches!(step, Step::Frame(_)));
            assert!(!matches!(step, Step::Bad { .. }), "{step:?}");
            ControlFlow::Continue(())
        });
        walked.expect("walks");
        assert!(frames > 0);
    }
    worker.join().expect("no panic");
    follow.poll(&mut |frame| collect(&frame.record, &mut seen)).expect("follows");
    // What was deleted before the follower came by may be gone for good; all else it saw, in order.
    assert!(seen.is_sorted_by(|one, next| one < next), "each post once, in order");
    let view = View::open(&folder).expect("opens");
    let visit = &mut |message: ViewMessage| {
        let content = message.read().expect("reads");
        if let Some(number) = number(&content.body) {
            assert!(seen.binary_search(&number).is_ok(), "{number} lives and was not seen");
        }
        ControlFlow::Continue(())
    };
    view.messages(&jobs, Seq(0), visit).expect("reads");
}

fn number(body: &[u8]) -> Option<usize> {
    std::str::from_utf8(body).ok()?.parse().ok()
}

/// The first message of each post.
fn collect(record: &Record<'_>, seen: &mut Vec<usize>) -> ControlFlow<()> {
    if let Record::Posted { messages, .. } = record {
        let first = messages.clone().next().expect("two").expect("whole");
        seen.push(number(first.body).expect("a number"));
    }
    ControlFlow::Continue(())
}

#[test]
fn a_state_that_contradicts_itself_is_refused_by_name() {
    let place = tempfile::tempdir().expect("a folder");
    let options = BuildOptions { end: Lsn(10_000), segment_size_bytes: 1 << 20 };
    let mut builder =
        FolderBuilder::create_in(&place.path().join("new"), options, &env(NOW_MS)).expect("begins");
    let message = |seq: u64| MessageImage {
        seq: Seq(seq),
        created_ms: 1,
        ttl_s: 60,
        client: ClientId(1),
        body: b"x",
    };
    let refused = |told: marconi_engine::Result<()>| told.expect_err("refused").to_string();
    assert_eq!(refused(builder.message(message(1))), "the message comes before any queue");
    let image = inspect::QueueImage {
        key: key("jobs"),
        id: marconi_engine::QueueId(20_000),
        metadata: Default::default(),
        floor: None,
        next_seq: Seq(5),
        cursor: Seq(1),
        claims: Vec::new(),
        returned: Vec::new(),
        lives: Vec::new(),
    };
    assert!(refused(builder.queue(image.clone())).contains("lies behind the end of the log"));
    builder
        .queue(inspect::QueueImage { id: marconi_engine::QueueId(5000), ..image })
        .expect("takes");
    builder.message(message(2)).expect("takes");
    assert!(refused(builder.message(message(2))).starts_with("the seq "));
    assert!(refused(builder.message(message(5))).starts_with("the seq "));
}
