//! A frame: one checksummed entry of the log. Its head, its checksum, each way to be wrong.
//! Knows no file and no queue.
//!
//! The layout is in `docs/format.md`, "Frame". All integers are little-endian:
//!
//! ```text
//!  0  crc        u32   CRC-32 (IEEE) over the payload, then over bytes 4..48 of the head
//!  4  length     u32   head and payload, without the padding to a multiple of 8
//!  8  lsn        u64   where the frame lies in the log
//! 16  at_ms      u64   when it was made
//! 24  queue      u64   the queue it belongs to, 0 for none
//! 32  seq        u64   first message, or the claim; by kind
//! 40  behind     u32   lsn less the LSN below which all was durable when this was appended
//! 44  kind       u8
//! 45  flags      u8    0
//! 46  count      u16   messages, or numbers, in the payload
//! 48  payload
//! ```
//!
//! The checksum runs over the payload first, so that it is taken before any lock; the head, known
//! only under the lock, is folded in last.

use crate::checksum;
use crate::domain::Lsn;

/// Bytes of a head.
pub const HEAD_SIZE: usize = 48;
/// Frames begin at multiples of this.
pub const ALIGNMENT: usize = 8;

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
    /// Messages were posted; `seq` is the first one's number.
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
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 11] = [
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
    ];

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
    /// When it was made.
    pub at_ms: u64,
    /// The queue, by its number; 0 for none.
    pub queue: u64,
    /// A message's or a claim's number, by kind.
    pub seq: u64,
    /// How far the log was durable when this was appended: so many bytes before `lsn`.
    pub behind: u32,
    /// What it says.
    pub kind: Kind,
    /// How many messages or numbers the payload holds.
    pub count: u16,
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
        bytes[8..16].copy_from_slice(&self.lsn.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.at_ms.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.queue.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.seq.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.behind.to_le_bytes());
        bytes[44] = self.kind as u8;
        bytes[46..48].copy_from_slice(&self.count.to_le_bytes());
        crc.update(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.finalize().to_le_bytes());
        bytes
    }
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

/// What the head at the beginning of `bytes` says, proved by nothing; `None` where it says nothing
/// that could be.
pub(crate) fn unproved_head(bytes: &[u8]) -> Option<Head> {
    let length = length(bytes).ok()?;
    read_head(length, &bytes[..HEAD_SIZE])
}

fn read_head(length: u32, head: &[u8]) -> Option<Head> {
    Some(Head {
        length,
        lsn: Lsn(u64_at(head, 8)),
        at_ms: u64_at(head, 16),
        queue: u64_at(head, 24),
        seq: u64_at(head, 32),
        behind: u32_at(head, 40),
        kind: Kind::from_code(head[44])?,
        count: u16::from_le_bytes([head[46], head[47]]),
    })
}

/// Reads the frame that starts at the beginning of `bytes`, which reach to the end of the file.
/// `is_its` says whether its LSN is one of this place's.
pub(crate) fn decode(
    bytes: &[u8],
    is_its: impl FnOnce(Lsn) -> bool,
) -> Result<(Head, &[u8]), Invalid> {
    let length = length(bytes)?;
    let head = &bytes[..HEAD_SIZE];
    let frame = bytes.get(..length as usize).ok_or(Invalid::Length)?;
    let payload = frame.get(HEAD_SIZE..).ok_or(Invalid::Length)?;
    if !is_its(Lsn(u64_at(head, 8))) {
        return Err(Invalid::Lsn);
    }
    let mut crc = checksum::begin();
    crc.update(payload);
    crc.update(&head[4..]);
    if crc.finalize() != u32_at(head, 0) {
        return Err(Invalid::Checksum);
    }
    if head[45] != 0 {
        return Err(Invalid::Unknown);
    }
    Ok((read_head(length, head).ok_or(Invalid::Unknown)?, payload))
}

/// Whether these bytes are a whole frame but for its LSN, which is this one.
pub(crate) fn has_checksum_with(bytes: &[u8], lsn: Lsn) -> bool {
    let mut bytes = bytes.to_vec();
    let Some(field) = bytes.get_mut(8..16) else { return false };
    field.copy_from_slice(&lsn.0.to_le_bytes());
    decode(&bytes, |found| found == lsn).is_ok()
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
            count: 1,
        };
        [head.encode(crc).as_slice(), payload].concat()
    }

    #[test]
    fn each_way_to_be_wrong_is_told() {
        let good = frame(64, b"payload");
        assert_eq!(
            decode(&good, |lsn| lsn == Lsn(64)).map(|(_, payload)| payload),
            Ok(&b"payload"[..])
        );
        assert_eq!(decode(&good, |lsn| lsn == Lsn(72)).err(), Some(Invalid::Lsn));
        assert_eq!(decode(&good[..50], |_| true).err(), Some(Invalid::Length));
        assert_eq!(decode(&good[..40], |_| true).err(), Some(Invalid::Length));
        assert_eq!(decode(&[0; 64], |_| true).err(), Some(Invalid::Empty));
        let mut short = good.clone();
        short[4] = 47;
        short[5..8].fill(0);
        assert_eq!(decode(&short, |_| true).err(), Some(Invalid::Length));
    }

    #[test]
    fn a_kind_or_flag_of_the_future_is_not_taken_for_damage() {
        for (place, value) in [(44, 200), (45, 1)] {
            let mut future = frame(64, b"");
            future[place] = value;
            let mut crc = checksum::begin();
            crc.update(&future[4..HEAD_SIZE]);
            let crc = crc.finalize().to_le_bytes();
            future[..4].copy_from_slice(&crc);
            assert_eq!(decode(&future, |_| true).err(), Some(Invalid::Unknown));
        }
    }

    proptest! {
        #[test]
        fn any_changed_bit_is_seen(payload: Vec<u8>, bit in 0usize..8 * 48) {
            let mut bytes = frame(64, &payload);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&bytes, |lsn| lsn == Lsn(64)).is_err());
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = decode(&bytes, |_| true);
        }
    }
}
