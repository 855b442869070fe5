//! This server against the limits of the machine, measured in the same minutes, and against other servers:
//! prints the targets with their verdicts, and the peers, as Markdown. Asserts nothing.
//!
//! ```text
//! cargo bench -p marconi-tools --bench targets                         everything, 3 rounds
//! cargo bench -p marconi-tools --bench targets -- --no-peers --no-long
//! cargo bench -p marconi-tools --bench targets -- --only group --rounds 5 --json figures.jsonl
//! cargo bench -p marconi-tools --bench targets -- --program ../target/release-by-profile/marconi
//! ```
//!
//! The server is on one core and the load on another, unless `--unpinned`. Each cell is short, and what is
//! compared is measured one after the other in each round; a ratio is the middle of the rounds' ratios.
//! Bodies are 1 KiB unless a line says otherwise, `c16` is 16 connections with one request in flight each,
//! and what claims count are the messages deleted, each by a request of its own.

mod conversation;
mod core;
mod depth;
mod disk;
mod figures;
mod fill;
mod http;
mod load;
mod many;
mod options;
mod peers;
mod pin;
mod process;
mod rates;
mod run;
mod server;
mod site;
mod stub;
mod table;
mod targets;
mod turns;

use anyhow::{Context as _, bail};
use clap::Parser;
use depth::Deep;
use figures::Round;
use marconi_bench::hello::{self, Threads};
use options::Options;
use peers::Peer;
use run::Run;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use site::Site;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;
use stub::Mode;
use targets::{Section, Target};

/// How long the core is looked at in each round.
const STEADINESS_TIME: Duration = Duration::from_secs(3);

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        // What the children of a measurement are started with.
        ["hello"] => hello::serve(Threads::One, None, &mut io::stdout()),
        ["hello", file] => hello::serve(Threads::One, Some(Path::new(file)), &mut io::stdout()),
        ["stub", mode, file] => {
            let mode = Mode::ALL.into_iter().find(|known| known.name() == *mode);
            stub::serve(mode.context("a mode of the stub")?, Path::new(file))
        }
        ["fill", kind, folder, count] => fill::run(kind, Path::new(folder), count.parse()?),
        _ => measure(&Options::parse()),
    }
}

fn measure(options: &Options) -> anyhow::Result<()> {
    if options.rounds == 0 || !(0.01..=600.0).contains(&options.seconds) {
        bail!("--rounds has to be 1 or more, --seconds 0.01 to 600");
    }
    raise_file_limit()?;
    let time = Duration::from_secs_f64(options.seconds);
    let site = Site::new(options.program.clone(), time, !options.unpinned)?;
    let chosen: Vec<&Target> =
        targets::ALL.iter().filter(|target| options.takes_target(target)).collect();
    let mut peers = if options.no_peers { Vec::new() } else { peers::all() };
    if !chosen.iter().any(|target| target.needs.contains(&Section::Peers)) {
        peers.retain(|peer| options.takes(peer.name));
    }
    if chosen.is_empty() && peers.is_empty() {
        bail!("no target or peer has one of these words in its name: {}", options.only.join(", "));
    }
    let mut rounds = Vec::new();
    let mut deep = None;
    for number in 1..=options.rounds {
        say(&format!("round {number} of {}", options.rounds));
        let mut round = Round::default();
        measure_round(&site, &chosen, &peers, &mut deep, &mut round);
        rounds.push(round);
    }
    let run = Run::new(options);
    if let Some(path) = &options.json {
        write_json(path, &run, &rounds)?;
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{}\n", run.text())?;
    table::targets(&mut out, &chosen, &rounds)?;
    table::peers(&mut out, &peers, &rounds)?;
    Ok(())
}

/// What fails is told, and its figures are missing.
fn measure_round(
    site: &Site,
    chosen: &[&Target],
    peers: &[Peer],
    deep: &mut Option<Deep>,
    round: &mut Round,
) {
    type Work = fn(&Site, &mut Round) -> io::Result<()>;
    let short: [(Section, &str, Work); 8] = [
        (Section::Core, "core", steadiness),
        (Section::Group, "group", rates::group),
        (Section::Os, "os", rates::os),
        (Section::Bytes, "bytes on disk", disk::bytes_a_message),
        (Section::Compaction, "compaction", disk::compaction),
        (Section::Cores, "cores", many::cores),
        (Section::Connections, "connections", many::connections),
        (Section::Queues, "queues", many::queues),
    ];
    let is_needed = |section: Section| chosen.iter().any(|target| target.needs.contains(&section));
    for (section, name, work) in short {
        if is_needed(section) {
            say(name);
            tell(name, work(site, round));
            // What was written is no burden on what comes next.
            rustix::fs::sync();
        }
        if section == Section::Os {
            for peer in peers {
                say(peer.name);
                tell(peer.name, rates::peer(site, peer, round));
            }
        }
    }
    if is_needed(Section::Depth) {
        say("depth");
        tell("depth", depth(site, deep, round));
    }
}

/// How steady the servers' core is, once what was written before is on the disk.
fn steadiness(site: &Site, round: &mut Round) -> io::Result<()> {
    let slow = core::slow_percent(&site.server_cores, STEADINESS_TIME)?;
    round.put(targets::CORE_SLOW, slow);
    Ok(())
}

fn depth(site: &Site, deep: &mut Option<Deep>, round: &mut Round) -> io::Result<()> {
    let deep = match deep {
        Some(deep) => deep,
        None => deep.insert(Deep::new(site)?),
    };
    deep.measure(site, round)
}

fn say(what: &str) {
    // Somebody who watches is no part of the measurement.
    let _ = writeln!(io::stderr(), "{what}");
}

fn tell(what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        say(&format!("{what} could not be measured: {error}"));
    }
}

/// Every connection takes a file, here and in the servers, which inherit the limit.
fn raise_file_limit() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// A line about the run, then one for each round.
fn write_json(path: &Path, run: &Run, rounds: &[Round]) -> anyhow::Result<()> {
    let mut file =
        File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(file, "{}", serde_json::to_string(run)?)?;
    for (number, round) in (1..).zip(rounds) {
        writeln!(file, "{}", json!({ "round": number, "figures": round.all() }))?;
    }
    Ok(())
}
