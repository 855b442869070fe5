//! The damage table: a folder is harmed in each way there is; `verify` names it, `plan_repair` says what
//! is lost, `apply_repair` makes it open again, and nothing is lost that the plan did not say.

use marconi_engine::env::{Environment, ManualClock};
use marconi_engine::inspect::{self, RepairPlan, View};
use marconi_engine::{
    ClientId, Config, Engine, FaultKind, LostKind, MessageId, NewMessage, QueueKey, Seq, Severity,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NOW_MS: u64 = 1_700_000_000_000;

fn env() -> Environment {
    Environment { clock: Arc::new(ManualClock::new(NOW_MS)), ..Environment::system() }
}

fn config(folder: &Path) -> Config {
    Config {
        segment_size_bytes: 1 << 20,
        checkpoint_interval_bytes: 1 << 30,
        disk_reserve_bytes: 0,
        upkeep_interval_ms: 60_000,
        ..Config::new(folder)
    }
}

fn key(number: u64) -> QueueKey {
    QueueKey::new(Some("p"), &format!("q{number}")).expect("short")
}

/// Body of a message: what it is can be told from it.
fn body(queue: u64, number: u64) -> Vec<u8> {
    let mut body = format!("{queue}/{number}/").into_bytes();
    body.resize(2000, b'x');
    body
}

/// A folder with rewritten segments below its checkpoints, sealed ones above, claims, deletes; stopped
/// in good order or not.
fn make(folder: &Path, clean: bool) {
    let engine = Engine::open_in(config(folder), env()).expect("opens");
    for queue in 0..3 {
        engine.create_queue(&key(queue), None).expect("makes").wait().expect("lasts");
        engine
            .set_metadata(&key(queue), b"{\"kept\":true}", None)
            .expect("sets")
            .wait()
            .expect("lasts");
    }
    let mut ids: BTreeMap<u64, Vec<MessageId>> = BTreeMap::new();
    let mut post = |engine: &Engine, rounds: std::ops::Range<u64>| {
        for round in rounds {
            for queue in 0..3 {
                let bodies: Vec<Vec<u8>> =
                    (0..10).map(|one| body(queue, round * 10 + one)).collect();
                let batch: Vec<NewMessage<'_>> =
                    bodies.iter().map(|body| NewMessage { ttl_s: 1_000_000, body }).collect();
                let posted = engine.post(&key(queue), ClientId(queue.into()), &batch, None);
                ids.entry(queue).or_default().extend(posted.expect("posts").wait().expect("lasts"));
            }
        }
        ids.clone()
    };
    // Some segments, of which most die, so that they are rewritten.
    let posted = post(&engine, 0..40);
    for (queue, ids) in &posted {
        let doomed: Vec<MessageId> =
            ids.iter().enumerate().filter(|(at, _)| at % 4 != 0).map(|(_, id)| *id).collect();
        engine.delete_many(&key(*queue), &doomed, None).expect("deletes").wait().expect("lasts");
    }
    engine.prepare().expect("indexes");
    engine.compact().expect("rewrites");
    // Some that are sealed and stay as they are; some of their messages die.
    let posted = post(&engine, 40..80);
    engine.prepare().expect("indexes");
    for (queue, ids) in &posted {
        let doomed: Vec<MessageId> = ids[400..].iter().step_by(7).copied().collect();
        engine.delete_many(&key(*queue), &doomed, None).expect("deletes").wait().expect("lasts");
    }
    engine.checkpoint().expect("writes");
    engine.checkpoint().expect("writes");
    // And what a start has to replay.
    let posted = post(&engine, 80..120);
    engine.prepare().expect("indexes");
    engine.claim(&key(0), 5000, 100, 20, None).expect("claims").wait().expect("lasts");
    engine
        .delete_many(&key(1), &posted[&1][820..830], None)
        .expect("deletes")
        .wait()
        .expect("lasts");
    if clean {
        engine.close().expect("closes");
    } else {
        engine.sync().expect("syncs");
        engine.crash();
    }
}

/// Queue and number of every living message, by what its body says.
fn living(folder: &Path) -> BTreeSet<(String, u64)> {
    let view = View::open_in(folder, env()).unwrap_or_else(|error| panic!("it opens: {error}"));
    let mut found = BTreeSet::new();
    for queue in view.queues().expect("reads") {
        let visit = &mut |message: inspect::ViewMessage| {
            let body = message.read().expect("it can be read").body;
            let text = String::from_utf8(body.to_vec()).expect("text");
            let mut parts = text.split('/');
            let queue = format!("q{}", parts.next().expect("a queue"));
            let number = parts.next().and_then(|number| number.parse().ok()).expect("a number");
            assert!(found.insert((queue, number)), "twice: {text:.10}");
            ControlFlow::Continue(())
        };
        view.messages(&queue.key, Seq(0), visit).expect("reads");
    }
    found
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    found.sort();
    found
}

fn flip(path: &Path, offset: u64) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[offset as usize] ^= 0x10;
    fs::write(path, bytes).expect("written");
}

