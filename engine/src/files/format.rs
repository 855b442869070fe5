//! Magic numbers, versions, headers, file names: the one list of them. `docs/format.md` describes
//! every byte. Knows nothing of what the files contain behind their headers.

use crate::checksum;
use crate::domain::Lsn;
use crate::log::frame::{u32_at, u64_at};
use std::path::{Path, PathBuf};

/// The version this program writes, and the newest it reads.
pub const VERSION: u32 = 2;

/// The file that says whose folder this is.
pub const FORMAT_FILE: &str = "FORMAT";
/// The file that stands for the lock.
pub const LOCK_FILE: &str = "LOCK";
/// The folder of segments and their indexes.
pub const LOG_FOLDER: &str = "log";
/// The folder of checkpoints.
pub const CHECKPOINT_FOLDER: &str = "checkpoint";
/// How the name of a file ends that is not yet whole, or no longer needed.
pub const UNFINISHED: &str = "tmp";

/// Every header takes so many bytes at least, zeros behind its fields.
pub const HEADER_SIZE: usize = 128;
/// Frames begin here, so that writing them never touches the header's block.
pub const SEGMENT_HEADER_SIZE: u64 = 4096;

/// How the file `FORMAT` begins.
pub const MAGIC_FORMAT: [u8; 8] = *b"MARCONI\n";
/// How a segment begins.
pub const MAGIC_SEGMENT: [u8; 8] = *b"MARCOSEG";

/// Why a header is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// Shorter than a header.
    #[error("the file is shorter than its header")]
    Short,
    /// Another kind of file.
    #[error("this is not a file of Marconi, or of another kind than its name says")]
    Magic,
    /// A version this program does not know.
    #[error("format version {0} is newer than version {VERSION}, the newest this program reads")]
    Version(u32),
    /// The version that was never released.
    #[error(
        "format version {0} is older than version {VERSION}, the first that was released; export it with the program that wrote it, and import that"
    )]
    Older(u32),
    /// Damage.
    #[error("the header's checksum does not match")]
    Checksum,
    /// Of another data folder.
    #[error("the file belongs to another data folder")]
    Engine,
    /// An index of another segment.
    #[error("the index belongs to another segment")]
    Segment,
    /// Numbers that cannot be.
    #[error("the header's numbers do not fit each other")]
    Numbers,
}

/// The file `FORMAT`: made first, checked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderHeader {
    /// Tells the files of one folder from those of another.
    pub engine_id: u128,
    /// When the folder was made.
    pub created_ms: u64,
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The folder it belongs to.
    pub engine_id: u128,
    /// Its number; segments follow each other by number.
    pub number: u64,
    /// The last number it stands for: its own, unless compaction joined several.
    pub last_number: u64,
    /// How often it was rewritten; 0 for a segment as it was appended.
    pub generation: u64,
    /// The LSN of the byte behind the header, in generation 0.
    pub base: Lsn,
    /// LSNs it stands for, in bytes: those of the next segment begin behind them.
    pub span: u64,
    /// When it was made.
    pub created_ms: u64,
    /// The newest checkpoint when it was rewritten, by number: older ones know nothing of it.
    pub after_checkpoint: u64,
}

