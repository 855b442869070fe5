//! How the store scales: memory for many messages and for many queues, restart times after a kill,
//! disk use over live bytes under patterns of deletes. Prints what it measured; asserts nothing.
//!
//! ```text
//! cargo bench -p marconi-server --bench scale -- messages [COUNT]   10 million by default
//! cargo bench -p marconi-server --bench scale -- queues [COUNT]     1 million by default
//! cargo bench -p marconi-server --bench scale -- disk
//! ```
//!
//! A child process fills a folder through the engine and is killed; then the real server is started
//! on what is left.

use marconi_engine::{ClientId, Config, Durability, Engine, NewMessage, QueueKey};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let count = |at: usize, default: u64| {
        words.get(at).map_or(default, |word| word.parse().expect("a number"))
    };
    match words.first().copied() {
        Some("fill-messages") => fill_messages(Path::new(words[1]), count(2, 0)),
        Some("fill-queues") => fill_queues(Path::new(words[1]), count(2, 0)),
        Some("messages") => scale("fill-messages", count(1, 10_000_000)),
        Some("queues") => scale("fill-queues", count(1, 1_000_000)),
        Some("disk") => disk::run(),
        _ => {
            scale("fill-messages", 10_000_000);
            scale("fill-queues", 1_000_000);
            disk::run();
        }
    }
}

fn temporary() -> tempfile::TempDir {
    // On the disk that the build is on, not on one in memory.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

fn config(folder: &Path) -> Config {
    Config { durability: Durability::Os, ..Config::new(folder) }
}

fn key(name: &str) -> QueueKey {
    QueueKey::new(None, name).expect("short")
}

/// Ten million messages of 100 bytes in one queue, in batches.
fn fill_messages(folder: &Path, count: u64) {
    let engine = Engine::open(config(folder)).expect("opens");
    engine.create_queue(&key("q"), None).expect("makes").wait().expect("lasts");
    let body = [b'x'; 100];
    let batch = [NewMessage { ttl_s: 1_209_600, body: &body }; 100];
    for _ in 0..count / 100 {
        engine.post(&key("q"), ClientId(1), &batch, None).expect("posts").wait().expect("lasts");
    }
    filled(&engine);
}

/// A million queues, each created, with one message.
fn fill_queues(folder: &Path, count: u64) {
    let engine = Engine::open(config(folder)).expect("opens");
    let message = [NewMessage { ttl_s: 1_209_600, body: &[b'x'; 100] }];
    for number in 0..count {
        let key = key(&format!("queue-{number}"));
        engine.create_queue(&key, None).expect("makes").wait().expect("lasts");
        engine.post(&key, ClientId(1), &message, None).expect("posts").wait().expect("lasts");
    }
    filled(&engine);
}

/// Says how much memory it took, and waits for the kill.
fn filled(engine: &Engine) {
    engine.sync().expect("syncs");
    let metrics = engine.metrics();
    println!("filled {} {}", anonymous_kib("self"), metrics.replay_bytes / MIB);
    std::io::stdout().flush().expect("someone listens");
    std::thread::park_timeout(PATIENCE);
}

/// Resident memory that is not backed by a file, in KiB.
fn anonymous_kib(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a line for it");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
}

fn scale(fill: &str, count: u64) {
    let folder = temporary();
    let data = folder.path().join("data");
    let started = Instant::now();
    let mut filler = Command::new(std::env::current_exe().expect("this program"))
        .args([fill, data.to_str().expect("text"), &count.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut line = String::new();
    let mut output = std::io::BufReader::new(filler.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut output, &mut line).expect("fills");
    let words: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    println!("\n{fill} {count}: {:.1} s", started.elapsed().as_secs_f64());
    println!("  anonymous memory when filled, engine alone: {} MB", words[0] / 1000);
    println!("  log behind the newest checkpoint at the kill: {} MiB", words[1]);
    filler.kill().expect("runs");
    filler.wait().expect("ends");
    println!("  data folder: {} MiB", folder_size(&data) / MIB);

    for ending in ["kill", "kill", "clean stop"] {
        let mut server = Server::start(&data);
        println!("  start after a {}: {:?}", server.after, server.took);
        println!("    anonymous memory of the server: {} MB", server.anonymous_kib() / 1000);
        println!("    {}", server.recovery);
        server.end(ending);
    }
    let mut server = Server::start(&data);
    println!("  start after a clean stop: {:?}", server.took);
    server.end("kill");
}

fn folder_size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => folder_size(&entry.path()),
            Ok(found) => found.len(),
            // Compaction may have removed it in between.
            Err(_) => 0,
        })
        .sum()
}

/// The real server on a folder.
struct Server {
    child: Child,
    took: Duration,
    after: &'static str,
    recovery: String,
}

impl Server {
    fn start(data: &Path) -> Server {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let log: PathBuf = data.with_extension("log");
        let started = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_marconi-server"))
            .args(["--folder", data.to_str().expect("text")])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", "off"])
            .stdout(std::fs::File::create(&log).expect("a file"))
            .stderr(std::fs::File::create(data.with_extension("err")).expect("a file"))
            .spawn()
            .expect("starts");
        while !answers(port) {
            assert!(started.elapsed() < PATIENCE, "the server does not answer");
            std::thread::yield_now();
        }
        let took = started.elapsed();
        let text = std::fs::read_to_string(&log).unwrap_or_default()
            + &std::fs::read_to_string(data.with_extension("err")).unwrap_or_default();
        let recovery = text.lines().find(|line| line.contains("recover")).unwrap_or("").to_owned();
        Server { child, took, after: "kill", recovery }
    }

