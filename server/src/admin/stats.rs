//! `GET /stats`, `/segments` and `/compact` as documents: everything that is measured, in whole numbers
//! of the unit in the name. Knows where none of it comes from.
//!
//! Counts only grow while the server runs, so that whoever looks twice knows a rate. A histogram is
//! `{"count", "sum", "buckets": [[most, count], ...]}`: how many values were at most `most` and more
//! than the bucket before it holds; in the last one `most` is `null`.

use crate::metrics::process::ProcessMetrics;
use crate::metrics::requests::{LATENCIES_US, RequestStats};
use marconi_engine::{CompactionMetrics, EngineMetrics, HistogramSnapshot, SegmentMetrics};
use serde_json::{Value, json};
use std::time::Duration;

/// What the engine counted.
pub(super) fn engine(engine: &EngineMetrics) -> Value {
    let disk_bytes: u64 = engine.segments.iter().map(|segment| segment.disk_size).sum();
    let live_bytes: u64 = engine.segments.iter().map(|segment| segment.live_cost).sum();
    json!({
        "queues": engine.queues,
        "live_messages": engine.live_messages,
        "claims": engine.claims,
        "posted": engine.posted,
        "claimed": engine.claimed,
        "deleted": engine.deleted,
        "expired": engine.expired,
        "frames": engine.frames,
        "log_bytes": engine.log_bytes,
        "compacted_bytes": engine.compacted_bytes,
        "checkpoints": engine.checkpoints,
        "checkpoint_age_ms": engine.checkpoint_age_ms,
        "replay_bytes": engine.replay_bytes,
        "waiting_bytes": engine.waiting_bytes,
        "recovery_ms": engine.recovery_ms,
        "segments": engine.segments.len(),
        "segments_disk_bytes": disk_bytes,
        "segments_live_bytes": live_bytes,
        "commit_frames": powers(&engine.commit_frames),
        "sync_us": powers(&engine.sync_us),
    })
}

/// What the process takes.
pub(super) fn process(process: &ProcessMetrics) -> Value {
    json!({
        "connections_open": process.connections_open,
        "connections_accepted": process.connections_accepted,
        "connections_refused": process.connections_refused,
        "connections_panicked": process.connections_panicked,
        "accept_errors": process.accept_errors,
        "in_flight_bytes": process.in_flight_bytes,
        "memory_resident_bytes": process.memory_resident_bytes,
    })
}

/// The requests of each route and method.
pub(super) fn requests(all: &[RequestStats]) -> Value {
    let one = |stats: &RequestStats| {
        let class = |first: u16| {
            let in_class = stats.statuses.iter().filter(|(status, _)| status / 100 == first);
            in_class.map(|(_, count)| count).sum::<u64>()
        };
        let most = LATENCIES_US.into_iter().map(Some).chain([None]);
        json!({
            "route": stats.route,
            "method": stats.method,
            "statuses": { "2xx": class(2), "4xx": class(4), "5xx": class(5), "other": class(0) },
            "latency_us": histogram(most.zip(stats.buckets), micros(stats.sum)),
        })
    };
    all.iter().map(one).collect()
}

/// The segments by number.
pub(super) fn segments(all: &[SegmentMetrics]) -> Value {
    let one = |segment: &SegmentMetrics| {
        json!({
            "number": segment.number,
            "generation": segment.generation,
            "disk_size": segment.disk_size,
            "live_cost": segment.live_cost,
            "live_count": segment.live_count,
            "created_ms": segment.created_ms,
        })
    };
    json!({ "segments": all.iter().map(one).collect::<Vec<_>>() })
}

/// What compaction would gain, and did.
pub(super) fn compaction(compaction: &CompactionMetrics) -> Value {
    json!({
        "running": compaction.running,
        "gain_bytes": compaction.gain_bytes,
        "gain_segments": compaction.gain_segments,
        "rewritten_bytes": compaction.rewritten_bytes,
        "freed_bytes": compaction.freed_bytes,
    })
}

/// Whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A histogram whose buckets are powers of two.
fn powers(snapshot: &HistogramSnapshot) -> Value {
    let last = snapshot.buckets.len() - 1;
    let buckets = snapshot.buckets.iter().enumerate().map(|(place, count)| {
        // Values are whole, so "below 2^n" is "at most 2^n - 1".
        ((place < last).then(|| (1 << place) - 1), *count)
    });
    histogram(buckets, snapshot.sum)
}

fn histogram(buckets: impl Iterator<Item = (Option<u64>, u64)>, sum: u64) -> Value {
    let buckets: Vec<_> = buckets.collect();
    let count: u64 = buckets.iter().map(|(_, count)| count).sum();
    json!({ "count": count, "sum": sum, "buckets": buckets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_tell_the_most_that_fell_into_each_bucket() {
        let document = engine(&crate::metrics::engine::tests::sample());
        let syncs = &document["sync_us"];
        assert_eq!((&syncs["count"], &syncs["sum"]), (&json!(2), &json!(500_000_600)));
        let buckets = syncs["buckets"].as_array().expect("a list");
        assert_eq!(buckets[0], json!([0, 0]));
        assert_eq!(buckets[10], json!([1023, 1]));
        assert_eq!(buckets.last(), Some(&json!([null, 1])));
        assert_eq!(document["segments_live_bytes"], json!(50));
    }

    #[test]
    fn statuses_are_counted_by_class() {
        let mut buckets = [0; LATENCIES_US.len() + 1];
        buckets[5] = 7;
        let statuses = vec![(200, 1), (201, 2), (404, 3), (503, 4), (0, 5)];
        let sum = Duration::from_micros(21_000);
        let stats = RequestStats { route: "messages", method: "POST", statuses, buckets, sum };
        let document = requests(&[stats]);
        let expected = json!({ "2xx": 3, "4xx": 3, "5xx": 4, "other": 5 });
        assert_eq!(document[0]["statuses"], expected);
        assert_eq!(document[0]["latency_us"]["buckets"][5], json!([5000, 7]));
        assert_eq!(document[0]["latency_us"]["sum"], json!(21_000));
    }
}
