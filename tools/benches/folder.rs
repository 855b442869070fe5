//! What looking at a large folder costs: `stat`, `verify` and `inspect` of ten million messages in a
//! thousand queues, alone and beside a server under load. Prints figures and ratios; asserts nothing.
//!
//! ```text
//! cargo bench -p marconi-tools --bench folder [-- MESSAGES [SECONDS [ROUNDS]]]   10000000, 5 s a phase, 10
//! ```
//!
//! Cold figures need the right to drop the system's cache (root on Linux); without it they are warm, and
//! the output says so.

use marconi_engine::{ClientId, Config, Durability, Engine, NewMessage, QueueKey};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const QUEUES: u64 = 1000;
const PROGRAM: &str = env!("CARGO_BIN_EXE_marconi");
/// Requests a second and connections of the load: far from the server's limit, as in ordinary operation.
const RATE: u64 = 400;
const CONNECTIONS: u64 = 8;
const ROUNDS: usize = 3;
/// Beside a server somebody looks again after this.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number = |at: usize, default: u64| {
        words.get(at).map_or(default, |word| word.parse().expect("a number"))
    };
    let (messages, seconds) = (number(0, 10_000_000), number(1, 5));
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let folder = place.path().join("data");
    fill(&folder, messages);
    let bytes = size_of(&folder);
    println!("{messages} messages of 100 bytes in {QUEUES} queues: {} MiB", bytes >> 20);
    alone(&folder, bytes);
    beside(&folder, Duration::from_secs(seconds), number(2, 10));
}

/// Posts through an engine, and ends as a crash does: a start has to replay.
fn fill(folder: &Path, messages: u64) {
    let config =
        Config { durability: Durability::Memory, disk_reserve_bytes: 0, ..Config::new(folder) };
    let engine = Engine::open(config).expect("opens");
    let keys: Vec<QueueKey> = (0..QUEUES)
        .map(|number| QueueKey::new(None, &format!("queue-{number}")).expect("short"))
        .collect();
    for key in &keys {
        engine.create_queue(key, None).expect("makes").wait().expect("made");
    }
    let body = [b'x'; 100];
    let batch = [NewMessage { ttl_s: 1_000_000, body: &body }; 20];
    for number in 0..messages / 20 {
        let key = &keys[(number % QUEUES) as usize];
        engine
            .post(key, ClientId(number.into()), &batch, None)
            .expect("posts")
            .wait()
            .expect("taken");
    }
    for key in keys.iter().take(100) {
        engine.claim(key, 3600, 3600, 100, None).expect("claims").wait().expect("claimed");
    }
    engine.sync().expect("syncs");
    engine.crash();
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder.join("log")).expect("a folder");
    entries.map(|entry| entry.expect("an entry").metadata().expect("a file").len()).sum()
}

/// Whether the cache was dropped.
fn drop_cache() -> bool {
    let _ = Command::new("sync").status();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// MiB a second of plain reads in pieces of a MiB, from file to file.
fn read_all(folder: &Path) -> f64 {
    let started = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    for entry in fs::read_dir(folder.join("log")).expect("a folder") {
        let mut file = File::open(entry.expect("an entry").path()).expect("opens");
        loop {
            match file.read(&mut buffer).expect("reads") {
                0 => break,
                size => bytes += size,
            }
        }
    }
    bytes as f64 / started.elapsed().as_secs_f64() / f64::from(1 << 20)
}

/// Runs the program; how long it took, the most memory it had (own and all), and its code.
fn run(arguments: &[&str]) -> (Duration, u64, u64, i32) {
    let started = Instant::now();
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let (mut own, mut all) = (0, 0);
    let code = loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
                .unwrap_or(0)
        };
        own = own.max(field("RssAnon:"));
        all = all.max(field("VmHWM:"));
        if let Some(status) = child.try_wait().expect("it is a child") {
            break status.code().unwrap_or(-1);
        }
        thread::park_timeout(Duration::from_millis(2));
    };
    (started.elapsed(), own >> 10, all >> 10, code)
}

fn alone(folder: &Path, bytes: u64) {
    let path = folder.to_str().expect("text");
    let mib = bytes as f64 / f64::from(1 << 20);
    println!(
        "\n{:<24}{:>10}{:>14}{:>16}{:>12}",
        "", "seconds", "MiB/s", "ratio to reads", "memory MiB"
    );
    for round in 1..=ROUNDS {
        for cold in [true, false] {
            let word = if cold && drop_cache() { "cold" } else { "warm" };
            let reads = read_all(folder);
            println!(
                "{:<24}{:>10.2}{reads:>14.0}{:>16}{:>12}",
                format!("{round} {word} plain reads"),
                mib / reads,
                1,
                ""
            );
            for (what, arguments) in [
                ("stat", vec!["log", "stat", path]),
                ("verify", vec!["log", "verify", path, "--quiet"]),
                ("inspect", vec!["log", "inspect", path]),
            ] {
                if cold {
                    drop_cache();
                }
                let (took, own, all, code) = run(&arguments);
                let rate = mib / took.as_secs_f64();
                let ratio = rate / reads;
                let (rate, ratio) = match what {
                    "stat" => ("".to_owned(), "".to_owned()),
                    _ => (format!("{rate:.0}"), format!("{ratio:.2}")),
                };
                let memory = format!("{own} ({all})");
                println!(
                    "{:<24}{:>10.2}{rate:>14}{ratio:>16}{memory:>12} code {code}",
                    format!("{round} {word} {what}"),
                    took.as_secs_f64()
                );
            }
        }
    }
}

