//! `docs/format.md` says what the code does: its numbers are those of the code, and a reader that
//! knows nothing but its tables reads a real folder.

use crate::page::Page;
use marconi_engine::files::checkpoint::{
    self, ArchivedClaimShape, ArchivedLifeShape, ArchivedQueueShape, ArchivedRangeShape,
};
use marconi_engine::files::format::{
    HEADER_SIZE, MAGIC_FORMAT, MAGIC_SEGMENT, SEGMENT_HEADER_SIZE, VERSION,
};
use marconi_engine::files::segment_index::{self, ArchivedEntry, ArchivedRun, OVERHEAD};
use marconi_engine::log::frame::{ALIGNMENT, HEAD_SIZE, Kind};
use marconi_engine::log::record::{MESSAGE_HEAD_SIZE, POST_HEAD_SIZE, POST_ONE_HEAD_SIZE};
use marconi_engine::{ClientId, Config, Durability, Engine, NewMessage, QueueKey};
use std::collections::{BTreeMap, BTreeSet};
use std::mem::{offset_of, size_of};
use std::path::Path;

/// The fields of one structure, from its table.
struct Layout(BTreeMap<String, (usize, usize)>);

impl Layout {
    /// Reads a table; its fields follow each other.
    fn of(page: &Page, heading: &str) -> Layout {
        let (mut fields, mut end) = (BTreeMap::new(), 0);
        for row in page.table(heading) {
            let offset: usize = row[0].parse().expect("an offset");
            // What has no size reaches to the end of what it is part of.
            let size: usize = row[1].parse().unwrap_or(0);
            // Only an archived queue has a hole, behind its one-byte field.
            let is_next =
                offset == end || fields.is_empty() || (heading == "Queue" && offset > end);
            assert!(is_next, "{heading}: the field at {offset} does not follow the one before");
            end = offset + size;
            fields.insert(row[2].clone(), (offset, size));
        }
        Layout(fields)
    }

    fn offset(&self, field: &str) -> usize {
        self.0.get(field).unwrap_or_else(|| panic!("no field {field}")).0
    }

    /// The integer in a field of the structure that begins at `at`.
    fn get(&self, bytes: &[u8], at: usize, field: &str) -> u64 {
        let (offset, size) = self.0[field];
        int(bytes, at + offset, size)
    }

    fn assert_offsets(&self, expected: &[(&str, usize)]) {
        for (field, offset) in expected {
            assert_eq!(self.offset(field), *offset, "{field}");
        }
    }
}

