//! The payloads of frames: what each kind of record holds, as bytes, and back.
//! Knows frames' heads; knows no file and no state. Layouts: `docs/format.md`, "Records".

use super::frame::{HEAD_SIZE, Head, Kind, u32_at, u64_at};
use crate::checksum;
use crate::domain::{ClaimId, ClientId, Durability, Lsn, QueueId, QueueKey, Seq};

/// Bytes before the messages of a `Posted` payload: the poster, and how many there are.
pub const POST_HEAD_SIZE: usize = 20;
/// Bytes before the body in a `PostedOne` payload: the poster, and the message's ttl.
pub const POST_ONE_HEAD_SIZE: usize = 20;
/// Bytes of a message in a `Posted` payload before its extensions and its body.
pub const MESSAGE_HEAD_SIZE: usize = 20;
/// Bytes of the poster, with which both payloads begin.
pub const CLIENT_SIZE: usize = 16;
/// The only encoding of a body so far: as it came.
const ENCODING_PLAIN: u8 = 0;

/// A record as it is read, borrowing from the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// A queue was made; its id is the frame's LSN.
    QueueCreated {
        /// Where it is found.
        key: QueueKey,
        /// Its durability floor.
        floor: Option<Durability>,
        /// Its metadata.
        metadata: &'a [u8],
    },
    /// What is `Some` was set.
    QueueChanged {
        /// Which queue.
        queue: QueueId,
        /// A new floor.
        floor: Option<Durability>,
        /// New metadata.
        metadata: Option<&'a [u8]>,
    },
    /// A queue is gone.
    QueueRemoved {
        /// Which queue.
        queue: QueueId,
    },
    /// Messages were posted.
    Posted {
        /// To which queue.
        queue: QueueId,
        /// The number of the first; the others follow.
        first: Seq,
        /// By whom.
        client: ClientId,
        /// The messages.
        messages: Messages<'a>,
    },
    /// Messages were claimed; the claim's id is the frame's LSN.
    Claimed {
        /// In which queue.
        queue: QueueId,
        /// Seconds the claim lives.
        ttl_s: u32,
        /// Seconds by which its messages outlive it.
        grace_s: u32,
        /// Which messages.
        seqs: Numbers<'a>,
    },
    /// A claim starts anew.
    Renewed {
        /// In which queue.
        queue: QueueId,
        /// Which claim.
        claim: ClaimId,
        /// Seconds it lives from now.
        ttl_s: u32,
        /// Seconds by which its messages outlive it.
        grace_s: u32,
    },
    /// A claim was given up.
    Released {
        /// In which queue.
        queue: QueueId,
        /// Which claim.
        claim: ClaimId,
    },
    /// Messages were deleted.
    Deleted {
        /// In which queue.
        queue: QueueId,
        /// Under which claim.
        claim: Option<ClaimId>,
        /// Which messages.
        seqs: Numbers<'a>,
    },
    /// The log goes on after an unclean end.
    Resumed {
        /// How many numbers every queue skips.
        skipped: u64,
    },
    /// The segment ends.
    SegmentEnd,
    /// A segment is being removed.
    SegmentRetired {
        /// Its number.
        number: u64,
    },
}

/// The payload does not hold what its kind says, though its checksum matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload of a {0:?} frame is malformed")]
pub struct Malformed(pub Kind);

