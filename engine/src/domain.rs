//! The nouns of the engine: queue keys, ids, messages, claims, pages, stats.
//! Plain data; knows no other module, no file and no clock. Times are milliseconds since the Unix
//! epoch (`_ms`) or whole seconds (`_s`).

use std::fmt;
use std::sync::Arc;

/// What a successful answer promises about the work it reports.
///
/// The order is one of strength: a later variant promises everything an earlier one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Durability {
    /// The process has it. Lost when the process ends.
    Memory = 1,
    /// The operating system has it: survives the end of the process, not a power cut.
    Os = 2,
    /// As `Os`, and on stable storage at most one sync interval later.
    Interval = 3,
    /// On stable storage before the answer; one sync serves every request that waits for it.
    #[default]
    Group = 4,
    /// As `Group`, with a sync of its own for every request. For comparison.
    Each = 5,
}

impl Durability {
    /// All levels, weakest first.
    pub const ALL: [Durability; 5] = [
        Durability::Memory,
        Durability::Os,
        Durability::Interval,
        Durability::Group,
        Durability::Each,
    ];

    /// The name used in configuration, headers and reports.
    pub fn name(self) -> &'static str {
        match self {
            Durability::Memory => "memory",
            Durability::Os => "os",
            Durability::Interval => "interval",
            Durability::Group => "group",
            Durability::Each => "each",
        }
    }

    /// The level stored as `code` in the log, or `None` when no level has that number.
    pub fn from_code(code: u8) -> Option<Durability> {
        Durability::ALL.into_iter().find(|level| *level as u8 == code)
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Durability {
    type Err = UnknownDurability;

    fn from_str(text: &str) -> Result<Durability, UnknownDurability> {
        Durability::ALL.into_iter().find(|level| level.name() == text).ok_or(UnknownDurability)
    }
}

/// A text that names no durability level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown durability; one of memory, os, interval, group, each")]
pub struct UnknownDurability;

/// A byte position in the logical log. Grows for ever and is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The lower half.
    pub(crate) fn low(self) -> u32 {
        self.0 as u32
    }

    /// The upper half.
    pub(crate) fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of a queue: the LSN of the frame that created it, so a queue made again under the same
/// name is another queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// A message's number in its queue. Grows with every message, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

/// The poster of a message: a 128-bit client id, compared by value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u128);

/// Where a queue is found: a project (or none: the global namespace) and a name.
///
/// Kept as one byte string, `project length (u16, high byte first) ‖ project ‖ name`, so that keys
/// sort by project first and by name, byte by byte, within it. Projects that are prefixes of one
/// another cannot bleed into each other. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueKey(Arc<[u8]>);

impl QueueKey {
    /// Longest project and longest name, in bytes.
    pub const PART_SIZE_MAX: usize = 4096;

    /// A key, or `None` when a part is longer than [`QueueKey::PART_SIZE_MAX`]. An empty project is
    /// the global namespace.
    pub fn new(project: Option<&str>, name: &str) -> Option<QueueKey> {
        let project = project.unwrap_or("");
        if project.len() > Self::PART_SIZE_MAX || name.len() > Self::PART_SIZE_MAX {
            return None;
        }
        // The size fits: it was checked above.
        let size = [(project.len() >> 8) as u8, (project.len() & 0xff) as u8];
        let parts = [&size, project.as_bytes(), name.as_bytes()];
        // Most keys are short: put together on the stack they cost one allocation.
        let mut short = [0; 128];
        let whole = 2 + project.len() + name.len();
        let Some(bytes) = short.get_mut(..whole) else {
            return Some(QueueKey(parts.concat().into()));
        };
        let mut rest = &mut *bytes;
        for part in parts {
            let (here, behind) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        }
        Some(QueueKey((&*bytes).into()))
    }

    /// The key stored as `bytes`, or `None` when they are not a key.
    pub fn from_bytes(bytes: &[u8]) -> Option<QueueKey> {
        let length = usize::from(*bytes.first()?) << 8 | usize::from(*bytes.get(1)?);
        let project = std::str::from_utf8(bytes.get(2..2 + length)?).ok()?;
        let name = std::str::from_utf8(bytes.get(2 + length..)?).ok()?;
        QueueKey::new(Some(project), name)
    }

    /// The stored form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn project_size(&self) -> usize {
        usize::from(self.0[0]) << 8 | usize::from(self.0[1])
    }

    /// The project, `None` for the global namespace.
    pub fn project(&self) -> Option<&str> {
        let text = &self.0[2..2 + self.project_size()];
        (!text.is_empty())
            .then(|| std::str::from_utf8(text).expect("checked when the key was made"))
    }

    /// The queue's name within its project.
    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.0[2 + self.project_size()..])
            .expect("checked when the key was made")
    }
}

