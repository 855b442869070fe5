//! Reads a segment whole: every frame, every message, and its index against them. Says what of it can be
//! read and what cannot; knows neither state nor what is done about it.

use crate::domain::{QueueId, Seq};
use crate::env::{Disk, File};
use crate::fault::{Fault, FaultKind, Lost, LostKind};
use crate::files::format;
use crate::files::segment_index::{Archive, Entry, IndexBuilder, SegmentIndex};
use crate::log::frame::{self, HEAD_SIZE, Head, Invalid, Kind};
use crate::log::record::{self, MESSAGE_HEAD_SIZE, POST_HEAD_SIZE, Record};
use crate::log::scan::{ScanEnd, Scanner};
use crate::log::segment::Segment;
use std::io;
use std::sync::Arc;

/// Bytes of a segment that are no frame, and that once were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) position: u64,
    pub(crate) size: u64,
    pub(crate) why: String,
    /// What the frame there says, proved by nothing.
    pub(crate) said: Option<Said>,
}

/// What a frame says of what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) head: Head,
    /// How many messages or numbers.
    pub(crate) count: u64,
}

impl Hole {
    fn covers(&self, position: u64) -> bool {
        (self.position..self.position.saturating_add(self.size)).contains(&position)
    }
}

/// What a segment's index is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IndexState {
    /// It says what the frames say.
    Right,
    /// There is none.
    Missing,
    /// It cannot be used.
    Damaged(String),
    /// It is whole, and says something else than the frames.
    Differs(String),
}

/// What a segment holds.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) frames: u64,
    pub(crate) messages: u64,
    /// In the order of their places; messages whose own checksum is wrong are holes as well.
    pub(crate) holes: Vec<Hole>,
    /// How and where its frames end.
    pub(crate) end: ScanEnd,
    pub(crate) end_position: u64,
    pub(crate) state: IndexState,
    /// The index beside it where that is right, else one made from what could be read.
    pub(crate) index: Option<SegmentIndex>,
}

/// What lies beside a segment as its index.
#[derive(Debug)]
pub(crate) enum FoundIndex {
    Missing,
    Damaged(String),
    Found(SegmentIndex, Arc<dyn File>),
}

impl FoundIndex {
    /// Looks for the index of a segment.
    pub(crate) fn open(disk: &dyn Disk, segment: &Segment) -> FoundIndex {
        let path = format::index_path(&segment.path);
        match disk.open_to_read(&path).and_then(|file| Ok((file.map()?, file))) {
            Ok((mapping, file)) => match SegmentIndex::read(mapping.bytes, &segment.header) {
                Ok(index) => FoundIndex::Found(index, file),
                Err(why) => FoundIndex::Damaged(why.to_string()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => FoundIndex::Missing,
            Err(error) => FoundIndex::Damaged(error.to_string()),
        }
    }
}

impl Whole {
    /// The hole in which this place lies.
    pub(crate) fn hole_at(&self, position: u64) -> Option<&Hole> {
        let after = self.holes.partition_point(|hole| hole.position <= position);
        self.holes[..after].last().filter(|hole| hole.covers(position))
    }
}

/// Memory that reading segments takes, one after another.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    index: IndexBuilder,
    archive: Archive,
}

/// Reads a segment whole.
pub(crate) fn read(segment: &Segment, found: FoundIndex, scratch: &mut Scratch) -> Whole {
    if let FoundIndex::Found(_, file) = &found {
        // A map is read page by page, as it is looked at: by the time the frames are read it is there.
        file.read_ahead();
    }
    let index = &mut scratch.index;
    let mut reader = Reader { frames: 0, messages: 0, holes: Vec::new(), index };
    let mut scanner = Scanner::new(segment);
    let mut looked_again = 0;
    loop {
        while let Some((position, head, payload)) = scanner.next_frame() {
            reader.frame(position, &head, payload);
        }
        let (position, ScanEnd::Invalid(why)) = (scanner.position(), scanner.end()) else { break };
        if looked_again < position {
            looked_again = position;
            scanner.look_again();
            continue;
        }
        let said = likely_said(segment, &mut scanner, position);
        let Some(size) = scanner.resume() else { break };
        reader.holes.push(Hole { position, size, why: why.to_string(), said });
    }
    let (mut end, end_position) = (scanner.end(), scanner.position());
    let Reader { frames, messages, mut holes, .. } = reader;
    let has_lost = !holes.is_empty() || ends_early(end).is_some();
    // A rewritten segment ends with its file, wherever that was cut: only its index knows of more.
    let size = (end == ScanEnd::Eof).then_some(end_position);
    let (state, index, is_cut) = check_index(segment, found, scratch, has_lost, size);
    if is_cut {
        end = ScanEnd::Invalid(Invalid::Length);
    }
    holes.sort_by_key(|hole| hole.position);
    Whole { frames, messages, holes, end, end_position, state, index: Some(index) }
}

struct Reader<'a> {
    frames: u64,
    messages: u64,
    holes: Vec<Hole>,
    index: &'a mut IndexBuilder,
}