fn int(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes[at..at + size].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn page() -> Page {
    Page::read("docs/format.md")
}

#[test]
fn the_numbers_are_those_of_the_code() {
    let page = page();
    assert!(page.text.contains(&format!("Format version **{VERSION}**")), "the version");
    assert!(page.text.contains(&format!("size + {OVERHEAD},")), "the overhead");
    assert!(page.text.contains(&format!("The header takes {HEADER_SIZE} bytes")), "headers");
    let first = format!("the first frame begins at byte {SEGMENT_HEADER_SIZE}");
    assert!(page.text.contains(&first), "the first frame");
    assert!(page.text.contains(&format!("a multiple of {ALIGNMENT}, the bytes")), "alignment");

    let kinds: Vec<(String, String)> =
        page.table("Kinds").iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let expected = Kind::ALL.map(|kind| ((kind as u8).to_string(), format!("{kind:?}")));
    assert_eq!(kinds, expected);

    let levels: Vec<(String, String)> = page.tables("Payload of QueueCreated")[1]
        .iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    assert_eq!(levels, Durability::ALL.map(|one| ((one as u8).to_string(), one.to_string())));

    let magic: Vec<String> =
        page.tables("Common header")[1].iter().map(|row| row[1].replace("\\n", "\n")).collect();
    let expected = [MAGIC_FORMAT, MAGIC_SEGMENT, segment_index::MAGIC, checkpoint::MAGIC];
    assert_eq!(magic, expected.map(|magic| String::from_utf8_lossy(&magic).into_owned()));

    for (heading, field, offset) in [
        ("Frame", "payload", HEAD_SIZE),
        ("Payload of Posted", "messages", POST_HEAD_SIZE),
        ("Payload of PostedOne", "body", POST_ONE_HEAD_SIZE),
        ("Message", "extensions, body", MESSAGE_HEAD_SIZE),
        ("Section", "archive", checkpoint::SECTION_HEADER_SIZE),
    ] {
        assert_eq!(Layout::of(&page, heading).offset(field), offset, "{heading}");
    }
}

#[test]
fn the_archives_lie_as_the_page_says() {
    macro_rules! check {
        ($heading:literal, $kind:ty, $size:literal, $($field:ident),*) => {
            let layout = Layout::of(&page(), $heading);
            layout.assert_offsets(&[$((stringify!($field), offset_of!($kind, $field))),*]);
            assert_eq!(size_of::<$kind>(), $size);
            let start = page().text.split(concat!("### ", $heading, "\n")).nth(1).map(str::len);
            assert!(start.is_some(), $heading);
            assert!(page().text.contains(concat!(stringify!($size), " bytes")), $heading);
        };
    }
    check!(
        "Run",
        ArchivedRun,
        72,
        queue,
        first_seq,
        last_seq,
        due_ms,
        cost,
        client_low,
        client_high,
        start,
        count,
        crc,
        reserved
    );
    check!("Entry", ArchivedEntry, 16, seq_delta, location, expires_and_cost);
    check!(
        "Queue",
        ArchivedQueueShape,
        96,
        id,
        as_of,
        next_seq,
        cursor,
        key,
        metadata,
        floor,
        claims,
        returned,
        lives,
        ranges,
        extra
    );
    check!("Claim", ArchivedClaimShape, 32, id, renewed_ms, ttl_s, grace_s, seqs);
    check!("Life", ArchivedLifeShape, 24, seq, expires_ms, ttl_s);
    check!("Range", ArchivedRangeShape, 32, segment, generation, first_seq, bits);
}

#[test]
fn a_reader_that_knows_only_the_page_reads_a_real_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let made = make(&data);
    let reader = Reader::new();

    let format = std::fs::read(data.join("FORMAT")).expect("FORMAT");
    reader.header(&format, "FORMAT");
    let engine_id = &format[16..32];

    let mut seen = Seen::default();
    let mut segments = 0;
    for (name, bytes) in files(&data.join("log"), ".seg") {
        reader.header(&bytes, "segment");
        let offset = reader.segment.offset("engine_id");
        assert_eq!(&bytes[offset..offset + 16], engine_id, "{name}");
        assert_eq!(name, format!("{:020}.seg", reader.segment.get(&bytes, 0, "number")));
        reader.segment(&bytes, &mut seen);
        segments += 1;
    }
    assert!(segments > 2, "the log was to fill some segments");
    // Compaction writes the last kind, and would leave no segment as it was appended.
    let written = Kind::ALL.iter().filter(|kind| **kind != Kind::SegmentRetired);
    let kinds: BTreeSet<&str> = written.map(|kind| kind_name(*kind)).collect();
    assert_eq!(seen.kinds.iter().map(String::as_str).collect::<BTreeSet<_>>(), kinds);
    assert_eq!(seen.bodies, made.bodies);
    assert_eq!(seen.keys, ["jobs", "short-lived"]);

    let indexes = files(&data.join("log"), ".idx");
    assert!(!indexes.is_empty(), "some segment was to be sealed");
    for (name, bytes) in indexes {
        let segment = std::fs::read(data.join("log").join(name.replace(".idx", ".seg")));
        reader.index(&bytes, &segment.expect("its segment"));
    }

    let checkpoints = files(&data.join("checkpoint"), ".ckp");
    let (name, newest) = checkpoints.last().expect("a checkpoint");
    assert_eq!(*name, format!("{:020}.ckp", reader.checkpoint.get(newest, 0, "number")));
    assert_eq!(reader.checkpoint.get(newest, 0, "clean"), 1);
    reader.checkpoint(newest, &made);
}

/// What was done to the folder, as far as its files tell.
struct Made {
    bodies: Vec<Vec<u8>>,
    held: Vec<u64>,
    dead: Vec<u64>,
    next_seq_least: u64,
}