impl<'a> Record<'a> {
    /// Reads the record of a frame.
    pub fn decode(head: &Head, payload: &'a [u8]) -> Result<Record<'a>, Malformed> {
        Record::read(head, payload).ok_or(Malformed(head.kind))
    }

    fn read(head: &Head, payload: &'a [u8]) -> Option<Record<'a>> {
        let queue = QueueId(head.queue);
        // Nothing may lie behind what a kind says: a frame of another kind would pass for one of this.
        let empty = payload.is_empty().then_some(());
        Some(match head.kind {
            Kind::QueueCreated => {
                let fixed = payload.get(..8)?;
                let key_size = usize::from(u16::from_le_bytes([fixed[0], fixed[1]]));
                let key = QueueKey::from_bytes(payload.get(8..8 + key_size)?)?;
                let metadata = payload.get(8 + key_size..)?;
                (metadata.len() == u32_at(fixed, 4) as usize).then_some(())?;
                Record::QueueCreated { key, floor: read_floor(fixed[2])?, metadata }
            }
            Kind::QueueChanged => {
                let fixed = payload.get(..8)?;
                let metadata = payload.get(8..)?;
                (metadata.len() == u32_at(fixed, 4) as usize).then_some(())?;
                let metadata = match fixed[1] {
                    0 => None,
                    1 => Some(metadata),
                    _ => return None,
                };
                Record::QueueChanged { queue, floor: read_floor(fixed[0])?, metadata }
            }
            Kind::QueueRemoved => empty.map(|()| Record::QueueRemoved { queue })?,
            Kind::Posted | Kind::PostedOne => {
                let (client, word) = poster(payload)?;
                let messages = Messages::read(head.kind == Kind::PostedOne, word, payload)?;
                Record::Posted { queue, first: Seq(head.seq), client, messages }
            }
            Kind::Claimed => {
                let fixed = payload.get(..8)?;
                let seqs = Numbers::read(payload.get(8..)?)?;
                let (ttl_s, grace_s) = (u32_at(fixed, 0), u32_at(fixed, 4));
                Record::Claimed { queue, ttl_s, grace_s, seqs }
            }
            Kind::Renewed => {
                let fixed: &[u8; 8] = payload.try_into().ok()?;
                let (ttl_s, grace_s) = (u32_at(fixed, 0), u32_at(fixed, 4));
                Record::Renewed { queue, claim: ClaimId(Lsn(head.seq)), ttl_s, grace_s }
            }
            Kind::Released => {
                empty.map(|()| Record::Released { queue, claim: ClaimId(Lsn(head.seq)) })?
            }
            Kind::Deleted => Record::Deleted {
                queue,
                claim: (head.seq != 0).then_some(ClaimId(Lsn(head.seq))),
                seqs: Numbers::read(payload)?,
            },
            Kind::Resumed => empty.map(|()| Record::Resumed { skipped: head.seq })?,
            Kind::SegmentEnd => empty.map(|()| Record::SegmentEnd)?,
            Kind::SegmentRetired => empty.map(|()| Record::SegmentRetired { number: head.seq })?,
        })
    }
}

fn read_floor(code: u8) -> Option<Option<Durability>> {
    match code {
        0 => Some(None),
        code => Durability::from_code(code).map(Some),
    }
}

/// Message numbers in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    fn read(bytes: &'a [u8]) -> Option<Numbers<'a>> {
        bytes.len().is_multiple_of(8).then_some(Numbers(bytes))
    }

    /// How many there are.
    pub fn count(self) -> u64 {
        self.0.len() as u64 / 8
    }

    /// The numbers, in the order they were written.
    pub fn iter(self) -> impl Iterator<Item = Seq> + 'a {
        self.0.chunks_exact(8).map(|bytes| Seq(u64_at(bytes, 0)))
    }
}

/// The messages that a frame holds, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Messages<'a> {
    payload: &'a [u8],
    at: usize,
    left: u32,
    is_one: bool,
}

/// One message as it lies in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRecord<'a> {
    /// Where it begins, in bytes from the beginning of the frame; 0 where the frame is all its own.
    pub offset: usize,
    /// Seconds to live.
    pub ttl_s: u32,
    /// Of one among others the whole record: head, extensions, body. Of one in a frame of its own the payload.
    pub bytes: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

/// Where a message lies in its segment: in a frame of its own, or in one with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location(u32);

/// A [`Location`] with this bit is that of a frame. What is appended to is at most half as large; a segment that was
/// rewritten may hold more, where messages that lay together are by themselves now.
const IS_FRAME: u32 = 1 << 31;

