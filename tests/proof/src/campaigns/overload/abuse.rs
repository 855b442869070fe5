//! The abuses: each is a client of its own that many connections run at the same time, again and again until it is told
//! that it is over. Pauses in here are the abuse itself: how slowly it reads and sends, how long it lasts, how often it looks
//! whether it is over; no check waits for one. Each checks that what it is answered is what the API allows; what that costs others is not its
//! matter.

use super::plan::{Kind, Plan};
use crate::load::connection::Connection;
use anyhow::{Context, bail, ensure};
use marconi_tests::client::Reply;
use marconi_tests::wire::CLIENT_ID;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The queue that is abused.
pub(super) const QUEUE: &str = "abused";
/// Requests under way on a connection that pipelines.
const PIPELINED: usize = 32;
/// Messages of a flood that are remembered; finding them again takes time.
const REMEMBERED_MAX: u64 = 100_000;
/// Messages that slow readers ask for, and their size.
const SLOW_MESSAGES: usize = 20;
const SLOW_MESSAGE_SIZE: usize = 20_000;
/// Messages of one post, where those are many.
const PREPARED_AT_ONCE: usize = 100;
/// How long a server may leave an abuser without an answer before it counts as stuck.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);
/// What a slow client waits between two bytes, and an idle one between two looks.
const SLOWNESS: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// What a post has around a large document, and the log around that.
const DOCUMENT_FRAME_SIZE: usize = 4 << 10;
/// One made-up name in so many is that of a queue that is made.
const MADE_EVERY: u64 = 50;

/// What the abuse and those who watch it share.
pub(super) struct Abused {
    server: SocketAddr,
    plan: Plan,
    done: AtomicU64,
    opened: AtomicU64,
    is_over: AtomicBool,
    has_ended: AtomicBool,
    is_enough: AtomicBool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The bodies of messages that are there now.
    pub(super) acknowledged: Vec<String>,
    /// Messages that are there besides.
    pub(super) stored_count: u64,
    /// Queues that were made.
    pub(super) queue_count: u64,
    /// The largest answer that was asked for, in bytes, where it is more than a few.
    pub(super) answer_size_max: u64,
    served_count: u64,
    refused_count: u64,
    hung_up_count: u64,
}

impl Abused {
    pub(super) fn new(server: SocketAddr, plan: Plan) -> Abused {
        let (done, opened) = Default::default();
        let (is_over, has_ended, is_enough) = Default::default();
        Abused { server, plan, done, opened, is_over, has_ended, is_enough }
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.is_over.store(true, Relaxed);
    }

    /// Whether it was told to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Whether it has begun in earnest.
    pub(super) fn is_under_way(&self) -> bool {
        self.opened.load(Relaxed) >= self.plan.connections as u64
    }

    /// Whether it did what it was to do.
    pub(super) fn is_enough(&self) -> bool {
        if self.plan.amount > 0 {
            self.done.load(Relaxed) >= self.plan.amount
        } else {
            self.is_enough.load(Relaxed)
        }
    }

    /// Whether it ended, by itself or not.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Relaxed)
    }

    fn note_done(&self) {
        self.done.fetch_add(1, Relaxed);
    }
}

/// Puts there what the abuse needs.
pub(super) fn prepare(abused: &Abused) -> anyhow::Result<()> {
    let plan = &abused.plan;
    let (count, size) = match plan.kind {
        Kind::SlowReaders => (SLOW_MESSAGES, SLOW_MESSAGE_SIZE),
        Kind::Hoarder => (plan.amount as usize, 0),
        _ => return Ok(()),
    };
    let mut client = Connection::open(abused.server).context("connect")?;
    let headers = [("Client-ID", CLIENT_ID), ("X-Project-Id", "p1")];
    let target = format!("/v1/queues/{QUEUE}/messages");
    let names: Vec<String> = (0..count).map(prepared).collect();
    for names in names.chunks(if size == 0 { PREPARED_AT_ONCE } else { 1 }) {
        let messages: Vec<String> = names.iter().map(|name| messages(name, size)).collect();
        let body = format!("[{}]", messages.join(","));
        let answer = client.ask("POST", &target, &headers, &body)?.context("no answer")?;
        ensure!(answer.status == 201, "a post is answered {}: {}", answer.status, answer.body);
    }
    Ok(())
}

fn prepared(number: usize) -> String {
    format!("prepared-{number}")
}

