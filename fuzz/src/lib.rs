//! The fuzz targets, as plain functions of bytes: each parser of what comes from outside or from
//! disk. A target returns whatever it is given, or panics, which is a find. What carries a checksum
//! is read twice: as it came, and with its checksums made right, so that what lies behind is reached.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use marconi_engine::internals;
use marconi_engine::log::frame::{AT_LIMIT_MS, HEAD_SIZE, Head, Kind};
use marconi_engine::log::record::Record;
use marconi_engine::log::scan::{ScanEnd, Scanner};
use marconi_engine::{ClaimId, Lsn, Marker, MessageId};
use marconi_export::lines::{self, Line, MessageLine, QueueLine};
use marconi_server::admin;
use marconi_server::api::headers::{CLIENT_ID, DURABILITY, PROJECT_ID, RequestHeaders};
use marconi_server::api::json::{self, JsonFault};
use marconi_server::api::limits::Limits;
use marconi_server::api::query::Query;
use marconi_server::api::shape;
use marconi_server::config::{Config, Settings};
use marconi_server::http::route::{self, Route};
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

pub mod change;

#[cfg(fuzzing)]
pub use libfuzzer_sys;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 13] = [
    ("frame", frame),
    ("segment", segment),
    ("index", index),
    ("checkpoint", checkpoint),
    ("id", id),
    ("json", json),
    ("document", document),
    ("query", query),
    ("route", route),
    ("config", config),
    ("headers", headers),
    ("parameters", parameters),
    ("import", import),
];

/// The `main` of a target: under a fuzzer its loop, else a replay of the files it is given.
#[cfg(fuzzing)]
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        use $crate::libfuzzer_sys;
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::$name(bytes));
    };
}

/// The `main` of a target: under a fuzzer its loop, else a replay of the files it is given.
#[cfg(not(fuzzing))]
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        fn main() -> std::io::Result<()> {
            let arguments = std::env::args_os().skip(1).map(std::path::PathBuf::from);
            $crate::replay(arguments.collect(), $crate::$name).map(|_| ())
        }
    };
}

/// Gives each file, and each file of each folder, to a target; and how many there were.
pub fn replay(paths: Vec<PathBuf>, target: fn(&[u8])) -> std::io::Result<usize> {
    let mut files = paths;
    let mut count = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                files.push(entry?.path());
            }
        } else {
            target(&std::fs::read(&path)?);
            count += 1;
        }
    }
    Ok(count)
}

/// A frame from its beginning, and the record it holds.
pub fn frame(bytes: &[u8]) {
    if let Ok((head, payload)) = internals::decode_frame(bytes, None) {
        record(&head, payload);
    }
    let (Some(fixed), Some(payload)) = (bytes.get(..32), bytes.get(32..)) else { return };
    let word = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().expect("eight bytes"));
    let head = Head {
        length: 0,
        lsn: Lsn(word(0)),
        at_ms: word(8) % AT_LIMIT_MS,
        queue: word(16),
        seq: u64::from(fixed[24]),
        behind: u32::from(fixed[25]),
        kind: Kind::ALL[usize::from(fixed[26]) % Kind::ALL.len()],
    };
    let written = internals::encode_frame(head, payload);
    let (read, found) = internals::decode_frame(&written, Some(head.lsn)).expect("just written");
    assert_eq!(Head { length: read.length, ..head }, read);
    assert_eq!(found, payload);
    record(&read, found);
}

fn record(head: &Head, payload: &[u8]) {
    match Record::decode(head, payload) {
        Ok(Record::Posted { messages, .. }) => {
            for message in messages.flatten() {
                let is_alone = head.kind == Kind::PostedOne;
                assert_eq!(message.offset == 0, is_alone);
                assert!(is_alone || message.offset > HEAD_SIZE);
                assert!(message.offset + message.bytes.len() <= HEAD_SIZE + payload.len());
                assert!(message.bytes.ends_with(message.body));
            }
        }
        Ok(Record::Claimed { seqs, .. } | Record::Deleted { seqs, .. }) => {
            assert_eq!(seqs.iter().count() as u64, seqs.count());
        }
        Ok(_) | Err(_) => {}
    }
}

