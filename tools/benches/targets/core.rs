//! How steady the servers' core is: what a program that only computes gets of it. On a machine that others share
//! it may stand nearly still now and then; a 99th percentile then measures that and not a server. Knows no server.

use crate::pin::Cores;
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

/// One look at the work that was done.
const WINDOW: Duration = Duration::from_millis(5);
/// What is worked on fits the second cache and not the first, as what a server touches.
const TOUCHED: usize = 1 << 20;
/// Between two looks at the clock.
const STEPS: usize = 64;

/// Percent of the time in which the core does less than half of what it does mostly.
///
/// # Errors
/// When there is no such core.
pub(crate) fn slow_percent(cores: &Cores, time: Duration) -> io::Result<f64> {
    let windows = cores.run(|| Ok(work_of_windows(time)))?;
    Ok(slow_share(windows) * 100.0)
}

/// Pieces of work done in each window, one after the other.
fn work_of_windows(time: Duration) -> Vec<u32> {
    let mut touched = vec![0_u8; TOUCHED];
    let mut place = 1_usize;
    let mut windows = Vec::new();
    let (began, mut window_began) = (Instant::now(), Instant::now());
    let mut pieces = 0;
    while began.elapsed() < time {
        for _ in 0..STEPS {
            // The next place is known only with this one: no two are looked up at once.
            place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_041);
            let cell = &mut touched[(place >> 33) % TOUCHED];
            *cell = cell.wrapping_add(1);
            place ^= usize::from(black_box(*cell)) & 1;
        }
        pieces += 1;
        if window_began.elapsed() >= WINDOW {
            windows.push(pieces);
            pieces = 0;
            window_began = Instant::now();
        }
    }
    windows
}

/// The share of windows with less than half of the middle one's work.
fn slow_share(mut windows: Vec<u32>) -> f64 {
    windows.sort_unstable();
    let Some(middle) = windows.get(windows.len() / 2).copied() else { return 0.0 };
    windows.partition_point(|work| *work < middle / 2) as f64 / windows.len() as f64
}
