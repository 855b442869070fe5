//! A run: starts what is measured, goes through the plan round by round, keeps every line as soon as
//! it is there. Knows the order; each piece is measured elsewhere.

use crate::folder::Folder;
use crate::load::{self, Figures, Pace};
use crate::options::RunOptions;
use crate::plan::{Choice, OPEN_FACTOR, OPEN_SHARE, Plan, Task};
use crate::progress::Progress;
use crate::results::{Cell, CellKey, FORMAT, Header, Limit, Line, MODES, Results};
use crate::server::{Program, Server};
use crate::site::Site;
use crate::workload::Workload;
use crate::{limits, loss, machine};
use anyhow::{Context as _, bail};
use marconi_engine::Durability;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a run needs to know of the program around it.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The program itself, which can `serve` and `bench hello-server`; without it a server has to be
    /// named, and no bare server is measured.
    pub program: Option<PathBuf>,
    /// Whether to keep quiet on standard error.
    pub quiet: bool,
}

/// How queues begin that a run makes.
const QUEUE: &str = "marconi-bench";
/// Messages that a queue is filled with, at the most.
const FILL_MAX: f64 = 300_000.0;
/// The mode of a server that speaks of none.
pub(crate) const NO_MODE: &str = "server";

/// Measures, and leaves `results.jsonl` in the folder that it returns.
///
/// # Errors
/// When what is to be measured does not work, or the run was stopped. What was measured until then
/// is in the folder.
pub(crate) fn run(
    options: &RunOptions,
    around: &Surroundings,
) -> anyhow::Result<(Results, PathBuf)> {
    options.check()?;
    let out = out_folder(options);
    let mut folder = Folder::create(&out)?;
    let data = data_folder(options, &out)?;
    let ended =
        until_stopped(async |stop| measure(options, around, &mut folder, data.path(), stop).await);
    let results = ended.with_context(|| format!("what was measured is in {}", out.display()))?;
    Ok((results, out))
}

/// The folder of results.
pub(crate) fn out_folder(options: &RunOptions) -> PathBuf {
    options.out.clone().unwrap_or_else(|| {
        let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
        PathBuf::from(format!("marconi-bench-{now}"))
    })
}

/// A folder for the server's data, on the disk to be measured.
pub(crate) fn data_folder(options: &RunOptions, out: &Path) -> anyhow::Result<tempfile::TempDir> {
    let on = options.disk.as_deref().unwrap_or(out);
    tempfile::Builder::new()
        .prefix("marconi-bench-data-")
        .tempdir_in(on)
        .with_context(|| format!("cannot make a temporary folder in {}", on.display()))
}

/// Runs on a thread of tokio's until done, or until a signal says stop. `stop` is set then.
pub(crate) fn until_stopped<T>(
    work: impl AsyncFnOnce(Arc<AtomicBool>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = Arc::new(AtomicBool::new(false));
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut terminate = signal(SignalKind::terminate())?;
        let ended = tokio::select! {
            ended = work(stop.clone()) => ended,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped by an interrupt")),
            _ = terminate.recv() => Err(anyhow::anyhow!("stopped by a signal")),
        };
        stop.store(true, Ordering::Relaxed);
        ended
    })
}

/// The server that is measured, and how it is reached.
pub(crate) struct Target {
    pub(crate) site: Site,
    /// Where it is a child of ours.
    pub(crate) server: Option<Server>,
    pub(crate) name: String,
}

impl Target {
    pub(crate) fn open(
        options: &RunOptions,
        around: &Surroundings,
        data: &Path,
    ) -> anyhow::Result<Target> {
        if let Some(address) = options.address()? {
            let project = options.project.as_deref();
            let site = Site::new(&address, &options.client_id, project, &options.header);
            let name = options.url.clone().unwrap_or(address);
            return Ok(Target { site, server: None, name });
        }
        let server = Server::start(&server_program(options, around)?, data)?;
        let site = Site::new(&server.address, &options.client_id, None, &[]).with_large_batches();
        Ok(Target { site, server: Some(server), name: "own server".to_owned() })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }
}

pub(crate) fn server_program(
    options: &RunOptions,
    around: &Surroundings,
) -> anyhow::Result<Program> {
    match (&options.server_program, &around.program) {
        (Some(path), _) => Ok(Program::own(path, &[])),
        (None, Some(path)) => Ok(Program::own(path, &["serve"])),
        (None, None) => bail!("name the server program with --server-program"),
    }
}

/// The modes to measure, and those among the ones asked for that the server takes.
pub(crate) async fn modes(site: &Site, asked: &[String]) -> anyhow::Result<Vec<String>> {
    let all = MODES.map(str::to_owned);
    let asked = if asked.is_empty() { &all[..] } else { asked };
    let mut connection = site.connect().await?;
    let mut taken = Vec::new();
    for mode in asked {
        let queue = format!("{QUEUE}-{mode}");
        let has = site.create(&mut connection, &queue, Some(mode)).await;
        match has {
            Ok(Some(has)) if has == *mode => taken.push(mode.clone()),
            Ok(Some(has)) => bail!("the queue {queue} was to have mode {mode} and has {has}"),
            // It knows no modes.
            Ok(None) => {
                site.remove(&mut connection, &queue).await?;
                return Ok(vec![NO_MODE.to_owned()]);
            }
            Err(error) => return Err(error),
        }
        site.remove(&mut connection, &queue).await?;
    }
    Ok(taken)
}