impl Location {
    /// That of a message `offset` bytes behind the beginning of a frame, which has it to itself where that is 0.
    pub(crate) fn new(frame_position: u64, offset: usize) -> Location {
        let position = u32::try_from(frame_position + offset as u64)
            .ok()
            .filter(|position| *position < IS_FRAME)
            .expect("a segment is smaller than 2 GiB");
        Location(if offset == 0 { position | IS_FRAME } else { position })
    }

    /// As [`Location::bits`] gave it.
    pub(crate) fn from_bits(bits: u32) -> Location {
        Location(bits)
    }

    /// As it is kept.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// Where it begins: the frame of its own, or the record among others.
    pub(crate) fn position(self) -> u32 {
        self.0 & !IS_FRAME
    }

    /// Whether the frame there is all its own.
    pub(crate) fn is_frame(self) -> bool {
        self.0 & IS_FRAME != 0
    }
}

/// Who posted what a payload of either kind holds.
pub(crate) fn client_at(payload: &[u8]) -> Option<ClientId> {
    Some(ClientId(u128::from_le_bytes(payload.get(..CLIENT_SIZE)?.try_into().ok()?)))
}

/// With what a payload of either kind begins: who posted it, and of `Posted` how many messages there are, of
/// `PostedOne` its ttl.
pub(crate) fn poster(payload: &[u8]) -> Option<(ClientId, u32)> {
    Some((client_at(payload)?, u32_at(payload.get(..POST_HEAD_SIZE)?, CLIENT_SIZE)))
}

const _: () = assert!(POST_HEAD_SIZE == POST_ONE_HEAD_SIZE);

/// How many messages or numbers a payload holds, as it says itself.
pub(crate) fn count(head: &Head, payload: &[u8]) -> u64 {
    match head.kind {
        Kind::Posted => poster(payload).map_or(0, |(_, count)| count.into()),
        Kind::PostedOne => 1,
        Kind::Claimed => payload.len().saturating_sub(8) as u64 / 8,
        Kind::Deleted => payload.len() as u64 / 8,
        _ => 0,
    }
}

impl<'a> Messages<'a> {
    fn read(is_one: bool, count: u32, payload: &'a [u8]) -> Option<Messages<'a>> {
        let room = (payload.len() - POST_HEAD_SIZE) / MESSAGE_HEAD_SIZE;
        let left = if is_one { 1 } else { count };
        (is_one || left as usize <= room).then_some(Messages {
            payload,
            at: POST_HEAD_SIZE,
            left,
            is_one,
        })
    }

    /// How many are still to come, as the frame says.
    pub fn declared(&self) -> u32 {
        self.left
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<MessageRecord<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        if self.is_one {
            self.left = 0;
            let (ttl_s, body) = (u32_at(self.payload, CLIENT_SIZE), &self.payload[self.at..]);
            return Some(Ok(MessageRecord { offset: 0, ttl_s, bytes: self.payload, body }));
        }
        let record = read_message(&self.payload[self.at..]);
        let Some((ttl_s, size, body_at)) = record else {
            self.left = 0;
            return Some(Err(Malformed(Kind::Posted)));
        };
        let bytes = &self.payload[self.at..self.at + size];
        let offset = HEAD_SIZE + self.at;
        self.left -= 1;
        self.at += size;
        Some(Ok(MessageRecord { offset, ttl_s, bytes, body: &bytes[body_at..] }))
    }
}

/// `(ttl, size of the record, where its body begins)` of the message at the beginning of `bytes`, if
/// one fits in them. The checksum is the caller's to check.
fn read_message(bytes: &[u8]) -> Option<(u32, usize, usize)> {
    let head = bytes.get(..MESSAGE_HEAD_SIZE)?;
    let body_at = MESSAGE_HEAD_SIZE + usize::from(u16::from_le_bytes([head[16], head[17]]));
    let size = body_at + u32_at(head, 4) as usize;
    (size <= bytes.len()).then(|| (u32_at(head, 8), size, body_at))
}

/// How many bytes the message takes whose head is at the beginning of `bytes`.
pub(crate) fn message_size(bytes: &[u8]) -> Option<u32> {
    let head = bytes.get(..MESSAGE_HEAD_SIZE)?;
    let extensions_size = u32::from(u16::from_le_bytes([head[16], head[17]]));
    u32_at(head, 4).checked_add(extensions_size + MESSAGE_HEAD_SIZE as u32)
}

/// The ttl of the message whose head is at the beginning of `bytes`.
pub(crate) fn message_ttl_s(bytes: &[u8]) -> Option<u32> {
    Some(u32_at(bytes.get(..MESSAGE_HEAD_SIZE)?, 8))
}

/// How far behind the beginning of its frame the message lies whose head is at the beginning of `bytes`.
pub(crate) fn message_back(bytes: &[u8]) -> Option<u32> {
    Some(u32_at(bytes.get(..MESSAGE_HEAD_SIZE)?, 12))
}

/// What is wrong with a message in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// It does not fit the file.
    #[error("a message's length does not fit")]
    Length,
    /// Its checksum does not match.
    #[error("a message's checksum does not match")]
    Checksum,
    /// Its body is encoded in a way this version does not know.
    #[error("a message's body has an encoding of a newer version")]
    Encoding,
}

