//! Data folders as tools look at them: without a lock, beside a running engine, through the same
//! readers that a start uses. Only [`apply_repair`] and [`FolderBuilder`] write, and both say so.
//!
//! | to see | take |
//! |---|---|
//! | queues, messages, claims as a server would | [`View`] |
//! | the frames of the log, one by one | [`frames`], [`Follow`] |
//! | what is wrong, and what it means | [`verify`] |
//! | what of a damaged folder can be kept | [`plan_repair`], [`apply_repair`] |
//! | a folder that holds a given state | [`FolderBuilder`] |

mod build;
mod frames;
mod view;

pub use build::{
    BuildOptions, Built, ClaimImage, FolderBuilder, LifeImage, MessageImage, QueueImage,
};
pub use frames::{
    Field, Follow, FrameOptions, FrameView, QueueNames, Step, frame_fields, frames, frames_in,
};
pub use view::{
    CheckpointSummary, ClaimSummary, QueueSummary, SegmentSummary, Summary, View, ViewMessage,
};

/// Is told how far long work is.
pub trait Progress {
    /// A part begins that will do so many units: bytes, unless `what` says otherwise.
    fn begin(&mut self, what: &'static str, total: u64);
    /// So many more units are done.
    fn done(&mut self, units: u64);
}

/// Nobody looks.
impl Progress for () {
    fn begin(&mut self, _: &'static str, _: u64) {}
    fn done(&mut self, _: u64) {}
}
