//! `marconi log compact`: gives disk space back, of a folder or by way of its server; says before what
//! it will gain and after what it did, and can be interrupted. Knows how it is asked for, not how it is
//! done.

use super::compact_server;
use super::folder::Folder;
use super::stat::process;
use crate::output::{Output, Tone, Unit, duration, size};
use anyhow::{Context, bail};
use marconi_engine::files::format::SEGMENT_HEADER_SIZE;
use marconi_engine::inspect::Summary;
use marconi_engine::{Config, Engine, EngineMetrics};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
Examples:
  marconi log compact data --dry-run
  marconi log compact data --yes
  marconi log compact --server http://127.0.0.1:8889

Can be interrupted at any moment; what was given back by then stays given back.
Ends with code 130 when it was interrupted.";

/// Pause between two looks at how far it is.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// What a shell expects of a program that was interrupted.
pub(super) const INTERRUPTED: u8 = 130;

/// Of what.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The data folder, which no server has open.
    #[arg(value_name = "DIR", required_unless_present = "server")]
    folder: Option<PathBuf>,
    /// Ask the server whose admin API is here, instead of opening a folder.
    #[arg(long, value_name = "URL", conflicts_with = "folder")]
    server: Option<String>,
    /// Say what it would gain. Changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

pub(crate) fn run(options: &Options, output: &mut Output) -> anyhow::Result<ExitCode> {
    let how = How { dry_run: options.dry_run, yes: options.yes };
    match (&options.server, &options.folder) {
        (Some(url), _) => compact_server::run(url, how, output),
        (None, Some(path)) => offline(&Folder { path: path.clone() }, how, output),
        (None, None) => bail!("name a data folder, or the server to ask: --server URL"),
    }
}

/// How it is to be gone about.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) dry_run: bool,
    pub(super) yes: bool,
}

