//! The engine's own counters, read when somebody asks. Knows their names and units, and nothing of
//! how the engine comes by them.

use super::process::Show;
use marconi_engine::{EngineMetrics, HistogramSnapshot};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt;

/// Reads the engine's counters.
pub struct EngineCollector(Box<dyn Fn() -> EngineMetrics + Send + Sync>);

impl fmt::Debug for EngineCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EngineCollector")
    }
}

impl EngineCollector {
    /// Shows what `read` reads, which may take a moment.
    pub fn new(read: impl Fn() -> EngineMetrics + Send + Sync + 'static) -> EngineCollector {
        EngineCollector(Box::new(read))
    }
}

impl Collector for EngineCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let engine = (self.0)();
        let mut show = Show(encoder);
        let (bytes, seconds) = (Some(&Unit::Bytes), Some(&Unit::Seconds));
        for (name, help, unit, value) in [
            ("queues", "Queues", None, engine.queues),
            ("messages_live", "Messages kept", None, engine.live_messages),
            ("claims_live", "Claims kept", None, engine.claims),
            (
                "log_replay",
                "Log written since the newest checkpoint: what a start after a crash reads",
                bytes,
                engine.replay_bytes,
            ),
            ("log_waiting", "Log waiting to be written", bytes, engine.waiting_bytes),
            ("segments", "Files of the log", None, engine.segments.len() as u64),
            (
                "segments_disk",
                "Size of the log's files with their indexes",
                bytes,
                engine.segments.iter().map(|segment| segment.disk_size).sum(),
            ),
            (
                "segments_live",
                "Share of that which live messages need",
                bytes,
                engine.segments.iter().map(|segment| segment.live_cost).sum(),
            ),
            (
                "read_only",
                "1 when writes are refused since a failure of the disk",
                None,
                u64::from(engine.read_only.is_some()),
            ),
            (
                "disk_full",
                "1 when posting is refused because the disk is full",
                None,
                u64::from(engine.disk_full),
            ),
        ] {
            show.gauge(name, help, unit, value)?;
        }
        for (name, help, unit, value) in [
            ("messages_posted", "Messages posted", None, engine.posted),
            ("messages_claimed", "Messages claimed", None, engine.claimed),
            ("messages_deleted", "Messages deleted", None, engine.deleted),
            ("messages_expired", "Messages expired", None, engine.expired),
            ("log_frames", "Frames appended to the log", None, engine.frames),
            ("log_appended", "Bytes appended to the log", bytes, engine.log_bytes),
            ("log_compacted", "Bytes that compaction wrote", bytes, engine.compacted_bytes),
            ("checkpoints", "Checkpoints written", None, engine.checkpoints),
        ] {
            show.counter(name, help, unit, value)?;
        }
        let (age_s, recovery_s) =
            (engine.checkpoint_age_ms as f64 / 1e3, engine.recovery_ms as f64 / 1e3);
        show.gauge_f64("checkpoint_age", "Time since the newest checkpoint", seconds, age_s)?;
        show.gauge_f64("recovery", "Time that opening the data folder took", seconds, recovery_s)?;
        let commits = &engine.commit_frames;
        histogram(&mut show.0, "commit_frames", "Frames written at once.", None, commits, 1.0)?;
        let syncs = &engine.sync_us;
        histogram(&mut show.0, "sync_duration", "Time a sync of the log took.", seconds, syncs, 1e6)
    }
}

/// Writes a histogram of whole values, of which `divisor` make one of the unit.
fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    snapshot: &HistogramSnapshot,
    divisor: f64,
) -> fmt::Result {
    let last = snapshot.buckets.len() - 1;
    let buckets: Vec<(f64, u64)> = snapshot
        .buckets
        .iter()
        .enumerate()
        .map(|(place, count)| {
            // Values are whole, so "below 2^n" is "at most 2^n - 1".
            let most = ((1u64 << place) - 1) as f64 / divisor;
            (if place == last { f64::INFINITY } else { most }, *count)
        })
        .collect();
    let count = snapshot.buckets.iter().sum();
    encoder
        .encode_descriptor(name, help, unit, MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(snapshot.sum as f64 / divisor, count, &buckets, None)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use marconi_engine::{BUCKET_COUNT, SegmentMetrics};
    use prometheus_client::registry::Registry;

    /// A different number for each counter.
    pub(crate) fn sample() -> EngineMetrics {
        let none = HistogramSnapshot { buckets: [0; BUCKET_COUNT], sum: 0 };
        let mut syncs = none.clone();
        // One sync took 600 microseconds, one longer than any bucket tells.
        (syncs.buckets[10], syncs.buckets[BUCKET_COUNT - 1]) = (1, 1);
        syncs.sum = 500_000_600;
        let segment = |number| SegmentMetrics {
            number,
            generation: 0,
            disk_size: 100,
            live_cost: 25,
            live_count: 1,
            created_ms: 1_700_000_000_000,
        };
        EngineMetrics {
            queues: 1,
            live_messages: 2,
            claims: 3,
            posted: 4,
            claimed: 5,
            deleted: 6,
            expired: 7,
            frames: 8,
            log_bytes: 9,
            compacted_bytes: 10,
            checkpoints: 11,
            checkpoint_age_ms: 1500,
            replay_bytes: 12,
            commit_frames: none,
            sync_us: syncs,
            segments: vec![segment(1), segment(2)],
            waiting_bytes: 13,
            recovery_ms: 14,
            read_only: Some("EIO".to_owned()),
            disk_full: false,
        }
    }

    #[test]
    fn counters_and_histograms_are_shown_in_their_units() {
        let mut registry = Registry::with_prefix(crate::metrics::PREFIX);
        registry.register_collector(Box::new(EngineCollector::new(sample)));
        let text = crate::metrics::text(&registry);
        for line in [
            "marconi_messages_live 2",
            "marconi_messages_posted_total 4",
            "marconi_log_appended_bytes_total 9",
            "marconi_checkpoint_age_seconds 1.5",
            "marconi_segments 2",
            "marconi_segments_disk_bytes 200",
            "marconi_segments_live_bytes 50",
            "marconi_read_only 1",
            "marconi_sync_duration_seconds_bucket{le=\"0.000511\"} 0",
            "marconi_sync_duration_seconds_bucket{le=\"0.001023\"} 1",
            "marconi_sync_duration_seconds_bucket{le=\"+Inf\"} 2",
            "marconi_sync_duration_seconds_sum 500.0006",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }
}