/// A message with this name, and one that goes with it and makes it so large.
fn messages(name: &str, size: usize) -> String {
    let named = format!(r#"{{"ttl": 3000, "body": "{name}"}}"#);
    if size == 0 {
        return named;
    }
    format!(r#"{named}, {{"ttl": 3000, "body": ["{}"]}}"#, "x".repeat(size))
}

/// Abuses the server until it is over.
pub(super) fn run(abused: &Arc<Abused>) -> anyhow::Result<Told> {
    let outcome = (|| {
        let runtime = Builder::new_current_thread().enable_all().build().context("a runtime")?;
        runtime.block_on(all(abused))
    })();
    abused.has_ended.store(true, Relaxed);
    outcome
}

async fn all(abused: &Arc<Abused>) -> anyhow::Result<Told> {
    let mut clients = JoinSet::new();
    for number in 0..abused.plan.connections {
        let abused = Arc::clone(abused);
        clients.spawn(async move {
            let client = Client { abused, number, told: Told::default() };
            client.abuse().await
        });
    }
    let watcher = Arc::clone(abused);
    clients.spawn(async move {
        while !watcher.is_under_way() && !watcher.is_over() {
            sleep(LOOK_INTERVAL).await;
        }
        sleep(watcher.plan.time).await;
        watcher.is_enough.store(true, Relaxed);
        Ok(Told::default())
    });
    let mut all = Told::default();
    while let Some(told) = clients.join_next().await {
        all.add(told.context("an abuser panicked")??);
    }
    if abused.plan.kind == Kind::Hoarder {
        all.acknowledged.extend((0..abused.plan.amount as usize).map(prepared));
    }
    if abused.plan.kind == Kind::SlowReaders {
        all.acknowledged.extend((0..SLOW_MESSAGES).map(prepared));
        all.answer_size_max = (SLOW_MESSAGES * (SLOW_MESSAGE_SIZE + 300)) as u64;
    }
    Ok(all)
}

impl Told {
    fn add(&mut self, other: Told) {
        self.acknowledged.extend(other.acknowledged);
        self.stored_count += other.stored_count;
        self.queue_count += other.queue_count;
        self.served_count += other.served_count;
        self.refused_count += other.refused_count;
        self.hung_up_count += other.hung_up_count;
    }
}

/// One connection after the other, each abused in the same way.
struct Client {
    abused: Arc<Abused>,
    number: usize,
    told: Told,
}

/// A connection and what came on it that is not read yet.
struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    async fn abuse(mut self) -> anyhow::Result<Told> {
        let mut is_first = true;
        let mut round = 0;
        while !self.abused.is_over() {
            let wire = self.connect().await;
            if std::mem::take(&mut is_first) {
                self.abused.opened.fetch_add(1, Relaxed);
            }
            let Some(mut wire) = wire? else { continue };
            let abuse = async {
                match self.abused.plan.kind {
                    Kind::Flood => self.flood(&mut wire, &mut round).await,
                    Kind::Idle => self.idle(&mut wire).await,
                    Kind::SlowReaders => self.read_slowly(&mut wire).await,
                    Kind::EndlessBodies => self.send_without_end(&mut wire, &mut round).await,
                    Kind::Documents => self.send_documents(&mut wire, &mut round).await,
                    Kind::Names => self.make_up_names(&mut wire, &mut round).await,
                    Kind::Hoarder => self.hoard(&mut wire).await,
                }
            };
            abuse.await.with_context(|| format!("connection {}", self.number))?;
        }
        Ok(self.told)
    }

    /// Connects; `None` where it did not work out, which is tried again.
    async fn connect(&mut self) -> anyhow::Result<Option<Wire>> {
        let socket = TcpSocket::new_v4().context("a socket")?;
        if self.abused.plan.kind == Kind::SlowReaders {
            // What does not fit here the server has to hold.
            socket.set_recv_buffer_size(4096).context("a small buffer")?;
        }
        match timeout(ANSWER_DEADLINE, socket.connect(self.abused.server)).await {
            Ok(Ok(stream)) => Ok(Some(Wire { stream, unread: Vec::new() })),
            Ok(Err(_)) => {
                sleep(LOOK_INTERVAL).await;
                Ok(None)
            }
            Err(_) => bail!("connecting takes too long"),
        }
    }

    /// Takes note of an answer; a refusal for want of room has to say when there may be some.
    fn note(&mut self, reply: &Reply, statuses: &[u16]) -> anyhow::Result<bool> {
        if reply.status == 503 {
            ensure!(reply.header("Retry-After").is_some(), "503 without Retry-After: {reply}");
            self.told.refused_count += 1;
            return Ok(false);
        }
        ensure!(statuses.contains(&reply.status), "not of {statuses:?}: {reply}");
        self.told.served_count += 1;
        self.abused.note_done();
        Ok(true)
    }

    async fn flood(&mut self, wire: &mut Wire, round: &mut u64) -> anyhow::Result<()> {
        while !self.abused.is_over() {
            *round += 1;
            let names: Vec<String> = (0..PIPELINED)
                .map(|place| format!("flood-{}-{round}-{place}", self.number))
                .collect();
            let size = self.abused.plan.message_size;
            let text: String = names
                .iter()
                .map(|name| post(QUEUE, &format!("[{}]", messages(name, size))))
                .collect();
            if !wire.send(text.as_bytes()).await {
                self.told.hung_up_count += 1;
                return Ok(());
            }
            for name in names {
                let Some(reply) = wire.answer().await? else {
                    self.told.hung_up_count += 1;
                    return Ok(());
                };
                let is_served = self.note(&reply, &[201])?;
                if is_served && self.abused.done.load(Relaxed) < REMEMBERED_MAX {
                    self.told.acknowledged.push(name);
                }
            }
        }
        Ok(())
    }

    async fn idle(&mut self, wire: &mut Wire) -> anyhow::Result<()> {
        if self.number.is_multiple_of(2) {
            wire.send(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n").await;
            let Some(reply) = wire.answer().await? else {
                // There was no room, and the reason was lost on the way.
                self.told.hung_up_count += 1;
                sleep(SLOWNESS).await;
                return Ok(());
            };
            if !self.note(&reply, &[204])? {
                sleep(SLOWNESS).await;
                return Ok(());
            }
        }
        while !self.abused.is_over() {
            sleep(LOOK_INTERVAL * 10).await;
        }
        Ok(())
    }

    async fn read_slowly(&mut self, wire: &mut Wire) -> anyhow::Result<()> {
        let request = format!(
            "GET /v1/queues/{QUEUE}/messages?limit={}&echo=true HTTP/1.1\r\nHost: x\r\n\
             X-Project-Id: p1\r\nClient-ID: {CLIENT_ID}\r\n\r\n",
            2 * SLOW_MESSAGES
        );
        wire.send(request.repeat(8).as_bytes()).await;
        let mut byte = [0];
        while !self.abused.is_over() {
            match wire.stream.read(&mut byte).await {
                Ok(1) => {}
                // It was cut for taking too long, and comes again.
                _ => {
                    self.told.hung_up_count += 1;
                    break;
                }
            }
            sleep(SLOWNESS).await;
        }
        Ok(())
    }

    async fn send_without_end(&mut self, wire: &mut Wire, round: &mut u64) -> anyhow::Result<()> {
        *round += 1;
        let most = self.abused.plan.post_size_max;
        let (framing, piece, pause): (_, &[u8], _) = match (self.number as u64 + *round) % 4 {
            0 => (format!("Content-Length: {most}"), b" ", LOOK_INTERVAL),
            1 => ("Content-Length: 10000000000".to_owned(), &[b' '; 16 << 10], Duration::ZERO),
            2 => ("Transfer-Encoding: chunked".to_owned(), b"1\r\n \r\n", LOOK_INTERVAL),
            _ => ("Transfer-Encoding: chunked".to_owned(), b"4\r\n[[[[\r\n", Duration::ZERO),
        };
        let head = format!(
            "POST /v1/queues/{QUEUE}/messages HTTP/1.1\r\nHost: x\r\nX-Project-Id: p1\r\n\
             Client-ID: {CLIENT_ID}\r\n{framing}\r\n\r\n"
        );
        wire.send(head.as_bytes()).await;
        let Wire { stream, unread } = wire;
        let (mut reader, mut writer) = stream.split();
        let send = async {
            // Until the server hangs up.
            while writer.write_all(piece).await.is_ok() && !self.abused.is_over() {
                sleep(pause).await;
            }
        };
        let listen = async {
            // A reset is an end as well.
            while let Ok(1..) = reader.read_buf(unread).await {}
        };
        let both = async { tokio::join!(send, listen) };
        // Told to end, they hang up by going.
        let ended = async {
            while !self.abused.is_over() {
                sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::select! {
            ended = timeout(ANSWER_DEADLINE, both) => {
                ended.context("a body without end is read without end")?;
            }
            () = ended => return Ok(()),
        }
        match Reply::first(&wire.unread, false)? {
            Some((reply, _)) => drop(self.note(&reply, &[400])?),
            None => self.told.hung_up_count += 1,
        }
        Ok(())
    }

    async fn send_documents(&mut self, wire: &mut Wire, round: &mut u64) -> anyhow::Result<()> {
        while !self.abused.is_over() && !self.abused.is_enough() {
            *round += 1;
            // A little less than is allowed, so that the document is looked at.
            let most = self.abused.plan.post_size_max as usize - DOCUMENT_FRAME_SIZE;
            let repeat = |text: &str| text.repeat(most / text.len());
            let half = |text: &str| text.repeat(most / 2 / text.len());
            let (body, status) = match (self.number as u64 + *round) % 10 {
                0 => (repeat("["), 400),
                1 => (format!("{}0{}", half("["), half("]")), 400),
                2 => (format!("{}0{}", "{\"a\":".repeat(most / 8), "}".repeat(most / 8)), 400),
                3 => (format!("{}0{}", "[".repeat(900), "]".repeat(900)), 201),
                4 => (format!("[{}0]", repeat("0,")), 201),
                5 => (format!("{{{}\"b\":0}}", repeat("\"a\":0,")), 201),
                6 => (format!("\"{}\"", repeat("\\u00e9")), 201),
                7 => (format!("1{}", repeat("0")), 400),
                8 => (format!("\"{}\"", repeat("\\x")), 400),
                _ => (format!("[{}[]]", repeat("[],")), 201),
            };
            let body = format!(r#"[{{"ttl": 3000, "body": {body}}}]"#);
            if !wire.send(post(QUEUE, &body).as_bytes()).await {
                bail!("the server hangs up within a post");
            }
            let reply = wire.answer().await?.context("the server hangs up on a document")?;
            self.note(&reply, &[status]).with_context(|| format!("{body:.60}"))?;
            self.told.stored_count += u64::from(reply.status == 201);
        }
        while !self.abused.is_over() {
            sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    async fn make_up_names(&mut self, wire: &mut Wire, round: &mut u64) -> anyhow::Result<()> {
        while !self.abused.is_over() {
            let mut text = String::new();
            let mut statuses = Vec::new();
            for _ in 0..PIPELINED {
                *round += 1;
                let name = format!("{}-{round}", self.number);
                // What an id could be.
                let id = format!("gC{:04x}{:04x}", self.number, *round & 0xffff);
                let is_over = self.abused.is_enough();
                let (line, status): (_, &[u16]) = match *round % 9 {
                    _ if round.is_multiple_of(MADE_EVERY) && !is_over => {
                        (format!("PUT /v1/queues/made-up-{name}"), &[201])
                    }
                    0 => (format!("GET /v1/queues/{name}"), &[404]),
                    1 => (format!("GET /v1/queues/{name}/messages?marker={id}"), &[204, 400]),
                    2 => (format!("GET /v1/queues/{QUEUE}/messages/{id}"), &[404]),
                    3 => (format!("GET /v1/queues/{QUEUE}/claims/{id}"), &[404]),
                    4 => (
                        format!("DELETE /v1/queues/{QUEUE}/messages/{id}?claim_id={id}"),
                        &[204, 400],
                    ),
                    5 => (format!("GET /v1/queues?marker={name}&limit=1"), &[200, 204]),
                    6 => (format!("GET /v1/queues/{QUEUE}/messages?ids={id},{name}"), &[200, 204]),
                    7 => (format!("DELETE /v1/queues/{name}"), &[204]),
                    _ => (format!("GET /v1/queues/{name}/stats"), &[404]),
                };
                text += &format!(
                    "{line} HTTP/1.1\r\nHost: x\r\nX-Project-Id: made-up-{}\r\nClient-ID: {CLIENT_ID}\r\n\r\n",
                    *round % 1000
                );
                statuses.push((status, line));
            }
            if !wire.send(text.as_bytes()).await {
                bail!("the server hangs up on good requests");
            }
            for (status, line) in statuses {
                let reply = wire.answer().await?.context("the server hangs up on good requests")?;
                self.note(&reply, status).with_context(|| line.clone())?;
                self.told.queue_count += u64::from(reply.status == 201);
            }
        }
        Ok(())
    }

    async fn hoard(&mut self, wire: &mut Wire) -> anyhow::Result<()> {
        let body = r#"{"ttl": 2, "grace": 60}"#;
        let request = format!(
            "POST /v1/queues/{QUEUE}/claims?limit=20 HTTP/1.1\r\nHost: x\r\nX-Project-Id: p1\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        while !self.abused.is_over() {
            if !wire.send(request.as_bytes()).await {
                bail!("the server hangs up on claims");
            }
            let reply = wire.answer().await?.context("the server hangs up on claims")?;
            self.note(&reply, &[201, 204])?;
        }
        Ok(())
    }
}

/// A post of a document.
fn post(queue: &str, body: &str) -> String {
    format!(
        "POST /v1/queues/{queue}/messages HTTP/1.1\r\nHost: x\r\nX-Project-Id: p1\r\n\
         Client-ID: {CLIENT_ID}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Wire {
    /// Sends all of it; whether the server took it.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// The next answer; `None` where the server hung up before it was whole.
    async fn answer(&mut self) -> anyhow::Result<Option<Reply>> {
        loop {
            if let Some((reply, size)) = Reply::first(&self.unread, false)? {
                self.unread.drain(..size);
                return Ok(Some(reply));
            }
            let more = timeout(ANSWER_DEADLINE, self.stream.read_buf(&mut self.unread));
            match more.await.context("an answer takes too long")? {
                Ok(1..) => {}
                _ => return Ok(None),
            }
        }
    }
}
