//! Scenarios: workloads of one's own, as TOML. What may stand in a file, and what it means; running
//! one is in `run`, showing it in `table`.

mod run;
pub(crate) mod table;

pub(crate) use run::run;

use crate::results::MODES;
use crate::workload::{Action, Order, Queues, Script, Unit, documents};
use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::io::Write;
use std::path::Path;

/// Those that come with the program: name and file.
const SHIPPED: [(&str, &str); 4] = [
    ("many-queues", include_str!("../scenarios/many-queues.toml")),
    ("backlog", include_str!("../scenarios/backlog.toml")),
    ("fan-out", include_str!("../scenarios/fan-out.toml")),
    ("worker-pool", include_str!("../scenarios/worker-pool.toml")),
];

/// A scenario as its file has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What it is like, for people.
    about: String,
    /// The modes to measure; all where none is named.
    #[serde(default)]
    modes: Vec<String>,
    #[serde(default = "three")]
    repetitions: u32,
    #[serde(default)]
    warm_up_s: f64,
    duration_s: f64,
    /// Whether the server is killed and started again before the load.
    #[serde(default)]
    restart: bool,
    #[serde(default)]
    queues: QueueTable,
    prefill: Option<Prefill>,
    load: Load,
    operation: Vec<Operation>,
}

fn three() -> u32 {
    3
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct QueueTable {
    count: usize,
}

impl Default for QueueTable {
    fn default() -> QueueTable {
        QueueTable { count: 1 }
    }
}

/// Messages that wait before the load begins, spread over all queues.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prefill {
    messages: usize,
    size_bytes: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Load {
    connections: usize,
    /// Operations a second; as fast as they are answered where there is none.
    rate_per_s: Option<f64>,
}

/// What connections do, one of several.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    kind: Kind,
    #[serde(default = "one")]
    weight: u32,
    batch: Option<usize>,
    size_bytes: Option<usize>,
    limit: Option<usize>,
    follow: Option<bool>,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Post,
    ClaimDelete,
    List,
    Stats,
}

/// What a post takes by default; a body of a message is smaller than this.
const POST_SIZE_MAX: usize = 256 << 10;

impl Scenario {
    /// Reads a file's text.
    ///
    /// # Errors
    /// For a key that there is none of, or a value out of bounds; it names line and key, and what is
    /// allowed.
    fn parse(text: &str) -> anyhow::Result<Scenario> {
        let scenario: Scenario = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> anyhow::Result<()> {
        let within = |key: &str, value: f64, least: f64, most: f64| {
            if !(least..=most).contains(&value) {
                bail!("{key} is {value}; it has to be from {least} to {most}");
            }
            Ok(())
        };
        within("repetitions", f64::from(self.repetitions), 1.0, 100.0)?;
        within("warm_up_s", self.warm_up_s, 0.0, 600.0)?;
        within("duration_s", self.duration_s, 0.1, 86_400.0)?;
        within("queues.count", self.queues.count as f64, 1.0, 10_000_000.0)?;
        within("load.connections", self.load.connections as f64, 1.0, 4096.0)?;
        if let Some(rate) = self.load.rate_per_s {
            within("load.rate_per_s", rate, 0.01, 1_000_000.0)?;
        }
        if let Some(prefill) = &self.prefill {
            within("prefill.messages", prefill.messages as f64, 1.0, 1e9)?;
            within("prefill.size_bytes", prefill.size_bytes as f64, 2.0, 200_000.0)?;
        }
        if let Some(mode) = self.modes.iter().find(|mode| !MODES.contains(&mode.as_str())) {
            bail!("modes has {mode:?}; it takes {}", MODES.join(", "));
        }
        if self.operation.is_empty() {
            bail!("operation: there has to be one [[operation]] at the least");
        }
        let total: u64 = self.operation.iter().map(|one| u64::from(one.weight)).sum();
        within("the sum of all operation.weight", total as f64, 1.0, f64::from(u32::MAX))?;
        for (number, operation) in self.operation.iter().enumerate() {
            operation.check().with_context(|| format!("[[operation]] {}", number + 1))?;
        }
        Ok(())
    }

    /// What its connections do.
    fn script(&self, prefix: &str) -> Script {
        Script {
            actions: self.operation.iter().map(|one| (one.weight, one.action())).collect(),
            order: Order::Weighted,
            queues: Queues { prefix: prefix.to_owned(), count: self.queues.count },
            unit: Unit::Requests,
            ends_dry: false,
        }
    }

    /// The size that its results are filed under: that of its posts, or of what was there.
    fn size_bytes(&self) -> usize {
        let posted = self.operation.iter().find_map(|one| one.size_bytes);
        posted.or(self.prefill.as_ref().map(|prefill| prefill.size_bytes)).unwrap_or(0)
    }
}

impl Operation {
    fn check(&self) -> anyhow::Result<()> {
        let has = [
            ("batch", self.batch.is_some()),
            ("size_bytes", self.size_bytes.is_some()),
            ("limit", self.limit.is_some()),
            ("follow", self.follow.is_some()),
        ];
        let allowed: &[&str] = match self.kind {
            Kind::Post => &["batch", "size_bytes"],
            Kind::ClaimDelete => &["limit"],
            Kind::List => &["limit", "follow"],
            Kind::Stats => &[],
        };
        if let Some((key, _)) = has.iter().find(|(key, has)| *has && !allowed.contains(key)) {
            let allowed: Vec<&str> = allowed.iter().copied().chain(["kind", "weight"]).collect();
            bail!("{key} means nothing in this kind; it takes {}", allowed.join(", "));
        }
        let (batch, size) = (self.batch.unwrap_or(1), self.size_bytes.unwrap_or(1024));
        if batch == 0 || size < 2 || batch.saturating_mul(size + 40) > POST_SIZE_MAX {
            bail!(
                "batch {batch} of size_bytes {size}: there has to be a message, of 2 bytes or more, and a post has room \
                 for {POST_SIZE_MAX} bytes with 40 for each message"
            );
        }
        if !(1..=20).contains(&self.limit.unwrap_or(10)) {
            bail!("limit is {}; it has to be from 1 to 20", self.limit.unwrap_or(10));
        }
        Ok(())
    }

