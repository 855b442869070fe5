//! What each durability mode costs over HTTP: posts, and claims of ten with ten deletes, at 1, 16 and
//! 64 connections, beside two limits measured in the same round: the rate of `fdatasync` on this disk
//! and a bare hyper server. Prints medians over the rounds; asserts nothing.
//!
//! ```text
//! cargo bench -p marconi-server --bench modes [-- ROUNDS [SECONDS]]     3 rounds, 1 second a cell
//! taskset -c 1 cargo bench -p marconi-server --bench modes              the server on core 0
//! ```
//!
//! Closed loop: a connection has one request in flight. With `MARCONI_BENCH_SERVER_CORE=N` in the
//! environment the server is started under `taskset -c N`.

use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use marconi_engine::Durability;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CONNECTIONS: [usize; 3] = [1, 16, 64];
const BODY_SIZE: usize = 1024;
const CLIENT: &str = "3381af92-2b9e-11e3-b191-71861300734c";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number = |at: usize, default: f64| {
        words.get(at).map_or(default, |word| word.parse().expect("a number"))
    };
    let (rounds, seconds) = (number(0, 3.0) as usize, number(1, 1.0));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, run(rounds, Duration::from_secs_f64(seconds)));
}

/// What is measured, and all its figures, a second.
type Figures = BTreeMap<(String, usize), Vec<f64>>;

async fn run(rounds: usize, time: Duration) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let server = Server::start(folder.path());
    let hello = hello_server();
    let mut figures = Figures::new();
    let mut record = |what: String, connections: usize, rate: f64| {
        figures.entry((what, connections)).or_default().push(rate);
    };
    for mode in Durability::ALL {
        let put = format!(
            "PUT /v1/queues/{mode} HTTP/1.1\r\nhost: x\r\nmarconi-durability: {mode}\r\ncontent-length: 0\r\n\r\n"
        );
        let answer = Connection::open(server.port).await.ask(put.as_bytes()).await;
        assert!(answer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer));
    }
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        record("fdatasync".into(), 1, sync_rate(folder.path(), time));
        for connections in CONNECTIONS {
            let request = post_request("/");
            record("hello".into(), connections, load(hello, connections, time, &request).await);
            for mode in Durability::ALL {
                let request = post_request(&format!("/v1/queues/{mode}/messages"));
                let rate = load(server.port, connections, time, &request).await;
                record(format!("post {mode}"), connections, rate);
            }
            for mode in Durability::ALL {
                let rate = drain(server.port, mode, connections, time).await;
                record(format!("claim+delete {mode}"), connections, rate);
            }
        }
    }
    report(&figures);
}

fn report(figures: &Figures) {
    let median = |what: &str, connections: usize| {
        let mut rates = figures[&(what.to_owned(), connections)].clone();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let syncs = median("fdatasync", 1);
    println!("fdatasync of 4 KiB on a file of zeros: {syncs:.0} /s");
    println!("\nmessages a second, 1 KiB; in brackets the ratios to fdatasync and to bare hyper\n");
    print!("{:<24}", "");
    CONNECTIONS.iter().for_each(|count| print!("{count:>28} conn"));
    println!();
    print!("{:<24}", "bare hyper, POST");
    CONNECTIONS.iter().for_each(|count| print!("{:>33.0}", median("hello", *count)));
    println!();
    for work in ["post", "claim+delete"] {
        for mode in Durability::ALL {
            let what = format!("{work} {mode}");
            print!("{what:<24}");
            for count in CONNECTIONS {
                let rate = median(&what, count);
                let (to_sync, to_hello) = (rate / syncs, rate / median("hello", count));
                print!("{:>33}", format!("{rate:.0} ({to_sync:.2}, {to_hello:.2})"));
            }
            println!();
        }
    }
}

fn post_request(path: &str) -> Vec<u8> {
    let body = format!("[{{\"ttl\":3600,\"body\":\"{}\"}}]", "x".repeat(BODY_SIZE));
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nclient-id: {CLIENT}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The server under test, as its users run it.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(folder: &std::path::Path) -> Server {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let program = env!("CARGO_BIN_EXE_marconi-server");
        let mut command = match std::env::var("MARCONI_BENCH_SERVER_CORE") {
            Ok(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core, program]);
                command
            }
            Err(_) => Command::new(program),
        };
        let child = command
            .env_remove("MARCONI_BENCH_SERVER_CORE")
            .arg("--folder")
            .arg(folder.join("data"))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", "off"])
            .stdout(Stdio::null())
            .spawn()
            .expect("the server starts");
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "the server does not answer");
            std::thread::yield_now();
        }
        Server { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It only held what is thrown away now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A bare hyper server on a thread of its own: reads the body, answers 201.
fn hello_server() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    listener.set_nonblocking(true).expect("a socket");
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket");
                tokio::task::spawn_local(async move {
                    let answer =
                        service_fn(|request: hyper::Request<hyper::body::Incoming>| async {
                            request.into_body().collect().await?;
                            let answer = hyper::Response::builder().status(201);
                            let body = Full::new(bytes::Bytes::from_static(b"{}"));
                            Ok::<_, hyper::Error>(answer.body(body).expect("a plain answer"))
                        });
                    // A client that goes away is no news.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                });
            }
        });
    });
    port
}