/// `magic, version, checksum of the rest`, then the fields.
fn encode(magic: [u8; 8], fields: &[u8]) -> [u8; HEADER_SIZE] {
    let mut bytes = [0u8; HEADER_SIZE];
    bytes[..8].copy_from_slice(&magic);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..16 + fields.len()].copy_from_slice(fields);
    let crc = checksum::of(&bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The fields behind a header that is whole and of a version we know.
pub(crate) fn decode(magic: [u8; 8], bytes: &[u8]) -> Result<&[u8], BadHeader> {
    let bytes = bytes.get(..HEADER_SIZE).ok_or(BadHeader::Short)?;
    if bytes[..8] != magic {
        return Err(BadHeader::Magic);
    }
    // The version first: a newer one may keep its checksum elsewhere.
    let version = u32_at(bytes, 8);
    if version > VERSION {
        return Err(BadHeader::Version(version));
    }
    match version {
        0 => return Err(BadHeader::Numbers),
        1 => return Err(BadHeader::Older(version)),
        _ => {}
    }
    if checksum::of(&bytes[16..]) != u32_at(bytes, 12) {
        return Err(BadHeader::Checksum);
    }
    Ok(&bytes[16..])
}

/// A header of any kind from its fields, for the archives.
pub(crate) fn encode_fields(magic: [u8; 8], fields: &[u64]) -> [u8; HEADER_SIZE] {
    let mut bytes = Vec::with_capacity(HEADER_SIZE);
    for field in fields {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    encode(magic, &bytes)
}

fn u128_at(bytes: &[u8], offset: usize) -> u128 {
    u128::from(u64_at(bytes, offset)) | u128::from(u64_at(bytes, offset + 8)) << 64
}

impl FolderHeader {
    /// The file's bytes.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut fields = [0u8; 24];
        fields[..16].copy_from_slice(&self.engine_id.to_le_bytes());
        fields[16..24].copy_from_slice(&self.created_ms.to_le_bytes());
        encode(MAGIC_FORMAT, &fields)
    }

    /// Reads the file's bytes.
    pub fn decode(bytes: &[u8]) -> Result<FolderHeader, BadHeader> {
        let fields = decode(MAGIC_FORMAT, bytes)?;
        Ok(FolderHeader { engine_id: u128_at(fields, 0), created_ms: u64_at(fields, 16) })
    }
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut fields = [0u8; 72];
        fields[..16].copy_from_slice(&self.engine_id.to_le_bytes());
        let numbers = [
            self.number,
            self.last_number,
            self.generation,
            self.base.0,
            self.span,
            self.created_ms,
            self.after_checkpoint,
        ];
        for (field, number) in fields[16..].chunks_exact_mut(8).zip(numbers) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        encode(MAGIC_SEGMENT, &fields)
    }

    /// What tells its file from every other, for an index to say whose it is.
    pub(crate) fn identity(&self) -> [u64; 4] {
        let engine_id = self.engine_id;
        [engine_id as u64, (engine_id >> 64) as u64, self.number, self.generation]
    }

    /// The header of some segment that the index with these bytes would say is its own.
    pub(crate) fn named_by_index(bytes: &[u8]) -> Option<SegmentHeader> {
        let header = bytes.get(..HEADER_SIZE)?;
        Some(SegmentHeader {
            engine_id: u128_at(header, 40),
            number: u64_at(header, 56),
            last_number: u64_at(header, 56),
            generation: u64_at(header, 64),
            base: Lsn(0),
            span: 0,
            created_ms: 0,
            after_checkpoint: 0,
        })
    }

    /// The folder that a header says it belongs to, proved by nothing.
    pub(crate) fn engine_id(bytes: &[u8; HEADER_SIZE]) -> u128 {
        u128_at(bytes, 16)
    }

    /// Reads the header at the beginning of a segment.
    pub fn decode(bytes: &[u8], engine_id: u128) -> Result<SegmentHeader, BadHeader> {
        let fields = decode(MAGIC_SEGMENT, bytes)?;
        let header = SegmentHeader {
            engine_id: u128_at(fields, 0),
            number: u64_at(fields, 16),
            last_number: u64_at(fields, 24),
            generation: u64_at(fields, 32),
            base: Lsn(u64_at(fields, 40)),
            span: u64_at(fields, 48),
            created_ms: u64_at(fields, 56),
            after_checkpoint: u64_at(fields, 64),
        };
        if header.engine_id != engine_id {
            return Err(BadHeader::Engine);
        }
        if header.last_number < header.number || header.base.0.checked_add(header.span).is_none() {
            return Err(BadHeader::Numbers);
        }
        Ok(header)
    }

    /// The file's name. A rewritten segment has another one, so that it appears whole or not at all.
    pub fn file_name(&self) -> String {
        match self.generation {
            0 => format!("{:020}.seg", self.number),
            generation => format!("{:020}.g{generation}.seg", self.number),
        }
    }
}

/// The index that stands beside a segment.
pub fn index_path(segment: &Path) -> PathBuf {
    segment.with_extension("idx")
}

/// The file of the checkpoint with this number.
pub fn checkpoint_name(number: u64) -> String {
    format!("{number:020}.ckp")
}

/// The number in a checkpoint's name.
pub fn checkpoint_number(name: &str) -> Option<u64> {
    name.strip_suffix(".ckp")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader {
        engine_id: 7,
        number: 3,
        last_number: 5,
        generation: 2,
        base: Lsn(4096),
        span: 1 << 20,
        created_ms: 9,
        after_checkpoint: 4,
    };

    #[test]
    fn headers_round_trip_and_refuse() {
        let bytes = HEADER.encode();
        assert_eq!(SegmentHeader::decode(&bytes, 7), Ok(HEADER));
        assert_eq!(SegmentHeader::decode(&bytes, 8), Err(BadHeader::Engine));
        assert_eq!(SegmentHeader::decode(&bytes[..100], 7), Err(BadHeader::Short));
        assert_eq!(FolderHeader::decode(&bytes), Err(BadHeader::Magic));
        let mut newer = bytes;
        newer[8] = 9;
        assert_eq!(SegmentHeader::decode(&newer, 7), Err(BadHeader::Version(9)));
        let mut older = bytes;
        older[8] = 1;
        assert_eq!(SegmentHeader::decode(&older, 7), Err(BadHeader::Older(1)));
        for place in 12..HEADER_SIZE {
            let mut damaged = bytes;
            damaged[place] ^= 4;
            assert!(SegmentHeader::decode(&damaged, 7).is_err(), "byte {place}");
        }
        let folder = FolderHeader { engine_id: u128::MAX - 5, created_ms: 1 };
        assert_eq!(FolderHeader::decode(&folder.encode()), Ok(folder));
    }

    #[test]
    fn names_round_trip() {
        assert_eq!(HEADER.file_name(), "00000000000000000003.g2.seg");
        assert_eq!(
            index_path(Path::new("log/00000000000000000003.g2.seg")),
            Path::new("log/00000000000000000003.g2.idx")
        );
        assert_eq!(checkpoint_number(&checkpoint_name(12)), Some(12));
        assert_eq!(checkpoint_number("12.tmp"), None);
    }
}