/// The place of the `n`-th frame of a segment, and the size of its payload.
fn frame(path: &Path, n: usize) -> (u64, usize) {
    let bytes = fs::read(path).expect("a file");
    let mut at = 4096;
    for _ in 0..n {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four")) as usize;
        assert!(length > 0, "the segment has so many frames");
        at += length.next_multiple_of(8);
    }
    (at as u64, u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four")) as usize - 40)
}

struct Harmed {
    log: PathBuf,
    checkpoints: PathBuf,
    folder: PathBuf,
}

impl Harmed {
    /// The rewritten segments, and those as they were appended.
    fn segments(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        files(&self.log, ".seg").into_iter().partition(|path| path.to_string_lossy().contains(".g"))
    }

    fn rewritten(&self) -> PathBuf {
        self.segments().0[0].clone()
    }

    /// A sealed segment that lies below the checkpoints.
    fn sealed(&self) -> PathBuf {
        self.segments().1[0].clone()
    }

    /// A full segment that a start replays.
    fn replayed(&self) -> PathBuf {
        let all = self.segments().1;
        all[all.len() - 3].clone()
    }

    fn newest(&self) -> PathBuf {
        files(&self.checkpoints, ".ckp").pop().expect("a checkpoint")
    }
}

/// Harms a folder, and asks for everything the table promises.
fn check(name: &str, expected: &[FaultKind], harm: impl Fn(&Harmed)) -> RepairPlan {
    check_of(name, false, expected, harm)
}

fn check_of(name: &str, clean: bool, expected: &[FaultKind], harm: impl Fn(&Harmed)) -> RepairPlan {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("data");
    make(&folder, clean);
    let sound = inspect::verify_in(&folder, &env(), &mut ()).expect("checks");
    assert!(sound.worst() < Some(Severity::Warning), "{name}: sound, but {:#?}", sound.findings);
    assert!(sound.compared, "{name}: both checkpoints were to be compared");
    let before = living(&folder);
    let data = |part: &str| folder.join(part);
    harm(&Harmed { log: data("log"), checkpoints: data("checkpoint"), folder: folder.clone() });

    let harmed = inspect::verify_in(&folder, &env(), &mut ()).expect("checks");
    let kinds: BTreeSet<FaultKind> = harmed.findings.iter().map(|finding| finding.kind).collect();
    for kind in expected {
        assert!(
            kinds.contains(kind),
            "{name}: {} is not among {:#?}",
            kind.name(),
            harmed.findings
        );
    }
    let all: BTreeSet<PathBuf> = every_file(&folder);
    let plan = inspect::plan_repair_in(&folder, &env(), &mut ()).expect("plans");
    assert_eq!(every_file(&folder), all, "{name}: a plan changes nothing");
    let done = inspect::apply_repair_in(&folder, &env(), &mut ())
        .unwrap_or_else(|error| panic!("{name}: {error}\n{plan:#?}"));
    assert_eq!(done.plan.findings, plan.findings, "{name}: the same reading");

    // It starts, and is sound.
    let engine = Engine::open_in(config(&folder), env())
        .unwrap_or_else(|error| panic!("{name}: it does not start: {error}\n{plan:#?}"));
    let posted = engine.queues(Some("p"), None, 10).expect("lists");
    for queue in posted {
        let message = NewMessage { ttl_s: 100, body: b"new/7/" };
        let ids = engine.post(&queue.key, ClientId(9), &[message], None).expect("posts").wait();
        engine
            .delete_many(&queue.key, &ids.expect("lasts"), None)
            .expect("deletes")
            .wait()
            .expect("lasts");
    }
    engine.close().expect("closes");
    let mended = inspect::verify_in(&folder, &env(), &mut ()).expect("checks");
    assert!(mended.worst() < Some(Severity::Warning), "{name}: mended, but {:#?}", mended.findings);

    // No claim holds what is lost.
    let view = View::open_in(&folder, env()).expect("opens");
    let claimed: u64 = view.queues().expect("reads").iter().map(|queue| queue.claimed).sum();
    let mut held = 0;
    for queue in view.queues().expect("reads") {
        let visit = &mut |message: inspect::ViewMessage| {
            held += u64::from(message.claim.is_some());
            ControlFlow::Continue(())
        };
        view.messages(&queue.key, Seq(0), visit).expect("reads");
    }
    assert_eq!(claimed, held, "{name}");

    // No more is lost than the plan said.
    let after = living(&folder);
    let lost: Vec<&(String, u64)> = before.difference(&after).collect();
    let said = said(&plan);
    for (queue, number) in &lost {
        let seq = number + 1;
        let is_said = said.anything
            || said
                .messages
                .iter()
                .any(|(lost, from, count)| lost == queue && (*from..from + count).contains(&seq));
        assert!(is_said, "{name}: {queue}/{number} is lost, and the plan did not say\n{plan:#?}");
    }
    if said.messages.is_empty() && !said.anything {
        assert_eq!(lost.len(), 0, "{name}");
    }
    // What was taken away lies in the dated folder.
    for path in all {
        let name_of = path.file_name().expect("a name").to_string_lossy().into_owned();
        let is_kept = path.exists()
            || done.set_aside.as_ref().is_some_and(|aside| aside.join(&name_of).exists())
            // Of no meaning by their names, or the engine's own to remove once it runs.
            || name_of.ends_with(".tmp")
            || done.set_aside.is_none()
            || !plan.steps.iter().any(|step| step.file == path);
        assert!(is_kept, "{name}: {} was deleted", path.display());
    }
    plan
}

fn every_file(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(every_file(&path))
        } else {
            found.insert(path);
        }
    }
    found
}

