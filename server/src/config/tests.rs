//! Precedence, refusals and the page, over text in place of files.

use super::options::OPTIONS;
use super::*;
use std::ffi::OsString;
use std::path::Path;

fn file_of(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("the temporary folder takes a file");
    std::fs::write(file.path(), text).expect("the file can be written");
    file
}

fn gather(
    file: Option<&Path>,
    variables: &[(&str, &str)],
    flags: &[&str],
) -> Result<Settings, ConfigError> {
    let mut arguments = vec![OsString::from("marconi-server")];
    if let Some(file) = file {
        arguments.extend(["--config".into(), file.into()]);
    }
    arguments.extend(flags.iter().map(OsString::from));
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    Request::new(arguments, variables)?.gather()
}

/// The configuration, or its refusal with the file's name left out.
fn load(text: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Config, String> {
    let file = file_of(text);
    gather(Some(file.path()), variables, flags)
        .and_then(|mut settings| Config::new(&mut settings))
        .map_err(|cause| cause.to_string().replace(&file.path().display().to_string(), "FILE"))
}

#[test]
fn nothing_said_gives_the_defaults_of_every_part() {
    let config = Config::new(&mut Settings::default()).expect("the defaults are valid");
    assert_eq!(config.listen, "127.0.0.1:8888");
    assert_eq!(config.admin_listen.as_deref(), Some("127.0.0.1:8889"));
    assert_eq!(config.limits, Limits::default());
    config.limits.validate().expect("the defaults are valid");
    let engine = marconi_engine::Config::new("data");
    assert_eq!(format!("{:?}", config.engine), format!("{engine:?}"));
}

#[test]
fn the_options_of_transport_are_the_limits() {
    let limits = serde_json::to_value(Limits::default()).expect("plain numbers");
    let mut limits: Vec<_> = limits.as_object().expect("a struct").keys().cloned().collect();
    let options = OPTIONS.iter().filter(|spec| spec.section == "transport");
    let mut options: Vec<_> = options.map(|spec| spec.name.to_owned()).collect();
    limits.sort();
    options.sort();
    assert_eq!(options, limits);
}

#[test]
fn flags_outrank_the_environment_and_it_the_file() {
    let file = "[transport]\nmax_message_ttl = \"1d\"\nmax_claim_ttl = 1000\n\
                max_claim_grace = 1000\n[server]\nlisten = \"[::1]:1\"";
    let variables = [("MARCONI_MAX_CLAIM_TTL", "2000s"), ("MARCONI_MAX_CLAIM_GRACE", "2000")];
    let flags = ["--max-claim-grace", "50m", "--durability=os"];
    let config = load(file, &variables, &flags).expect("all are valid");
    assert_eq!(config.limits.max_message_ttl, 86_400);
    assert_eq!(config.limits.max_claim_ttl, 2000);
    assert_eq!(config.limits.max_claim_grace, 3000);
    assert_eq!(config.listen, "[::1]:1");
    assert_eq!(config.engine.durability.name(), "os");
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let file = file_of("[server]\nworker_threads = 3");
    let name = file.path().to_str().expect("made of ASCII");
    let mut settings = gather(None, &[("MARCONI_CONFIG", name)], &[]).expect("valid");
    let config = Config::new(&mut settings).expect("valid");
    assert_eq!(config.worker_threads, Some(3));
    assert_eq!(*settings.origin("worker_threads"), Origin::File(file.path().to_owned(), 2));
}

#[test]
fn queue_rules_are_replaced_as_a_whole() {
    let file = "[[queue]]\nmatch = \"a-*\"\ndurability = \"os\"\n\
                [[queue]]\nmatch = \"b\"\ndurability = \"each\"\n";
    let rules = |variables: &[(&str, &str)], flags: &[&str]| {
        let config = load(file, variables, flags).expect("valid");
        let rules = config.engine.durability_rules.iter();
        rules.map(|rule| format!("{}={}", rule.pattern, rule.durability)).collect::<Vec<_>>()
    };
    assert_eq!(rules(&[], &[]), ["a-*=os", "b=each"]);
    let variables = [("MARCONI_QUEUE_DURABILITY", "c=memory, d=group")];
    assert_eq!(rules(&variables, &[]), ["c=memory", "d=group"]);
    let flags = ["--queue-durability", "e=os", "--queue-durability", "f=os"];
    assert_eq!(rules(&variables, &flags), ["e=os", "f=os"]);
}

#[test]
fn a_default_page_is_lowered_to_its_maximum_unless_it_was_set() {
    let file = "[transport]\nmax_messages_per_page = 5";
    let config = load(file, &[], &[]).expect("the default gives way");
    assert_eq!(config.limits.default_messages_per_page, 5);
    let refused = load(file, &[], &["--default-messages-per-page", "6"]).expect_err("too large");
    assert!(refused.contains("default_messages_per_page is 6"), "{refused}");
}

#[test]
fn refusals_name_the_place_the_option_and_the_bound() {
    for (file, variable, flag, expected) in [
        (
            "\n\n[storage]\nsegment_size_bytes = 5",
            None,
            None,
            "FILE:4: segment_size_bytes is \"5B\"; it has to be a size such as 64MiB, 1MiB to 1GiB",
        ),
        (
            "[storage]\nsegment_size_bytes = \"64MB\"",
            None,
            None,
            "FILE:2: segment_size_bytes is \"64MB\"; it has to be a size such as 64MiB, 1MiB to 1GiB",
        ),
        (
            "[storage]\ndurability = \"fsync\"",
            None,
            None,
            "FILE:2: durability is \"fsync\"; it has to be one of memory, os, interval, group, each",
        ),
        (
            "[transport]\nmax_queues_per_page = -1",
            None,
            None,
            "FILE:2: max_queues_per_page is \"-1\"; it has to be a number 1 or more",
        ),
        (
            "[transport]\nmax_queues_per_page = true",
            None,
            None,
            "FILE:2: max_queues_per_page is boolean; it has to be a number 1 or more",
        ),
        (
            "[storage]\nsegment_bytes = 5",
            None,
            None,
            "FILE:2: unknown option \"segment_bytes\" in [storage]",
        ),
        ("[server]\nfolder = \"x\"", None, None, "FILE:2: folder stands in [storage]"),
        (
            "folder = \"x\"",
            None,
            None,
            "FILE:1: unknown section \"folder\"; there are [server], [storage], [transport], [log] and [[queue]]",
        ),
        ("[queue]\nx = 1", None, None, "FILE:1: write [[queue]], once for each rule"),
        (
            "[[queue]]\nmatch = \"x\"\nlevel = \"os\"",
            None,
            None,
            "FILE:3: unknown \"level\" in a queue rule; it has match and durability",
        ),
        ("[[queue]]\nmatch = \"x\"", None, None, "FILE:1: a queue rule needs durability"),
        (
            "",
            Some(("MARCONI_LOG_LEVLE", "debug")),
            None,
            "MARCONI_LOG_LEVLE: no such option; --help lists them all",
        ),
        (
            "",
            Some(("MARCONI_SYNC_INTERVAL_MS", "2h")),
            None,
            "MARCONI_SYNC_INTERVAL_MS: sync_interval_ms is \"2h\"; it has to be a time such as 100ms or 2s, 1ms to 1m",
        ),
        (
            "",
            Some(("MARCONI_QUEUE_DURABILITY", "a-*")),
            None,
            "MARCONI_QUEUE_DURABILITY: \"a-*\" is no rule such as telemetry-*=os",
        ),
        (
            "",
            None,
            Some("--max-claim-ttl=59s"),
            "--max-claim-ttl: min_claim_ttl is 60 and max_claim_ttl is 59; the first may not be larger",
        ),
        (
            "",
            None,
            Some("--tls-key-file=key.pem"),
            "--tls-key-file: tls_key_file is \"key.pem\", but of tls_certificate_file and tls_key_file the other is not set",
        ),
    ] {
        let variables: Vec<_> = variable.into_iter().collect();
        let flags: Vec<_> = flag.into_iter().collect();
        let refused = load(file, &variables, &flags).expect_err(expected);
        assert_eq!(refused, expected);
    }
}

#[test]
fn broken_toml_is_refused_with_its_line() {
    let refused = load("[server]\nlisten = ", &[], &[]).expect_err("no value");
    assert!(refused.starts_with("FILE:2: "), "{refused}");
    let refused = gather(Some(Path::new("/nowhere/x.toml")), &[], &[]).expect_err("no file");
    assert!(refused.to_string().starts_with("cannot read the configuration file /nowhere/x.toml"));
}

#[test]
fn what_is_printed_can_be_read_and_says_where_values_came_from() {
    let file = file_of("[storage]\nfolder = 'a \"b\"'\nsync_interval_ms = 1500");
    let variables = [("MARCONI_QUEUE_DURABILITY", "a-*=os")];
    let settings =
        gather(Some(file.path()), &variables, &["--max-claim-ttl", "2h"]).expect("valid");
    let printed = page::print(&settings);
    let name = file.path().display();
    for line in [
        "[server]".to_owned(),
        "listen = \"127.0.0.1:8888\" # text; default".to_owned(),
        format!("sync_interval_ms = \"1500ms\" # milliseconds; {name}:3"),
        "max_claim_ttl = \"2h\" # seconds; --max-claim-ttl".to_owned(),
        "max_queues_per_page = 20 # count; default".to_owned(),
        "[[queue]] # MARCONI_QUEUE_DURABILITY".to_owned(),
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} in\n{printed}");
    }
    let again = file_of(&printed);
    let again = gather(Some(again.path()), &[], &[]).expect("valid");
    assert_eq!(changes(&settings, &again), []);
}

