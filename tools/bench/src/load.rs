//! The load: connections that go through a script, as fast as they are answered or at a fixed rate,
//! and the count of what came of it. One thread drives all.

mod metronome;
mod tally;
mod worker;

use crate::machine;
use crate::results::Percentiles;
use crate::schedule::Schedule;
use crate::site::Site;
use crate::workload::Script;
use anyhow::{Context as _, bail};
use metronome::Metronome;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tally::Tally;
use tokio::sync::Notify;
use worker::Worker;

/// How long, how many, how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Connections, each with one request in flight.
    pub(crate) connections: usize,
    /// Operations a second; `None` for as fast as they are answered.
    pub(crate) rate: Option<f64>,
    /// What is not measured at the beginning.
    pub(crate) warm_up: Duration,
    /// What is measured.
    pub(crate) measured: Duration,
    /// The process whose CPU is counted beside the client's.
    pub(crate) server_pid: Option<u32>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    /// The measured time, in seconds.
    pub(crate) measured_s: f64,
    /// What the script counts.
    pub(crate) units: u64,
    /// Requests answered as they should be.
    pub(crate) requests: u64,
    /// Of requests; in an open loop of operations, from when they were due.
    pub(crate) latency_us: Percentiles,
    /// Of requests, by kind.
    pub(crate) latency_us_by_request: BTreeMap<String, Percentiles>,
    /// Other answers, and broken connections.
    pub(crate) errors: u64,
    /// The first of them.
    pub(crate) error: Option<String>,
    /// CPU of this thread, in cores.
    pub(crate) client_cpu: f64,
    /// CPU of the server, in cores.
    pub(crate) server_cpu: Option<f64>,
    /// Whether messages ran out.
    pub(crate) dry: bool,
    /// Open loop: 99th percentile of how late an operation began while a connection was free.
    pub(crate) sent_late_us: Option<f64>,
}

/// How long the last answers may take when the time is over.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long operations that were due may still be done after the time is over.
const BACKLOG_TIMEOUT: Duration = Duration::from_secs(2);

/// Operations that are due and wait for a free connection.
struct Line {
    due: RefCell<VecDeque<(Instant, bool)>>,
    waiting: Cell<usize>,
    arrived: Notify,
    is_over: Cell<bool>,
}

/// Puts the load on a server. To be called within a `LocalSet`.
///
/// # Errors
/// When a connection cannot be made, or the server does not answer any more.
pub(crate) async fn run(site: &Site, script: Rc<Script>, pace: Pace) -> anyhow::Result<Figures> {
    let mut workers = Vec::with_capacity(pace.connections);
    for number in 0..pace.connections {
        workers.push(Worker::new(site.clone(), script.clone(), number).await?);
    }
    let begin = Instant::now();
    let (start, end) = (begin + pace.warm_up, begin + pace.warm_up + pace.measured);
    let tally = Rc::new(Tally::new(start, end, script.unit, pace.rate.is_some()));
    let line = Rc::new(Line {
        due: RefCell::default(),
        waiting: Cell::new(0),
        arrived: Notify::new(),
        is_over: Cell::new(false),
    });
    let mut tasks: Vec<_> = workers
        .into_iter()
        .map(|worker| {
            let (tally, line) = (tally.clone(), line.clone());
            match pace.rate {
                None => tokio::task::spawn_local(closed(worker, tally)),
                Some(_) => tokio::task::spawn_local(open(worker, tally, line)),
            }
        })
        .collect();
    if let Some(rate) = pace.rate {
        tasks.push(tokio::task::spawn_local(arrivals(rate, begin, tally.clone(), line.clone())));
    }

    let cpu = || (machine::thread_cpu(), pace.server_pid.and_then(machine::process_cpu));
    tally.until(start).await;
    let (from, before) = (Instant::now(), cpu());
    tally.until(end).await;
    let (elapsed, after) = (from.elapsed().as_secs_f64().max(1e-9), cpu());

    let deadline = end + ANSWER_TIMEOUT;
    for task in tasks {
        match tokio::time::timeout_at(deadline.into(), task).await {
            Ok(ended) => ended.context("a connection's task failed")??,
            Err(_) => bail!("no answer for {} s: does the server hang?", ANSWER_TIMEOUT.as_secs()),
        }
    }
    for (due, _) in line.due.borrow().iter() {
        tally.never_done(*due);
    }
    let mut figures = tally.figures();
    figures.client_cpu = (after.0 - before.0).as_secs_f64() / elapsed;
    figures.server_cpu = before
        .1
        .zip(after.1)
        .map(|(before, after)| after.saturating_sub(before).as_secs_f64() / elapsed);
    Ok(figures)
}

/// One action after the other until the time is over.
async fn closed(mut worker: Worker, tally: Rc<Tally>) -> anyhow::Result<()> {
    while tally.is_on() {
        worker.act(&tally).await?;
    }
    Ok(())
}

/// Whatever is due next, whenever it is free.
async fn open(mut worker: Worker, tally: Rc<Tally>, line: Rc<Line>) -> anyhow::Result<()> {
    loop {
        let next = line.due.borrow_mut().pop_front();
        match next {
            Some((due, was_free)) => {
                let began = Instant::now();
                worker.act(&tally).await?;
                tally.operation(due, was_free.then_some(began));
            }
            None if line.is_over.get() => return Ok(()),
            None => {
                line.waiting.set(line.waiting.get() + 1);
                line.arrived.notified().await;
                line.waiting.set(line.waiting.get() - 1);
            }
        }
    }
}

/// Lets operations arrive at their times.
async fn arrivals(
    rate: f64,
    begin: Instant,
    tally: Rc<Tally>,
    line: Rc<Line>,
) -> anyhow::Result<()> {
    let mut schedule = Schedule::new(rate, tally.end() - begin);
    let metronome = Metronome::new()?;
    while let Some(due) = schedule.next_due() {
        metronome.until(begin + due).await?;
        let now = begin.elapsed();
        while let Some(due) = schedule.take(now) {
            let is_free = line.waiting.get() > line.due.borrow().len();
            line.due.borrow_mut().push_back((begin + due, is_free));
            line.arrived.notify_one();
        }
    }
    // What was due is done, but not for ever.
    let deadline = tally.end() + BACKLOG_TIMEOUT;
    while !line.due.borrow().is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let left = std::mem::take(&mut *line.due.borrow_mut());
    for (due, _) in left {
        tally.never_done(due);
    }
    line.is_over.set(true);
    // Those who wait, and one who is about to.
    line.arrived.notify_waiters();
    line.arrived.notify_one();
    Ok(())
}
