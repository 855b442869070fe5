//! The clients of a soak, each at a moderate rate, an operator, and somebody who weighs the server meanwhile. All of
//! them on one thread: two processors are not many. Judges each answer, and leaves slopes to others.

use super::book::Book;
use super::series::{Sample, quantile};
use crate::load::Server;
use crate::random::Random;
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::{MissedTickBehavior, interval};

/// Clients; every second one speaks HTTP/2.
const CLIENTS: usize = 6;
/// Each asks so often, or as often as it is answered.
const PACE: Duration = Duration::from_millis(10);
/// Queues of messages that stay until they are deleted.
const QUEUES: u64 = 4;
/// The queue of messages that die by themselves: nobody claims them, which would let them live on.
const FLEETING: &str = "fleeting";
/// With more messages than this clients take more than they bring.
const ALIVE_MAX: usize = 2_000;
/// Requests on one connection, at the most.
const REQUESTS_MAX: u64 = 400;
/// Between two looks at what the server takes.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Between two syncs of a file beside.
const SYNC_INTERVAL: Duration = Duration::from_millis(50);
/// Between two wishes of the operator.
const OPERATOR_INTERVAL: Duration = Duration::from_secs(4);
/// How long an answer may take before the server counts as stuck.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// All that is shared while clients work.
struct Site {
    address: SocketAddr,
    book: Mutex<Book>,
    measured: Mutex<Measured>,
    ends: Instant,
}

#[derive(Default)]
struct Measured {
    posts_us: Vec<f64>,
    /// Of requests that touch no store.
    controls_us: Vec<f64>,
    /// Of syncs of a file beside.
    syncs_us: Vec<f64>,
    requests: u64,
}

/// The clients, over all trials of a run.
pub(super) struct Clients {
    runtime: Runtime,
    book: Book,
    data: PathBuf,
    /// Queues that were made and removed.
    passing: u64,
}

impl Clients {
    /// Makes the queues; `data` is the server's folder.
    pub(super) fn new(server: &Server, data: PathBuf) -> anyhow::Result<Clients> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut connection = Connection::open(server.address, false).await?;
            for queue in (0..QUEUES).map(queue).chain([FLEETING.to_owned()]) {
                connection.expect("PUT", &format!("/v1/queues/{queue}"), "", &[201]).await?;
            }
            anyhow::Ok(())
        })?;
        Ok(Clients { runtime, book: Book::default(), data, passing: 0 })
    }

    /// Works for a while, then compares all there is; what the server took.
    pub(super) fn work(
        &mut self,
        seed: u64,
        time: Duration,
        server: &Server,
    ) -> anyhow::Result<Sample> {
        let site = Arc::new(Site {
            address: server.address,
            book: Mutex::new(std::mem::take(&mut self.book)),
            measured: Mutex::default(),
            ends: Instant::now() + time,
        });
        let mut random = Random::new(seed);
        let looks = self.runtime.block_on(async {
            let mut tasks = Vec::new();
            for number in 0..CLIENTS {
                let random = Random::new(random.word());
                let client = Client { number, site: site.clone(), random, held: Vec::new() };
                tasks.push(tokio::spawn(client.work()));
            }
            tasks.push(tokio::spawn(operate(site.clone(), server.admin, random.word())));
            self.passing += 1000;
            tasks.push(tokio::spawn(pass(site.clone(), self.passing)));
            let (beside, folder) = (site.clone(), self.data.clone());
            let syncs = tokio::task::spawn_blocking(move || sync(&beside, &folder));
            let looks = tokio::spawn(look(site.clone(), server.pid(), self.data.clone()));
            let mut outcome = Ok(());
            for task in tasks {
                let ended = task.await.context("a client panicked").and_then(|ended| ended);
                outcome = outcome.and(ended);
            }
            outcome?;
            compare(&site).await?;
            syncs.await.context("the syncs panicked")??;
            looks.await.context("the look panicked")?
        })?;
        let site = Arc::into_inner(site).context("all have ended")?;
        self.book = site.book.into_inner().unwrap_or_else(PoisonError::into_inner);
        let measured = site.measured.into_inner().unwrap_or_else(PoisonError::into_inner);
        ensure!(measured.requests > 0 && !looks.is_empty(), "nothing was measured");
        let median = |of: fn(&Look) -> u64| {
            quantile(&looks.iter().map(|look| of(look) as f64).collect::<Vec<_>>(), 0.5)
        };
        let control = |share: f64| {
            quantile(&measured.controls_us, share) + quantile(&measured.syncs_us, share)
        };
        Ok(Sample {
            memory_bytes: median(|look| look.memory_bytes),
            descriptors: median(|look| look.descriptors),
            threads: median(|look| look.threads),
            disk_bytes: looks.iter().map(|look| look.disk_bytes as f64).fold(f64::MAX, f64::min),
            p50_us: quantile(&measured.posts_us, 0.5),
            p99_us: quantile(&measured.posts_us, 0.99),
            control_p50_us: control(0.5),
            control_p99_us: control(0.99),
        })
    }
}

