//! `proof`: lists campaigns, runs them, tries one seed again, makes the page. Decides nothing about trials.

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use marconi_proof::campaign::Campaign;
use marconi_proof::campaigns::{ALL, find, soak};
use marconi_proof::ledger::{self, Line};
use marconi_proof::libfuzzer;
use marconi_proof::page::{self, Total, grouped};
use marconi_proof::runner::{self, Bounds};
use std::io::Write;
use std::time::{Duration, Instant};

/// Tries each promise of the engine and the server against the fault that threatens it.
#[derive(Debug, Parser)]
#[command(name = "proof", version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists the campaigns, with what they tried so far.
    List,
    /// Runs campaigns, one after the other, and adds a line to the ledger for each.
    Run {
        /// Which; all of them where none is named.
        names: Vec<String>,
        /// How long each campaign may take.
        #[arg(long, default_value_t = 5.0)]
        minutes: f64,
        /// How much each campaign tries at the most, in its own units.
        #[arg(long)]
        units: Option<u64>,
        /// The first seed; else the first that no run before had.
        #[arg(long)]
        seed: Option<u64>,
        /// How many seeds of a campaign may fail before it ends.
        #[arg(long, default_value_t = runner::FAILURES_MAX)]
        failures: usize,
        /// Leaves the ledger as it is.
        #[arg(long)]
        no_ledger: bool,
    },
    /// Tries one seed of a campaign again.
    One {
        /// The campaign.
        name: String,
        /// The seed, as a failure printed it.
        seed: u64,
    },
    /// Has libFuzzer look for input that a parser does not survive, and adds a line to the ledger.
    Fuzz {
        /// Which parser; all of them where none is named.
        target: Option<String>,
        /// How long all of it may take, but for building.
        #[arg(long, default_value_t = 5.0)]
        minutes: f64,
        /// Leaves the ledger as it is.
        #[arg(long)]
        no_ledger: bool,
    },
    /// Makes docs/reliability.md from the ledger.
    Page,
}

fn main() -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match Arguments::parse().command {
        Verb::List => {
            let lines = ledger::read(&ledger::path())?;
            for campaign in ALL {
                let total = Total::of(campaign, &lines);
                let (tried, wanted) = (grouped(total.tried), grouped(campaign.in_ledger));
                writeln!(out, "{:12} {tried} of {wanted} {}", campaign.name, campaign.unit)?;
                writeln!(out, "{:12} {}: {}", "", campaign.promise, campaign.fault)?;
            }
            Ok(())
        }
        Verb::Run { names, minutes, units, seed, failures, no_ledger } => {
            let chosen: Vec<&Campaign> = if names.is_empty() {
                ALL.to_vec()
            } else {
                names.iter().map(|name| named(name)).collect::<anyhow::Result<_>>()?
            };
            let lines = ledger::read(&ledger::path())?;
            let mut failed = 0;
            for campaign in chosen {
                let bounds = Bounds {
                    seeds: seed.unwrap_or_else(|| ledger::next_seed(&lines, campaign.name))
                        ..u64::MAX,
                    units: units.unwrap_or(u64::MAX),
                    deadline: Some(Instant::now() + Duration::from_secs_f64(minutes * 60.0)),
                    failures,
                };
                failed += run(&mut out, campaign, &bounds, !no_ledger)?;
            }
            if failed > 0 { bail!("{failed} seeds failed") } else { Ok(()) }
        }
        Verb::One { name, seed } => {
            let campaign = named(&name)?;
            let units = (campaign.trial)(seed).with_context(|| campaign.again(seed))?;
            writeln!(out, "{} {}: nothing failed", grouped(units), campaign.unit)?;
            Ok(())
        }
        Verb::Fuzz { target, minutes, no_ledger } => {
            let time = Duration::from_secs_f64(minutes * 60.0);
            fuzz(&mut out, target.as_deref(), time, !no_ledger)
        }
        Verb::Page => {
            let lines = ledger::read(&ledger::path())?;
            let path = ledger::root().join("docs/reliability.md");
            std::fs::write(&path, page::render(&lines)).context("write docs/reliability.md")
        }
    }
}

