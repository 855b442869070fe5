//! A real text through the official client: one process posts it line by line, four compete for the
//! lines and die now and then, and the server is killed with `kill -9` over and over. Starts, kills
//! and restarts; what must be true in the end is in `record`.

use crate::python;
use crate::record::{Event, Record};
use anyhow::{Context, bail, ensure};
use marconi_tests::client::Request;
use marconi_tests::program::ServerProgram;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

const WORKER_COUNT: usize = 4;
const MESSAGES_PER_CLAIM: usize = 20;
/// The ttl of the workers' claims. They live on, however often the server dies.
const CLAIM_TTL: Duration = Duration::from_secs(5);
/// About how often each worker dies.
const DEATHS_PER_WORKER: usize = 5;
/// The exit code of a worker that died on purpose.
const DIED: i32 = 17;
/// The longest time without news before the test is over.
const SILENCE_DEADLINE: Duration = Duration::from_secs(60);
/// How often the processes and the queue are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// News that may wait to be read; more make the processes wait.
const NEWS_COUNT_MAX: usize = 1024;

/// How much is done.
#[derive(Debug)]
pub(crate) struct Plan {
    line_count: usize,
    kill_count: usize,
}

impl Plan {
    pub(crate) fn from_environment() -> anyhow::Result<Plan> {
        let number = |name: &str, default: usize| match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name} is {text}, not a number")),
            Err(_) => Ok(default),
        };
        Ok(Plan {
            line_count: number("MARCONI_CLIENT_LINES", 20_000)?,
            kill_count: number("MARCONI_CLIENT_KILLS", 6)?,
        })
    }
}

pub(crate) fn run(program: &Path, plan: &Plan) -> anyhow::Result<()> {
    let started = Instant::now();
    let folder = tempfile::tempdir()?;
    let options = ["--durability=group", "--min-claim-ttl=1"];
    let server = ServerProgram::start(program, folder.path(), &options)?;
    let (news, events) = sync_channel(NEWS_COUNT_MAX);
    let mut run = Run {
        record: Record::default(),
        producer: Script::start(&server, &["post", &plan.line_count.to_string()], &news)?,
        workers: Vec::new(),
        server,
        news,
        events,
        started_worker_count: 0,
        kills_while_posting_count: 0,
        kills_while_draining_count: 0,
        death_count: 0,
    };
    for _ in 0..WORKER_COUNT {
        let worker = run.start_worker(plan)?;
        run.workers.push(worker);
    }
    run.follow(plan)?;
    run.finish()?;

    let kill_count = run.kills_while_posting_count + run.kills_while_draining_count;
    ensure!(kill_count == plan.kill_count, "the server was killed {kill_count} times only");

    let verdict = run.record.judge(CLAIM_TTL.as_nanos() as u64);
    crate::report(&format!(
        "official client: {} lines; {} kills of the server ({} while posting), {} deaths of \
         workers; {verdict}; {:.1} s",
        plan.line_count,
        plan.kill_count,
        run.kills_while_posting_count,
        run.death_count,
        started.elapsed().as_secs_f64(),
    ));
    ensure!(verdict.is_clean(), "a promise is broken: {verdict}");
    ensure!(run.record.posted_count() == plan.line_count, "the producer left lines out");
    // What was to be survived did happen.
    ensure!(run.death_count > 0 && verdict.redelivered_count > 0, "no worker died with a claim");
    Ok(())
}

/// The test as it goes.
struct Run {
    server: ServerProgram,
    producer: Script,
    workers: Vec<Script>,
    record: Record,
    news: SyncSender<Event>,
    events: Receiver<Event>,
    started_worker_count: u64,
    kills_while_posting_count: usize,
    kills_while_draining_count: usize,
    death_count: usize,
}

impl Run {
    fn start_worker(&mut self, plan: &Plan) -> anyhow::Result<Script> {
        self.started_worker_count += 1;
        let claims_per_life =
            plan.line_count / MESSAGES_PER_CLAIM / WORKER_COUNT / DEATHS_PER_WORKER;
        let arguments =
            ["work", &self.started_worker_count.to_string(), &claims_per_life.to_string()];
        Script::start(&self.server, &arguments, &self.news)
    }