/// A folder with a frame of every kind, sealed segments, a crash, a claim and an orderly end.
fn make(data: &Path) -> Made {
    let config = Config {
        segment_size_bytes: 1 << 20,
        disk_reserve_bytes: 0,
        ..Config::new(data.to_path_buf())
    };
    let jobs = QueueKey::new(Some("p"), "jobs").expect("short");
    let short_lived = QueueKey::new(None, "short-lived").expect("short");
    let bodies: Vec<Vec<u8>> = (0..20u8).map(|number| vec![number; 100_000]).collect();
    // By themselves and in pairs.
    let post = |engine: &Engine, bodies: &[Vec<u8>]| {
        let (alone, together) = bodies.split_at(bodies.len() / 2);
        for bodies in alone.chunks(1).chain(together.chunks(2)) {
            let messages: Vec<_> =
                bodies.iter().map(|body| NewMessage { ttl_s: 3600, body }).collect();
            let posted = engine.post(&jobs, ClientId(5), &messages, None);
            posted.expect("posts").wait().expect("durable");
        }
    };
    let engine = Engine::open(config.clone()).expect("opens");
    for key in [&jobs, &short_lived] {
        engine.create_queue(key, Some(Durability::Group)).expect("makes").wait().expect("durable");
    }
    engine.set_metadata(&jobs, b"{}", None).expect("sets").wait().expect("durable");
    engine.remove_queue(&short_lived, None).expect("removes").wait().expect("durable");
    post(&engine, &bodies[..10]);
    let claim = |engine: &Engine| {
        let claimed = engine.claim(&jobs, 600, 60, 3, None).expect("claims").wait();
        claimed.expect("durable").expect("messages wait")
    };
    let given_up = claim(&engine);
    engine.release(&jobs, given_up.id, None).expect("releases").wait().expect("durable");
    engine.crash();

    let engine = Engine::open(config).expect("opens again");
    post(&engine, &bodies[10..]);
    let kept = claim(&engine);
    engine.renew(&jobs, kept.id, 700, 60, None).expect("renews").wait().expect("durable");
    let done = kept.messages[0].id;
    engine
        .delete(&jobs, done, Some(Some(kept.id)), None)
        .expect("deletes")
        .wait()
        .expect("durable");
    engine.checkpoint().expect("a checkpoint");
    engine.close().expect("closes");
    Made { bodies, held: vec![2, 3], dead: vec![done.seq.0], next_seq_least: 21 }
}

/// The files of a folder whose names end so, in order.
fn files(folder: &Path, ending: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    let read = |name: String| {
        let bytes = std::fs::read(folder.join(&name)).expect("a file");
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::QueueCreated => "QueueCreated",
        Kind::QueueChanged => "QueueChanged",
        Kind::QueueRemoved => "QueueRemoved",
        Kind::Posted => "Posted",
        Kind::Claimed => "Claimed",
        Kind::Renewed => "Renewed",
        Kind::Released => "Released",
        Kind::Deleted => "Deleted",
        Kind::Resumed => "Resumed",
        Kind::SegmentEnd => "SegmentEnd",
        Kind::SegmentRetired => "SegmentRetired",
        Kind::PostedOne => "PostedOne",
    }
}

/// What the log held.
#[derive(Default)]
struct Seen {
    kinds: BTreeSet<String>,
    bodies: Vec<Vec<u8>>,
    keys: Vec<String>,
}

/// A reader made of the page's tables.
struct Reader {
    common: Layout,
    segment: Layout,
    frame: Layout,
    message: Layout,
    created: Layout,
    index: Layout,
    root: Layout,
    run: Layout,
    entry: Layout,
    checkpoint: Layout,
    section: Layout,
    queue: Layout,
    claim: Layout,
    range: Layout,
    posted: Layout,
    posted_one: Layout,
    kinds: BTreeMap<u64, String>,
    magic: BTreeMap<String, String>,
}

impl Reader {
    fn new() -> Reader {
        let page = page();
        let layout = |heading| Layout::of(&page, heading);
        let kinds = page.table("Kinds").into_iter();
        let magic = page.tables("Common header").swap_remove(1).into_iter();
        Reader {
            common: layout("Common header"),
            segment: layout("Header of a segment"),
            frame: layout("Frame"),
            message: layout("Message"),
            created: layout("Payload of QueueCreated"),
            index: layout("Header of an index"),
            root: layout("Root of an index"),
            run: layout("Run"),
            entry: layout("Entry"),
            checkpoint: layout("Header of a checkpoint"),
            section: layout("Section"),
            queue: layout("Queue"),
            claim: layout("Claim"),
            range: layout("Range"),
            posted: layout("Payload of Posted"),
            posted_one: layout("Payload of PostedOne"),
            kinds: kinds.map(|row| (row[0].parse().expect("a kind"), row[1].clone())).collect(),
            magic: magic.map(|row| (row[0].clone(), row[1].replace("\\n", "\n"))).collect(),
        }
    }

    fn header(&self, bytes: &[u8], file: &str) {
        let magic = self.magic[file].as_bytes();
        assert_eq!(&bytes[..magic.len()], magic, "{file}");
        assert_eq!(self.common.get(bytes, 0, "version"), u64::from(VERSION), "{file}");
        let crc = u64::from(crc32fast::hash(&bytes[16..128]));
        assert_eq!(self.common.get(bytes, 0, "crc"), crc, "{file}");
    }