/// The time, the commit, the command line.
pub(crate) fn header(options: &RunOptions, data: &Path, target: &str) -> Header {
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    Header {
        format: FORMAT,
        program: concat!("marconi ", env!("CARGO_PKG_VERSION")).to_owned(),
        commit: option_env!("MARCONI_COMMIT").unwrap_or("unknown").to_owned(),
        command,
        started: format!("{:.0}", jiff::Timestamp::now()),
        target: target.to_owned(),
        budget_s: options.time.as_secs_f64(),
        rounds: usize::from(options.rounds),
        warm_up_s: 0.0,
        measured_s: 0.0,
        machine: machine::describe(data),
        notes: notes(data),
    }
}

/// What would mislead in all cells.
fn notes(data: &Path) -> Vec<String> {
    let mut notes = Vec::new();
    if cfg!(debug_assertions) {
        notes.push("This is a debug build: many times slower than a release.".to_owned());
    }
    if machine::is_in_memory(data) {
        let folder = data.parent().unwrap_or(data).display();
        notes.push(format!(
            "The data folder in {folder} lies in memory: syncing costs nothing there. Name a disk with --disk."
        ));
    }
    if machine::free_bytes(data).is_some_and(|free| free < SPACE_MIN) {
        notes.push("Less than 4 GiB are free on the disk: posts may be refused.".to_owned());
    }
    notes
}

/// What a run needs of the disk, about.
const SPACE_MIN: u64 = 4 << 30;

async fn measure(
    options: &RunOptions,
    around: &Surroundings,
    folder: &mut Folder,
    data: &Path,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Results> {
    let target = Target::open(options, around, data)?;
    let hello = match (&around.program, &target.server) {
        (Some(program), Some(_)) => Some(Server::start_hello(program, data)?),
        _ => None,
    };
    let modes = modes(&target.site, &options.modes).await?;
    let plan = Plan::new(&choice(options, modes, target.server.is_some()));

    let mut header = header(options, data, &target.name);
    header.warm_up_s = plan.warm_up.as_secs_f64();
    header.measured_s = plan.measured.as_secs_f64();
    folder.add(&Line::Header(header.clone()))?;
    let progress = Progress::start(around.quiet, plan.estimate, plan.task_count(), &header.notes);
    let results = Results::new(header);
    let mut run = Run { target, hello, plan, folder, data, results, progress, filled: Vec::new() };
    for round in 1..=run.plan.rounds {
        run.progress.round(round, run.plan.rounds);
        for task in run.plan.round(round) {
            run.task(&task, round).await?;
        }
    }
    if !run.plan.loss.is_zero() {
        run.cut_power(options.seed, stop).await?;
    }
    run.progress.end();
    Ok(run.results)
}

fn choice(options: &RunOptions, modes: Vec<String>, own: bool) -> Choice {
    let workloads = match options.workloads.is_empty() {
        true => Workload::ALL.to_vec(),
        false => options.workloads.clone(),
    };
    Choice {
        modes,
        connections: options.connections.iter().map(|count| usize::from(*count)).collect(),
        workloads,
        sizes: options.sizes.iter().map(|size| *size as usize).collect(),
        full: options.full,
        rounds: usize::from(options.rounds),
        budget: options.time,
        own,
    }
}

struct Run<'a> {
    target: Target,
    hello: Option<Server>,
    plan: Plan,
    folder: &'a mut Folder,
    data: &'a Path,
    results: Results,
    progress: Progress,
    /// How many messages each draining cell had, and whether they were enough.
    filled: Vec<(CellKey, f64, bool)>,
}

