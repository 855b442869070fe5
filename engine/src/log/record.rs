//! The payloads of frames: what each kind of record holds, as bytes, and back.
//! Knows frames' heads; knows no file and no state. Layouts: `docs/format.md`, "Records".

use super::frame::{HEAD_SIZE, Head, Kind, u32_at, u64_at};
use crate::checksum;
use crate::domain::{ClaimId, ClientId, Durability, Lsn, QueueId, QueueKey, Seq};

/// Bytes before the messages of a `Posted` payload: the poster.
pub const POST_HEAD_SIZE: usize = 16;
/// Bytes of a message before its extensions and its body.
pub const MESSAGE_HEAD_SIZE: usize = 20;
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
            Kind::Posted => {
                let client = payload.get(..POST_HEAD_SIZE)?;
                let client = u128::from_le_bytes(client.try_into().ok()?);
                let messages = Messages { payload, at: POST_HEAD_SIZE, left: head.count };
                Record::Posted { queue, first: Seq(head.seq), client: ClientId(client), messages }
            }
            Kind::Claimed => {
                let fixed = payload.get(..8)?;
                let seqs = Numbers::read(payload.get(8..)?, head.count)?;
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
                seqs: Numbers::read(payload, head.count)?,
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
    fn read(bytes: &'a [u8], count: u16) -> Option<Numbers<'a>> {
        (bytes.len() == usize::from(count) * 8).then_some(Numbers(bytes))
    }

    /// The numbers, in the order they were written.
    pub fn iter(self) -> impl Iterator<Item = Seq> + 'a {
        self.0.chunks_exact(8).map(|bytes| Seq(u64_at(bytes, 0)))
    }
}

/// The messages of a `Posted` payload, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Messages<'a> {
    payload: &'a [u8],
    at: usize,
    left: u16,
}

/// One message as it lies in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRecord<'a> {
    /// Where it begins, in bytes from the beginning of the frame.
    pub offset: usize,
    /// Seconds to live.
    pub ttl_s: u32,
    /// The whole record: head, extensions, body.
    pub bytes: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<MessageRecord<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
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

/// Checks the message at the beginning of `bytes`; where in them its body lies.
pub(crate) fn check_message(bytes: &[u8]) -> Result<std::ops::Range<usize>, BadMessage> {
    let (_, size, body_at) = read_message(bytes).ok_or(BadMessage::Length)?;
    if checksum::of(&bytes[4..size]) != u32_at(bytes, 0) {
        return Err(BadMessage::Checksum);
    }
    if bytes[18] != ENCODING_PLAIN {
        return Err(BadMessage::Encoding);
    }
    Ok(body_at..size)
}

/// Whether the bytes are messages, one behind the other to their end, each as it was written.
pub(crate) fn are_messages(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((_, size, _)) = read_message(rest) else { return false };
        if check_message(rest).is_err() {
            return false;
        }
        rest = &rest[size..];
    }
    true
}

/// A payload being written, and its checksum. Reused from record to record.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    pub(crate) bytes: Vec<u8>,
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

    /// Begins a `Posted` payload; [`Payload::message`] follows once for each message.
    pub(crate) fn posted(&mut self, client: ClientId) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&client.0.to_le_bytes());
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
        let crc = checksum::of(&self.bytes[start + 4..]);
        self.bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
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