/// A segment: header, then frames behind its first block.
pub fn segment(bytes: &[u8]) {
    scan(bytes.to_vec());
    // The same with room for the header's block left out, and the checksums made right.
    let mut file = bytes.to_vec();
    let block = 4096;
    if file.len() < block {
        let frames = file.split_off(file.len().min(128));
        file.resize(block, 0);
        file.extend(frames);
    }
    seal_header(&mut file);
    let base = u64::from_le_bytes(file[56..64].try_into().expect("eight bytes"));
    let mut at = block;
    while let Some(head) = file.get(at..at + HEAD_SIZE) {
        let length = u32::from_le_bytes(head[4..8].try_into().expect("four bytes")) as usize;
        if length < HEAD_SIZE || at + length > file.len() {
            break;
        }
        let lsn = base.wrapping_add((at - block) as u64).to_le_bytes();
        file[at + 8..at + 12].copy_from_slice(&lsn[..4]);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&file[at + HEAD_SIZE..at + length]);
        crc.update(&file[at + 4..at + HEAD_SIZE]);
        crc.update(&lsn[4..]);
        file[at..at + 4].copy_from_slice(&crc.finalize().to_le_bytes());
        at += length.next_multiple_of(8);
    }
    scan(file);
}

fn scan(file: Vec<u8>) {
    let engine_id =
        file.get(16..32).map_or(0, |id| u128::from_le_bytes(id.try_into().expect("sixteen bytes")));
    let Ok(segment) = internals::open_segment(file, engine_id) else { return };
    let mut scanner = Scanner::new(&segment);
    while let Some((position, head, payload)) = scanner.next_frame() {
        assert!(position >= 4096);
        record(&head, payload);
    }
    if let ScanEnd::Invalid(_) = scanner.end() {
        let beyond = scanner.beyond();
        // The last frame may be whole and what fills it up be cut off.
        let most = segment.size().max(scanner.position());
        assert!(beyond.end >= scanner.position() && beyond.end <= most);
    }
}

/// Makes the checksum right that a header of 128 bytes has behind magic and version.
fn seal_header(file: &mut [u8]) {
    if let Some(header) = file.get_mut(..128) {
        let crc = crc32fast::hash(&header[16..]);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The index beside a segment.
pub fn index(bytes: &[u8]) {
    internals::read_index(bytes);
    let mut file = bytes.to_vec();
    seal_header(&mut file);
    internals::read_index(&file);
}

/// A checkpoint.
pub fn checkpoint(bytes: &[u8]) {
    // Why it is refused is for people.
    let _ = internals::read_checkpoint(bytes);
    let mut file = bytes.to_vec();
    let mut at = 128;
    while let Some(head) = file.get(at..at + 16) {
        let length = u64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
        let start = at + 16;
        let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
        let Some(end) = end.filter(|end| *end <= file.len()) else { break };
        let crc = crc32fast::hash(&file[start..end]);
        file[at + 8..at + 12].copy_from_slice(&crc.to_le_bytes());
        at = end.next_multiple_of(16);
    }
    if file.len() >= 128 {
        let size = file.len() as u64;
        file[48..56].copy_from_slice(&size.to_le_bytes());
    }
    seal_header(&mut file);
    let _ = internals::read_checkpoint(&file);
}

/// The ids of messages, claims and pages.
pub fn id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let kinds = [same::<MessageId>(text), same::<ClaimId>(text), same::<Marker>(text)];
    let count = kinds.into_iter().filter(|is_one| *is_one).count();
    assert!(count <= 1, "{text:?} is an id of {count} kinds");
}

/// Whether the text is such an id; then it is its only form.
fn same<T: FromStr + Display>(text: &str) -> bool {
    let Ok(id) = text.parse::<T>() else { return false };
    assert_eq!(id.to_string(), text);
    true
}

/// JSON from outside, beside another reader.
pub fn json(bytes: &[u8]) {
    let read = || {
        let mut scanner = json::Scanner::new(bytes, 100)?;
        let value = scanner.value()?;
        scanner.end()?;
        Ok::<_, JsonFault>(value)
    };
    let ours = read();
    // The other reader stops at 128 levels, so that ours stops first.
    let theirs = serde_json::from_slice::<serde_json::Value>(bytes);
    match (ours, theirs) {
        (Ok(value), Ok(_)) => {
            // What stands in the span is the whole value.
            let span = &bytes[value.span];
            assert!(serde_json::from_slice::<serde_json::Value>(span).is_ok());
        }
        (Err(_), Err(_)) => {}
        (Ok(value), Err(cause)) => panic!("we take {value:?}, they do not: {cause}"),
        (
            Err(
                JsonFault::IntegerTooLarge(_) | JsonFault::FloatTooLarge(_) | JsonFault::TooDeep(_),
            ),
            Ok(_),
        ) => {}
        (Err(cause), Ok(value)) => panic!("we refuse ({cause}) what they take: {value}"),
    }
}

/// The documents of requests.
pub fn document(bytes: &[u8]) {
    let limits = Limits { json_depth_max: 20, ..Limits::default() };
    let body = Bytes::copy_from_slice(bytes);
    if let Ok(messages) = shape::messages(&body, &limits) {
        for message in messages {
            let ttl_s = u64::from(message.ttl_s);
            assert!(ttl_s >= u64::from(limits.min_message_ttl));
            assert!(ttl_s <= u64::from(limits.max_message_ttl));
            assert!(serde_json::from_slice::<serde_json::Value>(message.body).is_ok());
        }
    }
    if let Ok(metadata) = shape::metadata(&body, &limits) {
        assert!(metadata.starts_with(b"{") && metadata.ends_with(b"}"));
    }
    let faults = [shape::claim(&body, &limits).err(), shape::renewal(&body, &limits).err()];
    for fault in faults.into_iter().flatten() {
        assert!(serde_json::from_slice::<serde_json::Value>(&fault.body()).is_ok());
    }
}

/// The query of a request.
pub fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let query = Query::new(Some(text));
    for name in ["limit", "marker", "claim_id"] {
        let _ = (query.text(name), query.integer(name), query.boolean(name));
    }
    assert!(query.ids().is_none_or(|ids| ids.iter().all(|id| !id.is_empty())));
}

