//! What is counted of requests, by route and method: statuses, times, bytes. Watches requests for the
//! service, and has each logged. Knows neither the engine's counters nor who asks for the numbers.

use super::process::Show;
use crate::app::{Observer, RequestDone};
use crate::telemetry;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The routes by label; one that is not among them is counted as the last.
const ROUTES: [&str; 12] = [
    "messages", "message", "claims", "claim", "queue", "queues", "stats", "metadata", "health",
    "home", "versions", "unknown",
];
/// The methods; one that is not among them is counted as the last.
const METHODS: [&str; 7] = ["POST", "GET", "DELETE", "PUT", "PATCH", "HEAD", "other"];
/// The statuses this service answers with; one that is not among them is counted as the last.
const STATUSES: [u16; 16] =
    [200, 201, 204, 400, 401, 403, 404, 405, 406, 408, 409, 411, 413, 500, 503, 0];
/// Upper bounds of the latency buckets, in microseconds; one more bucket holds what takes longer.
pub const LATENCIES_US: [u64; 16] = [
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// The metrics of requests.
#[derive(Debug, Default)]
pub struct RequestMetrics {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// One for each route and method, made when it is first seen: then a request costs a few atomic
    /// additions, and what never happens is not shown.
    series: [[OnceLock<Box<Series>>; METHODS.len()]; ROUTES.len()],
}

#[derive(Debug, Default)]
struct Series {
    counts: [AtomicU64; STATUSES.len()],
    buckets: [AtomicU64; LATENCIES_US.len() + 1],
    sum_ns: AtomicU64,
}

/// The requests of one route and method at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestStats {
    /// The resource's name, or `unknown`.
    pub route: &'static str,
    /// The method, or `other`.
    pub method: &'static str,
    /// Each status that was answered, and how often; 0 stands for all that are not listed.
    pub statuses: Vec<(u16, u64)>,
    /// How many took at most [`LATENCIES_US`], and more than the one before; the last bucket holds
    /// all that took longer.
    pub buckets: [u64; LATENCIES_US.len() + 1],
    /// All times added up.
    pub sum: Duration,
}

fn place<T: PartialEq>(known: &[T], value: &T) -> usize {
    known.iter().position(|known| known == value).unwrap_or(known.len() - 1)
}

impl Series {
    fn count(&self, status: u16, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let bucket = LATENCIES_US.partition_point(|most| most * 1000 < nanos);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(nanos, Relaxed);
        self.counts[place(&STATUSES, &status)].fetch_add(1, Relaxed);
    }
}

impl RequestMetrics {
    fn count(&self, done: &RequestDone<'_>) {
        let (route, method) = (place(&ROUTES, &done.route), place(&METHODS, &done.method));
        self.series[route][method].get_or_init(Box::default).count(done.status, done.elapsed);
        self.bytes_in.fetch_add(done.bytes_in, Relaxed);
        self.bytes_out.fetch_add(done.bytes_out, Relaxed);
    }

    /// What was counted of every route and method that was seen.
    pub fn stats(&self) -> Vec<RequestStats> {
        let mut all = Vec::new();
        for (route, methods) in ROUTES.iter().zip(&self.series) {
            for (method, series) in METHODS.iter().zip(methods) {
                let Some(series) = series.get() else { continue };
                let counts = series.counts.iter().map(|count| count.load(Relaxed));
                all.push(RequestStats {
                    route,
                    method,
                    statuses: STATUSES.into_iter().zip(counts).filter(|(_, n)| *n > 0).collect(),
                    buckets: std::array::from_fn(|place| series.buckets[place].load(Relaxed)),
                    sum: Duration::from_nanos(series.sum_ns.load(Relaxed)),
                });
            }
        }
        all
    }
}

impl Observer for RequestMetrics {
    fn request_done(&self, done: &RequestDone<'_>) {
        self.count(done);
        telemetry::log_request(done);
    }
}

/// Shows the metrics of requests.
#[derive(Debug)]
pub struct RequestCollector(pub Arc<RequestMetrics>);

impl Collector for RequestCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.stats();
        let mut counts = encoder.encode_descriptor(
            "requests",
            "Requests answered.",
            None,
            MetricType::Counter,
        )?;
        for stats in &all {
            for (status, count) in &stats.statuses {
                let status = match status {
                    0 => "other".to_owned(),
                    status => status.to_string(),
                };
                let labels =
                    [("route", stats.route), ("method", stats.method), ("status", status.as_str())];
                ConstCounter::new(*count).encode(counts.encode_family(&labels)?)?;
            }
        }
        let mut times = encoder.encode_descriptor(
            "request_duration",
            "Time from a request's head to its answer.",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for stats in &all {
            let bounds = LATENCIES_US.iter().map(|most| *most as f64 / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(stats.buckets).collect();
            let (sum, count) = (stats.sum.as_secs_f64(), stats.buckets.iter().sum());
            let labels = [("route", stats.route), ("method", stats.method)];
            times
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        let mut show = Show(encoder);
        for (name, help, value) in [
            ("request_body", "Size of the requests' bodies", &self.0.bytes_in),
            ("response_body", "Size of the answers' bodies", &self.0.bytes_out),
        ] {
            show.counter(name, help, Some(&Unit::Bytes), value.load(Relaxed))?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    pub(in crate::metrics) fn done(
        route: &'static str,
        method: &'static str,
        status: u16,
    ) -> RequestDone<'static> {
        RequestDone {
            route,
            method,
            status,
            elapsed: Duration::from_millis(3),
            bytes_in: 10,
            bytes_out: 20,
            request_id: "req-1",
            project: None,
            queue: None,
            error: None,
        }
    }

    #[test]
    fn requests_are_counted_by_route_method_and_status() {
        let metrics = Arc::new(RequestMetrics::default());
        for _ in 0..3 {
            metrics.request_done(&done("messages", "POST", 201));
        }
        metrics.request_done(&done("nobody knows", "BREW", 418));
        let mut registry = Registry::with_prefix(crate::metrics::PREFIX);
        registry.register_collector(Box::new(RequestCollector(Arc::clone(&metrics))));
        let text = crate::metrics::text(&registry);
        for line in [
            r#"marconi_requests_total{route="messages",method="POST",status="201"} 3"#,
            r#"marconi_requests_total{route="unknown",method="other",status="other"} 1"#,
            r#"marconi_request_duration_seconds_bucket{le="0.0025",route="messages",method="POST"} 0"#,
            r#"marconi_request_duration_seconds_bucket{le="0.005",route="messages",method="POST"} 3"#,
            r#"marconi_request_duration_seconds_count{route="messages",method="POST"} 3"#,
            r#"marconi_request_duration_seconds_sum{route="messages",method="POST"} 0.009"#,
            "marconi_request_body_bytes_total 40",
            "marconi_response_body_bytes_total 80",
            "# EOF",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_time_falls_into_the_bucket_that_ends_at_it() {
        let series = Series::default();
        for nanos in [0, 100_000, 100_001, 10_000_000_000, 10_000_000_001] {
            series.count(200, Duration::from_nanos(nanos));
        }
        let counts: Vec<u64> = series.buckets.iter().map(|count| count.load(Relaxed)).collect();
        assert_eq!((counts[0], counts[1], counts[15], counts[16]), (2, 1, 1, 1));
    }
}
