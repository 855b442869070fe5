//! The log: its set-up, its level while the program runs, and the line a request leaves in it.
//! Knows neither routes nor the engine. Never logs a body, a token or a header.

use crate::app::RequestDone;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// Changes the level of the log while the program runs.
#[derive(Debug, Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// Puts another filter in force.
    ///
    /// # Errors
    /// As [`filter`]; the old filter stays in force then.
    pub fn set(&self, text: &str) -> Result<(), String> {
        let filter = filter(text)?;
        self.0.reload(filter).map_err(|cause| cause.to_string())
    }
}

/// Parts that are not ours, which log frames and headers: silent unless they are named.
const QUIET: &str = "h2=warn,hyper=warn,hyper_util=warn,rustls=warn,tokio=warn,mio=warn";

/// Reads a filter: a level, or levels by part of the program, such as `info,marconi_server=debug`.
///
/// # Errors
/// Says what is wrong with it.
pub fn filter(text: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // `tracing` takes any other word for the name of a part, and logs nothing else.
    let directives: Vec<_> = text.split(',').map(str::trim).collect();
    for word in directives.iter().filter(|directive| !directive.contains(['=', '['])) {
        if !LEVELS.contains(word) {
            let levels = LEVELS.join(", ");
            return Err(format!("{word:?} is no level ({levels}) and no part=level"));
        }
    }
    // What comes later outranks what comes earlier.
    EnvFilter::try_new(format!("{QUIET},{}", directives.join(",")))
        .map_err(|cause| cause.to_string())
}

/// Starts logging to standard error, panics included. For programs: the log is one for the process.
///
/// # Errors
/// As [`filter`], and when something logs already.
pub fn start(level: &str, format: LogFormat) -> Result<LogLevel, String> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(true);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|cause| cause.to_string())?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or(payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("no text");
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let trace = Backtrace::capture();
        // There is one only where RUST_BACKTRACE asks for it.
        let trace = (trace.status() == BacktraceStatus::Captured).then_some(trace);
        let trace = trace.as_ref().map(tracing::field::display);
        tracing::error!(place, thread, trace, "panic: {text}");
    }));
    Ok(LogLevel(handle))
}

/// Logs a request: at `debug`, or at `warn` when the service was at fault.
pub fn log_request(done: &RequestDone<'_>) {
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(
                request_id = done.request_id,
                project = done.project,
                queue = done.queue,
                route = done.route,
                method = done.method,
                status = done.status,
                bytes_in = done.bytes_in,
                bytes_out = done.bytes_out,
                elapsed_us = u64::try_from(done.elapsed.as_micros()).unwrap_or(u64::MAX),
                error = done.error,
                "request"
            )
        };
    }
    if done.status >= 500 { log!(warn) } else { log!(debug) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_has_to_be_one() {
        for text in ["info", "off", "warn,marconi_server=debug", "info, marconi_engine=trace"] {
            assert!(filter(text).is_ok(), "{text}");
        }
        for text in ["inof", "", "info,debg", "marconi_server=loud"] {
            assert!(filter(text).is_err(), "{text}");
        }
    }
}
