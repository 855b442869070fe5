//! The log: checksummed frames in segments, appended to at one end. Knows neither queues nor claims.

pub(crate) mod commit;
mod company;
pub mod frame;
pub mod record;
pub mod scan;
pub mod segment;
pub(crate) mod source;
pub(crate) mod stored;
pub(crate) mod tail;
pub(crate) mod watermark;