impl Reader<'_> {
    fn frame(&mut self, position: u64, head: &Head, payload: &[u8]) {
        self.frames += 1;
        let said = Some(Said { head: *head, count: record::count(head, payload) });
        let malformed = |why: String| Hole { position, size: head.padded_size() as u64, why, said };
        let (queue, first, client, messages) = match Record::decode(head, payload) {
            Ok(Record::Posted { queue, first, client, messages }) => {
                (queue, first, client, messages)
            }
            Ok(_) => return,
            Err(error) => return self.holes.push(malformed(error.to_string())),
        };
        for (message, seq) in messages.zip(first.0..) {
            let message = match message {
                Ok(message) => message,
                Err(error) => return self.holes.push(malformed(error.to_string())),
            };
            self.messages += 1;
            // One in a frame of its own has no other checksum than that.
            if message.offset > 0
                && let Err(why) = record::check_message(message.bytes, client)
            {
                self.holes.push(Hole {
                    position: position + message.offset as u64,
                    size: message.bytes.len() as u64,
                    why: why.to_string(),
                    said: Some(Said { head: Head { seq, ..*head }, count: 1 }),
                });
            }
            self.index.push(queue, seq, Entry::new(&message, position, head.at_ms), client);
        }
    }
}

/// Holds the index beside a segment against one made from what could be read of it. Which to use; and whether
/// it is right but for messages behind `size`, where the segment ends.
fn check_index(
    segment: &Segment,
    found: FoundIndex,
    scratch: &mut Scratch,
    has_holes: bool,
    size: Option<u64>,
) -> (IndexState, SegmentIndex, bool) {
    scratch.index.fill(&mut scratch.archive, &mut || {});
    let made = &scratch.archive;
    let anew = |state| (state, SegmentIndex::of(made, &segment.header), false);
    let found = match found {
        FoundIndex::Missing => return anew(IndexState::Missing),
        FoundIndex::Damaged(why) => return anew(IndexState::Damaged(why)),
        FoundIndex::Found(found, _) => found,
    };
    if let Err(why) = found.check_entries() {
        return anew(IndexState::Damaged(why));
    }
    // What cannot be read is in the index still; whether the rest agrees is seen entry by entry.
    let Some(what) = found.difference(made, has_holes) else {
        return (IndexState::Right, found, false);
    };
    let is_cut = size.is_some_and(|size| found.reach() >= size);
    if is_cut && found.difference(made, true).is_none() {
        return (IndexState::Right, found, true);
    }
    anew(IndexState::Differs(what))
}

/// Whether frames end in a way that a sealed segment's do not: there was more.
pub(crate) fn ends_early(end: ScanEnd) -> Option<Invalid> {
    match end {
        ScanEnd::Invalid(why) => Some(why),
        ScanEnd::Sealed(_) | ScanEnd::Eof => None,
    }
}

/// What a head says that was not proved, for people.
fn head_says(said: &Said) -> String {
    let Said { head: Head { kind, queue, seq, .. }, count } = said;
    match kind {
        Kind::Posted => format!("its head says: {count} messages of queue {queue} from {seq} on"),
        Kind::PostedOne => format!("its head says: message {seq} of queue {queue}"),
        Kind::Claimed => format!("its head says: a claim of {count} messages of queue {queue}"),
        Kind::Deleted => format!("its head says: {count} deletes in queue {queue}"),
        _ => format!("its head says: {kind:?}, queue {queue}"),
    }
}

/// What the frame at a place says where none is whole, if that can be believed.
fn likely_said(segment: &Segment, scanner: &mut Scanner<'_>, position: u64) -> Option<Said> {
    let lsn_of = |hint| segment.lsn_of(position, hint);
    let head = frame::unproved_head(scanner.bytes_at(position, HEAD_SIZE), lsn_of)?;
    let bytes = scanner.bytes_at(position, head.length as usize);
    let payload = bytes.get(HEAD_SIZE..head.length as usize)?;
    is_likely(&head, payload).then(|| Said { head, count: record::count(&head, payload) })
}

