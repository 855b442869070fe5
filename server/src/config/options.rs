//! The table of options: the one place that says what can be set, from which the file, the
//! environment, the flags, their help and the page in `docs/` all follow. Pure data; knows neither
//! where values come from nor who uses them.

use marconi_engine::Durability;

/// What kind of value an option takes, and in which unit a plain number is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A size: a number of bytes, or a text such as `64MiB`.
    Bytes,
    /// A time: a number of milliseconds, or a text such as `2s`.
    Milliseconds,
    /// A time: a number of seconds, or a text such as `1h`.
    Seconds,
    /// A number of things.
    Count,
    /// Any text. An empty one stands for "none".
    Text,
    /// One of a few words.
    Choice(&'static [&'static str]),
}

/// A value before anybody has set another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// A number, in the unit of the option's kind.
    Number(u64),
    /// A text or a word.
    Text(&'static str),
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The table of the file it stands in.
    pub section: &'static str,
    /// Its name in the file; environment and flags derive theirs from it. Unique over all sections.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it is when nobody says anything.
    pub preset: Preset,
    /// The least a number may be.
    pub least: u64,
    /// The most a number may be; [`ANY`] for no bound.
    pub most: u64,
    /// Whether SIGHUP puts a new value in force.
    pub reloads: bool,
    /// What it is, in a line.
    pub help: &'static str,
}

/// No upper bound: the largest number a file can hold.
pub const ANY: u64 = i64::MAX as u64;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND_MS: u64 = 1000;
const HOUR_MS: u64 = 3600 * SECOND_MS;
const U32: u64 = u32::MAX as u64;

/// Sections in the order they are shown, with what each is about.
pub const SECTIONS: [(&str, &str); 4] = [
    ("server", "Where the service listens, and what it grants a connection"),
    ("storage", "Where and how messages are kept"),
    ("transport", "What a request may ask for"),
    ("log", "What is written to standard error"),
];

/// The durability levels by name.
pub const DURABILITIES: [&str; 5] = ["memory", "os", "interval", "group", "each"];

// The names above are those of the engine.
const _: () = assert!(DURABILITIES.len() == Durability::ALL.len());

