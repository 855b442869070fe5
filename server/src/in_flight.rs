//! The memory that request bodies share: taken before a body is read, given back when it is answered.
//! Knows neither bodies nor requests.

use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of request bodies held at this moment, over all requests.
#[derive(Debug, Default)]
pub struct BytesInFlight(AtomicU64);

impl BytesInFlight {
    /// How many there are.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes room for `size` bytes, unless more than `most` would then be held.
    pub(crate) fn take(&self, size: u64, most: u64) -> Option<InFlight<'_>> {
        let before = self.0.fetch_add(size, Ordering::Relaxed);
        let room = InFlight { held: self, size };
        (before.saturating_add(size) <= most).then_some(room)
    }
}

/// Room taken; given back when dropped.
#[derive(Debug)]
pub(crate) struct InFlight<'a> {
    held: &'a BytesInFlight,
    size: u64,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.size, Ordering::Relaxed);
    }
}
