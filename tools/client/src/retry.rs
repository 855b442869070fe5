//! When a request is repeated, and after which pause. Pure: chance comes in as an argument.

use std::time::Duration;

/// How often and how patiently a request is repeated.
///
/// | what failed | GET, HEAD, PUT, PATCH, DELETE | POST |
/// |---|---|---|
/// | no connection: nothing was sent | repeated | repeated |
/// | the connection broke, or no answer came in time | repeated | never |
/// | the server said 5xx | repeated, after its `Retry-After` | never |
///
/// Each pause is twice the one before, and a random part of up to a half is taken off, so that many
/// clients do not come back at once. What `Retry-After` says is waited in addition; a server that
/// asks for more than `pause_max` is not waited for: the caller gets [`Error::Unavailable`] at once,
/// with the time in it.
///
/// [`Error::Unavailable`]: crate::Error::Unavailable
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often a request is repeated at most; 0 for never.
    pub count_max: u32,
    /// The first pause.
    pub first_pause: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for Retries {
    /// Four times in about one and a half seconds.
    fn default() -> Retries {
        Retries {
            count_max: 4,
            first_pause: Duration::from_millis(100),
            pause_max: Duration::from_secs(10),
        }
    }
}

impl Retries {
    /// Nothing is ever repeated.
    pub const NONE: Retries =
        Retries { count_max: 0, first_pause: Duration::ZERO, pause_max: Duration::ZERO };

    /// The pause before an attempt is repeated; `None` where it is not to be. `repeated_count` is
    /// how often it was before, `chance` is from 0 to 1.
    pub(crate) fn pause(
        &self,
        failure: Failure,
        is_post: bool,
        repeated_count: u32,
        chance: f64,
    ) -> Option<Duration> {
        if repeated_count >= self.count_max || (is_post && failure != Failure::NotSent) {
            return None;
        }
        let factor = 1_u32.checked_shl(repeated_count).unwrap_or(u32::MAX);
        let pause = self.first_pause.saturating_mul(factor).min(self.pause_max);
        let pause = pause.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0);
        match failure {
            Failure::Unavailable { retry_after: Some(wait) } if wait > self.pause_max => None,
            Failure::Unavailable { retry_after: Some(wait) } => Some(wait.saturating_add(pause)),
            _ => Some(pause),
        }
    }
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing left this machine.
    NotSent,
    /// It may have arrived; no answer came.
    AnswerLost,
    /// The server said that it cannot now.
    Unavailable { retry_after: Option<Duration> },
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Failure = Failure::Unavailable { retry_after: None };

    #[test]
    fn only_a_post_that_was_not_sent_is_repeated() {
        let retries = Retries::default();
        for failure in [Failure::NotSent, Failure::AnswerLost, BUSY] {
            assert!(retries.pause(failure, false, 0, 0.0).is_some(), "{failure:?}");
            let repeated = retries.pause(failure, true, 0, 0.0).is_some();
            assert_eq!(repeated, failure == Failure::NotSent, "{failure:?}");
            assert_eq!(retries.pause(failure, false, retries.count_max, 0.0), None);
            assert_eq!(Retries::NONE.pause(failure, false, 0, 0.0), None);
        }
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_chance_takes_up_to_a_half() {
        let retries = Retries { count_max: u32::MAX, ..Retries::default() };
        let pause = |count, chance| retries.pause(Failure::AnswerLost, false, count, chance);
        for (count, chance, expected_ms) in [
            (0, 0.0, 100),
            (1, 0.0, 200),
            (2, 0.0, 400),
            (2, 1.0, 200),
            (2, 0.5, 300),
            (30, 0.0, 10_000),
            (4_000_000, 0.0, 10_000),
        ] {
            assert_eq!(pause(count, chance), Some(Duration::from_millis(expected_ms)), "{count}");
        }
    }

    #[test]
    fn retry_after_is_waited_in_addition_or_not_at_all() {
        let retries = Retries::default();
        let pause = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            retries.pause(Failure::Unavailable { retry_after }, false, 0, 0.0)
        };
        assert_eq!(pause(1), Some(Duration::from_millis(1100)));
        assert_eq!(pause(10), Some(Duration::from_millis(10_100)));
        assert_eq!(pause(11), None);
    }
}
