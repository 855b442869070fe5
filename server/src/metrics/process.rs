//! What is measured of the process and its listener when somebody asks: connections, bytes in
//! flight, memory, time since the start. Knows no requests and no engine.

use crate::http::listen::ListenStats;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Reads the measures of the process.
pub struct ProcessCollector {
    started: Instant,
    listener: Arc<ListenStats>,
    bytes_in_flight: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for ProcessCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessCollector").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl ProcessCollector {
    /// Measures a process that starts now.
    pub fn new(
        listener: Arc<ListenStats>,
        bytes_in_flight: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> ProcessCollector {
        let bytes_in_flight = Box::new(bytes_in_flight);
        ProcessCollector { started: Instant::now(), listener, bytes_in_flight }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut show = Show(encoder);
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let listener = &self.listener;
        show.gauge("connections_open", "Connections open", None, read(&listener.connections_open))?;
        for (name, help, counter) in [
            ("connections_accepted", "Connections accepted", &listener.connections_accepted_count),
            (
                "connections_refused",
                "Connections turned away because there were too many",
                &listener.connections_refused_count,
            ),
            (
                "connections_panicked",
                "Connections ended by a fault of the program",
                &listener.connections_panicked_count,
            ),
            ("accept_errors", "Attempts to accept that failed", &listener.accept_errors_count),
        ] {
            show.counter(name, help, None, read(counter))?;
        }
        let bytes = Some(&Unit::Bytes);
        let in_flight = (self.bytes_in_flight)();
        show.gauge("in_flight", "Request bodies held in memory", bytes, in_flight)?;
        if let Some(resident) = resident_bytes() {
            show.gauge(
                "memory_resident",
                "Memory of the process, mapped files included",
                bytes,
                resident,
            )?;
        }
        let uptime = self.started.elapsed().as_secs_f64();
        show.gauge_f64("uptime", "Time since the start", Some(&Unit::Seconds), uptime)
    }
}

/// The memory of this process that is in RAM, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Writes single values.
pub(super) struct Show<'a>(pub(super) DescriptorEncoder<'a>);

impl Show<'_> {
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: u64,
    ) -> fmt::Result {
        self.show(name, help, unit, &ConstCounter::new(value))
    }

    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: u64,
    ) -> fmt::Result {
        self.show(name, help, unit, &ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    pub(super) fn gauge_f64(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: f64,
    ) -> fmt::Result {
        self.show(name, help, unit, &ConstGauge::new(value))
    }

    fn show(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        metric: &impl EncodeMetric,
    ) -> fmt::Result {
        // A registry ends each help text with a full stop; so do we.
        let help = format!("{help}.");
        metric.encode(self.0.encode_descriptor(name, &help, unit, metric.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn the_process_is_measured() {
        let listener = Arc::new(ListenStats::default());
        listener.connections_open.store(7, Relaxed);
        let mut registry = Registry::with_prefix(crate::metrics::PREFIX);
        registry.register_collector(Box::new(ProcessCollector::new(listener, || 123)));
        let text = crate::metrics::text(&[&registry]);
        for line in [
            "marconi_connections_open 7",
            "marconi_connections_accepted_total 0",
            "marconi_in_flight_bytes 123",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }
}
