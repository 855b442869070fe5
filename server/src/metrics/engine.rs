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
        histogram(
            &mut show.0,
            "sync_duration",
            "Time a sync of the log took.",
            seconds,
            syncs,
            1e-6,
        )
    }
}

/// Writes a histogram whose values are whole multiples of `scale`.
fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    snapshot: &HistogramSnapshot,
    scale: f64,
) -> fmt::Result {
    let last = snapshot.buckets.len() - 1;
    let buckets: Vec<(f64, u64)> = snapshot
        .buckets
        .iter()
        .enumerate()
        .map(|(place, count)| {
            // Values are whole, so "below 2^n" is "at most 2^n - 1".
            let most = ((1u64 << place) - 1) as f64 * scale;
            (if place == last { f64::MAX } else { most }, *count)
        })
        .collect();
    let count = snapshot.buckets.iter().sum();
    encoder
        .encode_descriptor(name, help, unit, MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(snapshot.sum as f64 * scale, count, &buckets, None)
}
