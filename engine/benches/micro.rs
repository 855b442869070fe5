//! The time and the allocations of the engine's parts, one by one: frames, verbs on queues short and
//! deep, a start after a crash. Knows nothing of the server; its documents are measured there.
//!
//! ```text
//! cargo bench -p marconi-engine --bench micro [-- FILTER]
//! ```

mod cases;

use cases::{CASES, Case, Work};
use divan::{AllocProfiler, Bencher};
use std::cell::RefCell;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn that_wear(wears: bool) -> impl Iterator<Item = &'static Case> {
    static ALL: [Case; CASES.len()] = CASES;
    ALL.iter().filter(move |case| case.wears == wears)
}

/// A folder with what the case needs, and the case over it.
fn open(case: &Case) -> (tempfile::TempDir, Box<dyn Work>) {
    // On the disk that the build is on, not on one in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    (case.fill)(folder.path());
    let work = (case.open)(folder.path());
    (folder, work)
}

#[divan::bench(args = that_wear(false), sample_count = 1000)]
fn repeated(bencher: Bencher<'_, '_>, case: &Case) {
    let (_folder, mut work) = open(case);
    bencher.bench_local(|| work.run());
}

/// What is put right between two runs is not in the time, so a sample is one run.
#[divan::bench(args = that_wear(true), sample_size = 1, sample_count = 1000, max_time = 5)]
fn renewed(bencher: Bencher<'_, '_>, case: &Case) {
    let (_folder, work) = open(case);
    let work = RefCell::new(work);
    let prepare = || work.borrow_mut().prepare();
    bencher.with_inputs(prepare).bench_local_values(|()| work.borrow_mut().run());
}
