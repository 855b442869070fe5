//! When the requests of an open loop are due: at a fixed rate, whatever the server does. Pure.
//!
//! A request's time counts from when it was due, not from when a connection was free to send it: a
//! server that stalls delays all that were due meanwhile, and each of them is counted.

use std::time::Duration;

/// Arrivals at one rate, from 0 on.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    rate: f64,
    until: Duration,
    taken: u64,
}

impl Schedule {
    /// `rate` arrivals a second (above 0), the first at 0, the last before `until`.
    pub(crate) fn new(rate: f64, until: Duration) -> Schedule {
        Schedule { rate, until, taken: 0 }
    }

    /// When the next arrival is due; `None` when all were taken.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let due = Duration::from_secs_f64(self.taken as f64 / self.rate);
        (due < self.until).then_some(due)
    }

    /// Takes the next arrival if it is due at `now`.
    pub(crate) fn take(&mut self, now: Duration) -> Option<Duration> {
        let due = self.next_due().filter(|due| *due <= now)?;
        self.taken += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn arrivals_keep_their_times_when_nobody_took_them() {
        let mut schedule = Schedule::new(100.0, ms(50));
        assert_eq!(schedule.take(ms(0)), Some(ms(0)));
        assert_eq!(schedule.take(ms(9)), None);
        // A stall of 30 ms: the three that were due meanwhile come at once, with the times they had.
        let late: Vec<Duration> = std::iter::from_fn(|| schedule.take(ms(39))).collect();
        assert_eq!(late, [ms(10), ms(20), ms(30)]);
        assert_eq!(schedule.next_due(), Some(ms(40)));
        assert_eq!(schedule.take(ms(100)), Some(ms(40)));
        assert_eq!(schedule.next_due(), None);
    }

    #[test]
    fn the_rate_is_kept_over_a_long_time() {
        let mut schedule = Schedule::new(33_333.0, Duration::from_secs(3));
        let taken = std::iter::from_fn(|| schedule.take(Duration::from_secs(60))).count();
        assert!((99_998..=100_000).contains(&taken), "{taken}");
    }
}
