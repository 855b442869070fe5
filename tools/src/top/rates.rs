//! What a server did between two looks: rates, and how long things took. Pure arithmetic; knows no
//! screen.

use super::snapshot::{Histogram, Route, Snapshot, Statuses};
use serde::Serialize;

/// What happened between two looks, or since the server's start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Rates {
    /// The time between the two.
    pub(super) elapsed_ms: u64,
    /// Whether it is since the start, for want of an earlier look.
    pub(super) since_start: bool,
    pub(super) posted_per_s: f64,
    pub(super) claimed_per_s: f64,
    pub(super) deleted_per_s: f64,
    pub(super) expired_per_s: f64,
    pub(super) requests_per_s: f64,
    pub(super) commits_per_s: f64,
    pub(super) frames_per_commit: Option<f64>,
    pub(super) sync_p50_us: Option<f64>,
    pub(super) sync_p99_us: Option<f64>,
    pub(super) log_bytes_per_s: f64,
    pub(super) compacted_bytes_per_s: f64,
    /// The busiest first.
    pub(super) routes: Vec<RouteRates>,
}

/// The requests of one route and method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct RouteRates {
    pub(super) route: String,
    pub(super) method: String,
    pub(super) requests_per_s: f64,
    pub(super) client_errors_per_s: f64,
    pub(super) server_errors_per_s: f64,
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    /// Requests since the server's start.
    pub(super) total: u64,
}

impl Rates {
    /// From two looks. Where the server was restarted in between, or there was no earlier look, since
    /// its start.
    pub(super) fn between(earlier: Option<&Snapshot>, now: &Snapshot) -> Rates {
        let stats = &now.stats;
        let earlier = earlier.map(|earlier| &earlier.stats);
        let earlier = earlier.filter(|earlier| {
            earlier.uptime_ms < stats.uptime_ms
                && earlier.engine.log_bytes <= stats.engine.log_bytes
        });
        let elapsed_ms = stats.uptime_ms - earlier.map_or(0, |earlier| earlier.uptime_ms);
        let per_s = |now: u64, before: u64| {
            now.saturating_sub(before) as f64 * 1000.0 / elapsed_ms.max(1) as f64
        };
        let engine = &stats.engine;
        let before = earlier.map(|earlier| &earlier.engine);
        let none = Histogram::default();
        let commits = engine.commit_frames.since(before.map_or(&none, |it| &it.commit_frames));
        let syncs = engine.sync_us.since(before.map_or(&none, |it| &it.sync_us));

        let known: &[Route] = earlier.map_or(&[], |earlier| &earlier.requests);
        let mut routes: Vec<RouteRates> = stats
            .requests
            .iter()
            .map(|route| {
                let is_it =
                    |known: &&Route| known.route == route.route && known.method == route.method;
                let before = known.iter().find(is_it);
                let no_statuses = Statuses::default();
                let statuses = before.map_or(&no_statuses, |before| &before.statuses);
                let times = route.latency_us.since(before.map_or(&none, |it| &it.latency_us));
                RouteRates {
                    route: route.route.clone(),
                    method: route.method.clone(),
                    requests_per_s: per_s(times.count, 0),
                    client_errors_per_s: per_s(
                        route.statuses.client_errors,
                        statuses.client_errors,
                    ),
                    server_errors_per_s: per_s(
                        route.statuses.server_errors,
                        statuses.server_errors,
                    ),
                    p50_us: times.quantile(0.5),
                    p99_us: times.quantile(0.99),
                    total: route.latency_us.count,
                }
            })
            .collect();
        routes.sort_by(|one, next| {
            let busy = next.requests_per_s.total_cmp(&one.requests_per_s);
            busy.then_with(|| next.total.cmp(&one.total))
        });
        Rates {
            elapsed_ms,
            since_start: earlier.is_none(),
            posted_per_s: per_s(engine.posted, before.map_or(0, |it| it.posted)),
            claimed_per_s: per_s(engine.claimed, before.map_or(0, |it| it.claimed)),
            deleted_per_s: per_s(engine.deleted, before.map_or(0, |it| it.deleted)),
            expired_per_s: per_s(engine.expired, before.map_or(0, |it| it.expired)),
            requests_per_s: routes.iter().map(|route| route.requests_per_s).sum(),
            commits_per_s: per_s(commits.count, 0),
            frames_per_commit: commits.mean(),
            sync_p50_us: syncs.quantile(0.5),
            sync_p99_us: syncs.quantile(0.99),
            log_bytes_per_s: per_s(engine.log_bytes, before.map_or(0, |it| it.log_bytes)),
            compacted_bytes_per_s: per_s(
                engine.compacted_bytes,
                before.map_or(0, |it| it.compacted_bytes),
            ),
            routes,
        }
    }
}