/// Whether the payload fits what a head says of it. Where all messages behind it are as they were written, the damage
/// is in the head itself, and it may say anything.
fn is_likely(head: &Head, payload: &[u8]) -> bool {
    match head.kind {
        Kind::Posted => record::poster(payload).is_some_and(|(client, count)| {
            let messages = &payload[POST_HEAD_SIZE..];
            let has_room = messages.len() as u64 >= u64::from(count) * MESSAGE_HEAD_SIZE as u64;
            has_room && !record::are_messages(messages, client)
        }),
        _ => match Record::decode(head, payload) {
            // What another kind holds seldom reads as numbers that a queue could have come to.
            Ok(Record::Claimed { seqs, .. } | Record::Deleted { seqs, .. }) => {
                seqs.iter().all(|seq| (1..SEQ_LIKELY_MAX).contains(&seq.0))
            }
            decoded => decoded.is_ok(),
        },
    }
}

/// A million messages a second for nine years.
const SEQ_LIKELY_MAX: u64 = 1 << 48;

/// The fault of bytes that are no frame. `passed` is how many there are, where another frame follows;
/// `scanner` is on their segment.
pub(crate) fn fault(
    segment: &Segment,
    position: u64,
    passed: Option<u64>,
    why: &str,
    scanner: &mut Scanner<'_>,
) -> Fault {
    let said = likely_said(segment, scanner, position);
    let size = passed.unwrap_or(segment.size().saturating_sub(position));
    hole_fault(segment, &Hole { position, size, why: why.to_owned(), said })
}

/// The fault of a frame whose payload is not what its kind says.
pub(crate) fn malformed(
    segment: &Segment,
    position: u64,
    head: &Head,
    payload: &[u8],
    why: String,
) -> Fault {
    let size = head.padded_size() as u64;
    let said = Some(Said { head: *head, count: record::count(head, payload) });
    hole_fault(segment, &Hole { position, size, why, said })
}

/// The fault of a hole.
pub(crate) fn hole_fault(segment: &Segment, hole: &Hole) -> Fault {
    let Hole { position, size, why, said } = hole;
    let what = format!("{size} bytes are no frame: {why}");
    // A message in a frame of its own has no checksum but the frame's: the head may be what is wrong.
    let (sure, perhaps) = match said {
        Some(said) if said.head.kind == Kind::PostedOne => (None, Some(said)),
        said => (said.as_ref(), None),
    };
    let lost = match sure {
        Some(said @ Said { head, count }) => {
            let has_messages = head.kind == Kind::Posted;
            Lost {
                what: if has_messages { LostKind::Messages } else { LostKind::Record },
                queue: (head.queue != 0).then_some(QueueId(head.queue)),
                first: has_messages.then_some(Seq(head.seq)),
                count: if has_messages { *count } else { 1 },
                note: head_says(said),
            }
        }
        None => {
            let unknown = || "nobody knows what they said".to_owned();
            let note = perhaps.map_or_else(unknown, |said| format!("perhaps, {}", head_says(said)));
            Lost { what: LostKind::Bytes, queue: None, first: None, count: *size, note }
        }
    };
    let told = sure.map_or(*size, |said| said.head.padded_size() as u64);
    let mut lost = vec![lost];
    if told < *size {
        let note = "behind the first, nobody knows what they said".to_owned();
        let (what, count) = (LostKind::Bytes, size - told);
        lost.push(Lost { what, queue: None, first: None, count, note });
    }
    let fault = Fault::new(FaultKind::FrameDamaged, &segment.path, Some(*position), what);
    Fault { lost, ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClientId, Lsn};
    use crate::log::record::Payload;

    fn head(kind: Kind, payload: &[u8]) -> Head {
        let length = u32::try_from(HEAD_SIZE + payload.len()).expect("small");
        Head { length, lsn: Lsn(8), at_ms: 1, queue: 1, seq: 1, behind: 0, kind }
    }

    #[test]
    fn a_rotten_kind_is_not_believed_where_the_payload_is_another_kinds() {
        let mut payload = Payload::default();
        payload.posted(ClientId(7));
        for body in [&b"one"[..], b"two", b""] {
            payload.message(60, body);
        }
        let posted = payload.bytes.clone();
        payload.renewed(60, 60);
        let renewed = payload.bytes.clone();
        // Of a message by itself it is only said that it may be.
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::PostedOne) {
            assert!(!is_likely(&head(kind, &posted), &posted), "messages as {kind:?}");
            // As a delete of a number that could be it is a record lost, which it is.
            let is_its = matches!(kind, Kind::Renewed | Kind::Claimed | Kind::Deleted);
            let told = is_likely(&head(kind, &renewed), &renewed);
            assert!(!told || is_its, "a renewal as {kind:?}");
        }
        let mut rotten = posted;
        *rotten.last_mut().expect("it has bytes") ^= 1;
        assert!(is_likely(&head(Kind::Posted, &rotten), &rotten), "the head is whole");
        assert!(is_likely(&head(Kind::Renewed, &renewed), &renewed));
    }
}