/// What a plan says is lost.
struct Said {
    /// Queue, first number, count.
    messages: Vec<(String, u64, u64)>,
    /// Some bytes of which nobody knows what they said, or messages nobody can count.
    anything: bool,
}

fn said(plan: &RepairPlan) -> Said {
    let mut said = Said { messages: Vec::new(), anything: false };
    for lost in plan.findings.iter().flat_map(|finding| &finding.lost) {
        match (lost.what, &lost.key, lost.first) {
            (LostKind::Messages, Some(key), Some(first)) if lost.count > 0 => {
                said.messages.push((key.name().to_owned(), first.0, lost.count));
            }
            (LostKind::Record, ..) => {}
            _ => said.anything = true,
        }
    }
    said
}

#[test]
fn a_flipped_byte_in_a_frame_that_a_start_replays() {
    let plan = check("body", &[FaultKind::FrameDamaged], |harmed| {
        let (at, size) = frame(&harmed.replayed(), 5);
        flip(&harmed.replayed(), at + 40 + size as u64 / 2);
    });
    let said = said(&plan);
    assert!(!said.anything, "its head tells what it held: {plan:#?}");
    assert_eq!(said.messages.iter().map(|(.., count)| count).sum::<u64>(), 10);
    check("head", &[FaultKind::FrameDamaged], |harmed| {
        let (at, _) = frame(&harmed.replayed(), 5);
        flip(&harmed.replayed(), at + 16);
    });
    check("length", &[FaultKind::FrameDamaged], |harmed| {
        let (at, _) = frame(&harmed.replayed(), 5);
        flip(&harmed.replayed(), at + 6);
    });
}

