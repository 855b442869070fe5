//! What docs/format.md says of frames and of the end of the log, read by a reader of its own. Knows no engine.

use super::folder::{Image, Stored, UNPROVED};
use super::harm::Harmed;
use std::ops::Range;

const HEADER_SIZE: usize = 128;
const FIRST_FRAME: usize = 4096;
const HEAD_SIZE: usize = 40;
/// "So far or farther": says nothing.
const BEHIND_UNTOLD: u32 = u32::MAX;
const POSTED: u8 = 4;
const SEGMENT_END: u8 = 10;

/// A frame of a segment.
#[derive(Debug, Clone)]
struct Frame {
    /// Head and payload in the file, without padding.
    place: Range<usize>,
    lsn: u64,
    behind: u32,
    kind: u8,
}

/// What harm to a file may do to those who read the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Nothing is shown otherwise than it was. An error in its place, or for the whole folder, is.
    Errors,
    /// Not even an error: there is another one of what was harmed, or it means nothing.
    Nothing,
    /// Errors, until it is made again by the start after the one that saw them.
    ErrorsOnce,
    /// The log ends before this one of its last frames, which could as well have been torn by a power cut.
    EndsBefore {
        /// Counted from the first that nothing proves.
        frame: usize,
        /// Where it lies in the file.
        position: u64,
        /// What is left looks like what a reused file held before, or like nothing.
        is_silent: bool,
    },
    /// The folder is refused: it was durable, and the start has to read it.
    Refused {
        /// Where it lies in the file.
        position: u64,
    },
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let base = u64::from_le_bytes(bytes[56..64].try_into().expect("eight"));
    let mut at = FIRST_FRAME;
    while let Some(head) = bytes.get(at..at + HEAD_SIZE) {
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four"));
        let length = word(4) as usize;
        if length < HEAD_SIZE {
            break;
        }
        // Its place tells it; of a rewritten segment nobody asks.
        let lsn = base + (at - FIRST_FRAME) as u64;
        let kind = head[38];
        frames.push(Frame { place: at..at + length, lsn, behind: word(12), kind });
        at += length.next_multiple_of(8);
        if kind == SEGMENT_END {
            break;
        }
    }
    frames
}

/// Whether the file is the one in which the log ends.
fn is_last(image: &Image, stored: &Stored) -> bool {
    let is_used = |stored: &&Stored| is_segment(stored) && !frames(&stored.bytes).is_empty();
    image.files.iter().rfind(is_used).is_some_and(|last| last.path == stored.path)
}

fn is_segment(stored: &Stored) -> bool {
    stored.path.extension().is_some_and(|end| end == "seg")
}

/// Whether the harm changed a byte that a checksum covers and that `verify` therefore has to find: of a segment's
/// header, or of a frame.
pub(super) fn is_covered(image: &Image, file: usize, harmed: &Harmed) -> bool {
    let stored = &image.files[file];
    let is_changed = |place: &Range<usize>| changes(stored, harmed, place);
    is_segment(stored)
        && (is_changed(&(0..HEADER_SIZE))
            || frames(&stored.bytes).iter().any(|frame| is_changed(&frame.place)))
}

/// Whether the harm changed any byte of a place.
fn changes(stored: &Stored, harmed: &Harmed, place: &Range<usize>) -> bool {
    harmed.changed.start < place.end
        && place.start < harmed.changed.end
        && harmed.bytes.get(place.clone()) != Some(&stored.bytes[place.clone()])
}