fn offline(folder: &Folder, options: How, output: &mut Output) -> anyhow::Result<ExitCode> {
    let before = folder.view()?.summary().map_err(|error| folder.explain(error))?;
    if !output.json {
        expect(&before, output)?;
        output.flush()?;
    }
    if options.dry_run {
        if output.json {
            output.document(&Document::new(folder, &before, None))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(holder) = &before.holder {
        bail!(
            "{folder} is in use by {}; ask its server: marconi log compact --server URL",
            process(holder)
        );
    }
    if before.reclaimable_bytes == 0 && !output.json {
        return Ok(ExitCode::SUCCESS);
    }
    if !options.yes && !agreed(output)? {
        output.line("Nothing was changed.")?;
        return Ok(ExitCode::SUCCESS);
    }
    let started = Instant::now();
    let end = compact(config(folder, &before), &before, output)?;
    let after = folder.view()?.summary().map_err(|error| folder.explain(error))?;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let done = Done { end, disk_bytes: after.disk_bytes, duration_ms };
    if output.json {
        output.document(&Document::new(folder, &before, Some(&done)))?;
    } else {
        tell(&before, &done, output)?;
    }
    Ok(match end {
        End::Done => ExitCode::SUCCESS,
        End::Interrupted => ExitCode::from(INTERRUPTED),
    })
}

/// Asks whoever sits at the terminal.
pub(super) fn agreed(output: &Output) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() || output.json {
        bail!("nobody is there to be asked: say --yes, or --dry-run to change nothing");
    }
    let mut stderr = std::io::stderr();
    stderr.write_all(b"Compact now? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The engine as it was, as far as the folder tells: segments of the same size.
fn config(folder: &Folder, before: &Summary) -> Config {
    Config {
        segment_size_bytes: segment_size_bytes(before),
        // Nothing is posted; all there is may be used.
        disk_reserve_bytes: 0,
        ..Config::new(&folder.path)
    }
}

/// The size of the newest segment that was appended to.
fn segment_size_bytes(before: &Summary) -> u64 {
    let mut appended = before.segments.iter().filter(|segment| segment.generation == 0);
    let newest = appended.next_back().map(|segment| segment.span + SEGMENT_HEADER_SIZE);
    newest.unwrap_or_else(|| Config::new("").segment_size_bytes)
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Interrupted,
}

/// Compacts, and waits for its end or for a signal, whichever comes first. The folder is closed in good
/// order in both cases.
fn compact(config: Config, before: &Summary, output: &Output) -> anyhow::Result<End> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let progress = output.progress("giving back", before.reclaimable_bytes, Unit::Bytes);
    let ended = runtime.block_on(async {
        // Heard from before the folder is opened.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let engine = Arc::new(Engine::open(config)?);
        let working = engine.clone();
        let mut work = tokio::task::spawn_blocking(move || working.compact());
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let end = loop {
            tokio::select! {
                done = &mut work => {
                    done.context("compaction panicked")??;
                    break End::Done;
                }
                _ = interrupt.recv() => break End::Interrupted,
                _ = terminate.recv() => break End::Interrupted,
                _ = looks.tick() => {
                    let now = disk_bytes(&engine.metrics());
                    progress.set_position(before.disk_bytes.saturating_sub(now));
                }
            }
        };
        // Ends the work at its next safe place, if it did not end itself, and waits for it.
        tokio::task::spawn_blocking(move || engine.close()).await.context("closing panicked")??;
        anyhow::Ok(end)
    });
    progress.finish_and_clear();
    ended
}

fn disk_bytes(metrics: &EngineMetrics) -> u64 {
    metrics.segments.iter().map(|segment| segment.disk_size).sum()
}

// ---- for people ----

fn expect(before: &Summary, output: &mut Output) -> anyhow::Result<()> {
    let (disk, live) = (size(before.disk_bytes), size(before.live_bytes));
    output.line(format_args!("The log takes {disk}; {live} of it are for what lives."))?;
    let gain = match before.reclaimable_bytes {
        0 => "There is nothing to give back.".to_owned(),
        bytes => format!(
            "Compaction gives back about {}, and opening the folder takes a new segment of {}.",
            size(bytes),
            size(segment_size_bytes(before))
        ),
    };
    output.line(gain)?;
    Ok(())
}

fn tell(before: &Summary, done: &Done, output: &mut Output) -> anyhow::Result<()> {
    let freed = size(before.disk_bytes.saturating_sub(done.disk_bytes));
    let now = size(done.disk_bytes);
    let time = duration(done.duration_ms);
    match done.end {
        End::Done => {
            let freed = output.tone(Tone::Good, format_args!("Gave back {freed}"));
            output.line(format_args!("{freed} in {time}: the log takes {now} now."))?;
        }
        End::Interrupted => {
            let text = format!("Interrupted after {time}; gave back {freed} by then.");
            output.line(output.tone(Tone::Warning, text))?;
            output.line("The folder is in order; the rest can be given back another time.")?;
        }
    }
    Ok(())
}

// ---- for programs ----

struct Done {
    end: End,
    disk_bytes: u64,
    duration_ms: u64,
}

/// What `compact --json` prints.
#[derive(Debug, Serialize)]
struct Document {
    folder: String,
    disk_bytes_before: u64,
    live_bytes: u64,
    reclaimable_bytes: u64,
    done: bool,
    interrupted: bool,
    disk_bytes_after: Option<u64>,
    duration_ms: Option<u64>,
}

impl Document {
    fn new(folder: &Folder, before: &Summary, done: Option<&Done>) -> Document {
        let end = done.map(|done| done.end);
        Document {
            folder: folder.path.display().to_string(),
            disk_bytes_before: before.disk_bytes,
            live_bytes: before.live_bytes,
            reclaimable_bytes: before.reclaimable_bytes,
            done: end == Some(End::Done),
            interrupted: end == Some(End::Interrupted),
            disk_bytes_after: done.map(|done| done.disk_bytes),
            duration_ms: done.map(|done| done.duration_ms),
        }
    }
}