#[test]
fn a_flipped_byte_in_a_frame_below_the_checkpoints() {
    let plan = check("sealed", &[FaultKind::FrameDamaged], |harmed| {
        let (at, size) = frame(&harmed.sealed(), 3);
        flip(&harmed.sealed(), at + 40 + size as u64 / 2);
    });
    let said_sealed = said(&plan);
    assert!(!said_sealed.anything && !said_sealed.messages.is_empty(), "{plan:#?}");
    let plan = check("rewritten", &[FaultKind::FrameDamaged], |harmed| {
        let (at, size) = frame(&harmed.rewritten(), 3);
        flip(&harmed.rewritten(), at + 40 + size as u64 / 2);
    });
    let said_rewritten = said(&plan);
    assert!(!said_rewritten.anything && !said_rewritten.messages.is_empty(), "{plan:#?}");
}

#[test]
fn a_flipped_byte_in_a_header_of_a_segment() {
    for (name, place) in [("magic", 3), ("version", 8), ("crc", 13), ("base", 58)] {
        check(name, &[FaultKind::SegmentHeaderDamaged], |harmed| flip(&harmed.sealed(), place));
    }
    check("of a replayed one", &[FaultKind::SegmentHeaderDamaged], |harmed| {
        flip(&harmed.replayed(), 58);
    });
    check("of a rewritten one", &[FaultKind::SegmentHeaderDamaged], |harmed| {
        flip(&harmed.rewritten(), 58);
    });
}

