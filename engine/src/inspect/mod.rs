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
mod repair;
mod verify;
mod view;

use crate::env::Environment;
use std::path::Path;

pub use crate::progress::Progress;
pub use build::{
    BuildOptions, Built, ClaimImage, FolderBuilder, LifeImage, MessageImage, QueueImage,
};
pub use frames::{
    Field, Follow, FrameOptions, FrameView, QueueNames, Step, frame_fields, frames, frames_in,
};
pub use repair::{
    RepairAction, RepairDone, RepairPlan, RepairStep, apply_repair, apply_repair_in, plan_repair,
    plan_repair_in,
};
pub use verify::{Finding, LostItem, Verification, verify, verify_in};
pub use view::{
    CheckpointSummary, ClaimSummary, QueueSummary, SegmentSummary, Summary, View, ViewContent,
    ViewMessage,
};

/// The world in which to look at a folder: where an engine works on it, reading makes pauses.
fn world(folder: &Path) -> Environment {
    let world = Environment::system();
    let is_free = view::holder(folder, &world).is_ok_and(|holder| holder.is_none());
    if is_free { world } else { world.gentle() }
}
