//! The seam to the outside world: files, sync, clock.
mod clock;

pub use clock::{Clock, ManualClock, SystemClock};
