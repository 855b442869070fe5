//! Requests to the real server, over one connection, one after another. What starting, stopping and
//! filling take goes out: the server is counted with few rounds and with many, and the difference is
//! that of the rounds between.

use super::callgrind;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Requests of one kind.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// How many requests a round makes.
    requests: u64,
    /// How many messages are there before, at least.
    waiting: u64,
    round: fn(&mut Client),
}

/// All cases.
pub(crate) const CASES: [Case; 3] = [
    Case { name: "request: post 1 message of 1 KiB, os", requests: 1, waiting: 0, round: post },
    Case {
        name: "request: claim 10 and delete each, os",
        requests: 11,
        waiting: ROUNDS.1 * 10,
        round: claim_and_delete,
    },
    Case { name: "request: list 20 messages of 1 KiB", requests: 1, waiting: 20, round: list },
];

/// Few rounds, and many.
const ROUNDS: (u64, u64) = (100, 600);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// The instructions of one request, all threads of the server together.
pub(crate) fn count(case: &Case) -> io::Result<u64> {
    let few = total(case, ROUNDS.0)?;
    let many = total(case, ROUNDS.1)?;
    Ok(many.saturating_sub(few) / ((ROUNDS.1 - ROUNDS.0) * case.requests))
}

fn total(case: &Case, rounds: u64) -> io::Result<u64> {
    let folder = super::temporary()?;
    let (server, mut client) = start(folder.path())?;
    client.ask("PUT", "/v1/queues/q", "", 201);
    for _ in 0..case.waiting.div_ceil(20) {
        client.post(20);
    }
    for _ in 0..rounds {
        (case.round)(&mut client);
    }
    stop(server)?;
    callgrind::read_total(folder.path())
}

fn post(client: &mut Client) {
    client.post(1);
}

fn claim_and_delete(client: &mut Client) {
    let times = "{\"ttl\": 300, \"grace\": 60}";
    let claimed = client.ask("POST", "/v1/queues/q/claims?limit=10", times, 201);
    let hrefs: Vec<&str> = claimed.split("\"href\":\"").skip(1).collect();
    assert_eq!(hrefs.len(), 10, "{claimed}");
    for href in hrefs {
        let (href, _) = href.split_once('"').expect("a string ends");
        client.ask("DELETE", href, "", 204);
    }
}

fn list(client: &mut Client) {
    client.ask("GET", "/v1/queues/q/messages?echo=true&limit=20", "", 200);
}

/// The server under callgrind, with one serving thread, and a connection to it.
fn start(folder: &Path) -> io::Result<(Child, Client)> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let server = callgrind::command(folder)
        .arg(env!("CARGO_BIN_EXE_marconi-server"))
        .arg("--folder")
        .arg(folder.join("data"))
        .args(["--listen", &address.to_string(), "--admin-listen", "off"])
        // Upkeep, which goes by the clock, stays out.
        .args(["--worker-threads", "1", "--durability", "os", "--upkeep-interval-ms", "60000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let started = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok((server, Client { stream, answer: Vec::new() }));
            }
            Err(error) if started.elapsed() > PATIENCE => return Err(error),
            Err(_) => std::thread::yield_now(),
        }
    }
}

fn stop(mut server: Child) -> io::Result<()> {
    Command::new("kill").args(["-TERM", &server.id().to_string()]).status()?;
    let status = server.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("the server: {status}"))) }
}

/// A connection that asks and waits for the answer.
struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    /// Posts messages of 1 KiB together.
    fn post(&mut self, count: usize) {
        let message = format!("{{\"ttl\": 300, \"body\": \"{}\"}}", "x".repeat(1022));
        let document = format!("[{}]", vec![message; count].join(", "));
        self.ask("POST", "/v1/queues/q/messages", &document, 201);
    }

    /// Sends a request; the answer's body, whose status has to be this one.
    fn ask(&mut self, method: &str, target: &str, body: &str, status: u16) -> String {
        let head = "Host: x\r\nClient-ID: 3381af92-2b9e-11e3-b191-71861300734c\r\nContent-Type: application/json";
        let size = body.len();
        let request =
            format!("{method} {target} HTTP/1.1\r\n{head}\r\nContent-Length: {size}\r\n\r\n{body}");
        self.stream.write_all(request.as_bytes()).expect("the server listens");
        let body_at = loop {
            match body_range(&self.answer) {
                Some(range) if self.answer.len() >= range.end => break range,
                _ => {}
            }
            let mut bytes = [0; 16 << 10];
            let count = self.stream.read(&mut bytes).expect("the server answers");
            assert!(count > 0, "the server closed the connection");
            self.answer.extend_from_slice(&bytes[..count]);
        };
        let answer = String::from_utf8(std::mem::take(&mut self.answer)).expect("answers are text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {target}: {answer}");
        answer[body_at].to_owned()
    }
}

/// Where the body lies in an answer, once its head is there.
fn body_range(answer: &[u8]) -> Option<std::ops::Range<usize>> {
    let start = answer.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..start]).expect("heads are text");
    let size = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().expect("a size"))
    });
    Some(start..start + size.unwrap_or(0))
}
