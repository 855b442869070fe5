//! Who is told how far long work is. Knows nothing of the work.

/// Is told how far long work is.
pub trait Progress {
    /// A part begins that will do so many units: bytes, unless `what` says otherwise.
    fn begin(&mut self, what: &'static str, total: u64);
    /// So many more units are done.
    fn done(&mut self, units: u64);
}

/// Nobody looks.
impl Progress for () {
    fn begin(&mut self, _: &'static str, _: u64) {}
    fn done(&mut self, _: u64) {}
}
