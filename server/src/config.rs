//! The configuration: what the server is told, checked and typed.
//! Knows how values relate; how they are written down is for its parts. Opens nothing but the file.

pub mod options;
pub mod page;
pub mod sources;
pub mod value;

use crate::telemetry::{self, LogFormat};
pub use sources::{ConfigError, Origin, Request, Settings};

use crate::api::limits::Limits;
use std::path::PathBuf;
use std::time::Duration;
use value::Value;

/// Everything the server is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address and port of the API.
    pub listen: String,
    /// Address and port of the admin API, if it is wanted.
    pub admin_listen: Option<String>,
    /// Threads that serve requests, if not one a core.
    pub worker_threads: Option<usize>,
    /// How long such a thread polls before it sleeps.
    pub busy_poll: Duration,
    /// What a connection is granted.
    pub connections: Connections,
    /// Certificate and key, when the API is to speak TLS.
    pub tls: Option<TlsFiles>,
    /// The store.
    pub engine: marconi_engine::Config,
    /// What a request may ask for.
    pub limits: Limits,
    /// What is logged, as a filter of `tracing`.
    pub log_level: String,
    /// How a line of the log looks.
    pub log_format: LogFormat,
}

/// What a connection is granted. The names are those of the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of options describes them")]
pub struct Connections {
    pub connections_max: usize,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub header_size_max_bytes: usize,
    pub http2_streams_max: u32,
    pub drain_timeout: Duration,
}

/// Where certificate and key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, in PEM form.
    pub certificate_file: PathBuf,
    /// The key, in PEM form.
    pub key_file: PathBuf,
}

/// Options that may not be larger than others, unless nobody set them: those are lowered.
const LOWERED: [(&str, &str); 3] = [
    ("default_queues_per_page", "max_queues_per_page"),
    ("default_messages_per_page", "max_messages_per_page"),
    ("default_messages_per_claim", "max_messages_per_claim_or_pop"),
];
/// Options that may not be larger than others.
const ORDERED: [(&str, &str); 8] = [
    LOWERED[0],
    LOWERED[1],
    LOWERED[2],
    ("min_message_ttl", "max_message_ttl"),
    ("min_claim_ttl", "max_claim_ttl"),
    ("min_claim_grace", "max_claim_grace"),
    ("max_messages_post_size", "bytes_in_flight_max"),
    ("max_queue_metadata", "bytes_in_flight_max"),
];

