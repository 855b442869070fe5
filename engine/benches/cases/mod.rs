//! What is measured of the engine, each case by its name: `micro` takes the time, the server's
//! `instructions` counts. Knows neither of them.

mod frame;
mod queue;
mod restart;

use std::fmt;
use std::path::Path;

/// One thing that is measured.
#[allow(dead_code, reason = "the clock needs no number of runs, and counting no kind of case")]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// How many runs a count is the mean of.
    pub(crate) runs: u64,
    /// Whether every run leaves something that has to be put right before the next.
    pub(crate) wears: bool,
    /// Makes what it needs in an empty folder. Other processes may open it afterwards.
    pub(crate) fill: fn(&Path),
    /// Stands ready over what was filled.
    pub(crate) open: fn(&Path) -> Box<dyn Work>,
}

/// A case that stands ready.
pub(crate) trait Work {
    /// Puts right what the last run left. Not measured.
    fn prepare(&mut self) {}
    /// What is measured.
    fn run(&mut self);
}

/// Work that does not wear.
impl<F: FnMut()> Work for F {
    fn run(&mut self) {
        self();
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All cases.
pub(crate) const CASES: [Case; 12] = [
    Case {
        name: "frame of 1 message of 1 KiB",
        runs: 1000,
        wears: false,
        fill: |_| {},
        open: |_| frame::encode(1),
    },
    Case {
        name: "frame of 20 messages of 1 KiB",
        runs: 1000,
        wears: false,
        fill: |_| {},
        open: |_| frame::encode(20),
    },
    Case {
        name: "append 1 message of 1 KiB, os",
        runs: 1000,
        wears: false,
        fill: |folder| queue::fill(folder, 0, 0),
        open: |folder| queue::append(folder, 1),
    },
    Case {
        name: "append 20 messages of 1 KiB, os",
        runs: 200,
        wears: false,
        fill: |folder| queue::fill(folder, 0, 0),
        open: |folder| queue::append(folder, 20),
    },
    Case {
        name: "get by id, 1,000 waiting",
        runs: 1000,
        wears: false,
        fill: |folder| queue::fill(folder, FEW, 0),
        open: |folder| queue::get(folder, FEW),
    },
    Case {
        name: "get by id, 1,000,000 waiting",
        runs: 1000,
        wears: false,
        fill: |folder| queue::fill(folder, MANY, 0),
        open: |folder| queue::get(folder, MANY),
    },
    Case {
        name: "list 20 by marker, 1,000 waiting",
        runs: 200,
        wears: false,
        fill: |folder| queue::fill(folder, FEW, 0),
        open: |folder| queue::list(folder, FEW),
    },
    Case {
        name: "list 20 by marker, 1,000,000 waiting",
        runs: 200,
        wears: false,
        fill: |folder| queue::fill(folder, MANY, 0),
        open: |folder| queue::list(folder, MANY),
    },
    Case {
        name: "claim 10, 1,000 waiting",
        runs: 200,
        wears: true,
        fill: |folder| queue::fill(folder, FEW, 0),
        open: queue::claim,
    },
    Case {
        name: "claim 10, 1,000,000 waiting",
        runs: 200,
        wears: true,
        fill: |folder| queue::fill(folder, MANY, 0),
        open: queue::claim,
    },
    Case {
        name: "claim 10, 1,000,000 waiting behind 100,000 claimed",
        runs: 200,
        wears: true,
        fill: |folder| queue::fill(folder, MANY, 100_000),
        open: queue::claim,
    },
    Case {
        name: "open 100,000 messages after a crash",
        runs: 3,
        wears: true,
        fill: |folder| restart::fill(folder, 100_000),
        open: restart::open,
    },
];

const FEW: u64 = 1000;
const MANY: u64 = 1_000_000;
