//! A frame: one checksummed entry of the log. Its head, its checksum, each way to be wrong.
//! Knows no file and no queue.
//!
//! The layout is in `docs/format.md`, "Frame". All integers are little-endian:
//!
//! ```text
//!  0  crc        u32   CRC-32 (IEEE), see below
//!  4  length     u32   head and payload, without the padding to a multiple of 8
//!  8  lsn_low    u32   the lower half of where the frame lies in the log
//! 12  behind     u32   lsn less the LSN below which all was durable when this was appended; in a
//!                      rewritten segment the LSN's upper half
//! 16  queue      u64   the queue it belongs to, 0 for none
//! 24  seq        u64   first message, or the claim; by kind
//! 32  at_ms      u48   when it was made
//! 38  kind       u8
//! 39  flags      u8    0
//! 40  payload
//! ```
//!
//! The checksum runs over the payload first, so that it is taken before any lock; the head, known
//! only under the lock, is folded in behind its own place, and the LSN's upper half last. That half need
//! not be written where a frame's place in its file tells it. No frame ever passes for one of another
//! LSN: the lower halves differ, or the checksums, since a CRC-32 tells any two texts apart that differ
//! in no more than 32 neighbouring bits.

use crate::checksum;
use crate::domain::Lsn;

/// Bytes of a head.
pub const HEAD_SIZE: usize = 40;
/// Frames begin at multiples of this.
pub const ALIGNMENT: usize = 8;
/// Times in a head lie below this: in the year 10889.
pub const AT_LIMIT_MS: u64 = 1 << 48;

/// What a frame says. Numbers are for ever: never reused, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A queue was made. Its id is this frame's LSN.
    QueueCreated = 1,
    /// A queue's metadata or durability floor was set.
    QueueChanged = 2,
    /// A queue and all it held is gone.
    QueueRemoved = 3,
    /// Messages were posted together; `seq` is the first one's number.
    Posted = 4,
    /// Messages were claimed. The claim's id is this frame's LSN.
    Claimed = 5,
    /// Claim `seq` starts anew.
    Renewed = 6,
    /// Claim `seq` was given up.
    Released = 7,
    /// Messages were deleted, under claim `seq` or (0) without one.
    Deleted = 8,
    /// The log goes on after an end that was not clean; `seq` numbers are skipped in every queue.
    Resumed = 9,
    /// The segment ends here; the log goes on at LSN `seq`, where another segment begins.
    SegmentEnd = 10,
    /// Nothing lives any more in segment `seq`, and its files are being removed.
    SegmentRetired = 11,
    /// Message `seq` was posted.
    PostedOne = 12,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 12] = [
        Kind::QueueCreated,
        Kind::QueueChanged,
        Kind::QueueRemoved,
        Kind::Posted,
        Kind::Claimed,
        Kind::Renewed,
        Kind::Released,
        Kind::Deleted,
        Kind::Resumed,
        Kind::SegmentEnd,
        Kind::SegmentRetired,
        Kind::PostedOne,
    ];

    /// Whether it holds messages: what alone a rewritten segment keeps.
    pub(crate) fn has_messages(self) -> bool {
        matches!(self, Kind::Posted | Kind::PostedOne)
    }

    /// The kind with this number.
    pub fn from_code(code: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// A frame's head, all but its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Head and payload, in bytes, without padding.
    pub length: u32,
    /// Where it lies in the log.
    pub lsn: Lsn,
    /// When it was made; below [`AT_LIMIT_MS`].
    pub at_ms: u64,
    /// The queue, by its number; 0 for none.
    pub queue: u64,
    /// A message's or a claim's number, by kind.
    pub seq: u64,
    /// How far the log was durable when this was appended: so many bytes before `lsn`. In a rewritten
    /// segment the upper half of `lsn`, and of no other meaning.
    pub behind: u32,
    /// What it says.
    pub kind: Kind,
}

impl Head {
    /// Bytes the frame takes, padding included.
    pub fn padded_size(&self) -> usize {
        padded(self.length as usize)
    }

    /// Writes the head in front of a payload whose checksum so far is `crc`.
    pub(crate) fn encode(&self, mut crc: crc32fast::Hasher) -> [u8; HEAD_SIZE] {
        let mut bytes = [0u8; HEAD_SIZE];
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.lsn.low().to_le_bytes());
        bytes[12..16].copy_from_slice(&self.behind.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.queue.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.seq.to_le_bytes());
        bytes[32..38].copy_from_slice(&self.at_ms.min(AT_LIMIT_MS - 1).to_le_bytes()[..6]);
        bytes[38] = self.kind as u8;
        add_head(&mut crc, &bytes, self.lsn);
        bytes[..4].copy_from_slice(&crc.finalize().to_le_bytes());
        bytes
    }
}

/// Adds what a checksum takes behind the payload.
fn add_head(crc: &mut crc32fast::Hasher, head: &[u8], lsn: Lsn) {
    // One piece, since the checksum likes long ones.
    let mut piece = [0; HEAD_SIZE];
    piece[..HEAD_SIZE - 4].copy_from_slice(&head[4..HEAD_SIZE]);
    piece[HEAD_SIZE - 4..].copy_from_slice(&lsn.high().to_le_bytes());
    crc.update(&piece);
}

