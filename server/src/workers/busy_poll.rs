//! Busy polling: whether a worker that ran out of work looks at its sockets again at once instead of
//! sleeping. Waking a thread costs more than a request (an interrupt to another core; under a hypervisor
//! several times that), so a worker whose next request mostly comes within microseconds does not sleep.
//! One that has much to do sleeps all the same: what comes meanwhile is served, written and answered
//! together, and costs less. Knows neither threads nor sockets; is told the time.

use std::time::{Duration, Instant};

/// A look that took longer was interrupted: another thread wants this core.
const CROWDED: Duration = Duration::from_micros(50);
/// A wait counts as at most so many limits.
const WAIT_MAX: u32 = 8;
/// What is new weighs one part of so many.
const WEIGHT: u32 = 8;
/// From so many tasks between two waits, in thousandths, requests come together as it is.
const TOGETHER: u32 = 1_500;

/// What one worker knows of its waits.
#[derive(Debug)]
pub(super) struct BusyPoll {
    limit: Duration,
    /// Mean of the last waits for work.
    mean: Duration,
    /// Mean of the tasks run between two waits, in thousandths.
    together: u32,
    /// Tasks run when it was asked last.
    ran: u64,
    /// Since when nothing ran.
    idle_since: Option<Instant>,
    /// When the last look or sleep ended.
    looked_at: Option<Instant>,
    /// When the look that is under way began.
    look: Option<Instant>,
}

impl BusyPoll {
    /// Never looks for longer than `limit`, which is more than zero, without finding anything. A worker that
    /// is never to look has none.
    pub(super) fn new(limit: Duration) -> BusyPoll {
        let mean = limit * WAIT_MAX;
        BusyPoll { limit, mean, together: 0, ran: 0, idle_since: None, looked_at: None, look: None }
    }

    /// Whether to look again, now that nothing can go on: where it `has_to`, or it is worth while. `ran`
    /// counts the tasks that were run, ever.
    pub(super) fn looks_again(&mut self, ran: u64, now: Instant, has_to: bool) -> bool {
        if ran != self.ran {
            let together = u32::try_from(ran.wrapping_sub(self.ran)).unwrap_or(u32::MAX).min(1_000);
            self.together = (self.together * (WEIGHT - 1) + together * 1_000) / WEIGHT;
            self.ran = ran;
            if let Some((since, until)) = self.idle_since.zip(self.looked_at) {
                self.learn(until.saturating_duration_since(since));
            }
            self.idle_since = Some(now);
        }
        let since = *self.idle_since.get_or_insert(now);
        let is_worth_while = self.mean <= self.limit && self.together < TOGETHER;
        let is_in_time = now.saturating_duration_since(since) < self.limit;
        let looks = has_to || is_worth_while && is_in_time;
        self.look = looks.then_some(now);
        looks
    }

    /// Says that a look or a sleep is over.
    pub(super) fn looked(&mut self, now: Instant) {
        self.looked_at = Some(now);
        if let Some(look) = self.look.take()
            && now.saturating_duration_since(look) > CROWDED
        {
            self.mean = self.limit * WAIT_MAX;
        }
    }

    fn learn(&mut self, wait: Duration) {
        let wait = wait.min(self.limit * WAIT_MAX);
        self.mean = (self.mean * (WEIGHT - 1) + wait) / WEIGHT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// A worker, its clock, and requests that come after given waits.
    struct Play {
        poll: BusyPoll,
        now: Instant,
        ran: u64,
    }

    impl Play {
        fn new(limit: Duration) -> Play {
            Play { poll: BusyPoll::new(limit), now: Instant::now(), ran: 0 }
        }

        /// Waits for a request that comes after `wait`, with looks of 2 µs; how many were made, and
        /// whether it slept in the end.
        fn wait(&mut self, wait: Duration) -> (u32, bool) {
            self.ran += 1;
            let due = self.now + wait;
            let mut looks = 0;
            while self.poll.looks_again(self.ran, self.now, false) {
                looks += 1;
                self.now += 2 * US;
                self.poll.looked(self.now);
                if self.now >= due {
                    return (looks, false);
                }
            }
            self.now = self.now.max(due);
            self.poll.looked(self.now);
            (looks, true)
        }
    }

    #[test]
    fn short_waits_are_looked_through_once_they_are_the_rule() {
        let mut play = Play::new(100 * US);
        assert_eq!(play.wait(40 * US), (0, true), "nothing is known yet");
        let slept = (0..100).filter(|_| play.wait(40 * US).1).count();
        assert!((5..40).contains(&slept), "slept {slept} times");
        assert_eq!(play.wait(40 * US), (20, false));
    }

    #[test]
    fn long_waits_are_slept_through() {
        let mut play = Play::new(100 * US);
        for _ in 0..100 {
            play.wait(40 * US);
        }
        let (looks, slept) = play.wait(10_000 * US);
        assert!(looks <= 50 && slept, "{looks} looks");
        assert_eq!(play.wait(10_000 * US), (0, true), "one long wait is enough");
        for _ in 0..100 {
            assert_eq!(play.wait(150 * US), (0, true), "longer than the limit");
        }
    }

    #[test]
    fn a_core_that_others_want_is_left_to_them() {
        let mut play = Play::new(100 * US);
        while play.wait(40 * US).1 {}
        assert!(play.poll.looks_again(play.ran, play.now, false));
        play.now += 60 * US;
        play.poll.looked(play.now);
        assert!(!play.poll.looks_again(play.ran, play.now, false));
    }

    #[test]
    fn a_worker_with_much_to_do_lets_it_come_together() {
        let mut play = Play::new(100 * US);
        while play.wait(10 * US).1 {}
        let looked = (0..20).filter(|_| {
            play.ran += 3;
            !play.wait(10 * US).1
        });
        assert!(looked.count() < 5);
        assert_eq!(play.wait(10 * US), (0, true));
    }
}