/// Checks the message at the beginning of `bytes`, in a frame of this poster: its ttl, and where in them
/// its body lies.
#[inline]
pub(crate) fn check_message(
    bytes: &[u8],
    client: ClientId,
) -> Result<(u32, std::ops::Range<usize>), BadMessage> {
    let (ttl_s, size, body_at) = read_message(bytes).ok_or(BadMessage::Length)?;
    let mut crc = poster_crc(client);
    crc.update(&bytes[4..size]);
    if crc.finalize() != u32_at(bytes, 0) {
        return Err(BadMessage::Checksum);
    }
    if bytes[18] != ENCODING_PLAIN {
        return Err(BadMessage::Encoding);
    }
    Ok((ttl_s, body_at..size))
}

/// How the checksums of messages among others begin: with who posted them, which stands once for all of them and is
/// read with each.
#[inline]
fn poster_crc(client: ClientId) -> crc32fast::Hasher {
    let mut crc = checksum::begin();
    crc.update(&client.0.to_le_bytes());
    crc
}

/// Whether the bytes are messages of this poster, one behind the other to their end, each as it was written.
pub(crate) fn are_messages(bytes: &[u8], client: ClientId) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((_, size, _)) = read_message(rest) else { return false };
        if check_message(rest, client).is_err() {
            return false;
        }
        rest = &rest[size..];
    }
    true
}

/// A payload being written, and its checksum. Reused from record to record.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Vec<u8>,
    /// Of those who posted messages together.
    poster_crc: crc32fast::Hasher,
}

impl Default for Payload {
    fn default() -> Payload {
        Payload { bytes: Vec::new(), poster_crc: checksum::begin() }
    }
}

impl Payload {
    /// The checksum of what was written, to be finished with the head.
    pub(crate) fn crc(&self) -> crc32fast::Hasher {
        let mut crc = checksum::begin();
        crc.update(&self.bytes);
        crc
    }