#[test]
fn variables_of_the_client_are_passed_over_and_no_others() {
    let variables = options::CLIENT_VARIABLES.map(|name| (name, "x"));
    let settings = gather(None, &variables, &[]).expect("they are none of ours");
    assert_eq!(settings, Settings::default());
    for name in options::CLIENT_VARIABLES {
        let is_option = OPTIONS.iter().any(|spec| spec.variable() == name);
        assert!(!is_option, "{name} would be an option that cannot be set");
    }
    let refused = gather(None, &[("MARCONI_URI", "x")], &[]).expect_err("unknown");
    assert_eq!(refused.to_string(), "MARCONI_URI: no such option; --help lists them all");
}

#[test]
fn changes_tell_what_can_be_reloaded() {
    let old = gather(None, &[], &[]).expect("valid");
    let flags = ["--log-level=debug", "--folder=x", "--queue-durability=a=os"];
    let changes = changes(&old, &gather(None, &[], &flags).expect("valid"));
    let names: Vec<_> = changes.iter().map(|change| (change.name, change.reloads)).collect();
    assert_eq!(names, [("folder", false), ("log_level", true), ("queue_durability", false)]);
}

#[test]
fn the_command_line_is_well_formed() {
    page::command().debug_assert();
    let refused = gather(None, &[], &["--no-such-flag"]).expect_err("unknown");
    assert!(matches!(refused, ConfigError::Usage(_)));
}

/// `UPDATE=1 cargo test -p marconi-server the_page` writes the page anew.
#[test]
fn the_page_agrees_with_the_table() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, page::document()).expect("the page can be written");
    }
    let found = std::fs::read_to_string(file).unwrap_or_default();
    assert!(found == page::document(), "docs/configuration.md is old: run this test with UPDATE=1");
}
