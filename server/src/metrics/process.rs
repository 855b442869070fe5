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
use std::time::{Duration, Instant};

/// A process and its public listener.
#[derive(Debug)]
pub struct Process {
    started: Instant,
    listener: Arc<ListenStats>,
}

/// A process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessMetrics {
    /// Time since the start.
    pub uptime: Duration,
    /// Connections open.
    pub connections_open: u64,
    /// Connections accepted, ever.
    pub connections_accepted: u64,
    /// Connections turned away because there were too many, ever.
    pub connections_refused: u64,
    /// Connections ended by a fault of the program, ever.
    pub connections_panicked: u64,
    /// Attempts to accept that failed, ever.
    pub accept_errors: u64,
    /// Bytes of request bodies held in memory.
    pub in_flight_bytes: u64,
    /// Memory of the process, mapped files included, where the system tells.
    pub memory_resident_bytes: Option<u64>,
}

impl Process {
    /// A process that starts now.
    pub fn new(listener: Arc<ListenStats>) -> Process {
        Process { started: Instant::now(), listener }
    }

    /// Measures it, with the bytes that request bodies hold now.
    pub fn measure(&self, in_flight_bytes: u64) -> ProcessMetrics {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let listener = &self.listener;
        ProcessMetrics {
            uptime: self.started.elapsed(),
            connections_open: read(&listener.connections_open),
            connections_accepted: read(&listener.connections_accepted_count),
            connections_refused: read(&listener.connections_refused_count),
            connections_panicked: read(&listener.connections_panicked_count),
            accept_errors: read(&listener.accept_errors_count),
            in_flight_bytes,
            memory_resident_bytes: resident_bytes(),
        }
    }
}

/// Shows the measures of a process.
pub struct ProcessCollector(Box<dyn Fn() -> ProcessMetrics + Send + Sync>);

impl fmt::Debug for ProcessCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessCollector")
    }
}

impl ProcessCollector {
    /// Shows what `measure` measures.
    pub fn new(measure: impl Fn() -> ProcessMetrics + Send + Sync + 'static) -> ProcessCollector {
        ProcessCollector(Box::new(measure))
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let process = (self.0)();
        let mut show = Show(encoder);
        show.gauge("connections_open", "Connections open", None, process.connections_open)?;
        for (name, help, value) in [
            ("connections_accepted", "Connections accepted", process.connections_accepted),
            (
                "connections_refused",
                "Connections turned away because there were too many",
                process.connections_refused,
            ),
            (
                "connections_panicked",
                "Connections ended by a fault of the program",
                process.connections_panicked,
            ),
            ("accept_errors", "Attempts to accept that failed", process.accept_errors),
        ] {
            show.counter(name, help, None, value)?;
        }
        let bytes = Some(&Unit::Bytes);
        show.gauge("in_flight", "Request bodies held in memory", bytes, process.in_flight_bytes)?;
        if let Some(resident) = process.memory_resident_bytes {
            show.gauge(
                "memory_resident",
                "Memory of the process, mapped files included",
                bytes,
                resident,
            )?;
        }
        let uptime_s = process.uptime.as_secs_f64();
        show.gauge_f64("uptime", "Time since the start", Some(&Unit::Seconds), uptime_s)
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
        let process = Process::new(listener);
        registry.register_collector(Box::new(ProcessCollector::new(move || process.measure(123))));
        let text = crate::metrics::text(&registry);
        for line in [
            "marconi_connections_open 7",
            "marconi_connections_accepted_total 0",
            "marconi_in_flight_bytes 123",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }
}