#[test]
fn a_harmed_index() {
    check("header", &[FaultKind::IndexDamaged], |harmed| {
        flip(&harmed.sealed().with_extension("idx"), 20);
    });
    check("entry", &[FaultKind::IndexDamaged], |harmed| {
        let index = harmed.sealed().with_extension("idx");
        let size = fs::metadata(&index).expect("a file").len();
        flip(&index, size / 2);
    });
    let two = |harmed: &Harmed| [0, 1].map(|n| harmed.segments().1[n].with_extension("idx"));
    check("another's", &[FaultKind::IndexDamaged], |harmed| {
        let [one, next] = two(harmed);
        fs::copy(next, one).expect("copied");
    });
    check("another's, under its own name", &[FaultKind::IndexDiffers], |harmed| {
        let [one, mut bytes] = two(harmed).map(|path| fs::read(path).expect("a file"));
        bytes[40..72].copy_from_slice(&one[40..72]);
        let crc = crc32fast::hash(&bytes[16..128]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        fs::write(&two(harmed)[0], bytes).expect("written");
    });
    check("gone", &[FaultKind::IndexMissing], |harmed| {
        fs::remove_file(harmed.sealed().with_extension("idx")).expect("removed");
    });
    check(
        "gone with a frame of the segment",
        &[FaultKind::IndexMissing, FaultKind::FrameDamaged],
        |harmed| {
            fs::remove_file(harmed.sealed().with_extension("idx")).expect("removed");
            let (at, size) = frame(&harmed.sealed(), 3);
            flip(&harmed.sealed(), at + 40 + size as u64 / 2);
        },
    );
}

#[test]
fn a_harmed_checkpoint() {
    check("newest", &[FaultKind::CheckpointDamaged], |harmed| {
        let size = fs::metadata(harmed.newest()).expect("a file").len();
        flip(&harmed.newest(), size / 2);
    });
    check("newest, header", &[FaultKind::CheckpointDamaged], |harmed| flip(&harmed.newest(), 40));
    check("newest, truncated", &[FaultKind::CheckpointDamaged], |harmed| {
        let bytes = fs::read(harmed.newest()).expect("a file");
        fs::write(harmed.newest(), &bytes[..bytes.len() - 16]).expect("written");
    });
    check("both, headers", &[FaultKind::CheckpointDamaged, FaultKind::NoCheckpoint], |harmed| {
        files(&harmed.checkpoints, ".ckp").iter().for_each(|path| flip(path, 40));
    });
    check("both, gone", &[FaultKind::NoCheckpoint], |harmed| {
        for path in files(&harmed.checkpoints, ".ckp") {
            fs::remove_file(path).expect("removed");
        }
    });
}

#[test]
fn a_truncated_segment() {
    for (name, of_all) in [("half", 2), ("header only", 1 << 20)] {
        check(name, &[FaultKind::SegmentTruncated], |harmed| {
            let bytes = fs::read(harmed.replayed()).expect("a file");
            let size = (bytes.len() / of_all).max(4096);
            fs::write(harmed.replayed(), &bytes[..size]).expect("written");
        });
    }
    check("below the checkpoints", &[FaultKind::SegmentTruncated], |harmed| {
        let bytes = fs::read(harmed.sealed()).expect("a file");
        fs::write(harmed.sealed(), &bytes[..bytes.len() / 2]).expect("written");
    });
    check("a rewritten one", &[FaultKind::FrameDamaged], |harmed| {
        let bytes = fs::read(harmed.rewritten()).expect("a file");
        fs::write(harmed.rewritten(), &bytes[..bytes.len() / 2]).expect("written");
    });
    check("to nothing", &[FaultKind::SegmentUnreadable], |harmed| {
        fs::write(harmed.replayed(), b"").expect("written");
    });
    check("the last one", &[FaultKind::SegmentTruncated], |harmed| {
        let last = last_with_frames(harmed);
        let bytes = fs::read(&last).expect("a file");
        fs::write(&last, &bytes[..bytes.len() / 2]).expect("written");
    });
}

/// The segment in which the log ends.
fn last_with_frames(harmed: &Harmed) -> PathBuf {
    let mut all = harmed.segments().1;
    loop {
        let last = all.pop().expect("one has frames");
        let bytes = fs::read(&last).expect("a file");
        if bytes[4100..4104] != [0; 4] {
            return last;
        }
    }
}

#[test]
fn a_missing_segment() {
    check("that a start replays", &[FaultKind::SegmentMissing], |harmed| {
        fs::remove_file(harmed.replayed()).expect("removed");
    });
    check("below the checkpoints", &[FaultKind::SegmentGone], |harmed| {
        fs::remove_file(harmed.sealed()).expect("removed");
    });
    check("rewritten", &[FaultKind::SegmentGone], |harmed| {
        fs::remove_file(harmed.rewritten()).expect("removed");
    });
}

#[test]
fn swapped_and_duplicated_segments() {
    check("swapped", &[FaultKind::SegmentMisnamed], |harmed| {
        let all = harmed.segments().1;
        let between = all[0].with_extension("between");
        fs::rename(&all[0], &between).expect("renamed");
        fs::rename(&all[1], &all[0]).expect("renamed");
        fs::rename(between, &all[1]).expect("renamed");
    });
    check("copied under a free name", &[FaultKind::SegmentDuplicate], |harmed| {
        let copy = harmed.log.join(format!("{:020}.seg", 999));
        fs::copy(harmed.sealed(), copy).expect("copied");
    });
    check(
        "copied over another",
        &[FaultKind::SegmentDuplicate, FaultKind::SegmentGone],
        |harmed| {
            let all = harmed.segments().1;
            fs::copy(&all[1], &all[0]).expect("copied");
        },
    );
}

#[test]
fn zeroed_segments_and_pages() {
    let zero = |path: &Path| {
        let size = fs::metadata(path).expect("a file").len() as usize;
        fs::write(path, vec![0; size]).expect("written");
    };
    check("below the checkpoints", &[FaultKind::SegmentUnreadable], |harmed| {
        zero(&harmed.sealed())
    });
    check("that a start replays", &[FaultKind::SegmentUnreadable], |harmed| {
        zero(&harmed.replayed())
    });
    check("the last one", &[FaultKind::SegmentUnreadable], |harmed| {
        zero(&last_with_frames(harmed))
    });
    check("a page", &[FaultKind::FrameDamaged], |harmed| {
        let mut bytes = fs::read(harmed.replayed()).expect("a file");
        bytes[200 * 1024..204 * 1024].fill(0);
        fs::write(harmed.replayed(), bytes).expect("written");
    });
}

#[test]
fn what_a_reused_file_held_before() {
    // A lost write: in the middle of a segment lies what another segment's place held.
    check("in the middle", &[FaultKind::FrameDamaged], |harmed| {
        let all = harmed.segments().1;
        let old = fs::read(&all[0]).expect("a file");
        let mut bytes = fs::read(harmed.replayed()).expect("a file");
        let range = 64 * 1024..96 * 1024;
        bytes[range.clone()].copy_from_slice(&old[range]);
        fs::write(harmed.replayed(), bytes).expect("written");
    });
    // Behind the end of the log it is as it should be.
    check("behind the end", &[FaultKind::StaleTail], |harmed| {
        let last = last_with_frames(harmed);
        let old = fs::read(harmed.sealed()).expect("a file");
        let mut bytes = fs::read(&last).expect("a file");
        let end = end_of_frames(&bytes);
        let start = 4096 + (end - 4096) / 8 * 8;
        let size = old.len() - start;
        bytes[start..].copy_from_slice(&old[4096..4096 + size.min(old.len() - 4096)]);
        fs::write(last, bytes).expect("written");
    });
}

fn end_of_frames(bytes: &[u8]) -> usize {
    let mut at = 4096;
    loop {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four")) as usize;
        if length == 0 {
            return at;
        }
        at += length.next_multiple_of(8);
    }
}

#[test]
fn wrong_versions_and_strangers() {
    check("version of FORMAT", &[FaultKind::FormatDamaged], |harmed| {
        flip(&harmed.folder.join("FORMAT"), 8)
    });
    check("FORMAT", &[FaultKind::FormatDamaged], |harmed| flip(&harmed.folder.join("FORMAT"), 20));
    check("FORMAT gone", &[FaultKind::FormatDamaged], |harmed| {
        fs::remove_file(harmed.folder.join("FORMAT")).expect("removed");
    });
    check("version of a segment", &[FaultKind::SegmentHeaderDamaged], |harmed| {
        flip(&harmed.sealed(), 9)
    });
    check("a file of nobody's", &[FaultKind::ForeignFile], |harmed| {
        fs::write(harmed.log.join("notes.txt"), "do not forget").expect("written");
    });
    check("another folder's segment", &[FaultKind::ForeignSegment], |harmed| {
        let place = tempfile::tempdir().expect("a folder");
        make(&place.path().join("data"), true);
        let other = files(&place.path().join("data/log"), ".seg").pop().expect("a segment");
        fs::copy(other, harmed.log.join(format!("{:020}.seg", 999))).expect("copied");
    });
    check("a text that is called a segment", &[FaultKind::ForeignSegment], |harmed| {
        fs::write(harmed.log.join("old.seg"), "x".repeat(10_000)).expect("written");
    });
}

#[test]
fn a_clean_folder_is_left_alone_and_a_torn_tail_to_the_start() {
    let plan = check_of("clean", true, &[], |_| {});
    assert_eq!((plan.steps.len(), plan.findings.len()), (0, 0), "{plan:#?}");
    let plan = check("torn", &[FaultKind::TornTail], |harmed| {
        let last = last_with_frames(harmed);
        let mut bytes = fs::read(&last).expect("a file");
        let end = end_of_frames(&bytes);
        // The head of a frame, and no more of it.
        bytes.copy_within(4096..4096 + 40, end);
        let base = u64::from_le_bytes(bytes[56..64].try_into().expect("eight"));
        let lsn = (base + end as u64 - 4096).to_le_bytes();
        bytes[end + 8..end + 12].copy_from_slice(&lsn[..4]);
        fs::write(last, bytes).expect("written");
    });
    assert_eq!(plan.steps.len(), 0, "{plan:#?}");
}

#[test]
fn a_folder_of_another_version_is_named_and_not_touched() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("data");
    make(&folder, true);
    refuse(&folder, 9);
    refuse(&folder, 1);
}

