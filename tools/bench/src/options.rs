//! The command line of `marconi bench`, as typed, and what it means. Knows nothing of how it is done.

use crate::results::MODES;
use crate::workload::Workload;
use anyhow::bail;
use std::path::PathBuf;
use std::time::Duration;

/// What each durability mode costs here, what a power cut takes in it, and which one to choose.
#[derive(Debug, Clone, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  marconi bench
      Measures every mode on this machine in five minutes, on a server of its own in a temporary
      folder, and leaves a report in ./marconi-bench-<date>/report.html.
  marconi bench --time 20m --disk /srv/queue --out before
      Longer and surer, on the disk that will hold the messages.
  marconi bench --url http://queue.example.net:8888 --project test --connections 16
      Measures a server that runs already; its queues `marconi-bench-…` are made and removed.
  marconi bench compare before after
      What changed between two runs, and how sure that is.
  marconi bench --scenario many-queues
      A workload of another kind; `marconi bench scenarios` lists those that come with the program."
)]
pub struct Options {
    /// What to do instead of measuring.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to measure, and how.
    #[command(flatten)]
    pub run: RunOptions,
}

/// What to do instead of measuring.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Compare two runs: for each cell the ratio of the second to the first, and whether it is noise.
    #[command(after_help = "\
Examples:
  marconi bench compare before after
  marconi bench compare before/results.jsonl after/results.jsonl --json | jq '.[] | select(.sure)'

A cell changed for sure when the interval of its ratio, from 2,000 bootstraps over the repetitions,
lies wholly above or below 1. More rounds (--rounds, --time) make narrower intervals.")]
    Compare(CompareOptions),
    /// List the scenarios that come with the program, or print one to begin with.
    #[command(after_help = "\
Examples:
  marconi bench scenarios
  marconi bench scenarios worker-pool > mine.toml && marconi bench --scenario mine.toml")]
    Scenarios {
        /// The scenario whose file to print.
        name: Option<String>,
    },
    /// Make report and plots again from a folder of results.
    #[command(after_help = "\
Examples:
  marconi bench report marconi-bench-20260101-1200
  marconi bench report results.jsonl --out elsewhere")]
    Report {
        /// The folder of a run, or its `results.jsonl`.
        results: PathBuf,
        /// Where to put the report; where the results are, if not given.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// The bare server that is measured beside ours.
    #[command(name = crate::hello::COMMAND, hide = true)]
    HelloServer,
}

/// Two runs.
#[derive(Debug, Clone, clap::Args)]
pub struct CompareOptions {
    /// The run to compare with: its folder, or its `results.jsonl`.
    pub first: PathBuf,
    /// The run whose change is shown.
    pub second: PathBuf,
}

/// What to measure, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct RunOptions {
    /// How long it may take: `90s`, `5m`, `1h`. Cells get shorter or longer with it. A scenario has
    /// its own times.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_time, help_heading = "What is measured")]
    pub time: Duration,
    /// Repetitions of each cell, in turns with all others. Fewer are longer in the same time.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100), help_heading = "What is measured")]
    pub rounds: u16,
    /// The durability modes, with commas: of memory, os, interval, group, each.
    #[arg(long, value_name = "MODES", value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(MODES), help_heading = "What is measured")]
    pub modes: Vec<String>,
    /// How many connections, with commas. Each has one request in flight.
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', default_values_t = [1, 16, 64, 256], value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "What is measured")]
    pub connections: Vec<u16>,
    /// What connections do, with commas.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        value_enum,
        help_heading = "What is measured"
    )]
    pub workloads: Vec<Workload>,
    /// Sizes of message bodies in bytes, with commas. The first is that of all cells; the others
    /// are measured for posts over 16 connections.
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_values_t = [1024, 256, 16384], value_parser = clap::value_parser!(u32).range(2..=200_000), help_heading = "What is measured")]
    pub sizes: Vec<u32>,
    /// Measure every size with every workload and count of connections: give it three times the time.
    #[arg(long, help_heading = "What is measured")]
    pub full: bool,
    /// Measure this scenario instead: the name of one that comes with the program (see `marconi
    /// bench scenarios`), or a file of TOML.
    #[arg(long, value_name = "FILE", help_heading = "What is measured")]
    pub scenario: Option<String>,

    /// Measure a server that runs already, and speaks v1 of the API. Its disk and its losses at a
    /// power cut are not measured then.
    #[arg(long, value_name = "URL", help_heading = "Which server")]
    pub url: Option<String>,
    /// The project to work in, with --url.
    #[arg(long, value_name = "NAME", requires = "url", help_heading = "Which server")]
    pub project: Option<String>,
    /// The UUID that names this client to the server.
    #[arg(
        long,
        value_name = "UUID",
        default_value = "3381af92-2b9e-11e3-b191-71861300734c",
        help_heading = "Which server"
    )]
    pub client_id: String,
    /// One more header of every request, such as a token: `X-Auth-Token: …`. May be repeated.
    #[arg(long, value_name = "LINE", requires = "url", help_heading = "Which server")]
    pub header: Vec<String>,
    /// The server program to start, instead of this program's own `serve`.
    #[arg(long, value_name = "PATH", conflicts_with = "url", help_heading = "Which server")]
    pub server_program: Option<PathBuf>,
    /// The folder in which the server's temporary folder is made: on the disk that you want
    /// measured. The folder of results, if not given.
    #[arg(long, value_name = "DIR", conflicts_with = "url", help_heading = "Which server")]
    pub disk: Option<PathBuf>,

    /// Where results and report go: a new folder [default: `./marconi-bench-DATE`].
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub out: Option<PathBuf>,
    /// Decides at which moments the power is cut. The same seed cuts at the same ones.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, help_heading = "Results")]
    pub seed: u64,
}