/// The next multiple of [`ALIGNMENT`].
pub(crate) const fn padded(size: usize) -> usize {
    size.next_multiple_of(ALIGNMENT)
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Zeros: nothing was written here yet.
    #[error("nothing was written here")]
    Empty,
    /// The length does not fit a head, or the file.
    #[error("the length does not fit")]
    Length,
    /// The frame belongs to another place of the log.
    #[error("the LSN is not the one of this place")]
    Lsn,
    /// The checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// The disk does not give the bytes.
    #[error("the disk cannot read it")]
    Unreadable,
    /// The checksum matches, but the kind or a flag is of a newer format.
    #[error("the kind of frame is unknown: a newer version wrote it")]
    Unknown,
}

/// The length that the head at the beginning of `bytes` gives its frame.
pub(crate) fn length(bytes: &[u8]) -> Result<u32, Invalid> {
    let head = bytes.get(..HEAD_SIZE).ok_or(Invalid::Length)?;
    match u32_at(head, 4) {
        0 => Err(Invalid::Empty),
        length if (length as usize) < HEAD_SIZE => Err(Invalid::Length),
        length => Ok(length),
    }
}

/// What a head says of its LSN: enough where its place in a file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LsnHint {
    /// The lower half.
    pub(crate) low: u32,
    /// The upper half where the segment was rewritten, else of another meaning.
    pub(crate) behind: u32,
}

impl LsnHint {
    /// What the head at the beginning of `bytes` says, if they are long enough for one.
    pub(crate) fn of(bytes: &[u8]) -> Option<LsnHint> {
        let head = bytes.get(..HEAD_SIZE)?;
        Some(LsnHint { low: u32_at(head, 8), behind: u32_at(head, 12) })
    }

    /// All of it, as a frame of a rewritten segment says.
    pub(crate) fn whole(self) -> Lsn {
        Lsn(u64::from(self.behind) << 32 | u64::from(self.low))
    }
}

/// The kind of frame whose head is at the beginning of `bytes`, proved by nothing.
pub(crate) fn unproved_kind(bytes: &[u8]) -> Option<Kind> {
    Kind::from_code(*bytes.get(38)?)
}

/// What the head at the beginning of `bytes` says, proved by nothing; `None` where it says nothing
/// that could be. `lsn_of` gives the LSN that a frame in this place has.
#[inline]
pub(crate) fn unproved_head(
    bytes: &[u8],
    lsn_of: impl FnOnce(LsnHint) -> Option<Lsn>,
) -> Option<Head> {
    let length = length(bytes).ok()?;
    read_head(length, lsn_of(LsnHint::of(bytes)?)?, &bytes[..HEAD_SIZE])
}

fn read_head(length: u32, lsn: Lsn, head: &[u8]) -> Option<Head> {
    Some(Head {
        length,
        lsn,
        behind: u32_at(head, 12),
        queue: u64_at(head, 16),
        seq: u64_at(head, 24),
        at_ms: u64_at(head, 32) & (AT_LIMIT_MS - 1),
        kind: Kind::from_code(head[38])?,
    })
}

/// Reads the frame that starts at the beginning of `bytes`, which reach to the end of the file.
/// `lsn_of` gives its LSN, if a frame that says so of itself can lie in this place.
pub(crate) fn decode(
    bytes: &[u8],
    lsn_of: impl FnOnce(LsnHint) -> Option<Lsn>,
) -> Result<(Head, &[u8]), Invalid> {
    let length = length(bytes)?;
    let head = &bytes[..HEAD_SIZE];
    let frame = bytes.get(..length as usize).ok_or(Invalid::Length)?;
    let payload = frame.get(HEAD_SIZE..).ok_or(Invalid::Length)?;
    let lsn = LsnHint::of(head).and_then(lsn_of).ok_or(Invalid::Lsn)?;
    let mut crc = checksum::begin();
    crc.update(payload);
    add_head(&mut crc, head, lsn);
    if crc.finalize() != u32_at(head, 0) {
        return Err(Invalid::Checksum);
    }
    if head[39] != 0 {
        return Err(Invalid::Unknown);
    }
    Ok((read_head(length, lsn, head).ok_or(Invalid::Unknown)?, payload))
}

/// Reads the frame at the beginning of `bytes`, of a segment appended to, whose place in the log is not known but that
/// it is about below `limit`: tries which upper half of its LSN its checksum takes.
pub(crate) fn decode_astray(bytes: &[u8], limit: Lsn) -> Option<Head> {
    let length = length(bytes).ok()?;
    let (head, hint) = (&bytes[..HEAD_SIZE], LsnHint::of(bytes)?);
    let payload = bytes.get(..length as usize)?.get(HEAD_SIZE..)?;
    // Almost nothing has both by chance.
    if unproved_kind(head).is_none() || head[39] != 0 {
        return None;
    }
    let mut crc = checksum::begin();
    crc.update(payload);
    crc.update(&head[4..]);
    let is_it = |high: &u32| {
        let mut crc = crc.clone();
        crc.update(&high.to_le_bytes());
        crc.finalize() == u32_at(head, 0)
    };
    let high = (0..=limit.high().saturating_add(1)).find(is_it)?;
    read_head(length, Lsn(u64::from(high) << 32 | u64::from(hint.low)), head)
}