fn refuse(folder: &Path, version: u8) {
    // All of it says so: this is no flipped byte.
    for path in every_file(folder) {
        let mut bytes = fs::read(&path).expect("a file");
        if bytes.len() > 12 && path.file_name().is_some_and(|name| name != "LOCK") {
            bytes[8] = version;
            // A newer version may keep its checksum elsewhere.
            bytes[12] ^= 1;
            fs::write(path, bytes).expect("written");
        }
    }
    let found = inspect::verify_in(folder, &env(), &mut ()).expect("checks");
    let kinds: Vec<_> = found.findings.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [FaultKind::OtherVersion]);
    assert!(inspect::apply_repair_in(folder, &env(), &mut ()).is_err());
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound
    }

    fn one_of(&mut self, files: &[PathBuf]) -> PathBuf {
        files[self.below(files.len() as u64) as usize].clone()
    }
}

/// Up to three harms of any kind, anywhere. `MARCONI_DAMAGE_SEEDS=N` tries more of them, and
/// `MARCONI_DAMAGE_SEED=S` one of them again.
#[test]
fn harm_of_any_kind_anywhere() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let seeds = match number("MARCONI_DAMAGE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..number("MARCONI_DAMAGE_SEEDS").unwrap_or(12) + 1,
    };
    for seed in seeds {
        let mut random = Random(seed);
        let clean = random.below(2) == 0;
        let told = std::cell::RefCell::new(String::new());
        let random = std::cell::RefCell::new(random);
        let harm = |harmed: &Harmed| {
            let mut random = random.borrow_mut();
            for _ in 0..=random.below(3) {
                let what = harm_once(&mut random, harmed);
                told.borrow_mut().push_str(&what);
            }
            std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("seed {seed}: {}\n", told.borrow()).as_bytes(),
            )
            .expect("told");
        };
        check_of(&format!("seed {seed}"), clean, &[], harm);
    }
}