/// The server under an even load, with and without somebody who looks at its folder; the second quiet
/// phase of each round shows the noise.
fn beside(folder: &Path, time: Duration, rounds: u64) {
    let server = Server::start(folder);
    println!("\npost, claim, delete at {RATE} requests/s: milliseconds");
    println!(
        "{:<12}{:>10}{:>10}{:>10}{:>12}{:>10}",
        "", "p50", "p99", "p99.9", "p99 ratio", "looks"
    );
    let path = folder.to_str().expect("text").to_owned();
    let phases: [(&str, Option<Vec<&str>>); 5] = [
        ("quiet", None),
        ("stat", Some(vec!["log", "stat", &path])),
        ("verify", Some(vec!["log", "verify", &path, "--quiet"])),
        ("quiet again", None),
        ("inspect", Some(vec!["log", "inspect", &path])),
    ];
    let mut all: Vec<Vec<u64>> = vec![Vec::new(); phases.len()];
    let mut p99s: Vec<Vec<u64>> = vec![Vec::new(); phases.len()];
    let mut looks = [0; 5];
    load(server.address, Duration::from_secs(2));
    for _ in 0..rounds {
        for (place, (_, arguments)) in phases.iter().enumerate() {
            let stop = Arc::new(AtomicBool::new(false));
            let looker = arguments.clone().map(|arguments| {
                let stop = stop.clone();
                let arguments: Vec<String> =
                    arguments.iter().map(|&word| word.to_owned()).collect();
                thread::spawn(move || {
                    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let (.., code) = run(&words);
                        assert_eq!(code, 0, "{words:?}");
                        count += 1;
                        thread::park_timeout(BETWEEN_LOOKS);
                    }
                    count
                })
            });
            let mut latencies = load(server.address, time);
            stop.store(true, Ordering::Relaxed);
            looks[place] += looker.map_or(0, |looker| looker.join().expect("no panic"));
            latencies.sort_unstable();
            p99s[place].push(latencies[latencies.len() * 99 / 100]);
            all[place].extend(latencies);
        }
    }
    let mut quiet = 0.0;
    for (place, (name, _)) in phases.iter().enumerate() {
        all[place].sort_unstable();
        p99s[place].sort_unstable();
        let at = |share: f64| all[place][(all[place].len() as f64 * share) as usize] as f64 / 1e3;
        if place == 0 {
            quiet = at(0.99);
        }
        let (least, most) = (p99s[place][0], p99s[place][p99s[place].len() - 1]);
        println!(
            "{name:<12}{:>10.2}{:>10.2}{:>10.2}{:>12.2}{:>10}   rounds {:.1} to {:.1}",
            at(0.5),
            at(0.99),
            at(0.999),
            at(0.99) / quiet,
            looks[place],
            least as f64 / 1e3,
            most as f64 / 1e3
        );
    }
}

/// Requests on a schedule; each latency, in microseconds, from when it was to be sent.
fn load(address: SocketAddr, time: Duration) -> Vec<u64> {
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let latencies = latencies.clone();
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                let queue = format!("load-{number}");
                connection.ask("PUT", &format!("/v1/queues/{queue}"), "");
                let gap = Duration::from_secs_f64(CONNECTIONS as f64 / RATE as f64);
                let started = Instant::now() + gap.mul_f64(number as f64 / CONNECTIONS as f64);
                let body = format!("[{{\"ttl\":300,\"body\":\"{}\"}}]", "x".repeat(1000));
                let mut mine = Vec::new();
                let mut claimed: Option<String> = None;
                for turn in 0.. {
                    let due = started + gap * turn;
                    if due.duration_since(started) >= time {
                        break;
                    }
                    thread::park_timeout(due.saturating_duration_since(Instant::now()));
                    while Instant::now() < due {
                        thread::yield_now();
                    }
                    match (turn % 3, claimed.take()) {
                        (2, Some(href)) => {
                            connection.ask("DELETE", &href, "");
                        }
                        (1, _) => {
                            let path = format!("/v1/queues/{queue}/claims?limit=1");
                            let answer = connection.ask("POST", &path, "{\"ttl\":60,\"grace\":60}");
                            claimed = answer
                                .split("\"href\":\"")
                                .nth(1)
                                .and_then(|rest| Some(rest.split('"').next()?.to_owned()));
                        }
                        _ => {
                            connection.ask("POST", &format!("/v1/queues/{queue}/messages"), &body);
                        }
                    }
                    mine.push(due.elapsed().as_micros() as u64);
                }
                latencies.lock().expect("no panic").append(&mut mine);
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("no panic");
    }
    std::mem::take(&mut latencies.lock().expect("no panic"))
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_nodelay(true).expect("a socket");
        Connection(BufReader::new(stream))
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> String {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nclient-id: 3381af92-2b9e-11e3-b191-71861300734c\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes()).expect("sends");
        let mut size = 0;
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        assert!(line.starts_with("HTTP/1.1 2"), "{method} {path}: {line}");
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("an answer");
            if line.trim().is_empty() {
                break;
            }
            if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                size = length.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; size];
        self.0.read_exact(&mut body).expect("a body");
        String::from_utf8(body).expect("text")
    }
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(folder: &Path) -> Server {
        let mut child = Command::new(PROGRAM)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "off",
                "--disk-reserve-bytes",
                "0",
            ])
            .arg(format!("--folder={}", folder.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it was piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = address.and_then(|address| address.parse().ok()).expect("an address");
        Server { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