/// 4 KiB writes with a sync each, on a file of zeros.
fn sync_rate(folder: &std::path::Path, time: Duration) -> f64 {
    let path = folder.join("syncs");
    let mut file = std::fs::File::create(&path).expect("a file");
    file.write_all(&vec![0; 4 << 20]).expect("writes");
    file.sync_all().expect("syncs");
    let (started, mut count) = (Instant::now(), 0u32);
    while started.elapsed() < time {
        file.write_all_at(&[1; 4096], u64::from(count % 1024) * 4096).expect("writes");
        file.sync_data().expect("syncs");
        count += 1;
    }
    f64::from(count) / started.elapsed().as_secs_f64()
}

/// One connection, one request at a time.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(port: u16) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connects");
        stream.set_nodelay(true).expect("a socket");
        Connection { stream, buffer: Vec::with_capacity(64 << 10) }
    }

    /// Sends a request and reads the whole answer.
    async fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.stream.write_all(request).await.expect("sends");
        self.buffer.clear();
        loop {
            let count = self.stream.read_buf(&mut self.buffer).await.expect("receives");
            assert!(count > 0, "the server closed the connection");
            if let Some(size) = answer_size(&self.buffer)
                && self.buffer.len() >= size
            {
                return std::mem::take(&mut self.buffer);
            }
        }
    }
}

/// How long the answer at the beginning of `bytes` is, once its head is there.
fn answer_size(bytes: &[u8]) -> Option<usize> {
    let head_size = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..head_size]).expect("heads are text");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    Some(head_size + length.map_or(0, |length| length.parse::<usize>().expect("a length")))
}

/// The same request over and over.
async fn load(port: u16, connections: usize, time: Duration, request: &[u8]) -> f64 {
    let request: Rc<[u8]> = request.into();
    let end = Instant::now() + time;
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let request = request.clone();
            tokio::task::spawn_local(async move {
                let mut connection = Connection::open(port).await;
                let mut count = 0u64;
                while Instant::now() < end {
                    let answer = connection.ask(&request).await;
                    assert!(
                        answer.starts_with(b"HTTP/1.1 201"),
                        "{}",
                        String::from_utf8_lossy(&answer)
                    );
                    count += 1;
                }
                count
            })
        })
        .collect();
    sum(tasks).await / time.as_secs_f64()
}

async fn sum(tasks: Vec<tokio::task::JoinHandle<u64>>) -> f64 {
    let mut total = 0;
    for task in tasks {
        total += task.await.expect("no request fails");
    }
    total as f64
}

/// Claims of ten, and a delete for each message, of what the posts before left.
async fn drain(port: u16, mode: Durability, connections: usize, time: Duration) -> f64 {
    fill(port, mode, 150_000).await;
    let end = Instant::now() + time;
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            tokio::task::spawn_local(async move {
                let mut connection = Connection::open(port).await;
                let body = "{\"ttl\":300,\"grace\":60}";
                let claim = format!(
                    "POST /v1/queues/{mode}/claims?limit=10 HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let mut count = 0;
                while Instant::now() < end {
                    let answer = connection.ask(claim.as_bytes()).await;
                    for href in hrefs(&answer) {
                        let delete = format!("DELETE {href} HTTP/1.1\r\nhost: x\r\n\r\n");
                        let answer = connection.ask(delete.as_bytes()).await;
                        assert!(answer.starts_with(b"HTTP/1.1 204"));
                        count += 1;
                        if Instant::now() >= end {
                            break;
                        }
                    }
                }
                count
            })
        })
        .collect();
    sum(tasks).await / time.as_secs_f64()
}

/// Makes sure that `count` messages wait.
async fn fill(port: u16, mode: Durability, count: usize) {
    let mut connection = Connection::open(port).await;
    let stats = format!("GET /v1/queues/{mode}/stats HTTP/1.1\r\nhost: x\r\n\r\n");
    let answer = connection.ask(stats.as_bytes()).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let free = text.split("\"free\":").nth(1).expect("stats").trim_start();
    let digits = free.chars().take_while(char::is_ascii_digit).collect::<String>();
    let free: usize = digits.parse().expect("a number");
    let message = format!("{{\"ttl\":3600,\"body\":\"{}\"}}", "x".repeat(BODY_SIZE));
    let body = format!("[{}]", vec![message; 100].join(","));
    let post = format!(
        "POST /v1/queues/{mode}/messages HTTP/1.1\r\nhost: x\r\nclient-id: {CLIENT}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..count.saturating_sub(free).div_ceil(100) {
        let answer = connection.ask(post.as_bytes()).await;
        assert!(answer.starts_with(b"HTTP/1.1 201"));
    }
}

/// Where the messages of a claim are.
fn hrefs(answer: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(answer);
    text.split("\"href\":")
        .skip(1)
        .filter_map(|rest| Some(rest.split('"').nth(1)?.to_owned()))
        .collect()
}