    /// Until the queue is empty: hears the news, kills the server, replaces workers.
    fn follow(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let mut is_posting = true;
        let mut heard = Instant::now();
        let mut looked = Instant::now();
        loop {
            match self.events.recv_timeout(LOOK_INTERVAL) {
                Ok(event) => {
                    self.record.add(event);
                    self.kill_server_when_due(plan)?;
                    heard = Instant::now();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("nobody is left to tell news"),
            }
            if looked.elapsed() < LOOK_INTERVAL {
                continue;
            }
            looked = Instant::now();
            ensure!(heard.elapsed() < SILENCE_DEADLINE, "nothing happens any more");
            self.replace_dead_workers(plan)?;
            if is_posting {
                let ended = self.producer.ended()?;
                ensure!(matches!(ended, None | Some(0)), "the producer ended with {ended:?}");
                is_posting = ended.is_none();
            } else if self.message_count()? == 0 {
                return Ok(());
            }
        }
    }

    /// The kills are spread evenly over what is posted, and over what is deleted.
    fn kill_server_when_due(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let is_due = |done_count: usize, kill_count: usize, all: usize| {
            kill_count < all && done_count * (all + 1) >= plan.line_count * (kill_count + 1)
        };
        let posting_count = plan.kill_count.div_ceil(2);
        let draining_count = plan.kill_count - posting_count;
        if is_due(self.record.posted_count(), self.kills_while_posting_count, posting_count) {
            self.kills_while_posting_count += 1;
        } else if is_due(
            self.record.deleted_count(),
            self.kills_while_draining_count,
            draining_count,
        ) {
            self.kills_while_draining_count += 1;
        } else {
            return Ok(());
        }
        self.server.kill()?;
        self.server.restart()
    }

    fn replace_dead_workers(&mut self, plan: &Plan) -> anyhow::Result<()> {
        for index in 0..self.workers.len() {
            match self.workers[index].ended()? {
                None => {}
                Some(DIED) => {
                    self.death_count += 1;
                    self.workers[index] = self.start_worker(plan)?;
                }
                Some(code) => bail!("a worker ended with {code} before it was told to"),
            }
        }
        Ok(())
    }

    /// What the server says is left in the queue.
    fn message_count(&self) -> anyhow::Result<u64> {
        let reply = Request::new("GET", "/v1/queues/lines/stats")
            .header("X-Project-Id", "clients")
            .send(self.server.address())?;
        ensure!(reply.status == 200, "stats: {reply}");
        let stats: Value = serde_json::from_slice(&reply.body).context("stats")?;
        stats["messages"]["total"].as_u64().context("stats have a total")
    }

    /// Tells the workers to stop, and hears what is still to be heard.
    fn finish(&mut self) -> anyhow::Result<()> {
        for worker in &mut self.workers {
            worker.tell_to_stop();
        }
        let asked = Instant::now();
        let is_clean = |code: i32| code == 0 || code == DIED;
        for worker in &mut self.workers {
            let code = loop {
                if let Some(code) = worker.ended()? {
                    break code;
                }
                ensure!(asked.elapsed() < SILENCE_DEADLINE, "a worker does not stop");
                if let Ok(event) = self.events.recv_timeout(LOOK_INTERVAL) {
                    self.record.add(event);
                }
            };
            ensure!(is_clean(code), "a worker ended with {code}");
        }
        // With the last reader goes the last sender but ours.
        let (nobody, _) = sync_channel(1);
        self.news = nobody;
        while let Ok(event) = self.events.recv() {
            self.record.add(event);
        }
        Ok(())
    }
}

/// A process of `lines.py`, whose news go to the channel. Killed when dropped.
struct Script {
    child: Child,
}

impl Script {
    /// `arguments` are the role and what follows the server's address.
    fn start(
        server: &ServerProgram,
        arguments: &[&str],
        news: &SyncSender<Event>,
    ) -> anyhow::Result<Script> {
        let (role, numbers) = arguments.split_first().context("a script has a role")?;
        let mut child = python::script("lines.py")?
            .arg(role)
            .arg(server.url())
            .args(numbers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start lines.py")?;
        let stdout = child.stdout.take().context("the script's output is a pipe")?;
        let news = news.clone();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line)
                    .unwrap_or_else(|cause| panic!("lines.py said {line}: {cause}"));
                if news.send(event).is_err() {
                    // The test is over.
                    return;
                }
            }
        });
        Ok(Script { child })
    }

    /// The exit code, once there is one.
    fn ended(&mut self) -> anyhow::Result<Option<i32>> {
        let Some(status) = self.child.try_wait().context("look after a script")? else {
            return Ok(None);
        };
        Ok(Some(status.code().context("a script was killed by a stranger")?))
    }

    fn tell_to_stop(&mut self) {
        drop(self.child.stdin.take());
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