    fn anonymous_kib(&self) -> u64 {
        anonymous_kib(&self.child.id().to_string())
    }

    fn end(&mut self, how: &str) {
        if how == "kill" {
            self.child.kill().expect("runs");
        } else {
            let pid = self.child.id().to_string();
            Command::new("kill").args(["-TERM", &pid]).status().expect("signals");
        }
        self.child.wait().expect("ends");
    }
}

/// Whether a server answers on this port.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let request = "GET /v1/queues?limit=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

mod disk {
    //! Disk use over live bytes, watched while a pattern runs.

    use super::*;

    /// Small segments, so that each pattern goes through many.
    fn config(folder: &Path) -> Config {
        Config {
            durability: Durability::Os,
            segment_size_bytes: 8 * MIB,
            checkpoint_interval_bytes: 16 * MIB,
            disk_reserve_bytes: 0,
            upkeep_interval_ms: 20,
            ..Config::new(folder)
        }
    }

    /// The constant: what is open, what was written since the older checkpoint, checkpoints.
    const CONSTANT: u64 = (4 * 8 + 3 * 16) * MIB;

    struct Pattern {
        name: &'static str,
        run: fn(&Engine, &mut Watch<'_>),
    }

    struct Watch<'a> {
        folder: &'a Path,
        worst: f64,
        peak: u64,
    }

    impl Watch<'_> {
        /// Compares disk use with live bytes, while serving.
        fn look(&mut self, engine: &Engine) {
            let live: u64 = engine.metrics().segments.iter().map(|one| one.live_cost).sum();
            let disk = folder_size(self.folder);
            self.peak = self.peak.max(disk);
            let over = disk.saturating_sub(CONSTANT) as f64;
            self.worst = self.worst.max(over / (live.max(1)) as f64);
        }
    }

    pub(super) fn run() {
        let patterns = [
            Pattern { name: "plain FIFO", run: fifo },
            Pattern { name: "every second deleted", run: |e, w| keep_every(e, w, 2) },
            Pattern { name: "1 in 1000 kept", run: |e, w| keep_every(e, w, 1000) },
            Pattern { name: "random order of deletes", run: random },
            Pattern { name: "queue of 1 million removed", run: removed },
        ];
        println!(
            "\ndisk use: (disk - {} MiB) / live bytes, at worst while serving",
            CONSTANT / MIB
        );
        for pattern in patterns {
            let folder = temporary();
            let data = folder.path().join("data");
            let engine = Engine::open(config(&data)).expect("opens");
            engine.create_queue(&key("q"), None).expect("makes").wait().expect("lasts");
            let mut watch = Watch { folder: &data, worst: 0.0, peak: 0 };
            (pattern.run)(&engine, &mut watch);
            engine.compact().expect("compacts");
            let metrics = engine.metrics();
            let live: u64 = metrics.segments.iter().map(|one| one.live_cost).sum();
            println!(
                "  {:<28} worst {:>5.2}  peak {:>5} MiB  at rest: disk {:>4} MiB, live {:>4} MiB, written {:>5} MiB, rewritten {:>5} MiB",
                pattern.name,
                watch.worst,
                watch.peak / MIB,
                folder_size(&data) / MIB,
                live / MIB,
                metrics.log_bytes / MIB,
                metrics.compacted_bytes / MIB,
            );
        }
    }

    const BATCH: usize = 100;

    fn post(engine: &Engine) -> Vec<marconi_engine::MessageId> {
        let batch = [NewMessage { ttl_s: 1_209_600, body: &[b'x'; 1000] }; BATCH];
        engine.post(&key("q"), ClientId(1), &batch, None).expect("posts").wait().expect("lasts")
    }

    fn delete(engine: &Engine, ids: &[marconi_engine::MessageId]) {
        engine.delete_many(&key("q"), ids, None).expect("deletes").wait().expect("lasts");
    }

    fn fifo(engine: &Engine, watch: &mut Watch<'_>) {
        let mut waiting = std::collections::VecDeque::new();
        for round in 0..6000 {
            waiting.push_back(post(engine));
            if waiting.len() > 500 {
                delete(engine, &waiting.pop_front().expect("more than 500"));
            }
            if round % 100 == 0 {
                watch.look(engine);
            }
        }
    }

    fn keep_every(engine: &Engine, watch: &mut Watch<'_>, share: usize) {
        let mut number = 0;
        for round in 0..6000 {
            let mut ids = post(engine);
            ids.retain(|_| {
                number += 1;
                number % share != 0
            });
            delete(engine, &ids);
            if round % 100 == 0 {
                watch.look(engine);
            }
        }
    }

    /// Deletes in an order that has nothing to do with that of posting, as random ttls would.
    fn random(engine: &Engine, watch: &mut Watch<'_>) {
        let mut waiting = Vec::new();
        let mut state = 1u64;
        for round in 0..6000 {
            waiting.extend(post(engine));
            if waiting.len() > 100_000 {
                let mut ids = Vec::new();
                for _ in 0..BATCH {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    ids.push(waiting.swap_remove((state >> 33) as usize % waiting.len()));
                }
                delete(engine, &ids);
            }
            if round % 100 == 0 {
                watch.look(engine);
            }
        }
    }

    fn removed(engine: &Engine, watch: &mut Watch<'_>) {
        for _ in 0..10_000 {
            post(engine);
        }
        watch.look(engine);
        engine.remove_queue(&key("q"), None).expect("removes").wait().expect("lasts");
        engine.create_queue(&key("q"), None).expect("makes").wait().expect("lasts");
        engine.compact().expect("compacts");
        watch.look(engine);
    }
}
