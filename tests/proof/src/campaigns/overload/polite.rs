//! A client that asks for little: it posts, claims and deletes with pauses, waits as long as it is told to when it is
//! refused, and remembers how long each answer took. Knows nothing of those beside it.

use crate::load::connection::{Answer, Connection};
use anyhow::{Context, bail, ensure};
use marconi_tests::wire::CLIENT_ID;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// The queue of which it claims and deletes.
pub(super) const BUSY: &str = "busy";
/// The queue in which it leaves messages, to find them again.
pub(super) const KEPT: &str = "kept";
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(3);
/// One round in so many leaves a message.
const KEEPS_EVERY: u64 = 5;
/// How often it tries again when it is refused or hung up on.
const ATTEMPTS_MAX: usize = 50;

/// See the file's first lines.
pub(super) struct Polite {
    server: SocketAddr,
    connection: Option<Connection>,
    rounds: u64,
    refused_count: u64,
    /// The messages that were acknowledged and not deleted.
    pub(super) kept: Vec<String>,
}

impl Polite {
    pub(super) fn new(server: SocketAddr) -> anyhow::Result<Polite> {
        let connection = Some(Connection::open(server).context("connect")?);
        Ok(Polite { server, connection, rounds: 0, refused_count: 0, kept: Vec::new() })
    }

    /// Makes so many calls, and a few more; returns what 99 in 100 took at the most.
    pub(super) fn work(&mut self, count: usize) -> anyhow::Result<Duration> {
        let mut times = Vec::new();
        while times.len() < count {
            self.round(&mut times)?;
            thread::park_timeout(PAUSE);
        }
        times.sort_unstable();
        Ok(times[(times.len() - 1) * 99 / 100])
    }

    /// Hangs up.
    pub(super) fn leave(&mut self) {
        self.connection = None;
    }

    fn round(&mut self, times: &mut Vec<Duration>) -> anyhow::Result<()> {
        self.rounds += 1;
        let name = format!("polite-{}", self.rounds);
        let keeps = self.rounds.is_multiple_of(KEEPS_EVERY);
        let queue = if keeps { KEPT } else { BUSY };
        let message = format!(r#"[{{"ttl": 3000, "body": "{name}"}}]"#);
        self.ask(times, "POST", &format!("/v1/queues/{queue}/messages"), &message, 201)?;
        if keeps {
            self.kept.push(name);
            return Ok(());
        }
        let claim = r#"{"ttl": 300, "grace": 60}"#;
        let target = format!("/v1/queues/{BUSY}/claims?limit=1");
        let claimed = self.ask(times, "POST", &target, claim, 201)?;
        if claimed.status == 204 {
            return Ok(());
        }
        let claimed: serde_json::Value = serde_json::from_str(&claimed.body)?;
        let link = claimed[0]["href"].as_str().context("a claim has a link")?;
        self.ask(times, "DELETE", link, "", 204)?;
        Ok(())
    }

    /// Asks until it is accepted; only then the time counts.
    fn ask(
        &mut self,
        times: &mut Vec<Duration>,
        method: &str,
        target: &str,
        body: &str,
        status: u16,
    ) -> anyhow::Result<Answer> {
        let headers = [("Client-ID", CLIENT_ID), ("X-Project-Id", "p1")];
        for _ in 0..ATTEMPTS_MAX {
            let Some(connection) = &mut self.connection else {
                self.connection = Connection::open(self.server);
                continue;
            };
            let started = Instant::now();
            let Some(answer) = connection.ask(method, target, &headers, body)? else {
                bail!("{method} {target}: it hung up on a client that did nothing wrong");
            };
            if answer.status == 503 {
                let after = answer.header("Retry-After").context("503 says when to come back")?;
                after.parse::<u64>().context("Retry-After is in seconds")?;
                self.refused_count += 1;
                // A second is long for a trial; who asks a little early is polite enough.
                thread::park_timeout(PAUSE * 10);
                continue;
            }
            times.push(started.elapsed());
            // What was refused may have been done all the same, and a claim have what it asked for.
            let is_taken = answer.status == 204 && self.refused_count > 0;
            ensure!(
                answer.status == status || is_taken,
                "{method} {target} is answered {}: {}",
                answer.status,
                answer.body
            );
            return Ok(answer);
        }
        bail!("{method} {target} is refused {ATTEMPTS_MAX} times")
    }
}
