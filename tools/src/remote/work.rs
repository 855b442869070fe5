//! `marconi work`: a command for each message of a queue. What happens to one message is in `pool`;
//! here are the options, the jobs, and the signals that end them.

use super::pool::{Pool, Stop};
use super::server::ServerOptions;
use super::time::{grace, length, ttl};
use super::{REFUSED, log};
use crate::output::{Output, count};
use anyhow::Context;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

/// The longest time one attempt at a request takes, and the shortest: an answer has to come while
/// there is still time to ask again before a claim runs out.
const ANSWER_TIMEOUTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How to work.
#[derive(Debug, clap::Args)]
#[command(after_help = "How it works:
Each job claims a message and runs the command with the message's body on its standard input, and
MARCONI_QUEUE, MARCONI_MESSAGE_ID and MARCONI_CLAIM_ID in its environment. The claim is renewed
while the command runs. On exit code 0 the message is deleted. On any other end it is released to be
tried again, by whoever claims it next: after 1 s, and after twice as long each time it fails again
here, up to 1 min.

A message is done at least once. It is done again where the worker or its machine dies between the
work and the deletion, or where the claim runs out because the server is away for too long.

SIGTERM or Ctrl-C: claims nothing more, finishes its work, ends with code 0. Again: kills the
commands, releases their messages, ends with code 1.

Examples:
  marconi work thumbnails --jobs 8 -- ./make-thumbnail --from-stdin
  marconi work mails --exit-when-empty -- sh -c 'jq -r .to | xargs ./send'")]
pub(crate) struct WorkOptions {
    /// The queue.
    pub(super) queue: String,
    /// Commands that run at a time.
    #[arg(long, short, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: u16,
    /// How long a claim holds its message unless it is renewed: so long a message rests when the
    /// worker dies.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = ttl)]
    pub(super) ttl: Duration,
    /// How much longer than the claim the message lives at least.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = grace)]
    pub(super) grace: Duration,
    /// Give a body that is a JSON string as the text it is.
    #[arg(long)]
    pub(super) text: bool,
    /// End once the queue has no messages any more, claimed ones included.
    #[arg(long)]
    pub(super) exit_when_empty: bool,
    /// The longest pause between two looks at a queue where nothing is free.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = length)]
    pub(super) poll: Duration,
    /// The command and its arguments, behind `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
    #[command(flatten)]
    server: ServerOptions,
}

pub(super) async fn run(options: WorkOptions, output: &mut Output) -> anyhow::Result<ExitCode> {
    // From now on signals do not end the process by themselves.
    let terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let (least, most) = ANSWER_TIMEOUTS;
    let answer_timeout = (options.ttl / 3).clamp(least, most);
    let builder = options.server.server()?.builder;
    let jobs = usize::from(options.jobs);
    let client =
        builder.answer_timeout(answer_timeout).idle_connection_count_max(jobs + 1).build()?;
    let queue = client.queue(&options.queue);
    let pool = Arc::new(Pool::new(queue.clone(), options));
    let signals = tokio::spawn(follow_signals(Arc::clone(&pool), terminate, interrupt));

    // A wrong name looks like a queue that is empty for ever. A server that is away is waited for.
    if matches!(queue.exists().await, Ok(false)) {
        let name = queue.name();
        if pool.options.exit_when_empty {
            log(format_args!("there is no queue {name}; `marconi queue create {name}` makes it"));
            return Ok(ExitCode::from(REFUSED));
        }
        log(format_args!("there is no queue {name} yet; waiting for its first message"));
    }
    let mut running = JoinSet::new();
    for _ in 0..jobs {
        running.spawn(Arc::clone(&pool).job());
    }
    let mut failure = None;
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended.context("a job panicked").and_then(|ended| ended) {
            // The others finish what they have.
            pool.stop(Stop::Finish);
            failure.get_or_insert(error);
        }
    }
    pool.nothing_is_held().await;
    signals.abort();

    let (done, failed, lost) = pool.tally();
    if output.json {
        let document = serde_json::json!({"done": done, "failed": failed, "lost": lost});
        output.document(&document)?;
    } else {
        let (done, failed, lost) = (count(done), count(failed), count(lost));
        log(format_args!("{done} done, {failed} failed, {lost} done without a claim in the end"));
    }
    match failure {
        Some(error) => Err(error),
        None if pool.stopping() == Stop::Kill => Ok(ExitCode::FAILURE),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The first signal asks for an end, a second one for a quick one.
async fn follow_signals(pool: Arc<Pool>, mut terminate: Signal, mut interrupt: Signal) {
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if pool.stopping() == Stop::No {
            log("finishing what is under way; once more kills it");
            pool.stop(Stop::Finish);
        } else {
            log("killing what is under way");
            pool.stop(Stop::Kill);
        }
    }
}
