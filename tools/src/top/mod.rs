//! `marconi top`: a running server at a glance, over its admin API. Knows when to look and where to
//! show it; what is shown, the screen knows.

mod rates;
mod screen;
mod snapshot;
mod terminal;

use crate::admin_client::{AdminClient, DEFAULT_URL};
use crate::output::Output;
use rates::Rates;
use screen::Look;
use serde::Serialize;
use snapshot::Snapshot;
use std::future::Future;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;
use terminal::SecondPage;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

/// Queues of each order in a document for programs.
const QUEUES_IN_DOCUMENT: usize = 20;
/// The least and the most time between two looks.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);

/// Which server, and how often.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What it shows, from the top: what was done in a second; what there is; how the log is written; how \
long a start would read and what compaction would give back; the requests by route with their times; \
the deepest queues, and those with the oldest messages; how much of each file of the log is live, one \
block a file. Ctrl-C ends it. Where standard output is no terminal, it prints one JSON document a \
look, as with --json.

Examples:
  marconi top                                       the server on this machine, once a second
  marconi top --admin-url http://10.0.0.7:8889 --interval 5s --count 12
                                                    another one, for a minute
  marconi top --once --json | jq .rates             ten numbers for a script")]
pub(crate) struct Options {
    /// Where the server has its admin API: its option admin_listen, as a URL.
    #[arg(long, env = "MARCONI_ADMIN_URL", value_name = "URL", default_value = DEFAULT_URL)]
    admin_url: String,
    /// Time between two looks: 100ms to 1h, such as 500ms, 2s or 1m.
    #[arg(long, short, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// End after so many looks [default: never]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Watch for one interval, print what happened in it, and end.
    #[arg(long, conflicts_with = "count")]
    once: bool,
}

/// A look as programs get it.
#[derive(Serialize)]
struct Document<'a> {
    rates: &'a Rates,
    #[serde(flatten)]
    snapshot: &'a Snapshot,
}

pub(crate) fn run(options: Options, output: &mut Output) -> anyhow::Result<ExitCode> {
    let client = AdminClient::new(&options.admin_url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut top =
            Top { client, interval: options.interval, earlier: None, next: Instant::now() };
        let is_shown = std::io::stdout().is_terminal() && !output.json;
        let watching = async {
            if options.once {
                top.once(output).await
            } else if is_shown {
                top.show(options.count, output).await
            } else {
                top.print(options.count, output).await
            }
        };
        until_told_to_stop(watching).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Cut short by Ctrl-C or SIGTERM, which is how watching ends.
async fn until_told_to_stop(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = work => ended,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

struct Top {
    client: AdminClient,
    interval: Duration,
    earlier: Option<Snapshot>,
    next: Instant,
}

impl Top {
    /// Looks when it is time to.
    async fn look(&mut self, queues: usize) -> anyhow::Result<Snapshot> {
        sleep_until(self.next).await;
        // Counted from the last look: a server that answers slowly is not asked more often for it.
        let looked = Snapshot::take(&self.client, queues).await;
        self.next = Instant::now() + self.interval;
        looked
    }

    /// One look after one interval, as text or a document.
    async fn once(&mut self, output: &mut Output) -> anyhow::Result<()> {
        let size = terminal::size();
        let queues = if output.json { QUEUES_IN_DOCUMENT } else { screen::queue_rows(size.height) };
        let earlier = self.look(queues).await?;
        let now = self.look(queues).await?;
        if output.json {
            return document(output, Some(&earlier), &now);
        }
        let (url, earlier) = (self.client.url(), Some(&earlier));
        let look = Look { url, earlier, now: &now, trouble: None };
        let lines = screen::render(&look, size, &|tone, text| output.tone(tone, text));
        for line in lines {
            output.line(line.trim_end())?;
        }
        Ok(())
    }

    /// Look after look on the terminal, in one place.
    async fn show(&mut self, count: Option<u64>, output: &mut Output) -> anyhow::Result<()> {
        // A server that cannot be reached is told on the first page.
        let mut now = self.look(screen::queue_rows(terminal::size().height)).await?;
        let page = SecondPage::open()?;
        let mut trouble = None;
        let mut shown = 0;
        loop {
            let (url, earlier) = (self.client.url(), self.earlier.as_ref());
            let look = Look { url, earlier, now: &now, trouble: trouble.as_deref() };
            let size = terminal::size();
            let lines = screen::render(&look, size, &|tone, text| output.tone(tone, text));
            output.bytes(terminal::frame(&lines).as_bytes())?;
            output.flush()?;
            shown += 1;
            if count == Some(shown) {
                break;
            }
            // Who watches a restart wants to see its end.
            match self.look(screen::queue_rows(size.height)).await {
                Ok(next) => {
                    self.earlier = Some(std::mem::replace(&mut now, next));
                    trouble = None;
                }
                Err(error) => trouble = Some(format!("{error:#}; trying again")),
            }
        }
        drop(page);
        Ok(())
    }

    /// Look after look as documents, one a line.
    async fn print(&mut self, count: Option<u64>, output: &mut Output) -> anyhow::Result<()> {
        let mut printed = 0;
        loop {
            let now = self.look(QUEUES_IN_DOCUMENT).await?;
            document(output, self.earlier.as_ref(), &now)?;
            output.flush()?;
            self.earlier = Some(now);
            printed += 1;
            if count == Some(printed) {
                return Ok(());
            }
        }
    }
}

fn document(output: &mut Output, earlier: Option<&Snapshot>, now: &Snapshot) -> anyhow::Result<()> {
    let rates = Rates::between(earlier, now);
    output.document(&Document { rates: &rates, snapshot: now })?;
    Ok(())
}

/// Reads a time between two looks.
fn interval(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is no time from 100ms to 1h, such as 500ms, 2s or 1m");
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(refuse()),
    };
    let time = Duration::from_millis(number.saturating_mul(unit_ms));
    if INTERVALS.contains(&time) { Ok(time) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_units_and_bounds() {
        let ms = |text| interval(text).map(|time| time.as_millis());
        assert_eq!(
            [ms("100ms"), ms("2"), ms("2s"), ms("1m")],
            [Ok(100), Ok(2000), Ok(2000), Ok(60_000)]
        );
        assert_eq!(ms("1h"), Ok(3_600_000));
        for text in ["99ms", "61m", "soon", "", "1.5s", "-1s", "5d"] {
            let refused = ms(text).expect_err("out of bounds");
            assert!(refused.contains(&format!("{text:?}")) && refused.contains("100ms to 1h"));
        }
    }
}