fn named(name: &str) -> anyhow::Result<&'static Campaign> {
    let names = || ALL.iter().map(|campaign| campaign.name).collect::<Vec<_>>().join(", ");
    find(name).with_context(|| format!("there is no campaign {name}; there are {}", names()))
}

/// Runs one campaign; returns how many seeds failed.
fn run(
    out: &mut impl Write,
    campaign: &Campaign,
    bounds: &Bounds,
    keeps_ledger: bool,
) -> anyhow::Result<u64> {
    if let Some(obstacle) = (campaign.obstacle)() {
        writeln!(out, "{}: not run: {obstacle}", campaign.name)?;
        return Ok(0);
    }
    let style = ProgressStyle::with_template("{prefix} {elapsed} {human_pos} {msg} ({per_sec})")
        .context("a template")?;
    let bar = ProgressBar::no_length().with_style(style).with_prefix(campaign.name);
    bar.set_message(campaign.unit);
    let cpu_before = ledger::cpu_seconds();
    let tally = runner::run(campaign, bounds, |tried| bar.set_position(tried));
    bar.finish_and_clear();
    let failed = tally.failures.len() as u64;
    for (seed, why) in &tally.failures {
        writeln!(
            out,
            "{}: seed {seed} failed: {why}\n  again: {}",
            campaign.name,
            campaign.again(*seed)
        )?;
    }
    writeln!(
        out,
        "{}: {} {} tried, {failed} seeds failed",
        campaign.name,
        grouped(tally.tried),
        campaign.unit
    )?;
    if keeps_ledger {
        keep(campaign.name, (tally.seeds.start, tally.seeds.end), tally.tried, failed, cpu_before)?;
        if campaign.name == soak::CAMPAIGN.name {
            draw_soak()?;
        }
    }
    Ok(failed)
}

/// Draws the soak that has just ended, unless it was too short to replace the picture of another.
fn draw_soak() -> anyhow::Result<()> {
    let path = ledger::root().join(page::SOAK_PICTURE);
    if path.exists() && !soak::picture::is_long() {
        return Ok(());
    }
    std::fs::create_dir_all(path.parent().context("it lies in a folder")?)?;
    std::fs::write(&path, soak::picture::draw()?)
        .with_context(|| format!("write {}", path.display()))
}

/// Adds a line to the ledger.
fn keep(
    campaign: &str,
    seeds: (u64, u64),
    tried: u64,
    failed: u64,
    cpu_before: u64,
) -> anyhow::Result<()> {
    let line = Line {
        date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        commit: ledger::commit()?,
        campaign: campaign.to_owned(),
        seeds,
        tried,
        failed,
        cpu_s: ledger::cpu_seconds() - cpu_before,
        found: None,
    };
    ledger::append(&ledger::path(), &line)
}

/// Runs libFuzzer over one target or all. Its executions count for the campaign that changes seeds by itself; it
/// takes no seeds of that.
fn fuzz(
    out: &mut impl Write,
    target: Option<&str>,
    time: Duration,
    keeps_ledger: bool,
) -> anyhow::Result<()> {
    let targets = libfuzzer::chosen(target)?;
    libfuzzer::build()?;
    let cpu_before = ledger::cpu_seconds();
    let outcomes = libfuzzer::run(&targets, time)?;
    for outcome in &outcomes {
        writeln!(out, "{}: {} executions", outcome.target, grouped(outcome.executions))?;
        for crash in &outcome.crashes {
            let again = libfuzzer::again(outcome.target, crash);
            writeln!(out, "{}: FAILED on {}\n  again: {again}", outcome.target, crash.display())?;
        }
    }
    let tried = outcomes.iter().map(|outcome| outcome.executions).sum();
    let failed = outcomes.iter().map(|outcome| outcome.crashes.len() as u64).sum();
    if keeps_ledger {
        let next = ledger::next_seed(&ledger::read(&ledger::path())?, libfuzzer::CAMPAIGN);
        keep(libfuzzer::CAMPAIGN, (next, next), tried, failed, cpu_before)?;
    }
    if failed > 0 { bail!("{failed} inputs were not survived") } else { Ok(()) }
}