    pub(crate) fn queue_created(
        &mut self,
        key: &QueueKey,
        floor: Option<Durability>,
        metadata: &[u8],
    ) {
        let key = key.as_bytes();
        let key_size = u16::try_from(key.len()).expect("a key's parts are bounded");
        self.bytes.clear();
        self.bytes.extend_from_slice(&key_size.to_le_bytes());
        self.bytes.extend_from_slice(&[floor.map_or(0, |floor| floor as u8), 0]);
        self.bytes.extend_from_slice(&size_u32(metadata).to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(metadata);
    }

    pub(crate) fn queue_changed(&mut self, floor: Option<Durability>, metadata: Option<&[u8]>) {
        self.bytes.clear();
        let code = floor.map_or(0, |floor| floor as u8);
        self.bytes.extend_from_slice(&[code, u8::from(metadata.is_some()), 0, 0]);
        let metadata = metadata.unwrap_or_default();
        self.bytes.extend_from_slice(&size_u32(metadata).to_le_bytes());
        self.bytes.extend_from_slice(metadata);
    }

    /// Writes a message in a frame of its own.
    pub(crate) fn posted_one(&mut self, client: ClientId, ttl_s: u32, body: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&client.0.to_le_bytes());
        self.bytes.extend_from_slice(&ttl_s.to_le_bytes());
        self.bytes.extend_from_slice(body);
    }

    /// Begins a `Posted` payload; [`Payload::message`] follows once for each message.
    pub(crate) fn posted(&mut self, client: ClientId) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&client.0.to_le_bytes());
        self.bytes.extend_from_slice(&[0; POST_HEAD_SIZE - CLIENT_SIZE]);
        self.poster_crc = poster_crc(client);
    }

    /// Ends a `Posted` payload: the kind of frame it is for. A single message gets one of its own, which is smaller;
    /// but for one with what that has no room for, extensions and an encoding.
    pub(crate) fn end_posted(&mut self) -> Kind {
        let record = &self.bytes[POST_HEAD_SIZE..];
        let is_one = self.count() == 1
            && read_message(record).is_some_and(|(_, _, body_at)| body_at == MESSAGE_HEAD_SIZE)
            && record[18] == ENCODING_PLAIN;
        if !is_one {
            return Kind::Posted;
        }
        self.bytes.copy_within(POST_HEAD_SIZE + 8..POST_HEAD_SIZE + 12, CLIENT_SIZE);
        self.bytes.drain(POST_ONE_HEAD_SIZE..POST_HEAD_SIZE + MESSAGE_HEAD_SIZE);
        Kind::PostedOne
    }

    /// How many messages a `Posted` payload has.
    fn count(&self) -> u32 {
        u32_at(&self.bytes, CLIENT_SIZE)
    }

    pub(crate) fn message(&mut self, ttl_s: u32, body: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&size_u32(body).to_le_bytes());
        self.bytes.extend_from_slice(&ttl_s.to_le_bytes());
        let back = u32::try_from(HEAD_SIZE + start).expect("a frame is smaller than 4 GiB");
        self.bytes.extend_from_slice(&back.to_le_bytes());
        self.bytes.extend_from_slice(&[0, 0, ENCODING_PLAIN, 0]);
        self.bytes.extend_from_slice(body);
        self.seal_message(start);
    }

    /// Copies a message as it lies in another frame.
    pub(crate) fn message_again(&mut self, record: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record);
        let back = u32::try_from(HEAD_SIZE + start).expect("a frame is smaller than 4 GiB");
        self.bytes[start + 12..start + 16].copy_from_slice(&back.to_le_bytes());
        self.seal_message(start);
    }

    fn seal_message(&mut self, start: usize) {
        self.seal_again(start);
        let count = self.count() + 1;
        self.bytes[CLIENT_SIZE..POST_HEAD_SIZE].copy_from_slice(&count.to_le_bytes());
    }

    fn seal_again(&mut self, start: usize) {
        let mut crc = self.poster_crc.clone();
        crc.update(&self.bytes[start + 4..]);
        self.bytes[start..start + 4].copy_from_slice(&crc.finalize().to_le_bytes());
    }

    pub(crate) fn claimed(&mut self, ttl_s: u32, grace_s: u32, seqs: &[Seq]) {
        self.renewed(ttl_s, grace_s);
        self.push_numbers(seqs);
    }

    pub(crate) fn renewed(&mut self, ttl_s: u32, grace_s: u32) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&ttl_s.to_le_bytes());
        self.bytes.extend_from_slice(&grace_s.to_le_bytes());
    }

    pub(crate) fn deleted(&mut self, seqs: &[Seq]) {
        self.bytes.clear();
        self.push_numbers(seqs);
    }

    pub(crate) fn empty(&mut self) {
        self.bytes.clear();
    }

    fn push_numbers(&mut self, seqs: &[Seq]) {
        for seq in seqs {
            self.bytes.extend_from_slice(&seq.0.to_le_bytes());
        }
    }
}