/// What the harm may do, by docs/format.md.
pub(super) fn allowed(image: &Image, file: usize, harmed: &Harmed) -> Allowed {
    let stored = &image.files[file];
    let is_whole = harmed.bytes.len() == stored.bytes.len();
    let is = |ending: &str| stored.path.extension().is_some_and(|end| end == ending);
    if is("ckp") {
        return Allowed::Nothing;
    }
    if is("idx") {
        return Allowed::ErrorsOnce;
    }
    if !is_last(image, stored) || !is_whole || changes(stored, harmed, &(0..HEADER_SIZE)) {
        return Allowed::Errors;
    }
    let frames = frames(&stored.bytes);
    let is_hit = |frame: &Frame| changes(stored, harmed, &frame.place);
    let Some(first) = frames.iter().position(is_hit) else { return Allowed::Nothing };
    let hole = frames[first].lsn;
    let proves = |frame: &Frame| {
        !is_hit(frame)
            && frame.behind != BEHIND_UNTOLD
            && frame.lsn.saturating_sub(u64::from(frame.behind)) > hole
    };
    let position = frames[first].place.start as u64;
    let unproved = frames.len() - if image.before.is_empty() { 0 } else { UNPROVED };
    if first < unproved {
        // Below the checkpoint, or proved by a frame that is still whole; unless the harm took that, too.
        let is_below = first < frames_below_checkpoint(image, &frames);
        if is_below || frames[first..].iter().any(proves) {
            return Allowed::Refused { position };
        }
        return Allowed::Errors;
    }
    let is_silent = !frames[first..].iter().any(|frame| !is_hit(frame))
        && !tells_of_a_frame(&harmed.bytes, &frames[first]);
    Allowed::EndsBefore { frame: first - unproved, position, is_silent }
}

/// Whether the harm put another whole message into a place where one of the same size lay, as far behind the head of
/// the same frame: the checksum of a message does not say whose it is, and its frame's is not checked at each read.
pub(super) fn is_out_of_reach(image: &Image, file: usize, harmed: &Harmed) -> bool {
    let stored = &image.files[file];
    let is_message_else = |(place, client): &(Range<usize>, &[u8])| {
        let Some(is) = harmed.bytes.get(place.clone()) else { return false };
        let was = &stored.bytes[place.clone()];
        // Its own size, and how far back its frame begins.
        let is_alike = is[4..8] == was[4..8] && is[12..16] == was[12..16];
        let mut crc = crc32fast::Hasher::new();
        crc.update(client);
        crc.update(&is[4..]);
        is != was && is_alike && crc.finalize().to_le_bytes() == is[..4]
    };
    let is_headed = |frame: &&Frame| {
        let head = frame.place.start..frame.place.start + HEAD_SIZE;
        frame.kind == POSTED && !changes(stored, harmed, &head)
    };
    is_segment(stored)
        && frames(&stored.bytes)
            .iter()
            .filter(is_headed)
            .any(|frame| messages(&stored.bytes, frame).iter().any(is_message_else))
}

/// Where the messages of a frame lie, and who posted them.
fn messages<'a>(bytes: &'a [u8], frame: &Frame) -> Vec<(Range<usize>, &'a [u8])> {
    const POST_HEAD_SIZE: usize = 20;
    const MESSAGE_HEAD_SIZE: usize = 20;
    let mut places = Vec::new();
    let payload = frame.place.start + HEAD_SIZE;
    let client = &bytes[payload..payload + 16];
    let mut at = payload + POST_HEAD_SIZE;
    while at < frame.place.end {
        let size = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four")) as usize;
        places.push((at..at + MESSAGE_HEAD_SIZE + size, client));
        at += MESSAGE_HEAD_SIZE + size;
    }
    places
}

/// Whether what was left of a frame tells that one began there: by its LSN, or by all but that.
fn tells_of_a_frame(bytes: &[u8], frame: &Frame) -> bool {
    let left = &bytes[frame.place.clone()];
    let lsn = frame.lsn.to_le_bytes();
    let mut mended = left.to_vec();
    mended[8..12].copy_from_slice(&lsn[..4]);
    // Over the payload first, then over the head behind the checksum, then over what the head has not of the LSN.
    let mut crc = crc32fast::Hasher::new();
    crc.update(&mended[HEAD_SIZE..]);
    crc.update(&mended[4..HEAD_SIZE]);
    crc.update(&lsn[4..]);
    left[8..12] == lsn[..4] || crc.finalize().to_le_bytes() == mended[..4]
}

/// How many of these frames lie below the LSN of the newest checkpoint.
fn frames_below_checkpoint(image: &Image, frames: &[Frame]) -> usize {
    let is_checkpoint = |stored: &&Stored| stored.path.extension().is_some_and(|end| end == "ckp");
    let newest = image.files.iter().rfind(is_checkpoint).expect("there are two");
    let lsn = u64::from_le_bytes(newest.bytes[24..32].try_into().expect("eight"));
    frames.iter().filter(|frame| frame.lsn < lsn).count()
}