impl Config {
    /// Types the settings, and checks what no option can check by itself. Lowers defaults that no
    /// longer fit.
    pub fn new(settings: &mut Settings) -> Result<Config, ConfigError> {
        for (lower, upper) in LOWERED {
            settings.lower_default(lower, settings.number(upper));
        }
        for (lower, upper) in ORDERED {
            check_order(settings, lower, upper)?;
        }
        let text = |name| settings.text(name).to_owned();
        let admin_listen = Some(text("admin_listen")).filter(|address| address != "off");
        let tls = match [settings.text("tls_certificate_file"), settings.text("tls_key_file")] {
            ["", ""] => None,
            [certificate, ""] => {
                return Err(unpaired(settings, "tls_certificate_file", certificate));
            }
            ["", key] => return Err(unpaired(settings, "tls_key_file", key)),
            [certificate, key] => {
                Some(TlsFiles { certificate_file: certificate.into(), key_file: key.into() })
            }
        };
        if tls.is_some() && !cfg!(feature = "tls") {
            let origin = settings.origin("tls_certificate_file");
            return Err(ConfigError::refused(origin, "this program was built without TLS"));
        }
        if let Err(what) = telemetry::filter(settings.text("log_level")) {
            return Err(ConfigError::refused(settings.origin("log_level"), what));
        }
        Ok(Config {
            listen: text("listen"),
            admin_listen,
            worker_threads: Some(size(settings, "worker_threads")).filter(|count| *count > 0),
            busy_poll: Duration::from_micros(settings.number("busy_poll_us")),
            connections: connections(settings),
            tls,
            engine: engine(settings),
            limits: limits(settings),
            log_level: text("log_level"),
            log_format: match settings.text("log_format") {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
        })
    }
}

fn check_order(settings: &Settings, lower: &str, upper: &str) -> Result<(), ConfigError> {
    let (least, most) = (settings.number(lower), settings.number(upper));
    if least <= most {
        return Ok(());
    }
    // Whoever set one of the two is told: the defaults alone are in order.
    let origin = match settings.origin(upper) {
        Origin::Default => settings.origin(lower),
        origin => origin,
    };
    let what = format!("{lower} is {least} and {upper} is {most}; the first may not be larger");
    Err(ConfigError::refused(origin, what))
}

fn unpaired(settings: &Settings, name: &str, value: &str) -> ConfigError {
    let what = format!(
        "{name} is {value:?}, but of tls_certificate_file and tls_key_file the other is not set"
    );
    ConfigError::refused(settings.origin(name), what)
}

fn size(settings: &Settings, name: &str) -> usize {
    usize::try_from(settings.number(name)).unwrap_or(usize::MAX)
}

fn time(settings: &Settings, name: &str) -> Duration {
    Duration::from_millis(settings.number(name))
}

fn connections(settings: &Settings) -> Connections {
    Connections {
        connections_max: size(settings, "connections_max"),
        header_timeout: time(settings, "header_timeout_ms"),
        idle_timeout: time(settings, "idle_timeout_ms"),
        header_size_max_bytes: size(settings, "header_size_max_bytes"),
        http2_streams_max: u32::try_from(settings.number("http2_streams_max")).unwrap_or(u32::MAX),
        drain_timeout: time(settings, "drain_timeout_ms"),
    }
}

fn engine(settings: &Settings) -> marconi_engine::Config {
    marconi_engine::Config {
        durability: settings.text("durability").parse().expect("the option takes no other word"),
        durability_rules: settings.rules().iter().map(|(rule, _)| rule.clone()).collect(),
        sync_interval_ms: settings.number("sync_interval_ms"),
        segment_size_bytes: settings.number("segment_size_bytes"),
        checkpoint_interval_bytes: settings.number("checkpoint_interval_bytes"),
        write_buffer_max_bytes: settings.number("write_buffer_max_bytes"),
        disk_reserve_bytes: settings.number("disk_reserve_bytes"),
        compact_rate_bytes_per_s: settings.number("compact_rate_bytes_per_s"),
        upkeep_interval_ms: settings.number("upkeep_interval_ms"),
        ..marconi_engine::Config::new(settings.text("folder"))
    }
}

/// The limits have the names of their options, so that each is mapped by its name.
fn limits(settings: &Settings) -> Limits {
    let named = settings.iter().filter(|(spec, ..)| spec.section == "transport");
    let named = named.map(|(spec, value, _)| match value {
        Value::Number(number) => (spec.name.to_owned(), serde_json::Value::from(*number)),
        Value::Text(text) => (spec.name.to_owned(), serde_json::Value::from(text.as_str())),
    });
    let named = serde_json::Value::Object(named.collect());
    serde_json::from_value(named).expect("a test compares the options with the limits")
}

/// What differs between two settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The option.
    pub name: &'static str,
    /// Its value until now.
    pub old: String,
    /// Its value from now on.
    pub new: String,
    /// Whether it can change while the server runs.
    pub reloads: bool,
}

/// What differs between two settings, in the order of the table.
pub fn changes(old: &Settings, new: &Settings) -> Vec<Change> {
    let both = old.iter().zip(new.iter());
    let mut changes: Vec<Change> = both
        .filter(|((_, old, _), (_, new, _))| old != new)
        .map(|((spec, old, _), (_, new, _))| Change {
            name: spec.name,
            old: spec.show(old),
            new: spec.show(new),
            reloads: spec.reloads,
        })
        .collect();
    let rules = |settings: &Settings| {
        let rules = settings.rules().iter();
        let rules = rules.map(|(rule, _)| format!("{}={}", rule.pattern, rule.durability));
        rules.collect::<Vec<_>>().join(",")
    };
    let (old, new) = (rules(old), rules(new));
    if old != new {
        changes.push(Change { name: options::RULES_NAME, old, new, reloads: false });
    }
    changes
}

#[cfg(test)]
mod tests;
