//! Runs a scenario: for each repetition and mode a fresh server, its queues, its messages, its load.

use super::{Scenario, find, table};
use crate::folder::Folder;
use crate::load::{self, Pace};
use crate::machine;
use crate::measure::{
    NO_MODE, Surroundings, Target, cell, data_folder, header, modes, out_folder, until_stopped,
};
use crate::options::RunOptions;
use crate::progress::Progress;
use crate::results::{Cell, CellKey, Line, Results, ScenarioFigures};
use crate::site::{Site, join};
use anyhow::{Context as _, bail};
use std::cell::Cell as StdCell;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Connections that make, fill and remove queues.
const CARE_CONNECTIONS: usize = 16;

/// Runs the scenario of this name or file, and shows what came of it.
///
/// # Errors
/// When there is none, it cannot be used, or what it measures does not work.
pub(crate) fn run(
    name: &str,
    options: &RunOptions,
    around: &Surroundings,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    options.check()?;
    let (name, scenario) = find(name)?;
    if scenario.restart && options.url.is_some() {
        bail!("{name} restarts its server; that of --url is not ours to restart");
    }
    let path = out_folder(options);
    let mut folder = Folder::create(&path)?;
    let ended = until_stopped(async |_| {
        measure(&name, &scenario, options, around, &path, &mut folder).await
    });
    let results = ended.with_context(|| format!("what was measured is in {}", path.display()))?;
    table::print(&results, json, out)?;
    if !json {
        writeln!(out, "\nResults: {}", path.join(crate::results::FILE_NAME).display())?;
    }
    Ok(())
}

async fn measure(
    name: &str,
    scenario: &Scenario,
    options: &RunOptions,
    around: &Surroundings,
    path: &Path,
    folder: &mut Folder,
) -> anyhow::Result<Results> {
    let asked = if options.modes.is_empty() { &scenario.modes } else { &options.modes };
    // Which modes it takes, and what it is called, the first server tells.
    let data = data_folder(options, path)?;
    let target = Target::open(options, around, data.path())?;
    let modes = modes(&target.site, asked).await?;
    let mut head = header(options, data.path(), &target.name);
    drop((target, data));
    head.rounds = scenario.repetitions as usize;
    head.warm_up_s = scenario.warm_up_s;
    head.measured_s = scenario.duration_s;
    head.budget_s = 0.0;
    head.notes.insert(0, scenario.about.clone());
    folder.add(&Line::Header(head.clone()))?;

    let runs = scenario.repetitions as usize * modes.len();
    let time = (scenario.warm_up_s + scenario.duration_s) * runs as f64;
    let notes = ["The time to make and fill queues comes on top.".to_owned()];
    let progress =
        Progress::start(around.quiet, Duration::from_secs_f64(time), runs * STEPS, &notes);
    let mut results = Results::new(head);
    for round in 1..=scenario.repetitions as usize {
        progress.round(round, scenario.repetitions as usize);
        for place in 0..modes.len() {
            // Another mode begins each round.
            let mode = &modes[(place + round - 1) % modes.len()];
            let data = data_folder(options, path)?;
            let once = Once { name, scenario, mode, round, progress: &progress };
            let line = Line::Cell(once.measure(options, around, data.path()).await?);
            folder.add(&line)?;
            results.push(line);
        }
    }
    progress.end();
    Ok(results)
}

/// Steps of progress for each run.
const STEPS: usize = 3;

/// One repetition in one mode.
struct Once<'a> {
    name: &'a str,
    scenario: &'a Scenario,
    mode: &'a str,
    round: usize,
    progress: &'a Progress,
}

impl Once<'_> {
    async fn measure(
        &self,
        options: &RunOptions,
        around: &Surroundings,
        data: &Path,
    ) -> anyhow::Result<Cell> {
        let scenario = self.scenario;
        let mut target = Target::open(options, around, data)?;
        let memory = |target: &Target| target.pid().and_then(machine::process_memory);
        let mut figures =
            ScenarioFigures { memory_empty_bytes: memory(&target), ..ScenarioFigures::default() };
        let script = Rc::new(scenario.script(&format!("marconi-bench-{}", self.mode)));

        self.progress.step(&format!("{}: queues", self.mode));
        let count = script.queues.count;
        let began = Instant::now();
        let mode = (self.mode != NO_MODE).then_some(self.mode);
        each_queue(&target.site, count, async |site, connection, number| {
            let queue = script.queues.name(number);
            site.create(connection, &queue, mode).await.map(|_| ())
        })
        .await?;
        figures.queues_per_s = Some(count as f64 / began.elapsed().as_secs_f64());

        if let Some(prefill) = &scenario.prefill {
            self.progress.step(&format!("{}: {} messages", self.mode, prefill.messages));
            let began = Instant::now();
            let name = |batch: usize| script.queues.name(batch % count);
            let each = prefill.messages.div_ceil(count);
            let site = &target.site;
            site.fill(each, name, prefill.messages, prefill.size_bytes, CARE_CONNECTIONS).await?;
            let seconds = began.elapsed().as_secs_f64();
            figures.prefill_per_s = Some(prefill.messages as f64 / seconds);
        }
        figures.memory_filled_bytes = memory(&target);
        if scenario.restart {
            drop(target);
            let began = Instant::now();
            target = Target::open(options, around, data)?;
            target.site.connect().await?;
            figures.restart_s = Some(began.elapsed().as_secs_f64());
        }

        self.progress.step(&format!("{}: load", self.mode));
        let rate = scenario.load.rate_per_s;
        let pace = Pace {
            connections: scenario.load.connections,
            rate,
            warm_up: Duration::from_secs_f64(scenario.warm_up_s),
            measured: Duration::from_secs_f64(scenario.duration_s),
            server_pid: target.pid(),
        };
        let loaded = load::run(&target.site, script.clone(), pace).await?;
        if target.server.is_none() {
            each_queue(&target.site, count, async |site, connection, number| {
                site.remove(connection, &script.queues.name(number)).await
            })
            .await?;
        }
        let key = CellKey {
            workload: self.name.to_owned(),
            open: rate.is_some(),
            size_bytes: scenario.size_bytes(),
            connections: scenario.load.connections,
            mode: self.mode.to_owned(),
        };
        figures.latency_us_by_request = loaded.latency_us_by_request.clone();
        let mut cell = cell(key, self.round, script.unit.name(), &loaded, rate);
        cell.scenario = Some(figures);
        Ok(cell)
    }
}

/// Does something to each of `count` queues, over some connections at once.
async fn each_queue(
    site: &Site,
    count: usize,
    call: impl AsyncFn(&Site, &mut crate::http::Connection, usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let next = StdCell::new(0);
    let go = async || {
        let mut connection = site.connect().await?;
        loop {
            let number = next.replace(next.get() + 1);
            if number >= count {
                return anyhow::Ok(());
            }
            call(site, &mut connection, number).await?;
        }
    };
    join((0..CARE_CONNECTIONS.min(count)).map(|_| Box::pin(go())).collect()).await
}
