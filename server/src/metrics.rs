//! What is counted of requests, and the text all metrics are shown in. Watches requests for the
//! service: counts and times each, and has it logged. Knows neither the engine's counters nor who
//! asks for the text.

pub mod engine;
pub mod process;

use crate::app::{Observer, RequestDone};
use crate::telemetry;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::OnceLock;

/// How the name of each metric begins.
pub const PREFIX: &str = "marconi";

/// The content type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
/// Upper bounds of the latency buckets, in seconds.
const LATENCIES: [f64; 16] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

type Labels = [(&'static str, String); 2];

/// The metrics of requests.
#[derive(Debug)]
pub struct RequestMetrics {
    registry: Registry,
    counts: Family<Vec<(&'static str, String)>, Counter>,
    times: Family<Labels, Histogram, fn() -> Histogram>,
    bytes_in: Counter,
    bytes_out: Counter,
    /// One for each route and method, made when it is first seen: then a request costs a few atomic
    /// additions, and what never happens is not shown.
    series: [[OnceLock<Series>; METHODS.len()]; ROUTES.len()],
}

#[derive(Debug)]
struct Series {
    time: Histogram,
    counts: [OnceLock<Counter>; STATUSES.len()],
}

fn place<T: PartialEq>(known: &[T], value: &T) -> usize {
    known.iter().position(|known| known == value).unwrap_or(known.len() - 1)
}

impl Default for RequestMetrics {
    fn default() -> RequestMetrics {
        let counts = Family::default();
        let times: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(LATENCIES));
        let (bytes_in, bytes_out) = (Counter::default(), Counter::default());
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register("requests", "Requests answered", counts.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from a request's head to its answer",
            Unit::Seconds,
            times.clone(),
        );
        registry.register_with_unit(
            "request_body",
            "Size of the requests' bodies",
            Unit::Bytes,
            bytes_in.clone(),
        );
        registry.register_with_unit(
            "response_body",
            "Size of the answers' bodies",
            Unit::Bytes,
            bytes_out.clone(),
        );
        let series = Default::default();
        RequestMetrics { registry, counts, times, bytes_in, bytes_out, series }
    }
}

impl RequestMetrics {
    /// The registry with these metrics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    fn count(&self, done: &RequestDone<'_>) {
        let (route, method) = (place(&ROUTES, &done.route), place(&METHODS, &done.method));
        let series = self.series[route][method].get_or_init(|| Series {
            time: self.times.get_or_create_owned(&labels(route, method)),
            counts: Default::default(),
        });
        series.time.observe(done.elapsed.as_secs_f64());
        let status = place(&STATUSES, &done.status);
        let count = series.counts[status].get_or_init(|| {
            let mut labels = labels(route, method).to_vec();
            let text = match STATUSES[status] {
                0 => "other".to_owned(),
                status => status.to_string(),
            };
            labels.push(("status", text));
            self.counts.get_or_create_owned(&labels)
        });
        count.inc();
        self.bytes_in.inc_by(done.bytes_in);
        self.bytes_out.inc_by(done.bytes_out);
    }
}

fn labels(route: usize, method: usize) -> Labels {
    [("route", ROUTES[route].to_owned()), ("method", METHODS[method].to_owned())]
}

impl Observer for RequestMetrics {
    fn request_done(&self, done: &RequestDone<'_>) {
        self.count(done);
        telemetry::log_request(done);
    }
}

/// The metrics of some registries as one text.
pub fn text(registries: &[&Registry]) -> String {
    let mut text = String::new();
    for registry in registries {
        encode_registry(&mut text, registry).expect("writing to a string does not fail");
    }
    encode_eof(&mut text).expect("writing to a string does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn done(route: &'static str, method: &'static str, status: u16) -> RequestDone<'static> {
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
        let metrics = RequestMetrics::default();
        for _ in 0..3 {
            metrics.request_done(&done("messages", "POST", 201));
        }
        metrics.request_done(&done("nobody knows", "BREW", 418));
        let text = text(&[metrics.registry()]);
        for line in [
            r#"marconi_requests_total{route="messages",method="POST",status="201"} 3"#,
            r#"marconi_requests_total{route="unknown",method="other",status="other"} 1"#,
            r#"marconi_request_duration_seconds_bucket{le="0.0025",route="messages",method="POST"} 0"#,
            r#"marconi_request_duration_seconds_bucket{le="0.005",route="messages",method="POST"} 3"#,
            "marconi_request_body_bytes_total 40",
            "marconi_response_body_bytes_total 80",
            "# EOF",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn the_page_for_operators_names_every_metric() {
        let requests = RequestMetrics::default();
        requests.request_done(&done("messages", "POST", 201));
        let mut measured = Registry::with_prefix(PREFIX);
        measured.register_collector(Box::new(engine::EngineCollector::new(engine::tests::sample)));
        let process = process::ProcessCollector::new(Default::default(), || 0);
        measured.register_collector(Box::new(process));
        let text = text(&[requests.registry(), &measured]);
        let page = include_str!("../../docs/operating.md");
        let names = text.lines().filter_map(|line| line.strip_prefix("# HELP "));
        for name in names.filter_map(|line| line.split(' ').next()) {
            let is_named = [name.to_owned(), format!("{name}_total")]
                .iter()
                .any(|name| page.contains(&format!("`{name}`")));
            assert!(is_named, "docs/operating.md does not name {name}");
        }
    }
}