fn harm_once(random: &mut Random, harmed: &Harmed) -> String {
    let mut all = files(&harmed.log, ".seg");
    all.extend(files(&harmed.log, ".idx"));
    all.extend(files(&harmed.checkpoints, ".ckp"));
    let path = random.one_of(&all);
    let mut bytes = fs::read(&path).expect("a file");
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    let size = bytes.len().max(1) as u64;
    let at = random.below(size) as usize;
    let end = (at + 1 + random.below(40_000) as usize).min(bytes.len());
    match random.below(7) {
        0..=2 if !bytes.is_empty() => {
            bytes[at] ^= 1 << random.below(8);
            fs::write(&path, bytes).expect("written");
            format!("a bit of {name} at {at}; ")
        }
        3 if !bytes.is_empty() => {
            bytes[at..end].fill(0);
            fs::write(&path, bytes).expect("written");
            format!("zeros in {name} at {at}..{end}; ")
        }
        4 => {
            fs::write(&path, &bytes[..at.min(bytes.len())]).expect("written");
            format!("{name} cut at {at}; ")
        }
        5 => {
            fs::remove_file(&path).expect("removed");
            format!("{name} removed; ")
        }
        _ => {
            let other = random.one_of(&all);
            fs::copy(&path, &other).expect("copied");
            format!("{name} copied over {}; ", other.file_name().expect("a name").display())
        }
    }
}
