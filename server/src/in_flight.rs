//! The memory that request bodies share: taken before a body is read, given back when it is answered.
//! Knows neither bodies nor requests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Up to so many bytes are little.
const LITTLE: u64 = 16 << 10;
/// One part in so many of the memory is for bodies that take little.
const KEPT_SHARE: u64 = 8;

/// The bytes of request bodies held at this moment, over all requests.
#[derive(Debug, Default)]
pub struct BytesInFlight(AtomicU64);

impl BytesInFlight {
    /// How many there are.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes room for `size` bytes, unless more than `most` would then be held.
    ///
    /// Large bodies leave an eighth of it to those of up to 16 KiB, but for one that is alone: bodies that never
    /// end take what they may become, and must not keep those from asking who ask for little.
    pub(crate) fn take(&self, size: u64, most: u64) -> Option<InFlight<'_>> {
        let shared = if size > LITTLE { most - most / KEPT_SHARE } else { most };
        let add = |held: u64| {
            let sum = held.saturating_add(size);
            (sum <= shared || (held == 0 && sum <= most)).then_some(sum)
        };
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        taken.ok().map(|_| InFlight { held: self, size })
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

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    #[test]
    fn large_bodies_leave_an_eighth_to_small_ones() {
        let held = BytesInFlight::default();
        let large: Vec<_> = (0..8).map_while(|_| held.take(100 * KIB, 800 * KIB)).collect();
        assert_eq!(large.len(), 7);
        let small: Vec<_> = (0..8).map_while(|_| held.take(16 * KIB, 800 * KIB)).collect();
        assert_eq!(small.len(), 6);
        assert!(held.take(5 * KIB, 800 * KIB).is_none(), "beyond all there is");
        drop((large, small));
        assert_eq!(held.get(), 0, "what was refused was not held");
    }

    #[test]
    fn one_body_alone_may_take_all() {
        let held = BytesInFlight::default();
        assert!(held.take(800 * KIB + 1, 800 * KIB).is_none());
        let _all = held.take(800 * KIB, 800 * KIB).expect("nothing else is there");
        assert!(held.take(1, 800 * KIB).is_none());
    }
}