/// Whether these bytes are a whole frame but for its LSN, which is this one.
pub(crate) fn has_checksum_with(bytes: &[u8], lsn: Lsn) -> bool {
    let mut bytes = bytes.to_vec();
    let Some(field) = bytes.get_mut(8..12) else { return false };
    field.copy_from_slice(&lsn.low().to_le_bytes());
    decode(&bytes, |_| Some(lsn)).is_ok()
}

/// The integer at `offset`, which the caller has checked to lie within.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

/// The integer at `offset`, which the caller has checked to lie within.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(lsn: u64, payload: &[u8]) -> Vec<u8> {
        let mut crc = checksum::begin();
        crc.update(payload);
        let head = Head {
            length: (HEAD_SIZE + payload.len()) as u32,
            lsn: Lsn(lsn),
            at_ms: 5,
            queue: 6,
            seq: 7,
            behind: 8,
            kind: Kind::Deleted,
        };
        [head.encode(crc).as_slice(), payload].concat()
    }

    /// As in a segment whose frame of this place has this LSN.
    fn read(bytes: &[u8], lsn: u64) -> Result<(Head, &[u8]), Invalid> {
        decode(bytes, |hint| (hint.low == lsn as u32).then_some(Lsn(lsn)))
    }

    #[test]
    fn each_way_to_be_wrong_is_told() {
        let good = frame(64, b"payload");
        assert_eq!(read(&good, 64).map(|(_, payload)| payload), Ok(&b"payload"[..]));
        assert_eq!(read(&good, 72).err(), Some(Invalid::Lsn));
        assert_eq!(read(&good[..42], 64).err(), Some(Invalid::Length));
        assert_eq!(read(&good[..32], 64).err(), Some(Invalid::Length));
        assert_eq!(read(&[0; 64], 64).err(), Some(Invalid::Empty));
        let mut short = good.clone();
        short[4..8].copy_from_slice(&(HEAD_SIZE as u32 - 1).to_le_bytes());
        assert_eq!(read(&short, 64).err(), Some(Invalid::Length));
    }

    #[test]
    fn a_kind_or_flag_of_the_future_is_not_taken_for_damage() {
        for (place, value) in [(38, 200), (39, 1)] {
            let mut future = frame(64, b"");
            future[place] = value;
            let mut crc = checksum::begin();
            add_head(&mut crc, &future, Lsn(64));
            let crc = crc.finalize().to_le_bytes();
            future[..4].copy_from_slice(&crc);
            assert_eq!(read(&future, 64).err(), Some(Invalid::Unknown));
        }
    }

    #[test]
    fn a_time_beyond_what_fits_is_the_last_that_does() {
        let head = Head {
            length: HEAD_SIZE as u32,
            lsn: Lsn(64),
            at_ms: u64::MAX,
            queue: 0,
            seq: 0,
            behind: 0,
            kind: Kind::Resumed,
        };
        let bytes = head.encode(checksum::begin());
        let (read, _) = read(&bytes, 64).expect("it was just written");
        assert_eq!(read, Head { at_ms: AT_LIMIT_MS - 1, ..head });
    }

    #[test]
    fn a_frame_tells_where_in_the_log_it_was() {
        let limit = Lsn(6 << 32);
        for lsn in [64, 5 << 32 | 64, 7 << 32] {
            let head = decode_astray(&frame(lsn, b"payload"), limit).expect("it is whole");
            assert_eq!(head.lsn, Lsn(lsn));
        }
        assert_eq!(decode_astray(&frame(8 << 32, b"payload"), limit), None);
        let mut rotten = frame(64, b"payload");
        rotten[HEAD_SIZE] ^= 1;
        assert_eq!(decode_astray(&rotten, limit), None);
    }

    proptest! {
        #[test]
        fn any_changed_bit_is_seen(payload: Vec<u8>, bit in 0usize..8 * HEAD_SIZE) {
            let mut bytes = frame(64, &payload);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(&bytes, 64).is_err());
        }

        /// A file that is used again may hold frames whose LSNs differ in the upper half alone.
        #[test]
        fn a_frame_passes_for_none_of_another_lsn(payload: Vec<u8>, low: u32, own: u32, other: u32) {
            let lsn = |high: u32| u64::from(high) << 32 | u64::from(low);
            let bytes = frame(lsn(own), &payload);
            prop_assert_eq!(read(&bytes, lsn(other)).is_ok(), own == other);
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = decode(&bytes, |hint| Some(Lsn(u64::from(hint.low))));
        }
    }
}
