//! The files that stand beside the frames: their names and headers, and the archives made from the
//! log. Knows no state: it is handed shapes to keep, and gives them back.

pub(crate) mod archive;
pub mod checkpoint;
pub mod format;
pub mod segment_index;
