//! The count of what was done within the measured time. Knows no connection.

use super::Figures;
use crate::results::Percentiles;
use crate::workload::Unit;
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Request {
    Post,
    Claim,
    Delete,
    List,
    Stats,
}

impl Request {
    fn name(self) -> &'static str {
        match self {
            Request::Post => "post",
            Request::Claim => "claim",
            Request::Delete => "delete",
            Request::List => "list",
            Request::Stats => "stats",
        }
    }
}

/// Counts for one measurement.
pub(super) struct Tally {
    start: Instant,
    end: Instant,
    unit: Unit,
    open: bool,
    /// When messages ran out, and it is over.
    dry: Cell<Option<Instant>>,
    ran_dry: Notify,
    counts: RefCell<Counts>,
}

struct Counts {
    /// Of requests, or, in an open loop, of operations.
    all: Histogram<u64>,
    by_request: BTreeMap<Request, Histogram<u64>>,
    sent_late: Histogram<u64>,
    units: u64,
    requests: u64,
    errors: u64,
    error: Option<String>,
}

/// Nanoseconds from one microsecond to ten minutes, three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1000, 600_000_000_000, 3).expect("the bounds are in order")
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

impl Tally {
    pub(super) fn new(start: Instant, end: Instant, unit: Unit, open: bool) -> Tally {
        let counts = Counts {
            all: histogram(),
            by_request: BTreeMap::new(),
            sent_late: histogram(),
            units: 0,
            requests: 0,
            errors: 0,
            error: None,
        };
        let (dry, ran_dry) = (Cell::new(None), Notify::new());
        Tally { start, end, unit, open, dry, ran_dry, counts: RefCell::new(counts) }
    }

    pub(super) fn end(&self) -> Instant {
        self.end
    }

    /// Whether a new action may begin.
    pub(super) fn is_on(&self) -> bool {
        self.dry.get().is_none() && Instant::now() < self.end
    }

    /// Waits for a moment, or until messages ran out.
    pub(super) async fn until(&self, moment: Instant) {
        if self.dry.get().is_none() {
            tokio::select! {
                () = tokio::time::sleep_until(moment.into()) => {}
                () = self.ran_dry.notified() => {}
            }
        }
    }

    /// Messages ran out.
    pub(super) fn run_dry(&self) {
        if self.dry.get().is_none() {
            self.dry.set(Some(Instant::now()));
            self.ran_dry.notify_one();
        }
    }

    /// A request was answered as it should be, over `messages` messages.
    pub(super) fn request(&self, kind: Request, began: Instant, messages: usize) {
        let now = Instant::now();
        if now < self.start || now >= self.end {
            return;
        }
        let counts = &mut *self.counts.borrow_mut();
        counts.requests += 1;
        counts.units += match (self.unit, kind) {
            (Unit::Requests, _) | (Unit::Pages, Request::List) => 1,
            (Unit::Posted, Request::Post) | (Unit::Deleted, Request::Delete) => messages as u64,
            _ => 0,
        };
        let time = now - began;
        if !self.open {
            record(&mut counts.all, time);
        }
        record(counts.by_request.entry(kind).or_insert_with(histogram), time);
    }

    /// Open loop: an operation that was due at `due` is done; it began at `began` where a connection
    /// had been free when it came.
    pub(super) fn operation(&self, due: Instant, began: Option<Instant>) {
        if due < self.start {
            return;
        }
        let counts = &mut *self.counts.borrow_mut();
        record(&mut counts.all, due.elapsed());
        if let Some(began) = began {
            record(&mut counts.sent_late, began.saturating_duration_since(due));
        }
    }

    /// Open loop: an operation that was due is given up; it took this long at the least.
    pub(super) fn never_done(&self, due: Instant) {
        if due >= self.start {
            record(&mut self.counts.borrow_mut().all, due.elapsed());
        }
    }

    /// Something was not as it should be.
    pub(super) fn fail(&self, what: impl FnOnce() -> String) {
        let counts = &mut *self.counts.borrow_mut();
        counts.errors += 1;
        counts.error.get_or_insert_with(what);
    }

    /// How many errors there were.
    pub(super) fn errors(&self) -> u64 {
        self.counts.borrow().errors
    }

    pub(super) fn figures(&self) -> Figures {
        let counts = self.counts.borrow();
        let end = self.dry.get().map_or(self.end, |dry| dry.min(self.end));
        let by_request = counts.by_request.iter();
        Figures {
            measured_s: end.saturating_duration_since(self.start).as_secs_f64(),
            units: counts.units,
            requests: counts.requests,
            latency_us: Percentiles::of(&counts.all),
            latency_us_by_request: by_request
                .map(|(kind, histogram)| (kind.name().to_owned(), Percentiles::of(histogram)))
                .collect(),
            errors: counts.errors,
            error: counts.error.clone(),
            dry: self.dry.get().is_some_and(|dry| dry < self.end),
            sent_late_us: self.open.then(|| counts.sent_late.value_at_quantile(0.99) as f64 / 1e3),
            ..Figures::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_in_the_measured_time_counts() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        let within = Tally::new(now, now + hour, Unit::Posted, false);
        within.request(Request::Post, now, 10);
        within.request(Request::Claim, now, 10);
        within.fail(|| "first".to_owned());
        within.fail(|| "second".to_owned());
        let figures = within.figures();
        assert_eq!((figures.units, figures.requests, figures.errors), (10, 2, 2));
        assert_eq!(figures.error.as_deref(), Some("first"));
        assert_eq!(figures.latency_us_by_request.keys().collect::<Vec<_>>(), ["claim", "post"]);
        assert_eq!(figures.latency_us.count, 2);
        let before = Tally::new(now + hour, now + 2 * hour, Unit::Posted, false);
        before.request(Request::Post, now, 10);
        assert_eq!(before.figures().requests, 0);
    }

    #[test]
    fn an_open_loop_counts_from_when_it_was_due() {
        let now = Instant::now();
        let ago = |ms| now.checked_sub(Duration::from_millis(ms)).expect("the machine is up");
        let tally = Tally::new(ago(1000), now + Duration::from_secs(1), Unit::Posted, true);
        // Sent just now, due half a second ago.
        tally.request(Request::Post, now, 1);
        tally.operation(ago(500), None);
        tally.never_done(ago(800));
        tally.operation(ago(2000), None);
        let figures = tally.figures();
        // The one that was due before the measured time does not count.
        assert_eq!(figures.latency_us.count, 2);
        assert!(figures.latency_us.p50 >= 499_000.0, "{figures:?}");
        assert!(figures.latency_us.max >= 799_000.0, "{figures:?}");
    }
}