fn queue(number: u64) -> String {
    format!("queue-{number}")
}

impl Site {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.ends
    }
}

/// A claim that is held: the queue, its id, and the links of its messages.
struct Held {
    path: String,
    links: Vec<String>,
}

struct Client {
    number: usize,
    site: Arc<Site>,
    random: Random,
    held: Vec<Held>,
}

impl Client {
    async fn work(mut self) -> anyhow::Result<()> {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.site.is_over() {
            let mut connection = Connection::open(self.site.address, self.number % 2 == 1).await?;
            for _ in 0..1 + self.random.below(REQUESTS_MAX) {
                pace.tick().await;
                if self.site.is_over() {
                    break;
                }
                self.step(&mut connection).await?;
            }
        }
        let mut connection = Connection::open(self.site.address, false).await?;
        while !self.held.is_empty() {
            self.release(&mut connection).await?;
        }
        Ok(())
    }

    async fn step(&mut self, connection: &mut Connection) -> anyhow::Result<()> {
        self.site.measured().requests += 1;
        let is_plenty = self.site.book().len() > ALIVE_MAX;
        let queue = queue(self.random.below(QUEUES));
        match self.random.below(100) {
            0..30 if !is_plenty => self.post(connection, &queue, None).await,
            30..35 => {
                let ttl_s = 1 + self.random.below(4);
                self.post(connection, FLEETING, Some(ttl_s)).await
            }
            0..45 => self.claim(connection, &queue).await,
            45..48 => {
                // Nobody comes back for this one.
                let target = format!("/v1/queues/{queue}/claims?limit=3");
                connection.expect("POST", &target, r#"{"ttl":1,"grace":0}"#, &[201, 204]).await?;
                Ok(())
            }
            48..70 if !self.held.is_empty() => self.delete(connection).await,
            70..74 if !self.held.is_empty() => self.release(connection).await,
            74..78 if !self.held.is_empty() => {
                let place = self.random.below(self.held.len() as u64) as usize;
                let path = &self.held[place].path;
                let body = r#"{"ttl":600,"grace":60}"#;
                connection.expect("PATCH", path, body, &[204]).await?;
                Ok(())
            }
            78..84 => {
                let target = format!("/v1/queues/{queue}/messages?echo=true&limit=20");
                connection.expect("GET", &target, "", &[200, 204]).await?;
                Ok(())
            }
            84..90 => {
                let target = format!("/v1/queues/{queue}/stats");
                connection.expect("GET", &target, "", &[200]).await?;
                Ok(())
            }
            _ => {
                let asked = Instant::now();
                connection.expect("GET", "/", "", &[300]).await?;
                self.site.measured().controls_us.push(asked.elapsed().as_secs_f64() * 1e6);
                Ok(())
            }
        }
    }

    async fn post(
        &mut self,
        connection: &mut Connection,
        queue: &str,
        ttl_s: Option<u64>,
    ) -> anyhow::Result<()> {
        let mut document = String::from("[");
        for part in 0..1 + self.random.below(3) {
            let comma = if part == 0 { "" } else { "," };
            let fill = "x".repeat(self.random.below(2_000) as usize);
            let ttl_s = ttl_s.unwrap_or(1_000_000);
            let _ = write!(document, "{comma}{{\"ttl\":{ttl_s},\"body\":\"{fill}\"}}");
        }
        document.push(']');
        let asked = Instant::now();
        let target = format!("/v1/queues/{queue}/messages");
        let answer = connection.expect("POST", &target, &document, &[201]).await?;
        self.site.measured().posts_us.push(asked.elapsed().as_secs_f64() * 1e6);
        #[derive(Deserialize)]
        struct Posted {
            resources: Vec<String>,
        }
        let Posted { resources } = serde_json::from_slice(&answer.body)?;
        let dies = ttl_s.map(Duration::from_secs).map(|ttl| (asked + ttl, Instant::now() + ttl));
        let mut book = self.site.book();
        resources.into_iter().try_for_each(|link| book.posted(link, dies))
    }

    async fn claim(&mut self, connection: &mut Connection, queue: &str) -> anyhow::Result<()> {
        let limit = 1 + self.random.below(10);
        let target = format!("/v1/queues/{queue}/claims?limit={limit}");
        // Longer than a trial: it is ended before it ends.
        let body = r#"{"ttl":600,"grace":60}"#;
        let answer = connection.expect("POST", &target, body, &[201, 204]).await?;
        let Some(path) = answer.location else { return Ok(()) };
        let messages: Vec<Message> = serde_json::from_slice(&answer.body)?;
        let links: Vec<String> = messages.iter().map(Message::link).collect();
        ensure!(!links.is_empty(), "a claim of nothing");
        links.iter().try_for_each(|link| self.site.book().claimed(link))?;
        self.held.push(Held { path, links });
        Ok(())
    }

    /// One message of a claim is done with.
    async fn delete(&mut self, connection: &mut Connection) -> anyhow::Result<()> {
        let place = self.random.below(self.held.len() as u64) as usize;
        let held = &mut self.held[place];
        let Some(link) = held.links.pop() else {
            self.held.swap_remove(place);
            return Ok(());
        };
        let (_, claim) = held.path.rsplit_once('/').context("a claim's path")?;
        let target = format!("{link}?claim_id={claim}");
        connection.expect("DELETE", &target, "", &[204]).await?;
        self.site.book().deleted(&link);
        Ok(())
    }

    async fn release(&mut self, connection: &mut Connection) -> anyhow::Result<()> {
        let place = self.random.below(self.held.len() as u64) as usize;
        let Held { path, links } = self.held.swap_remove(place);
        // Before it is asked for: the next may have them before we hear of it.
        links.iter().for_each(|link| self.site.book().released(link));
        connection.expect("DELETE", &path, "", &[204]).await?;
        Ok(())
    }
}

#[derive(Deserialize)]
struct Message {
    href: String,
}

impl Message {
    /// Its link as the answer to its post had it: without the claim.
    fn link(&self) -> String {
        self.href.split('?').next().unwrap_or_default().to_owned()
    }
}

/// Asks for checkpoints and compaction now and then.
async fn operate(site: Arc<Site>, admin: SocketAddr, seed: u64) -> anyhow::Result<()> {
    let mut random = Random::new(seed);
    let mut pace = interval(OPERATOR_INTERVAL);
    while !site.is_over() {
        pace.tick().await;
        let target = if random.one_in(2) { "/compact" } else { "/checkpoint" };
        let mut connection = Connection::open(admin, false).await?;
        connection.expect("POST", target, "", &[200, 202, 204]).await?;
    }
    Ok(())
}

/// Makes queues, each under a name of its own, posts to them, and removes them.
async fn pass(site: Arc<Site>, first: u64) -> anyhow::Result<()> {
    let mut pace = interval(Duration::from_millis(300));
    for number in first.. {
        pace.tick().await;
        if site.is_over() {
            break;
        }
        let path = format!("/v1/queues/passing-{number}");
        let mut connection = Connection::open(site.address, number % 2 == 0).await?;
        connection.expect("PUT", &path, "", &[201]).await?;
        let messages = format!("{path}/messages");
        connection.expect("POST", &messages, r#"[{"ttl":600,"body":1}]"#, &[201]).await?;
        connection.expect("DELETE", &path, "", &[204]).await?;
    }
    Ok(())
}

/// What is listed is what was acknowledged, in every queue.
async fn compare(site: &Site) -> anyhow::Result<()> {
    let mut connection = Connection::open(site.address, false).await?;
    let asked = Instant::now();
    let mut listed = Vec::new();
    for queue in (0..QUEUES).map(queue).chain([FLEETING.to_owned()]) {
        let target =
            format!("/v1/queues/{queue}/messages?echo=true&include_claimed=true&limit=100000");
        let answer = connection.expect("GET", &target, "", &[200, 204]).await?;
        if answer.status == 204 {
            continue;
        }
        #[derive(Deserialize)]
        struct Page {
            messages: Vec<Message>,
        }
        let Page { messages } = serde_json::from_slice(&answer.body)?;
        listed.extend(messages.iter().map(Message::link));
    }
    site.book().compare(&listed, asked)
}

/// Syncs a file beside the server's folder now and then: what the disk gives everybody.
fn sync(site: &Site, data: &Path) -> anyhow::Result<()> {
    let file = fs::File::create(data.with_file_name("beside")).context("a file beside")?;
    while !site.is_over() {
        file.write_all_at(&[1; 4096], 0).context("a write beside")?;
        let asked = Instant::now();
        file.sync_data().context("a sync beside")?;
        site.measured().syncs_us.push(asked.elapsed().as_secs_f64() * 1e6);
        std::thread::park_timeout(SYNC_INTERVAL);
    }
    Ok(())
}

/// What the server takes at a moment.
struct Look {
    memory_bytes: u64,
    descriptors: u64,
    threads: u64,
    disk_bytes: u64,
}

async fn look(site: Arc<Site>, pid: u32, data: PathBuf) -> anyhow::Result<Vec<Look>> {
    let mut pace = interval(LOOK_INTERVAL);
    let mut looks = Vec::new();
    while !site.is_over() {
        pace.tick().await;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("it runs")?;
        let number = |name: &str| -> anyhow::Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("Linux")?;
            let word = line.split_whitespace().next().context("a number")?;
            Ok(word.parse()?)
        };
        looks.push(Look {
            // Its own: how much of its mapped files is in memory is the system's affair.
            memory_bytes: number("RssAnon:")? << 10,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).context("it runs")?.count() as u64,
            threads: number("Threads:")?,
            disk_bytes: disk_bytes(&data),
        });
    }
    Ok(looks)
}

