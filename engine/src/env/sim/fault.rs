//! What is to fail on a simulated disk, and when. Knows neither files nor what lasts.

use super::tape::Verb;
use std::io;

/// How a change, or a look, fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// With `EIO`, and nothing was done.
    Io,
    /// With `ENOSPC`, and nothing was done.
    NoSpace,
    /// With `EIO` after half of a write was done; as `Io` where it is not a write.
    Short,
}

impl Failure {
    /// Every kind.
    pub const ALL: [Failure; 3] = [Failure::Io, Failure::NoSpace, Failure::Short];

    pub(super) fn error(self) -> io::Error {
        let code = match self {
            Failure::Io | Failure::Short => rustix::io::Errno::IO,
            Failure::NoSpace => rustix::io::Errno::NOSPC,
        };
        io::Error::from_raw_os_error(code.raw_os_error())
    }
}

/// Something that is to fail: the `nth` (1 is the next) of those that are meant, or it and all that follow.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Meant are changes of this kind; `None` for any change.
    pub verb: Option<Verb>,
    /// Which of them fails.
    pub nth: u64,
    /// How.
    pub failure: Failure,
    /// Whether all that follow fail too.
    pub for_ever: bool,
}

impl Fault {
    /// The `nth` change of any kind fails once, with `EIO`.
    pub fn nth(nth: u64) -> Fault {
        Fault { verb: None, nth, failure: Failure::Io, for_ever: false }
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    injected: Vec<Fault>,
    /// The kind of the failure that showed last.
    shown: Option<Failure>,
    pub(super) stop: Option<u64>,
    pub(super) capacity: Option<u64>,
    pub(super) out_of_names: bool,
    pub(super) read_only: bool,
}

impl Faults {
    pub(super) fn inject(&mut self, fault: Fault) {
        self.injected.push(fault);
    }

    pub(super) fn has_shown(&self) -> bool {
        self.shown.is_some()
    }

    pub(super) fn was_short(&self) -> bool {
        self.shown == Some(Failure::Short)
    }

    /// Counts a change, and says whether it fails.
    pub(super) fn check(&mut self, verb: Verb) -> Result<(), Failure> {
        let mut failure = None;
        self.injected.retain_mut(|fault| {
            let is_meant = match fault.verb {
                Some(meant) => meant == verb,
                None => verb != Verb::Read,
            };
            if !is_meant {
                return true;
            }
            fault.nth = fault.nth.saturating_sub(1);
            if fault.nth > 0 {
                return true;
            }
            failure = Some(fault.failure);
            fault.for_ever
        });
        match failure {
            None => Ok(()),
            Some(failure) => {
                self.shown = Some(failure);
                Err(failure)
            }
        }
    }
}
