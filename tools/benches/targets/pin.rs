//! On which cores threads and child processes run. Knows nothing of what they do.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;

/// Cores by number; none stands for whichever the system chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores(Vec<usize>);

impl Cores {
    /// These cores.
    pub(crate) fn of(numbers: &[usize]) -> Cores {
        Cores(numbers.to_vec())
    }

    /// Whichever the system chooses.
    pub(crate) fn any() -> Cores {
        Cores(Vec::new())
    }

    /// Their numbers; none stands for all.
    pub(crate) fn numbers(&self) -> &[usize] {
        &self.0
    }

    /// Does `work` on these cores. A process that it starts stays on them.
    ///
    /// # Errors
    /// When the machine has no such core, or `work` fails.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.0.is_empty() {
            return work();
        }
        let before = sched_getaffinity(None)?;
        let mut set = CpuSet::new();
        self.0.iter().for_each(|core| set.set(*core));
        sched_setaffinity(None, &set)?;
        let done = work();
        sched_setaffinity(None, &before)?;
        done
    }
}

/// How many cores there are.
pub(crate) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
