//! Connections over real sockets: what is answered, what is cut, what a drain waits for.

use super::*;
use crate::api::limits::Limits;
use crate::http::body;
use crate::in_flight::BytesInFlight;
use crate::shutdown::{ShutdownTrigger, shutdown};
use http_body_util::BodyExt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Longest any step of a test may take.
const DEADLINE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(60);

/// Answers with what it read; `/wait` first waits for a permit, `/read` reads as the service does and then
/// waits for one, `/panic` panics.
struct Echo {
    entered: Semaphore,
    leave: Semaphore,
    /// Times that those who wait behind their bodies were run.
    runs: AtomicUsize,
}

impl Echo {
    async fn read(&self, request: Request<Incoming>) -> usize {
        let (limits, in_flight) = (Limits::default(), BytesInFlight::default());
        let mut body = request.into_body();
        let held = body::read(&mut body, 1 << 20, &limits, &in_flight).await.expect("it comes");
        self.entered.add_permits(1);
        let mut leave = std::pin::pin!(self.leave.acquire());
        let permit = poll_fn(|context| {
            self.runs.fetch_add(1, Relaxed);
            leave.as_mut().poll(context)
        });
        permit.await.expect("never closed").forget();
        held.bytes.len()
    }
}

impl Handler for Echo {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/panic" => panic!("asked for"),
            "/read" => {
                let size = self.read(request).await;
                return Response::new(Full::new(format!("{path} {size};").into()));
            }
            "/wait" => {
                self.entered.add_permits(1);
                self.leave.acquire().await.expect("never closed").forget();
            }
            _ => {}
        }
        match request.into_body().collect().await {
            Ok(body) => {
                let size = body.to_bytes().len();
                Response::new(Full::new(format!("{path} {size};").into()))
            }
            Err(cause) => Response::new(Full::new(format!("failed: {cause};").into())),
        }
    }
}

struct World {
    address: SocketAddr,
    echo: Arc<Echo>,
    trigger: ShutdownTrigger,
    server: JoinHandle<Drained>,
    stats: Arc<ListenStats>,
}

impl World {
    async fn start(options: ListenOptions) -> World {
        let listener = bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let echo = Arc::new(Echo {
            entered: Semaphore::new(0),
            leave: Semaphore::new(0),
            runs: AtomicUsize::new(0),
        });
        let (trigger, heard) = shutdown();
        let stats = Arc::clone(&options.stats);
        let server = tokio::spawn(serve(Arc::clone(&echo), listener, options, heard));
        World { address, echo, trigger, server, stats }
    }

    async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.expect("it listens"))
    }

    /// Waits until `count` requests to `/wait` are being worked on.
    async fn entered(&self, count: u32) {
        let permits = timeout(DEADLINE, self.echo.entered.acquire_many(count)).await;
        permits.expect("in time").expect("never closed").forget();
    }

    async fn end(self) -> Drained {
        self.trigger.trigger();
        timeout(DEADLINE, self.server).await.expect("in time").expect("no panic")
    }
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("the connection is open");
    }

    /// Reads until `end` was read; panics when the connection ends before.
    async fn read_to(&mut self, end: &str) -> String {
        let mut text = String::new();
        let mut byte = [0];
        while !text.ends_with(end) {
            let read = timeout(DEADLINE, self.0.read_exact(&mut byte)).await.expect("in time");
            read.unwrap_or_else(|cause| panic!("{cause} after {text:?}, before {end:?}"));
            text.push(byte[0] as char);
        }
        text
    }

    /// The kind of the next frame of HTTP/2.
    async fn frame(&mut self) -> u8 {
        let mut head = [0; 9];
        let read = timeout(DEADLINE, self.0.read_exact(&mut head)).await;
        read.expect("in time").expect("a frame");
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        self.0.read_exact(&mut payload).await.expect("all of it");
        head[3]
    }

    /// Reads until the server hangs up.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset is an end as well.
        let _ = timeout(DEADLINE, self.0.read_to_end(&mut bytes)).await.expect("in time");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

fn post(size: usize, sent: &str) -> String {
    format!("POST /post HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n{sent}")
}