impl Run<'_> {
    fn keep(&mut self, line: Line) -> anyhow::Result<()> {
        self.folder.add(&line)?;
        self.results.push(line);
        Ok(())
    }

    async fn task(&mut self, task: &Task, round: usize) -> anyhow::Result<()> {
        match task {
            Task::Disk => {
                self.progress.step("the disk");
                for (what, measure) in [
                    ("fdatasync", limits::sync_rate as fn(&Path, Duration) -> _),
                    ("sequential-write", limits::write_rate),
                ] {
                    let value = measure(self.data, self.plan.measured / 2)?;
                    let what = what.to_owned();
                    let limit = Limit { what, connections: 0, round, value, client_cpu: 0.0 };
                    self.keep(Line::Limit(limit))?;
                }
                Ok(())
            }
            Task::Hello { connections } => self.measure_hello(*connections, round).await,
            Task::Cell { mode, workload, connections, size_bytes, open } => {
                let key = CellKey {
                    workload: workload.name().to_owned(),
                    open: *open,
                    size_bytes: *size_bytes,
                    connections: *connections,
                    mode: mode.clone(),
                };
                self.cell(key, *workload, round).await
            }
        }
    }

    async fn measure_hello(&mut self, connections: usize, round: usize) -> anyhow::Result<()> {
        self.progress.step("a bare server");
        let Some(hello) = &self.hello else { return Ok(()) };
        let site = Site::new(&hello.address, "bench", None, &[]);
        let script = Rc::new(Workload::Post.script("x", 1024));
        let pace = Pace {
            connections,
            rate: None,
            warm_up: self.plan.warm_up,
            measured: self.plan.measured,
            server_pid: None,
        };
        let figures = load::run(&site, script, pace).await.context("the bare server")?;
        let value = figures.requests as f64 / figures.measured_s;
        let (what, client_cpu) = ("hello".to_owned(), figures.client_cpu);
        self.keep(Line::Limit(Limit { what, connections, round, value, client_cpu }))
    }

    async fn cell(&mut self, key: CellKey, workload: Workload, round: usize) -> anyhow::Result<()> {
        let text = format!("{}, {} connections, {}", key.workload, key.connections, key.mode);
        self.progress.step(&text);
        let queue = format!("{QUEUE}-{}-{}", key.workload, key.mode);
        let mode = (key.mode != NO_MODE).then_some(key.mode.as_str());
        let site = self.target.site.clone();
        let mut connection = site.connect().await?;
        // One that an earlier run left behind would change what is measured.
        site.remove(&mut connection, &queue).await?;
        site.create(&mut connection, &queue, mode).await?;

        let fill = match workload {
            Workload::ClaimDelete => self.fill_count(&key),
            other => other.prefill() as f64,
        };
        if fill > 0.0 {
            site.fill(usize::MAX, |_| queue.clone(), fill as usize, key.size_bytes, 4).await?;
        }
        let rate = match key.open {
            false => None,
            true => {
                let closed = CellKey { open: false, ..key.clone() };
                let known = self.results.rate(&closed).context("a closed loop comes first")?;
                Some((known.median * OPEN_SHARE).max(1.0))
            }
        };
        let pace = Pace {
            connections: key.connections,
            rate,
            warm_up: self.plan.warm_up,
            measured: self.plan.measured * if key.open { OPEN_FACTOR } else { 1 },
            server_pid: self.target.pid(),
        };
        let script = Rc::new(workload.script(&queue, key.size_bytes));
        let figures = load::run(&site, script, pace).await.with_context(|| text)?;
        site.remove(&mut connection, &queue).await?;
        if workload == Workload::ClaimDelete {
            self.filled.push((key.clone(), fill, !figures.dry));
        }
        self.keep(Line::Cell(cell(key, round, workload.unit().name(), &figures, rate)))
    }

    /// So many messages that they last for a cell, as far as is known of this one.
    fn fill_count(&self, key: &CellKey) -> f64 {
        let time = (self.plan.warm_up + self.plan.measured).as_secs_f64();
        let rates = self.results.repetitions(key).map(|cell| cell.rate);
        let own = rates.fold(0.0, f64::max);
        // Until it was measured once: a delete costs what a post does.
        let post = CellKey { workload: Workload::Post.name().to_owned(), ..key.clone() };
        let known = if own > 0.0 { own } else { self.results.rate(&post).map_or(2e4, |r| r.max) };
        let needed = known * time * 1.3 + 20.0 * key.connections as f64;
        let too_few = self.filled.iter().filter(|(of, _, enough)| of == key && !enough);
        let more = too_few.map(|(_, count, _)| count * 1.6).fold(0.0, f64::max);
        needed.max(more).clamp(500.0, FILL_MAX)
    }

    /// On the simulated disk, on threads of its own.
    async fn cut_power(&mut self, seed: u64, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
        self.progress.step("power cuts");
        let modes: Vec<Durability> =
            self.results.modes().iter().filter_map(|mode| mode.parse().ok()).collect();
        let time = self.plan.loss;
        let work = move || loss::measure(&modes, time, seed, &stop);
        let losses = tokio::task::spawn_blocking(work).await.context("the power cuts")??;
        losses.into_iter().try_for_each(|loss| self.keep(Line::Loss(loss)))
    }
}

/// What is kept of a measurement.
pub(crate) fn cell(
    key: CellKey,
    round: usize,
    unit: &str,
    figures: &Figures,
    rate: Option<f64>,
) -> Cell {
    let per_s = |count: u64| count as f64 / figures.measured_s.max(1e-9);
    Cell {
        key,
        round,
        unit: unit.to_owned(),
        rate: per_s(figures.units),
        requests_per_s: per_s(figures.requests),
        offered_per_s: rate,
        measured_s: figures.measured_s,
        latency_us: figures.latency_us,
        errors: figures.errors,
        error: figures.error.clone(),
        client_cpu: figures.client_cpu,
        server_cpu: figures.server_cpu,
        dry: figures.dry,
        sent_late_us: figures.sent_late_us,
        scenario: None,
    }
}