/// Every option. Queue rules alone stand beside it, since they are a list.
pub const OPTIONS: &[Spec] = &[
    text("server", "listen", "127.0.0.1:8888", "Address and port of the API"),
    text(
        "server",
        "admin_listen",
        "127.0.0.1:8889",
        "Address and port of metrics, health and administration; off for none. Keep it private: it asks for no password",
    ),
    count("server", "worker_threads", 0, 0, 1024, "Threads that serve requests; 0 for one a core"),
    count(
        "server",
        "busy_poll_us",
        100,
        0,
        1000,
        "Microseconds for which a thread polls for the next request before it sleeps, while requests mostly come that soon; 0 for never",
    ),
    count(
        "server",
        "connections_max",
        10_000,
        1,
        1_000_000,
        "Connections at a time; more are answered 503",
    ),
    time(
        "server",
        "header_timeout_ms",
        10 * SECOND_MS,
        1,
        HOUR_MS,
        "Longest time a request's head, or a TLS handshake, may take",
    ),
    time(
        "server",
        "idle_timeout_ms",
        75 * SECOND_MS,
        1,
        24 * HOUR_MS,
        "How long a connection stays open between requests",
    ),
    size(
        "server",
        "header_size_max_bytes",
        64 * KIB,
        8 * KIB,
        16 * MIB,
        "Largest head of a request",
    ),
    count(
        "server",
        "http2_streams_max",
        256,
        1,
        U32,
        "Requests at a time on one HTTP/2 connection",
    ),
    time(
        "server",
        "drain_timeout_ms",
        30 * SECOND_MS,
        0,
        HOUR_MS,
        "How long requests in flight may take once the server was told to stop",
    ),
    reload(text(
        "server",
        "tls_certificate_file",
        "",
        "Certificate chain in PEM form; with it the API speaks TLS only. SIGHUP reads the file again",
    )),
    reload(text("server", "tls_key_file", "", "Key of that certificate in PEM form")),
    text(
        "storage",
        "folder",
        "data",
        "The data folder; made if it is not there, its parent has to be",
    ),
    Spec {
        kind: Kind::Choice(&DURABILITIES),
        ..text(
            "storage",
            "durability",
            "group",
            "What an answer promises when neither queue nor rule says otherwise",
        )
    },
    time(
        "storage",
        "sync_interval_ms",
        100,
        1,
        60_000,
        "Longest time a write of durability interval stays unsynced",
    ),
    size(
        "storage",
        "segment_size_bytes",
        64 * MIB,
        MIB,
        GIB,
        "Size of a log file; a quarter of it bounds one post",
    ),
    size(
        "storage",
        "checkpoint_interval_bytes",
        64 * MIB,
        MIB,
        64 * GIB,
        "Log written between two checkpoints, unless 8 times a checkpoint's own size is more: what a start after a crash has to read",
    ),
    size(
        "storage",
        "write_buffer_max_bytes",
        32 * MIB,
        MIB,
        GIB,
        "Bytes that may wait to be written before writers have to wait",
    ),
    size(
        "storage",
        "disk_reserve_bytes",
        256 * MIB,
        0,
        1024 * GIB,
        "Disk space that posting leaves free",
    ),
    size(
        "storage",
        "compact_rate_bytes_per_s",
        256 * MIB,
        MIB,
        ANY,
        "What compaction may write a second",
    ),
    time(
        "storage",
        "upkeep_interval_ms",
        200,
        1,
        60_000,
        "Pause between two rounds of upkeep: expiry, reclaiming",
    ),
    limit("default_queues_per_page", 10, 1, ANY, "Queues on a page when a request names no limit"),
    limit("max_queues_per_page", 20, 1, ANY, "Largest limit of a page of queues"),
    limit(
        "default_messages_per_page",
        10,
        1,
        ANY,
        "Messages on a page when a request names no limit",
    ),
    limit(
        "max_messages_per_page",
        20,
        1,
        ANY,
        "Largest limit of a page of messages, and most ids in a request",
    ),
    limit(
        "default_messages_per_claim",
        10,
        1,
        ANY,
        "Messages claimed when a request names no limit",
    ),
    limit("max_messages_per_claim_or_pop", 20, 1, ANY, "Largest limit of a claim"),
    reload(size(
        "transport",
        "max_queue_metadata",
        64 * KIB,
        2,
        GIB,
        "Largest metadata document of a queue",
    )),
    reload(size(
        "transport",
        "max_messages_post_size",
        256 * KIB,
        2,
        GIB,
        "Largest body of a post or a claim",
    )),
    limit(
        "max_messages_per_post",
        0,
        0,
        ANY,
        "Most messages in a post; 0 for no bound but the size",
    ),
    life("min_message_ttl", 60, 1, "Shortest life of a message"),
    life("max_message_ttl", 1_209_600, 1, "Longest life of a message"),
    life("min_claim_ttl", 60, 1, "Shortest claim"),
    life("max_claim_ttl", 43_200, 1, "Longest claim"),
    life("min_claim_grace", 60, 0, "Least grace of a claim"),
    life("max_claim_grace", 43_200, 0, "Most grace of a claim"),
    limit("max_queue_name_length", 64, 1, 4096, "Longest name of a queue, in characters"),
    limit("max_project_id_length", 256, 1, 1024, "Longest project id, in characters"),
    limit("json_depth_max", 1000, 2, ANY, "How deep arrays and objects of a document may nest"),
    reload(size(
        "transport",
        "bytes_in_flight_max",
        256 * MIB,
        2,
        ANY,
        "Request bodies held in memory at a time; more are answered 503. The last eighth is for bodies that say they have up to 16 KiB",
    )),
    reload(time(
        "transport",
        "body_read_timeout_ms",
        30 * SECOND_MS,
        1,
        HOUR_MS,
        "Longest time a request's body may take to arrive",
    )),
    reload(text(
        "log",
        "log_level",
        "info",
        "What is logged: error, warn, info, debug, trace, or by part: info,marconi_server=debug",
    )),
    Spec {
        kind: Kind::Choice(&["text", "json"]),
        ..text("log", "log_format", "text", "How a line of the log looks")
    },
];

