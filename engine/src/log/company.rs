//! Whether a sync had better wait a moment: those whom the last one answered often have their next request
//! ready at once, and then one sync serves all of them instead of two that serve half each. Knows neither
//! frames nor threads; is told what is counted, and the time.
//!
//! What PostgreSQL has a fixed delay for (`commit_delay`, with `commit_siblings`) is learned here: how many
//! come back, and how soon. Where they do not, as with clients that post at times of their own, nothing waits.

/// Microseconds for which a sync may wait, however long syncs take.
const WAIT_MAX_US: u64 = 500;
/// From this share of those answered coming back in time, in thousandths, waiting is worth while.
const ENOUGH: u64 = 700;
/// What is new weighs one part of so many.
const WEIGHT: u64 = 8;
/// While it is not worth while it is tried once in so many syncs.
const TRY_EVERY: u32 = 256;

/// What is known of those who wait for syncs. All counts are of frames that want one.
#[derive(Debug)]
pub(super) struct Company {
    /// Mean share of those answered who came back in time, in thousandths.
    share: u64,
    /// Syncs since the last one that waited.
    untried: u32,
    /// How many frames the last sync made durable.
    answered: u64,
    /// When all of them were answered.
    since_us: u64,
    wait: Wait,
}

/// Where the wait after a sync stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// What came during the sync is not counted yet.
    Open,
    /// All are back when so many were appended, ever.
    For(u64),
    /// Over; whether nearly all came.
    Over(bool),
}

/// What to do about the frames at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    /// More are about to come.
    Wait,
    /// Nearly all who can come soon are here: there is nothing to do but to sync.
    AllAreHere,
    /// Nobody knows who comes next.
    Go,
}

impl Company {
    pub(super) fn new() -> Company {
        Company { share: 1000, untried: 0, answered: 0, since_us: 0, wait: Wait::Over(false) }
    }

    /// Says that a sync ended which made `count` frames durable.
    pub(super) fn answered(&mut self, count: u64) {
        if count == 0 {
            return;
        }
        self.answered = count;
        self.wait = Wait::Open;
        self.untried = self.untried.saturating_add(1);
    }

    /// What to do, now that a thread has nothing else to do. `appended` counts the frames ever appended,
    /// `sync_us` is how long syncs take lately.
    pub(super) fn advice(&mut self, now_us: u64, appended: u64, sync_us: u64) -> Advice {
        let goal = match self.wait {
            Wait::Over(true) => return Advice::AllAreHere,
            Wait::Over(false) => return Advice::Go,
            // What is here by now came before anybody could come back.
            Wait::Open => {
                self.since_us = now_us;
                appended + self.answered
            }
            Wait::For(goal) => goal,
        };
        self.wait = Wait::For(goal);
        if appended >= goal {
            self.settle(1000);
            self.wait = Wait::Over(true);
            return Advice::AllAreHere;
        }
        let window = (sync_us + sync_us / 2).min(WAIT_MAX_US);
        if now_us.saturating_sub(self.since_us) >= window {
            let back = appended.saturating_sub(goal - self.answered);
            self.settle(back * 1000 / self.answered);
            let nearly_all = back * 4 >= self.answered * 3;
            self.wait = Wait::Over(nearly_all);
            return if nearly_all { Advice::AllAreHere } else { Advice::Go };
        }
        if self.share < ENOUGH && self.untried < TRY_EVERY {
            self.wait = Wait::Over(false);
            return Advice::Go;
        }
        Advice::Wait
    }

    fn settle(&mut self, share: u64) {
        self.share = (self.share * (WEIGHT - 1) + share) / WEIGHT;
        self.untried = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC_US: u64 = 300;

    /// Goes through a sync of `count` frames that ends at `at_us`, after which `back` come at once.
    fn round(
        company: &mut Company,
        at_us: u64,
        appended: &mut u64,
        count: u64,
        back: u64,
    ) -> Advice {
        company.answered(count);
        company.advice(at_us, *appended, SYNC_US);
        *appended += back;
        company.advice(at_us + 50, *appended, SYNC_US)
    }

    #[test]
    fn those_who_come_back_are_waited_for() {
        let (mut company, mut appended) = (Company::new(), 10);
        company.answered(3);
        assert_eq!(company.advice(1001, appended, SYNC_US), Advice::Wait);
        appended += 2;
        assert_eq!(company.advice(1050, appended, SYNC_US), Advice::Wait);
        appended += 1;
        assert_eq!(company.advice(1060, appended, SYNC_US), Advice::AllAreHere);
        // And not a second time before the next sync.
        assert_eq!(company.advice(1061, appended, SYNC_US), Advice::AllAreHere);
    }

    #[test]
    fn the_wait_is_short_whoever_comes() {
        let (mut company, mut appended) = (Company::new(), 10);
        company.answered(4);
        assert_eq!(company.advice(1000, appended, SYNC_US), Advice::Wait);
        assert_eq!(company.advice(1449, appended, SYNC_US), Advice::Wait);
        assert_eq!(company.advice(1450, appended, SYNC_US), Advice::Go);
        company.answered(4);
        assert_eq!(company.advice(2000, appended, 1_000_000), Advice::Wait);
        assert_eq!(company.advice(1999 + WAIT_MAX_US, appended, 1_000_000), Advice::Wait);
        appended += 3;
        let advice = company.advice(2000 + WAIT_MAX_US, appended, 1_000_000);
        assert_eq!(advice, Advice::AllAreHere, "three of four are nearly all");
    }

    #[test]
    fn clients_that_do_not_come_back_are_not_waited_for() {
        let (mut company, mut appended) = (Company::new(), 0);
        let mut waits = 0;
        for number in 1..=2000 {
            let at_us = number * 1000;
            waits += u32::from(round(&mut company, at_us, &mut appended, 4, 1) == Advice::Wait);
            company.advice(at_us + 500, appended, SYNC_US);
        }
        assert!((5..30).contains(&waits), "waited {waits} times of 2000");
        // It is learned again when they do.
        for number in 2001..=2000 + 12 * u64::from(TRY_EVERY) {
            round(&mut company, number * 1000, &mut appended, 4, 4);
        }
        assert_eq!(round(&mut company, 9_000_000, &mut appended, 4, 3), Advice::Wait);
    }

    #[test]
    fn a_sync_that_answered_nobody_changes_nothing() {
        let mut company = Company::new();
        company.answered(0);
        assert_eq!(company.advice(1001, 5, SYNC_US), Advice::Go);
    }
}
