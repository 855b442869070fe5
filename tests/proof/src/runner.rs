//! Runs trials of a campaign, seed after seed, until there is enough of them or the time is over. A trial that
//! panics or fails is counted and told; the others go on. Knows nothing of ledgers.

use crate::campaign::{Campaign, Width};
use std::any::Any;
use std::num::NonZero;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// So many failures are enough to end a run.
pub const FAILURES_MAX: usize = 20;

/// Which seeds are tried, and when that is enough. What is hit first counts.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The seeds, from the first on.
    pub seeds: Range<u64>,
    /// So many units are enough.
    pub units: u64,
    /// No seed is begun after this.
    pub deadline: Option<Instant>,
    /// So many seeds that failed are enough.
    pub failures: usize,
}

/// What a run tried and found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The seeds that were tried.
    pub seeds: Range<u64>,
    /// Units tried.
    pub tried: u64,
    /// Each seed that failed, and what it said.
    pub failures: Vec<(u64, String)>,
}

/// Tries seeds within the bounds. `progress` is told the units tried so far.
pub fn run(campaign: &Campaign, bounds: &Bounds, progress: impl Fn(u64) + Sync) -> Tally {
    let next = AtomicU64::new(bounds.seeds.start);
    let tried = AtomicU64::new(0);
    let failures: Mutex<Vec<(u64, String)>> = Mutex::default();
    let failures_of = || failures.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        loop {
            let is_over = bounds.deadline.is_some_and(|deadline| Instant::now() >= deadline)
                || tried.load(Ordering::Relaxed) >= bounds.units
                || failures_of().len() >= bounds.failures;
            if is_over {
                break;
            }
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= bounds.seeds.end {
                next.fetch_sub(1, Ordering::Relaxed);
                break;
            }
            match one(campaign, seed) {
                Ok(units) => {
                    progress(tried.fetch_add(units, Ordering::Relaxed) + units);
                }
                Err(why) => failures_of().push((seed, why)),
            }
        }
    };
    let width = match campaign.width {
        Width::One => 1,
        Width::Processors => thread::available_parallelism().map_or(1, NonZero::get),
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..width).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            // A thread that is joined has let go of what its trials kept for each other; one that the scope waits for
            // may not have.
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort_unstable();
    Tally { seeds: bounds.seeds.start..next.into_inner(), tried: tried.into_inner(), failures }
}

/// Tries one seed; an error says what it found.
pub fn one(campaign: &Campaign, seed: u64) -> Result<u64, String> {
    match catch_unwind(AssertUnwindSafe(|| (campaign.trial)(seed))) {
        Ok(Ok(units)) => Ok(units),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(panic) => Err(said(&*panic)),
    }
}

/// What a panic said.
pub fn said(panic: &(dyn Any + Send)) -> String {
    let owned = panic.downcast_ref::<String>().cloned();
    owned
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::none;

    fn campaign(trial: fn(u64) -> anyhow::Result<u64>) -> Campaign {
        Campaign {
            name: "even",
            promise: "every number is even",
            fault: "odd numbers",
            unit: "numbers",
            in_tests: 1,
            in_ledger: 1,
            once_failed: &[],
            width: Width::Processors,
            trial,
            obstacle: none,
        }
    }

    #[test]
    fn every_seed_is_tried_once_and_failures_are_told_by_seed() {
        let odd_fail = campaign(|seed| match seed % 4 {
            1 => anyhow::bail!("{seed} is odd"),
            3 => panic!("{seed} is odd, too"),
            _ => Ok(10),
        });
        let bounds =
            Bounds { seeds: 4..9, units: u64::MAX, deadline: None, failures: FAILURES_MAX };
        let tally = run(&odd_fail, &bounds, |_| {});
        assert_eq!((tally.seeds, tally.tried), (4..9, 30));
        let told = vec![(5, "5 is odd".to_owned()), (7, "7 is odd, too".to_owned())];
        assert_eq!(tally.failures, told);
    }

    #[test]
    fn a_run_ends_with_its_time_its_units_or_too_many_failures() {
        let endless =
            Bounds { seeds: 0..u64::MAX, units: u64::MAX, deadline: None, failures: FAILURES_MAX };
        let well = campaign(|_| Ok(1));
        let now = Bounds { deadline: Some(Instant::now()), ..endless.clone() };
        assert_eq!(run(&well, &now, |_| {}).tried, 0);
        let tally = run(&well, &Bounds { units: 50, ..endless.clone() }, |_| {});
        assert!((50..60).contains(&tally.tried), "{tally:?}");
        let ill = campaign(|_| anyhow::bail!("never"));
        let failures = run(&ill, &endless, |_| {}).failures.len();
        assert!((FAILURES_MAX..FAILURES_MAX + 10).contains(&failures), "{failures}");
        let alone = Campaign { width: Width::One, ..campaign(|_| anyhow::bail!("never")) };
        assert_eq!(run(&alone, &Bounds { failures: 1, ..endless }, |_| {}).failures.len(), 1);
    }
}