/// What a folder takes on the disk. Files may go while they are counted.
fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk_bytes(&entry.path()),
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// A connection of either protocol.
enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

struct Answer {
    status: u16,
    location: Option<String>,
    body: Bytes,
}

impl Connection {
    async fn open(address: SocketAddr, is_http2: bool) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(address).await.context("the server listens")?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        Ok(if is_http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Connection::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Connection::Http1(sender)
        })
    }

    /// Asks, and expects one of these statuses.
    async fn expect(
        &mut self,
        method: &str,
        target: &str,
        body: &str,
        statuses: &[u16],
    ) -> anyhow::Result<Answer> {
        let asked = tokio::time::timeout(ANSWER_DEADLINE, self.ask(method, target, body)).await;
        let shown = || format!("{method} {target}");
        let answer = asked.context("no answer for 30 s").with_context(shown)?;
        let answer = answer.with_context(shown)?;
        if !statuses.contains(&answer.status) {
            let Answer { status, body, .. } = answer;
            bail!("{method} {target} is answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(answer)
    }

    async fn ask(&mut self, method: &str, target: &str, body: &str) -> anyhow::Result<Answer> {
        let uri = match self {
            Connection::Http1(_) => target.to_owned(),
            Connection::Http2(_) => format!("http://localhost{target}"),
        };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "localhost")
            .header("client-id", "00000000-0000-4000-8000-000000000001")
            .body(Full::new(Bytes::from(body.to_owned())))?;
        let response: Response<Incoming> = match self {
            Connection::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Connection::Http2(sender) => sender.send_request(request).await?,
        };
        let status = response.status().as_u16();
        let location = response.headers().get("location").map(|value| value.to_str());
        let location = location.transpose()?.map(str::to_owned);
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer { status, location, body })
    }
}