impl fmt::Debug for QueueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project().unwrap_or("-"), self.name())
    }
}

/// Names one message for ever: its queue and its number there.
///
/// The text form is opaque, matches `[A-Za-z0-9_-]+`, and ends in a check, so that a mistyped id
/// finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The queue the message was posted to.
    pub queue: QueueId,
    /// Its number there.
    pub seq: Seq,
}

/// Names one claim for ever: the LSN of the frame that made it. The text form is opaque, as that of
/// a [`MessageId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimId(pub Lsn);

/// A place in a queue's order from which listing goes on. Survives the deletion of the message it
/// was taken from, and belongs to one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Marker {
    /// The queue it was taken from.
    pub queue: QueueId,
    /// The last message already seen.
    pub seq: Seq,
}

/// A text that is not an id made by this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this service")]
pub struct BadId;

/// Each kind of id takes its own check, so that one cannot be used as another.
const TAG_MESSAGE: u64 = b'm' as u64;
const TAG_CLAIM: u64 = b'c' as u64;
const TAG_MARKER: u64 = b'p' as u64;

impl MessageId {
    /// The id as clients see it.
    pub fn text(&self) -> IdText {
        IdText::new(TAG_MESSAGE, &[self.queue.0, self.seq.0])
    }

    /// How many bytes [`MessageId::text`] has.
    pub fn text_size(&self) -> usize {
        let leb128_size = |part: u64| (u64::BITS - part.leading_zeros()).div_ceil(7).max(1);
        let size = leb128_size(self.queue.0) + leb128_size(self.seq.0);
        ((size as usize + CHECK_SIZE) * 4).div_ceil(3)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl std::str::FromStr for MessageId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<MessageId, BadId> {
        let [queue, seq] = parse_id(TAG_MESSAGE, text)?;
        Ok(MessageId { queue: QueueId(queue), seq: Seq(seq) })
    }
}

impl ClaimId {
    /// The id as clients see it.
    pub fn text(&self) -> IdText {
        IdText::new(TAG_CLAIM, &[self.0.0])
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl std::str::FromStr for ClaimId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<ClaimId, BadId> {
        let [lsn] = parse_id(TAG_CLAIM, text)?;
        Ok(ClaimId(Lsn(lsn)))
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(IdText::new(TAG_MARKER, &[self.queue.0, self.seq.0]).as_str())
    }
}

impl std::str::FromStr for Marker {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Marker, BadId> {
        let [queue, seq] = parse_id(TAG_MARKER, text)?;
        Ok(Marker { queue: QueueId(queue), seq: Seq(seq) })
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// What each letter stands for; [`NO_LETTER`] for all other bytes.
const VALUES: [u8; 256] = {
    let mut values = [NO_LETTER; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};
const NO_LETTER: u8 = 0x80;
/// Two LEB128 integers of at most ten bytes and a check of three.
const ID_BYTES_MAX: usize = 23;
const ID_TEXT_MAX: usize = ID_BYTES_MAX.div_ceil(3) * 4;
const CHECK_SIZE: usize = 3;

/// The text of an id, built without an allocation: the integers as LEB128, then the three bytes of their
/// check, all in URL-safe base64 without padding.
#[derive(Clone, Copy)]
pub struct IdText {
    text: [u8; ID_TEXT_MAX],
    size: usize,
}

impl fmt::Debug for IdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl IdText {
    fn new(tag: u64, parts: &[u64]) -> IdText {
        let mut bytes = [0u8; ID_TEXT_MAX / 4 * 3];
        let mut size = 0;
        for part in parts {
            let mut rest = *part;
            loop {
                let low = (rest & 0x7f) as u8;
                rest >>= 7;
                bytes[size] = if rest == 0 { low } else { low | 0x80 };
                size += 1;
                if rest == 0 {
                    break;
                }
            }
        }
        bytes[size..size + CHECK_SIZE].copy_from_slice(&id_check(tag, parts));
        size += CHECK_SIZE;

        // Whole groups: those behind the end are zeros, and are cut off.
        let mut text = [0; ID_TEXT_MAX];
        let (groups, _) = bytes.as_chunks();
        let (letters, _) = text.as_chunks_mut();
        for ([a, b, c], letters) in groups.iter().zip(letters).take(size.div_ceil(3)) {
            let word = u32::from_le_bytes([*c, *b, *a, 0]);
            *letters = [18, 12, 6, 0].map(|place| ALPHABET[(word >> place & 0x3f) as usize]);
        }
        IdText { text, size: (size * 4).div_ceil(3) }
    }

    /// The text's bytes, all of them ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.size]
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("the alphabet is ASCII")
    }
}

/// The check of an id of this kind: its integers mixed, one behind the other, by the finalizer of SplitMix64 (Steele,
/// Lea, Flood, "Fast splittable pseudorandom number generators", 2014). Twenty ids stand in a page, and a sum made for
/// long texts takes several times as long for so short ones.
fn id_check(tag: u64, parts: &[u64]) -> [u8; CHECK_SIZE] {
    let mixed = parts.iter().fold(tag, |mixed, part| {
        let mixed = (mixed ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    });
    let [a, b, c, ..] = mixed.to_le_bytes();
    [a, b, c]
}

fn parse_id<const N: usize>(tag: u64, text: &str) -> Result<[u64; N], BadId> {
    if text.len() > ID_TEXT_MAX || text.len() % 4 == 1 {
        return Err(BadId);
    }
    let mut decoded = [0u8; ID_TEXT_MAX];
    let (groups, last) = text.as_bytes().as_chunks::<4>();
    let (bytes, _) = decoded.as_chunks_mut::<3>();
    // The bits of all values: whether each was a letter is asked once.
    let mut bits = 0;
    let mut word_of = |letters: &[u8]| {
        letters.iter().fold(0, |word: u32, letter| {
            let value = VALUES[usize::from(*letter)];
            bits |= value;
            word << 6 | u32::from(value)
        })
    };
    for (group, bytes) in groups.iter().zip(&mut *bytes) {
        let [third, second, first, _] = word_of(group).to_le_bytes();
        *bytes = [first, second, third];
    }
    let mut size = groups.len() * 3;
    if !last.is_empty() {
        let word = word_of(last) << (6 * (4 - last.len()));
        let [third, second, first, _] = word.to_le_bytes();
        // What a last letter says beyond whole bytes is nothing, or the text is not the one of its id.
        if third != 0 || (last.len() == 2 && second != 0) {
            return Err(BadId);
        }
        bytes[groups.len()] = [first, second, third];
        size += last.len() - 1;
    }
    if bits & NO_LETTER != 0 {
        return Err(BadId);
    }
    let body_size = size.checked_sub(CHECK_SIZE).ok_or(BadId)?;
    let (body, check) = decoded[..size].split_at(body_size);
    let mut parts = [0u64; N];
    let mut at = 0;
    for part in &mut parts {
        let mut shift = 0;
        loop {
            let byte = *body.get(at).ok_or(BadId)?;
            at += 1;
            let value = u64::from(byte & 0x7f);
            // One text per id: no number has more bytes than it needs.
            let is_padded = byte == 0 && shift > 0;
            if is_padded || shift > 63 || (shift == 63 && value > 1) {
                return Err(BadId);
            }
            *part |= value << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    // Nor does anything stand behind them.
    let is_whole = at == body.len() && check == id_check(tag, &parts);
    is_whole.then_some(parts).ok_or(BadId)
}

/// Whether creating a queue made one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The queue is new.
    New,
    /// It was there already; nothing changed but, when one was given, its durability floor.
    Existing,
}

/// What is kept with a queue besides its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueInfo {
    /// The bytes last set as metadata; empty when none ever were.
    pub metadata: bytes::Bytes,
    /// The durability asked for this queue, when one was.
    pub floor: Option<Durability>,
    /// The durability its writes get at least: the floor, or what the configuration says.
    pub durability: Durability,
}

/// One queue in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueEntry {
    /// Its key.
    pub key: QueueKey,
    /// Its metadata; empty when none was set.
    pub metadata: bytes::Bytes,
}

/// Exact counts of a queue at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueStats {
    /// Messages that a claim could take.
    pub free: u64,
    /// Messages under a live claim.
    pub claimed: u64,
    /// The oldest and the newest live message, claimed or not; `None` when there is none.
    pub ends: Option<(StatMessage, StatMessage)>,
}

/// A message as stats name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatMessage {
    /// Its id.
    pub id: MessageId,
    /// When it was posted.
    pub created_ms: u64,
    /// Whole seconds since then; never negative.
    pub age_s: u64,
}

/// Which messages of a queue a listing returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListFilter {
    /// Leave out what this client posted.
    pub not_by: Option<ClientId>,
    /// Also return messages under a live claim.
    pub include_claimed: bool,
}

impl ListFilter {
    /// Whether what this client posted is left out.
    pub(crate) fn leaves_out(&self, client: ClientId) -> bool {
        self.not_by == Some(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_keep_their_parts_and_sort_by_project_first() {
        let key = QueueKey::new(Some("a/b"), "q").expect("short");
        assert_eq!((key.project(), key.name()), (Some("a/b"), "q"));
        assert_eq!(QueueKey::from_bytes(key.as_bytes()), Some(key));
        let short = QueueKey::new(Some("64"), "1q").expect("short");
        let long = QueueKey::new(Some("641"), "q").expect("short");
        assert_ne!(short, long);
        assert_eq!(QueueKey::from_bytes(&[0, 9, b'x']), None);
        assert_eq!(QueueKey::new(None, &"x".repeat(4097)), None);
    }

    /// Mostly such as numbers are made of: their ends, and what goes on.
    fn any_byte() -> impl Strategy<Value = u8> {
        prop_oneof![Just(0), Just(1), Just(0x7f), Just(0x80), Just(0xff), any::<u8>()]
    }

    /// Up to three bytes as letters, by the definition of base64.
    fn letters(group: &[u8]) -> Vec<char> {
        let bits: Vec<u8> =
            group.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
        let value = |sextet: &[u8]| {
            (0..6).fold(0, |value, at| value << 1 | usize::from(*sextet.get(at).unwrap_or(&0)))
        };
        bits.chunks(6).map(|sextet| char::from(ALPHABET[value(sextet)])).collect()
    }

    /// An integer as LEB128, though it may have bytes that it does not need, or too many, or not its last.
    fn loosely_read(bytes: &mut std::slice::Iter<'_, u8>) -> u64 {
        let (mut value, mut shift) = (0, 0);
        for byte in bytes {
            value |= u64::from(byte & 0x7f).unbounded_shl(shift);
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }

    proptest! {
        #[test]
        fn ids_round_trip(queue: u64, seq: u64) {
            let id = MessageId { queue: QueueId(queue), seq: Seq(seq) };
            let text = id.to_string();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            prop_assert_eq!(text.parse(), Ok(id));
            prop_assert!(text.parse::<Marker>().is_err());
            let claim = ClaimId(Lsn(queue));
            prop_assert_eq!(claim.to_string().parse(), Ok(claim));
            let marker = Marker { queue: QueueId(queue), seq: Seq(seq) };
            prop_assert_eq!(marker.to_string().parse(), Ok(marker));
        }

        /// Any text of the alphabet whose check is right, so that all else about it is looked at.
        #[test]
        fn one_text_is_of_an_id(bytes in proptest::collection::vec(any_byte(), 0..12)) {
            let mut rest = bytes.iter();
            let parts = [(); 2].map(|()| loosely_read(&mut rest));
            let bytes = [&bytes[..], &id_check(TAG_MESSAGE, &parts)].concat();
            let text: String = bytes.chunks(3).flat_map(letters).collect();
            if let Ok(id) = text.parse::<MessageId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        /// Some letters end with bits that stand for nothing.
        #[test]
        fn another_last_letter_makes_no_id(queue: u64, seq: u64) {
            let mut text = MessageId { queue: QueueId(queue), seq: Seq(seq) }.to_string();
            let last = text.pop();
            for letter in ALPHABET.iter().map(|letter| char::from(*letter)) {
                text.push(letter);
                prop_assert_eq!(text.parse::<MessageId>().is_ok(), Some(letter) == last);
                text.pop();
            }
        }

        #[test]
        fn other_text_is_no_id(text in "\\PC{0,40}") {
            if let Ok(id) = text.parse::<MessageId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
