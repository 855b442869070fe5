//! What the engine tells of long work, as a bar. Knows not what is being done.

use crate::output::{Output, Unit};
use indicatif::ProgressBar;
use marconi_engine::inspect::Progress;

/// A bar for each piece of work, one after the other. Gone when dropped.
pub(crate) struct Bar<'a> {
    output: &'a Output,
    bar: ProgressBar,
}

impl<'a> Bar<'a> {
    pub(crate) fn new(output: &'a Output) -> Bar<'a> {
        Bar { output, bar: ProgressBar::hidden() }
    }
}

impl Progress for Bar<'_> {
    fn begin(&mut self, what: &'static str, total: u64) {
        self.bar.finish_and_clear();
        self.bar = self.output.progress(what, total, Unit::Bytes);
    }

    fn done(&mut self, units: u64) {
        self.bar.inc(units);
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