    /// Walks all frames.
    fn segment(&self, bytes: &[u8], seen: &mut Seen) {
        let base = self.segment.get(bytes, 0, "base");
        let mut at = 4096;
        while at < bytes.len() {
            let length = self.frame.get(bytes, at, "length") as usize;
            if length == 0 {
                return;
            }
            let lsn = base + at as u64 - 4096;
            assert_eq!(self.frame.get(bytes, at, "lsn_low"), lsn & 0xffff_ffff);
            let payload = at + self.frame.offset("payload");
            let mut crc = crc32fast::Hasher::new();
            crc.update(&bytes[payload..at + length]);
            crc.update(&bytes[at + 4..payload]);
            crc.update(&lsn.to_le_bytes()[4..]);
            assert_eq!(self.frame.get(bytes, at, "crc"), u64::from(crc.finalize()));
            assert_eq!(self.frame.get(bytes, at, "flags"), 0);
            let kind = &self.kinds[&self.frame.get(bytes, at, "kind")];
            seen.kinds.insert(kind.clone());
            match kind.as_str() {
                "Posted" => self.messages(bytes, at, payload, seen),
                "PostedOne" => {
                    assert_eq!(self.posted_one.get(bytes, payload, "client"), 5);
                    assert_eq!(self.posted_one.get(bytes, payload, "ttl_s"), 3600);
                    let body = payload + self.posted_one.offset("body");
                    seen.bodies.push(bytes[body..at + length].to_vec());
                }
                "QueueCreated" => seen.keys.push(self.key(bytes, payload)),
                "SegmentEnd" => return,
                _ => {}
            }
            at += length.next_multiple_of(8);
        }
    }

    fn messages(&self, bytes: &[u8], frame: usize, payload: usize, seen: &mut Seen) {
        let mut at = payload + self.posted.offset("messages");
        assert_eq!(self.posted.get(bytes, payload, "client"), 5);
        let client = payload + self.posted.offset("client");
        for _ in 0..self.posted.get(bytes, payload, "count") {
            assert_eq!(self.message.get(bytes, at, "back"), (at - frame) as u64);
            assert_eq!(self.message.get(bytes, at, "encoding"), 0);
            let body = at
                + self.message.offset("extensions, body")
                + self.message.get(bytes, at, "extensions_size") as usize;
            let end = body + self.message.get(bytes, at, "body_size") as usize;
            let mut crc = crc32fast::Hasher::new();
            crc.update(&bytes[client..client + 16]);
            crc.update(&bytes[at + 4..end]);
            assert_eq!(self.message.get(bytes, at, "crc"), u64::from(crc.finalize()));
            seen.bodies.push(bytes[body..end].to_vec());
            at = end;
        }
    }

    fn key(&self, bytes: &[u8], payload: usize) -> String {
        let start = payload + self.created.offset("key, metadata");
        let size = self.created.get(bytes, payload, "key_size") as usize;
        name_of(&bytes[start..start + size])
    }

    /// Where a list's elements begin, and how many there are.
    fn list(&self, bytes: &[u8], at: usize) -> (usize, usize) {
        let distance = int(bytes, at, 4) as u32 as i32;
        let count = int(bytes, at + 4, 4) as usize;
        (at.wrapping_add_signed(distance as isize), count)
    }