const fn spec(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    preset: Preset,
    help: &'static str,
) -> Spec {
    Spec { section, name, kind, preset, least: 0, most: ANY, reloads: false, help }
}

const fn text(
    section: &'static str,
    name: &'static str,
    preset: &'static str,
    help: &'static str,
) -> Spec {
    spec(section, name, Kind::Text, Preset::Text(preset), help)
}

const fn number(spec: Spec, least: u64, most: u64) -> Spec {
    Spec { least, most, ..spec }
}

const fn count(
    section: &'static str,
    name: &'static str,
    preset: u64,
    least: u64,
    most: u64,
    help: &'static str,
) -> Spec {
    number(spec(section, name, Kind::Count, Preset::Number(preset), help), least, most)
}

const fn size(
    section: &'static str,
    name: &'static str,
    preset: u64,
    least: u64,
    most: u64,
    help: &'static str,
) -> Spec {
    number(spec(section, name, Kind::Bytes, Preset::Number(preset), help), least, most)
}

const fn time(
    section: &'static str,
    name: &'static str,
    preset: u64,
    least: u64,
    most: u64,
    help: &'static str,
) -> Spec {
    number(spec(section, name, Kind::Milliseconds, Preset::Number(preset), help), least, most)
}

const fn limit(name: &'static str, preset: u64, least: u64, most: u64, help: &'static str) -> Spec {
    reload(count("transport", name, preset, least, most, help))
}

const fn life(name: &'static str, preset: u64, least: u64, help: &'static str) -> Spec {
    let kind = Kind::Seconds;
    reload(number(spec("transport", name, kind, Preset::Number(preset), help), least, U32))
}

const fn reload(spec: Spec) -> Spec {
    Spec { reloads: true, ..spec }
}

impl Spec {
    /// The place in [`OPTIONS`] of the option called `name`.
    pub fn find(name: &str) -> Option<usize> {
        OPTIONS.iter().position(|spec| spec.name == name)
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.to_uppercase())
    }

    /// Its flag, without the dashes before it.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// How each of our environment variables begins.
pub const VARIABLE_PREFIX: &str = "MARCONI_";

/// Variables with that beginning that speak to the client on the command line. Who has them in their
/// environment may start a server from the same shell; any other unknown name stops the start.
pub const CLIENT_VARIABLES: [&str; 9] = [
    "MARCONI_URL",
    "MARCONI_PROJECT",
    "MARCONI_CLIENT_ID",
    "MARCONI_TOKEN",
    "MARCONI_CLIENT_CONFIG",
    "MARCONI_ADMIN_URL",
    "MARCONI_MESSAGE_ID",
    "MARCONI_QUEUE",
    "MARCONI_CLAIM_ID",
];

/// The queue rules' name for environment and flag.
pub const RULES_NAME: &str = "queue_durability";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_sections_known() {
        let mut names = HashSet::from(["config", "print_config", RULES_NAME]);
        for spec in OPTIONS {
            assert!(names.insert(spec.name), "{} twice", spec.name);
            assert!(SECTIONS.iter().any(|(name, _)| *name == spec.section), "{}", spec.section);
        }
    }

    #[test]
    fn durabilities_are_those_of_the_engine() {
        assert_eq!(DURABILITIES, Durability::ALL.map(Durability::name));
    }
}
