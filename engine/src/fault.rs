//! What can be wrong with a folder, what it means for those who use it, and what to do. Plain data;
//! knows neither how a fault is found nor how it is mended.

use crate::domain::{QueueId, Seq};
use std::path::PathBuf;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; all is well.
    Note,
    /// Nothing is lost, and something is not as it should be.
    Warning,
    /// Something is lost, or the server does not start.
    Error,
}

impl Severity {
    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

macro_rules! fault_kinds {
    ($($variant:ident, $name:literal, $severity:ident, $meaning:literal, $next:literal;)*) => {
        /// A kind of fault. Its name is for ever, as programs look for it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FaultKind {
            $(#[doc = $meaning] $variant,)*
        }

        impl FaultKind {
            /// All kinds.
            pub const ALL: &'static [FaultKind] = &[$(FaultKind::$variant,)*];

            /// The name used in reports.
            pub fn name(self) -> &'static str {
                match self { $(FaultKind::$variant => $name,)* }
            }

            /// How bad it is.
            pub fn severity(self) -> Severity {
                match self { $(FaultKind::$variant => Severity::$severity,)* }
            }

            /// What it means for those who use the folder.
            pub fn meaning(self) -> &'static str {
                match self { $(FaultKind::$variant => $meaning,)* }
            }

            /// What to do.
            pub fn next_step(self) -> &'static str {
                match self { $(FaultKind::$variant => $next,)* }
            }
        }
    };
}

fault_kinds! {
    FormatDamaged, "format-damaged", Error,
        "The server does not start; no message is touched.",
        "run `marconi log repair --plan` on the folder: the file is written anew from what the segments say";
    OtherVersion, "other-version", Error,
        "Another version of the program wrote this; this one does not touch it.",
        "use the version of the program that wrote it, or a newer one; `marconi log export` and `marconi log import` bring over what an older one wrote";
    ForeignSegment, "foreign-segment", Error,
        "The server does not start while a segment of another folder lies here.",
        "move it back where it belongs; `marconi log repair` sets it aside";
    ForeignFile, "foreign-file", Warning,
        "The server passes over it.",
        "move it elsewhere; `marconi log repair` sets it aside";
    SegmentMisnamed, "segment-misnamed", Error,
        "The server does not start: it would look into the segment through another's index. Nothing is lost.",
        "`marconi log repair` gives it its name back";
    SegmentDuplicate, "segment-duplicate", Error,
        "The server does not start while a copy of a segment lies here under another name. Nothing is lost by it.",
        "`marconi log repair` sets the copy aside";
    SegmentHeaderDamaged, "segment-header-damaged", Error,
        "The server does not start; what the segment holds can be read all the same.",
        "run `marconi log repair --plan` on the folder";
    SegmentUnreadable, "segment-unreadable", Error,
        "The server does not start, and the messages in this segment are lost.",
        "restore the file from a copy, or run `marconi log repair --plan` on the folder";
    SegmentTruncated, "segment-truncated", Error,
        "The server does not start, and what lay behind the cut is lost.",
        "restore the file from a copy, or run `marconi log repair --plan` on the folder";
    SegmentMissing, "segment-missing", Error,
        "What this part of the log said is lost: messages, claims, deletes.",
        "restore the file from a copy, or run `marconi log repair --plan` on the folder";
    SegmentGone, "segment-gone", Error,
        "The messages that the checkpoint knew in it are lost, and the server does not notice.",
        "restore the file from a copy; without one they cannot be had back, and `marconi log repair` writes that down";
    FrameDamaged, "frame-damaged", Error,
        "What these frames said is lost: messages are gone, or claims and deletes undone.",
        "restore the file from a copy, or run `marconi log repair --plan` on the folder";
    FramesPassedOver, "frames-passed-over", Error,
        "The server does not start: frames lie in a segment that the log does not lead to.",
        "run `marconi log repair --plan` on the folder";
    MessageDamaged, "message-damaged", Error,
        "The message cannot be given out; whoever claims it gets an error.",
        "run `marconi log repair --plan` on the folder";
    IndexMissing, "index-missing", Note,
        "The next start makes it again from the segment, and takes a little longer.",
        "nothing";
    IndexDamaged, "index-damaged", Warning,
        "The next start makes it again from the segment; a server that runs gives errors for its messages.",
        "restart the server, or run `marconi log repair` while it is stopped";
    IndexDiffers, "index-differs", Error,
        "Messages in the segment may be missed, or looked for in the wrong place.",
        "run `marconi log repair` while the server is stopped: the index is made again from the segment";
    CheckpointDamaged, "checkpoint-damaged", Warning,
        "A start falls back to the other checkpoint and reads more of the log. If both are damaged it refuses.",
        "have the server write a checkpoint, or run `marconi log repair` while it is stopped";
    NoCheckpoint, "no-checkpoint", Error,
        "The server does not start. Which older messages live is known to checkpoints alone: some that were deleted come back.",
        "restore a checkpoint from a copy, or run `marconi log repair --plan` on the folder";
    CheckpointDiffers, "checkpoint-differs", Error,
        "A start from this checkpoint would show another state than the log tells.",
        "keep a copy of the folder and report it: this is a fault of the program or of the disk";
    QueueNameless, "queue-nameless", Error,
        "The record that made this queue is lost, and its name with it.",
        "`marconi log repair` keeps its messages under a name made from its id";
    CounterDiffers, "counter-differs", Error,
        "A count that the server keeps is not what its messages add up to.",
        "keep a copy of the folder and report it: this is a fault of the program or of the disk";
    TornTail, "torn-tail", Note,
        "The last write was not finished, as a power cut leaves it. Nothing acknowledged as durable is in it.",
        "nothing: the next start ends the log here";
    StaleTail, "stale-tail", Note,
        "What a reused file held before still lies behind the end of the log. It never passes for new.",
        "nothing";
    Leftover, "leftover", Note,
        "Something unfinished, or no longer needed.",
        "nothing: the next start removes it";
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of wrong.
    pub kind: FaultKind,
    /// In which file.
    pub file: PathBuf,
    /// Where in it, if at one place.
    pub offset: Option<u64>,
    /// What was found, in a sentence.
    pub what: String,
    /// What is lost by it, as far as that can be told.
    pub lost: Vec<Lost>,
}

/// Something that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What it is.
    pub what: LostKind,
    /// The queue, if it can be told.
    pub queue: Option<QueueId>,
    /// The first message, or the first number of a record.
    pub first: Option<Seq>,
    /// How many messages, records or bytes; 0 where nobody knows.
    pub count: u64,
    /// What can be said of it besides.
    pub note: String,
}

/// What kind of thing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LostKind {
    /// Messages: they are not given out any more.
    Messages,
    /// A record: what it did is undone.
    Record,
    /// Bytes of which nobody knows what they said.
    Bytes,
}

impl LostKind {
    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            LostKind::Messages => "messages",
            LostKind::Record => "record",
            LostKind::Bytes => "bytes",
        }
    }
}

impl Fault {
    /// A fault by which nothing is known to be lost.
    pub(crate) fn new(
        kind: FaultKind,
        file: impl Into<PathBuf>,
        offset: Option<u64>,
        what: impl Into<String>,
    ) -> Fault {
        Fault { kind, file: file.into(), offset, what: what.into(), lost: Vec::new() }
    }
}
