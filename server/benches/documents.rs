//! The time and the allocations of the API's documents, queries and paths, in and out. Knows no
//! store and no socket.
//!
//! ```text
//! cargo bench -p marconi-server --bench documents [-- FILTER]
//! ```

mod cases;

use cases::{CASES, Case};
use divan::{AllocProfiler, Bencher};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = &CASES, sample_count = 1000)]
fn document(bencher: Bencher<'_, '_>, case: &Case) {
    bencher.bench_local((case.open)());
}
