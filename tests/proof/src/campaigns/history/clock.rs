//! What the server's clock may have shown when, seen from outside: steps take a while, and a clock that runs is
//! known to within some slack. Knows no operations.

use super::operation::Moment;

/// How far apart the server's clock and ours may be where both run, in milliseconds.
const SLACK_MS: u64 = 400;
const NANOS_PER_MS: u64 = 1_000_000;

/// The server's clock through a trial.
#[derive(Debug)]
pub(crate) enum Clock {
    /// Stands still between its steps.
    Manual(Vec<Step>),
    /// Runs on from this time, in milliseconds, at moment 0.
    Runs { from_ms: u64 },
}

/// A manual clock was put to a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// It may have been so from this moment on.
    pub(crate) begun: Moment,
    /// It was for certain from this moment on.
    pub(crate) ended: Moment,
    pub(crate) to_ms: u64,
}

impl Clock {
    /// The least and the most it may have shown between two moments, both included, in milliseconds.
    pub(crate) fn range(&self, from: Moment, to: Moment) -> (u64, u64) {
        match self {
            Clock::Runs { from_ms } => (
                (from_ms + from / NANOS_PER_MS).saturating_sub(SLACK_MS),
                (from_ms + to / NANOS_PER_MS).saturating_add(SLACK_MS),
            ),
            Clock::Manual(steps) => {
                // The last step that was over by then, and all that were begun until `to`.
                let first = steps.partition_point(|step| step.ended < from).saturating_sub(1);
                let shown = steps[first..].iter().enumerate();
                let shown = shown.take_while(|(place, step)| *place == 0 || step.begun <= to);
                shown.fold((u64::MAX, 0), |(low, high), (_, step)| {
                    (low.min(step.to_ms), high.max(step.to_ms))
                })
            }
        }
    }

    /// Whether it was put back at this moment or later.
    pub(crate) fn goes_back_after(&self, from: Moment) -> bool {
        match self {
            Clock::Runs { .. } => false,
            Clock::Manual(steps) => {
                let pairs = steps.iter().zip(steps.iter().skip(1));
                let mut backward = pairs.filter(|(one, next)| next.to_ms < one.to_ms);
                backward.any(|(_, next)| next.ended >= from)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_seen_from_its_begin_and_what_was_before_until_its_end() {
        let step = |begun, ended, to_ms| Step { begun, ended, to_ms };
        let clock = Clock::Manual(vec![step(0, 0, 50), step(10, 12, 90), step(20, 22, 40)]);
        for (from, to, range) in [
            (0, 9, (50, 50)),
            (0, 10, (50, 90)),
            (12, 12, (50, 90)),
            (13, 19, (90, 90)),
            (13, 20, (40, 90)),
            (23, u64::MAX, (40, 40)),
        ] {
            assert_eq!(clock.range(from, to), range, "{from} to {to}");
        }
        assert!(clock.goes_back_after(22) && !clock.goes_back_after(23));
    }

    #[test]
    fn a_clock_that_runs_is_known_to_within_the_slack() {
        let clock = Clock::Runs { from_ms: 5000 };
        assert_eq!(clock.range(1_000_000_000, 2_000_000_000), (5600, 7400));
        assert_eq!(clock.range(0, u64::MAX).0, 4600);
    }
}