/// The path of a request.
pub fn route(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = route::decode(text);
    let Some(route) = Route::of(&path) else { return };
    assert!(path.starts_with('/'));
    assert!(!route.label().is_empty());
    let limits = Limits::default();
    if let Some(queue) = route.queue()
        && limits.queue_name(queue).is_ok()
    {
        assert!(!queue.contains('/'));
    }
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Settings::from_text(text) {
        Ok(mut settings) => {
            if let Ok(config) = Config::new(&mut settings) {
                config.limits.validate().expect("a configuration holds valid limits");
            }
        }
        Err(cause) => assert_eq!(cause.to_string().lines().count(), 1, "{cause}"),
    }
}

/// The headers of a request: on each line one, which its first byte chooses.
pub fn headers(bytes: &[u8]) {
    const NAMES: [HeaderName; 6] =
        [ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, CLIENT_ID, DURABILITY, PROJECT_ID];
    let mut map = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((name, value)) = line.split_first() else { continue };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            map.append(NAMES[usize::from(*name) % NAMES.len()].clone(), value);
        }
    }
    let headers = RequestHeaders::of(&map);
    let faults = [
        headers.accept().err(),
        headers.content_type().err(),
        headers.project().err(),
        headers.durability().err(),
        headers.client_id().err(),
    ];
    for fault in faults.into_iter().flatten() {
        assert!(serde_json::from_slice::<serde_json::Value>(&fault.body()).is_ok());
    }
    if let Ok(Some(client)) = headers.client_id() {
        let text = format!("{:032x}", client.0);
        let value = HeaderValue::from_str(&text).expect("digits");
        let again = HeaderMap::from_iter([(CLIENT_ID, value)]);
        assert_eq!(RequestHeaders::of(&again).client_id(), Ok(Some(client)), "{text}");
    }
    if let Ok(project) = headers.project() {
        assert_ne!(project, Some(""), "an empty project is none");
    }
}

/// The parameters of the admin API.
pub fn parameters(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(what) = admin::check_parameters(text) {
        assert!(!what.is_empty());
    }
}

/// The lines that `marconi log import` reads.
pub fn import(bytes: &[u8]) {
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if let Ok(header) = lines::header(line) {
            assert_eq!(header.marconi_export, lines::VERSION);
        }
        match serde_json::from_slice(line) {
            Ok(Line::Queue(line)) => {
                let Ok(image) = line.image() else { continue };
                let text = serde_json::to_vec(&Line::Queue(QueueLine::from(&image)));
                let text = text.expect("an image can be written");
                let Ok(Line::Queue(again)) = serde_json::from_slice(&text) else {
                    panic!("what was just written is no queue")
                };
                assert_eq!(again.image().expect("it was one"), image);
            }
            Ok(Line::Message(line)) => {
                let Ok(body) = line.body() else { continue };
                let image = line.image(&body);
                let text = serde_json::to_vec(&Line::Message(MessageLine::from(&image)));
                let text = text.expect("an image can be written");
                let Ok(Line::Message(again)) = serde_json::from_slice(&text) else {
                    panic!("what was just written is no message")
                };
                assert_eq!(again.image(&again.body().expect("it had one")), image);
            }
            Ok(Line::End(_)) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