#[tokio::test]
async fn a_crowd_need_not_wait_for_being_accepted() {
    let listener = bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut crowd = Vec::new();
    for number in 0..500 {
        let connected = timeout(DEADLINE, TcpStream::connect(address)).await;
        crowd.push(connected.unwrap_or_else(|_| panic!("connection {number} waits")));
    }
    assert!(crowd.iter().all(Result::is_ok));
}

#[tokio::test]
async fn who_says_at_once_that_nothing_more_comes_is_answered() {
    let world = World::start(ListenOptions::default()).await;
    let (mut client, mut other) = (world.client().await, world.client().await);
    client.send(&get("/wait")).await;
    world.entered(1).await;
    client.0.shutdown().await.expect("the connection is open");
    // By the time another one is answered, the end of this one was seen.
    for _ in 0..10 {
        other.send(&get("/other")).await;
        other.read_to("/other 0;").await;
    }
    world.echo.leave.add_permits(1);
    assert!(client.rest().await.ends_with("/wait 0;"));
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_is_told_apart() {
    let listener = bind("127.0.0.1:0").await.expect("a free port");
    let taken = listener.local_addr().expect("it is bound").to_string();
    assert_eq!(bind(&taken).await.expect_err("in use").kind(), io::ErrorKind::AddrInUse);
    assert_eq!(bind("127.0.0.1").await.expect_err("no port").kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_order_on_one_connection() {
    let world = World::start(ListenOptions::default()).await;
    let mut client = world.client().await;
    client.send(&format!("{}{}{}", get("/a"), post(3, "xyz"), get("/b"))).await;
    let text = client.read_to("/b 0;").await;
    assert!(text.find("/a 0;") < text.find("/post 3;"), "{text}");
    assert_eq!(text.matches("HTTP/1.1 200").count(), 3, "{text}");
    assert_eq!(world.end().await, Drained::Whole);
}

#[tokio::test]
async fn http2_is_spoken_to_those_who_begin_with_its_preface() {
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    let options = ListenOptions { header_timeout: SHORT, ..ListenOptions::default() };
    let world = World::start(options).await;
    let mut client = world.client().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert_eq!(client.frame().await, SETTINGS);

    // One who came later is cut for a slow head; those who speak frames are not.
    let mut slow = world.client().await;
    slow.send("GET").await;
    assert_eq!(slow.rest().await, "");
    client.send("\0\0\x08\x06\0\0\0\0\0 a ping ").await;
    while client.frame().await != PING {}
}

#[tokio::test]
async fn slow_heads_are_cut_however_they_begin() {
    let options = ListenOptions { header_timeout: SHORT, ..ListenOptions::default() };
    let world = World::start(options).await;
    for beginning in ["", "P", "PRI * HT", "GET / HTTP/1.1\r\nhost: "] {
        let mut client = world.client().await;
        client.send(beginning).await;
        assert_eq!(client.rest().await, "", "{beginning:?}");
    }
    // So is the second head of a connection.
    let mut client = world.client().await;
    client.send(&get("/a")).await;
    client.read_to("/a 0;").await;
    client.send("GET / HTTP/1.1\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn idle_connections_are_closed_and_working_ones_are_not() {
    let options = ListenOptions { idle_timeout: SHORT, ..ListenOptions::default() };
    let world = World::start(options).await;
    let mut working = world.client().await;
    working.send(&get("/wait")).await;
    world.entered(1).await;

    let mut idle = world.client().await;
    idle.send(&get("/a")).await;
    idle.read_to("/a 0;").await;
    assert_eq!(idle.rest().await, "");

    // The idle one was opened later and is gone already; the working one still gets its answer.
    world.echo.leave.add_permits(1);
    working.read_to("/wait 0;").await;
}

#[tokio::test]
async fn connections_over_the_limit_are_told_to_come_back() {
    let options = ListenOptions { connections_max: 1, ..ListenOptions::default() };
    let world = World::start(options).await;
    let mut first = world.client().await;
    first.send(&get("/a")).await;
    first.read_to("/a 0;").await;

    let mut second = world.client().await;
    second.send(&get("/a")).await;
    let refusal = second.read_to("\"}").await;
    assert!(refusal.starts_with("HTTP/1.1 503 "), "{refusal}");
    assert!(refusal.contains("retry-after: 1"), "{refusal}");
    assert_eq!(world.stats.connections_refused_count.load(Relaxed), 1);

    // Once the first is gone there is room again.
    drop(first);
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut next = world.client().await;
        next.send(&get("/b")).await;
        if next.read_to("\r\n").await.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(Instant::now() < deadline, "the room never came back");
    }
}

#[tokio::test]
async fn a_panic_costs_its_own_connection_only() {
    let world = World::start(ListenOptions::default()).await;
    let mut client = world.client().await;
    client.send(&get("/panic")).await;
    assert_eq!(client.rest().await, "");
    let mut other = world.client().await;
    other.send(&get("/a")).await;
    other.read_to("/a 0;").await;
    assert_eq!(world.stats.connections_panicked_count.load(Relaxed), 1);
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_takes_nothing_new() {
    let options =
        ListenOptions { header_timeout: Duration::from_secs(3600), ..ListenOptions::default() };
    let world = World::start(options).await;
    let mut beginners = Vec::new();
    for beginning in ["", "PRI * HT"] {
        let mut client = world.client().await;
        client.send(beginning).await;
        beginners.push(client);
    }
    let mut idle = world.client().await;
    idle.send(&get("/a")).await;
    idle.read_to("/a 0;").await;
    let mut working = world.client().await;
    working.send(&get("/wait")).await;
    world.entered(1).await;

    world.trigger.trigger();
    assert_eq!(idle.rest().await, "", "an idle connection is closed at once");
    for client in &mut beginners {
        assert_eq!(client.rest().await, "", "so is one that has not said what it speaks");
    }
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect(world.address).await.is_ok() {
        assert!(Instant::now() < deadline, "it still accepts");
    }
    world.echo.leave.add_permits(1);
    assert!(working.rest().await.ends_with("/wait 0;"), "the answer came before the end");
    assert_eq!(world.end().await, Drained::Whole);
}

#[tokio::test]
async fn a_drain_ends_within_its_limit() {
    let options = ListenOptions { drain_timeout: SHORT, ..ListenOptions::default() };
    let world = World::start(options).await;
    let mut working = world.client().await;
    working.send(&get("/wait")).await;
    world.entered(1).await;
    assert_eq!(world.end().await, Drained::Cut(1));
}

#[tokio::test]
async fn who_read_a_body_is_run_again_only_when_there_is_something_to_do() {
    let world = World::start(ListenOptions::default()).await;
    let mut client = world.client().await;
    client.send("POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello").await;
    world.entered(1).await;
    // Whoever woke itself has its turn meanwhile: there is one thread.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.echo.runs.load(Relaxed), 1);
    world.echo.leave.add_permits(1);
    client.read_to("/read 5;").await;
    assert_eq!(world.echo.runs.load(Relaxed), 2);
    assert_eq!(world.end().await, Drained::Whole);
}

#[tokio::test]
async fn bodies_that_come_in_pieces_are_read_to_their_ends() {
    let world = World::start(ListenOptions::default()).await;
    world.echo.leave.add_permits(4);
    let mut client = world.client().await;
    let large = "x".repeat(300_000);
    let head = "POST /read HTTP/1.1\r\nhost: x\r\n";
    client.send(&format!("{head}content-length: 300000\r\n\r\n{large}")).await;
    client.read_to("/read 300000;").await;
    client.send(&format!("{head}transfer-encoding: chunked\r\n\r\n")).await;
    for piece in ["3\r\nabc\r\n", "2\r\nde\r", "\n186a0\r\n", &large[..100_000], "\r\n0\r\n\r\n"] {
        client.send(piece).await;
        // The server reads it before the next is sent.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    client.read_to("/read 100005;").await;
    client.send(&format!("{head}content-length: 4\r\nexpect: 100-continue\r\n\r\n")).await;
    client.read_to("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("a").await;
    client.send("bcd").await;
    client.read_to("/read 4;").await;
    client.send(&format!("{head}content-length: 0\r\n\r\n")).await;
    client.read_to("/read 0;").await;
    assert_eq!(world.end().await, Drained::Whole);
}