fn size_u32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("sizes are checked before they are encoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: ClientId = ClientId(7 << 64 | 5);

    /// The payload of a post of these, and the kind of its frame.
    fn posted(bodies: &[&[u8]]) -> (Kind, Payload) {
        let mut payload = Payload::default();
        payload.posted(CLIENT);
        for body in bodies {
            payload.message(60, body);
        }
        (payload.end_posted(), payload)
    }

    fn read(kind: Kind, payload: &[u8]) -> Vec<(usize, u32, Vec<u8>)> {
        let length = u32::try_from(HEAD_SIZE + payload.len()).expect("small");
        let head = Head { length, lsn: Lsn(8), at_ms: 1, queue: 1, seq: 1, behind: 0, kind };
        let Ok(Record::Posted { client, messages, .. }) = Record::decode(&head, payload) else {
            panic!("a post was written")
        };
        assert_eq!((client, u64::from(messages.declared())), (CLIENT, count(&head, payload)));
        let message = |message: MessageRecord<'_>| {
            if message.offset > 0 {
                let (ttl_s, body) = check_message(message.bytes, client).expect("it is whole");
                assert_eq!((ttl_s, &message.bytes[body]), (message.ttl_s, message.body));
            }
            (message.offset, message.ttl_s, message.body.to_vec())
        };
        messages.map(|one| message(one.expect("it is whole"))).collect()
    }

    #[test]
    fn what_was_posted_is_read() {
        let (kind, payload) = posted(&[b"one", b"", b"three"]);
        assert_eq!(kind, Kind::Posted);
        let first = HEAD_SIZE + POST_HEAD_SIZE;
        let second = first + MESSAGE_HEAD_SIZE + 3;
        let third = second + MESSAGE_HEAD_SIZE;
        assert_eq!(
            read(kind, &payload.bytes),
            [
                (first, 60, b"one".to_vec()),
                (second, 60, Vec::new()),
                (third, 60, b"three".to_vec())
            ]
        );
    }

    #[test]
    fn a_single_message_gets_a_frame_of_its_own() {
        for body in [&b"a body"[..], b""] {
            let (kind, payload) = posted(&[body]);
            assert_eq!(kind, Kind::PostedOne);
            assert_eq!(read(kind, &payload.bytes), [(0, 60, body.to_vec())]);
            let mut at_once = Payload::default();
            at_once.posted_one(CLIENT, 60, body);
            assert_eq!(at_once.bytes, payload.bytes);
        }
    }

    #[test]
    fn a_single_message_with_extensions_keeps_them() {
        let mut payload = Payload::default();
        payload.posted(CLIENT);
        payload.message(60, b"extension, body");
        payload.bytes[POST_HEAD_SIZE + 4] -= 11;
        payload.bytes[POST_HEAD_SIZE + 16] += 11;
        payload.seal_again(POST_HEAD_SIZE);
        let before = payload.bytes.clone();
        assert_eq!(payload.end_posted(), Kind::Posted);
        assert_eq!(payload.bytes, before);
        let [(_, _, body)] = &read(Kind::Posted, &before)[..] else { panic!("there is one") };
        assert_eq!(body, b"body");
    }

    #[test]
    fn a_message_of_another_poster_is_none() {
        let (_, payload) = posted(&[b"one", b"two"]);
        let message = &payload.bytes[POST_HEAD_SIZE..];
        assert!(check_message(message, CLIENT).is_ok());
        assert_eq!(check_message(message, ClientId(5)), Err(BadMessage::Checksum));
    }
}