    fn action(&self) -> Action {
        let limit = self.limit.unwrap_or(10);
        match self.kind {
            Kind::Post => {
                let batch = self.batch.unwrap_or(1);
                Action::Post { batch, documents: documents(batch, self.size_bytes.unwrap_or(1024)) }
            }
            Kind::ClaimDelete => Action::Work { limit },
            Kind::List => Action::List { limit, follow: self.follow.unwrap_or(false) },
            Kind::Stats => Action::Stats,
        }
    }
}

/// The scenario of this name, or in this file, and what it is called.
fn find(name: &str) -> anyhow::Result<(String, Scenario)> {
    if let Some((known, text)) = SHIPPED.iter().find(|(known, _)| *known == name) {
        return Ok(((*known).to_owned(), Scenario::parse(text)?));
    }
    let path = Path::new(name);
    if !path.exists() {
        let known: Vec<&str> = SHIPPED.iter().map(|(known, _)| *known).collect();
        bail!("there is no file {name}, and no scenario of that name: {}", known.join(", "));
    }
    let text = crate::folder::read_text(path)?;
    let scenario = Scenario::parse(&text).with_context(|| format!("cannot use {name}"))?;
    let stem = path.file_stem().map_or_else(|| name.into(), |stem| stem.to_string_lossy());
    Ok((stem.into_owned(), scenario))
}

/// Lists the scenarios that come with the program, or prints the file of one.
///
/// # Errors
/// When there is none of this name.
pub(crate) fn list(name: Option<&str>, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(name) = name {
        let Some((_, text)) = SHIPPED.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = SHIPPED.iter().map(|(known, _)| *known).collect();
            bail!("no scenario {name:?} comes with the program; there are {}", known.join(", "));
        };
        return Ok(out.write_all(text.as_bytes())?);
    }
    let mut all = Vec::new();
    for (name, text) in SHIPPED {
        all.push((name, Scenario::parse(text)?));
    }
    if json {
        let all: Vec<_> = all
            .iter()
            .map(|(name, one)| serde_json::json!({ "name": name, "about": one.about }))
            .collect();
        serde_json::to_writer(&mut *out, &all)?;
        return Ok(writeln!(out)?);
    }
    for (name, scenario) in &all {
        writeln!(out, "{name:<14} {}", scenario.about)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str =
        "about = \"x\"\nduration_s = 1\n[load]\nconnections = 2\n[[operation]]\nkind = \"post\"\n";

    #[test]
    fn those_that_ship_are_sound() {
        for (name, text) in SHIPPED {
            let scenario =
                Scenario::parse(text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert!(!scenario.script("q").actions.is_empty());
        }
        let (_, many) = find("many-queues").expect("it ships");
        assert_eq!(many.script("q").queues.count, 100_000);
        let (_, backlog) = find("backlog").expect("it ships");
        assert_eq!(backlog.prefill.expect("it is full").messages, 10_000_000);
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let scenario = Scenario::parse(SMALL).expect("enough");
        assert_eq!((scenario.repetitions, scenario.queues.count), (3, 1));
        assert!(scenario.modes.is_empty() && scenario.load.rate_per_s.is_none());
        assert!(matches!(scenario.operation[0].action(), Action::Post { batch: 1, .. }));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (from, to, words) in [
            ("connections", "conections", &["line 4", "conections", "`connections`"][..]),
            ("kind = \"post\"", "kind = \"pots\"", &["line 6", "pots", "claim-delete"]),
            (
                "kind = \"post\"",
                "kind = \"post\"\nlimit = 3",
                &["[[operation]] 1", "limit", "batch"],
            ),
            ("connections = 2", "connections = 0", &["load.connections is 0", "1 to 4096"]),
            ("duration_s = 1", "duration_s = 1\nmodes = [\"never\"]", &["never", "interval"]),
            ("kind = \"post\"", "kind = \"post\"\nbatch = 300", &["batch 300", "262144"]),
            ("kind = \"post\"", "kind = \"list\"\nlimit = 21", &["limit is 21", "1 to 20"]),
            ("kind = \"post\"", "kind = \"post\"\nweight = 0", &["weight is 0"]),
        ] {
            let text = SMALL.replace(from, to);
            let error = format!("{:#}", Scenario::parse(&text).expect_err(to));
            for word in words {
                assert!(error.contains(word), "{to}: no {word:?} in {error}");
            }
        }
        let error = find("no-such").expect_err("it is not there").to_string();
        assert!(error.contains("no-such") && error.contains("worker-pool"), "{error}");
    }

    #[test]
    fn a_file_is_named_in_its_error_and_its_scenario_after_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, SMALL).expect("writes");
        let name = path.to_str().expect("text");
        assert_eq!(find(name).expect("is sound").0, "mine");
        std::fs::write(&path, "abuot = 1").expect("writes");
        let error = format!("{:#}", find(name).expect_err("no such key"));
        assert!(error.contains("mine.toml") && error.contains("abuot"), "{error}");
    }
}