impl RunOptions {
    /// `host:port` of the server that runs already.
    ///
    /// # Errors
    /// When it is no URL that can be measured.
    pub fn address(&self) -> anyhow::Result<Option<String>> {
        let Some(url) = &self.url else { return Ok(None) };
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("--url {url} has to begin with http://; what TLS costs is not measured");
        };
        let address = rest.trim_end_matches('/');
        if address.is_empty() || address.contains(['/', '?', '@', ' ']) {
            bail!("--url {url} has to be http://HOST:PORT and nothing behind it");
        }
        let has_port =
            address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Ok(Some(if has_port { address.to_owned() } else { format!("{address}:80") }))
    }

    /// Checks what no parser of one option can.
    ///
    /// # Errors
    /// For a header that is none.
    pub fn check(&self) -> anyhow::Result<()> {
        for line in &self.header {
            let is_header = line.split_once(':').is_some_and(|(name, _)| {
                !name.is_empty() && !name.contains(|letter: char| letter.is_whitespace())
            });
            if !is_header || line.contains(['\r', '\n']) {
                bail!("--header {line:?} has to be `Name: value` on one line");
            }
        }
        self.address().map(|_| ())
    }
}

/// A length of time: a number and its unit.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("unknown unit {other:?}; use s, m or h, as in 90s or 5m")),
    };
    let count: f64 = digits.parse().map_err(|_| format!("{digits:?} is no number"))?;
    let seconds = count * unit;
    if !(5.0..=86_400.0).contains(&seconds) {
        return Err("it has to be from 5s to 24h".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn parse(words: &[&str]) -> Result<RunOptions, clap::Error> {
        Ok(Cli::try_parse_from([&["bench"], words].concat())?.options.run)
    }

    #[test]
    fn the_command_line_is_well_formed_and_its_defaults_are_told() {
        Cli::command().debug_assert();
        let defaults = parse(&[]).expect("nothing is needed");
        assert_eq!(defaults.connections, [1, 16, 64, 256]);
        assert_eq!(defaults.sizes[0], 1024);
        assert_eq!(defaults.time, Duration::from_secs(300));
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("Examples:") && !help.contains("hello"), "{help}");
    }

    #[test]
    fn times_have_units_and_bounds() {
        let time = |text: &str| parse_time(text);
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(time("2h"), Ok(Duration::from_secs(7200)));
        assert!(time("5d").expect_err("no unit").contains("unit"));
        assert!(time("1s").expect_err("short").contains("5s"));
        assert!(time("m").expect_err("no number").contains("number"));
        assert!(time("-5m").is_err() && time("NaN").is_err());
    }

    #[test]
    fn only_what_can_be_measured_is_taken() {
        let address = |url: &str| parse(&["--url", url]).expect("parses").address();
        assert_eq!(address("http://h:1/").expect("a URL").as_deref(), Some("h:1"));
        assert_eq!(address("http://h").expect("a URL").as_deref(), Some("h:80"));
        assert!(address("https://h").is_err());
        assert!(address("http://h/v1").is_err());
        assert!(parse(&["--modes", "os,never"]).is_err());
        assert!(parse(&["--project", "p"]).is_err());
        let header = parse(&["--url", "http://h", "--header", "no header"]).expect("parses");
        assert!(header.check().is_err());
        assert_eq!(parse(&["--modes", "os,group"]).expect("modes").modes, ["os", "group"]);
    }
}