    fn index(&self, bytes: &[u8], segment: &[u8]) {
        self.header(bytes, "index");
        let size = self.index.get(bytes, 0, "archive_size") as usize;
        let root = 128 + size - 16;
        let (runs, run_count) = self.list(bytes, root + self.root.offset("runs"));
        let (entries, _) = self.list(bytes, root + self.root.offset("entries"));
        assert_eq!(self.index.get(bytes, 0, "run_count"), run_count as u64);
        let crc = u64::from(crc32fast::hash(&bytes[runs..runs + run_count * 72]));
        assert_eq!(self.index.get(bytes, 0, "runs_crc"), crc);
        let engine_id = |table: &Layout, bytes: &[u8]| {
            let start = table.offset("engine_id");
            bytes[start..start + 16].to_vec()
        };
        assert_eq!(engine_id(&self.index, bytes), engine_id(&self.segment, segment));
        for field in ["number", "generation"] {
            let whose = self.segment.get(segment, 0, field);
            assert_eq!(self.index.get(bytes, 0, field), whose, "{field}");
        }
        for run in (0..run_count).map(|number| runs + number * 72) {
            let first = entries + self.run.get(bytes, run, "start") as usize * 16;
            let count = self.run.get(bytes, run, "count") as usize;
            let crc = u64::from(crc32fast::hash(&bytes[first..first + count * 16]));
            assert_eq!(self.run.get(bytes, run, "crc"), crc);
            let mut cost = 0;
            let mut posters = BTreeSet::new();
            for entry in (0..count).map(|number| first + number * 16) {
                let location = self.entry.get(bytes, entry, "location") as usize;
                let position = location & ((1 << 31) - 1);
                let (frame, body_size) = if location >> 31 == 1 {
                    let length = self.frame.get(segment, position, "length");
                    (position, length - self.frame.offset("payload") as u64 - 20)
                } else {
                    let back = self.message.get(segment, position, "back") as usize;
                    (position - back, self.message.get(segment, position, "body_size"))
                };
                let packed = self.entry.get(bytes, entry, "expires_and_cost");
                let due_ms = self.frame.get(segment, frame, "at_ms") + 3_600_000;
                assert_eq!(packed & ((1 << 48) - 1), due_ms);
                let told = (packed >> 48 & 0x7ff) << (packed >> 59);
                let least = body_size + 83;
                assert!(told >= least && told < least + least / 1000, "{told} for {least}");
                cost += told;
                posters.insert(self.posted.get(
                    segment,
                    frame + self.frame.offset("payload"),
                    "client",
                ));
            }
            assert_eq!(self.run.get(bytes, run, "cost"), cost);
            assert_eq!(posters, BTreeSet::from([self.run.get(bytes, run, "client_low")]));
        }
    }

    fn checkpoint(&self, bytes: &[u8], made: &Made) {
        self.header(bytes, "checkpoint");
        assert_eq!(self.checkpoint.get(bytes, 0, "size"), bytes.len() as u64);
        let mut queues = 0;
        let mut at = 128;
        for _ in 0..self.checkpoint.get(bytes, 0, "section_count") {
            let archive = at + self.section.offset("archive");
            let end = archive + self.section.get(bytes, at, "length") as usize;
            let crc = u64::from(crc32fast::hash(&bytes[archive..end]));
            assert_eq!(self.section.get(bytes, at, "crc"), crc);
            let (first, count) = self.list(bytes, end - 8);
            for queue in (0..count).map(|number| first + number * 96) {
                self.queue(bytes, queue, made);
                queues += 1;
            }
            at = end.next_multiple_of(16);
        }
        assert_eq!((at, queues), (bytes.len(), 1));
    }

    fn queue(&self, bytes: &[u8], queue: usize, made: &Made) {
        let list = |field| self.list(bytes, queue + self.queue.offset(field));
        let (key, size) = list("key");
        assert_eq!(name_of(&bytes[key..key + size]), "jobs");
        let (metadata, size) = list("metadata");
        assert_eq!(&bytes[metadata..metadata + size], b"{}");
        assert_eq!(self.queue.get(bytes, queue, "floor"), Durability::Group as u64);
        assert_eq!(self.queue.get(bytes, queue, "cursor"), 4);
        assert!(self.queue.get(bytes, queue, "next_seq") >= made.next_seq_least);
        let (claim, count) = list("claims");
        assert_eq!(count, 1);
        assert_eq!(self.claim.get(bytes, claim, "ttl_s"), 700);
        let (held, count) = self.list(bytes, claim + self.claim.offset("seqs"));
        let held: Vec<u64> = (0..count).map(|number| int(bytes, held + number * 8, 8)).collect();
        assert_eq!(held, made.held);
        let (first, count) = list("ranges");
        let mut dead = Vec::new();
        for range in (0..count).map(|number| first + number * 32) {
            let first_seq = self.range.get(bytes, range, "first_seq");
            let (words, count) = self.list(bytes, range + self.range.offset("bits"));
            for bit in 0..count as u64 * 64 {
                if int(bytes, words + bit as usize / 64 * 8, 8) >> (bit % 64) & 1 == 1 {
                    dead.push(first_seq + bit);
                }
            }
        }
        assert_eq!(dead, made.dead);
        assert_eq!(list("extra").1, 0);
    }
}

/// The queue's name in a stored key.
fn name_of(key: &[u8]) -> String {
    let project = usize::from(key[0]) << 8 | usize::from(key[1]);
    String::from_utf8(key[2 + project..].to_vec()).expect("UTF-8")
}
