//! Whole runs against a small server in this process that speaks enough of v1: what is measured is
//! kept, shown and compared, and errors are counted. Knows nothing of how it is measured.

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use marconi_bench::{Options, Surroundings};
use serde_json::Value;
use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A server of queues without modes, which counts what it was asked.
#[derive(Default)]
struct Stub {
    waiting: Mutex<HashMap<String, Vec<u64>>>,
    deleted: AtomicU64,
    /// Every n-th post is refused; none where 0.
    refuses: u64,
    posts: AtomicU64,
}

impl Stub {
    fn start(refuses: u64) -> (Arc<Stub>, String) {
        let stub = Arc::new(Stub { refuses, ..Stub::default() });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        listener.set_nonblocking(true).expect("a socket");
        let served = stub.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                while let Ok((stream, _)) = listener.accept().await {
                    let stub = served.clone();
                    let answer = service_fn(move |request| answer(stub.clone(), request));
                    tokio::spawn(async move {
                        // A client that goes away is no news.
                        let _ = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), answer)
                            .await;
                    });
                }
            });
        });
        (stub, url)
    }

    fn post(&self, queue: &str, count: usize) -> (StatusCode, String) {
        let number = self.posts.fetch_add(1, Ordering::SeqCst) + 1;
        if self.refuses > 0 && number.is_multiple_of(self.refuses) {
            return (StatusCode::SERVICE_UNAVAILABLE, "{\"title\":\"no\"}".to_owned());
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(queue.to_owned()).or_default().extend((0..count).map(|at| at as u64));
        (StatusCode::CREATED, "{}".to_owned())
    }

    fn claim(&self, queue: &str) -> (StatusCode, String) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let queue_of = waiting.entry(queue.to_owned()).or_default();
        let left = queue_of.len().saturating_sub(10);
        let taken = queue_of.split_off(left);
        let links = taken.iter().map(|number| {
            format!(
                "{{\"href\":\"/v1/queues/{queue}/messages/{number}?claim_id=1\",\"body\":\"x\"}}"
            )
        });
        let text = format!("[{}]", links.collect::<Vec<_>>().join(","));
        match taken.is_empty() {
            true => (StatusCode::NO_CONTENT, String::new()),
            false => (StatusCode::CREATED, text),
        }
    }
}

async fn answer(
    stub: Arc<Stub>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let parts: Vec<&str> = head.uri.path().trim_start_matches("/v1/queues/").split('/').collect();
    let (status, text) = match (&head.method, &parts[..]) {
        (&Method::PUT, [_]) => (StatusCode::CREATED, String::new()),
        (&Method::DELETE, [queue]) => {
            stub.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(*queue);
            (StatusCode::NO_CONTENT, String::new())
        }
        (&Method::POST, [queue, "messages"]) => {
            let count = serde_json::from_slice::<Vec<Value>>(&body).map_or(0, |all| all.len());
            stub.post(queue, count)
        }
        (&Method::POST, [queue, "claims"]) => stub.claim(queue),
        (&Method::DELETE, [_, "messages", _]) => {
            stub.deleted.fetch_add(1, Ordering::SeqCst);
            (StatusCode::NO_CONTENT, String::new())
        }
        (&Method::GET, [_, "messages"]) => (StatusCode::OK, "{\"messages\":[]}".to_owned()),
        _ => (StatusCode::NOT_FOUND, "{}".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    Ok(response)
}

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn bench(words: &[&str], json: bool) -> String {
    let cli = Cli::try_parse_from([&["bench"], words].concat()).expect("options");
    let around = Surroundings { program: None, quiet: true };
    let mut out = Vec::new();
    marconi_bench::run(&cli.options, &around, json, &mut out)
        .unwrap_or_else(|error| panic!("{error:#}"));
    String::from_utf8(out).expect("text")
}

fn lines(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("results.jsonl")).expect("results");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_foreign_server_is_measured_shown_and_compared() {
    let (stub, url) = Stub::start(0);
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    for out in [&first, &second] {
        let out = out.to_str().expect("text");
        let words = ["--url", &url, "--time", "5s", "--connections", "1,16", "--sizes", "64"];
        let text = bench(&[&words[..], &["--out", out]].concat(), false);
        assert!(text.starts_with("Posts a second over 16 connections: server"), "{text}");
        assert!(text.contains("Claim 10 and delete each"), "{text}");
    }
    let lines = lines(&first);
    assert_eq!(lines[0]["target"], url.as_str());
    let cells: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "cell").collect();
    // Five workloads over two counts of connections, and posts at a fixed rate over 16; three rounds.
    assert_eq!(cells.len(), 3 * (5 * 2 + 1));
    for cell in &cells {
        assert_eq!((&cell["mode"], &cell["errors"]), (&"server".into(), &0.into()), "{cell}");
        assert!(cell["rate"].as_f64().is_some_and(|rate| rate > 0.0), "{cell}");
    }
    let open = cells.iter().find(|cell| cell["open"] == true).expect("a fixed rate");
    let (offered, rate) = (open["offered_per_s"].as_f64(), open["rate"].as_f64());
    assert!(offered.zip(rate).is_some_and(|(offered, rate)| rate < 1.5 * offered), "{open}");
    assert!(stub.deleted.load(Ordering::SeqCst) > 0);
    let waiting = stub.waiting.lock().expect("nobody panicked");
    assert!(waiting.is_empty(), "queues are left behind: {:?}", waiting.keys());
    drop(waiting);
    for file in ["report.html", "throughput.svg", "latency.svg"] {
        assert!(first.join(file).exists(), "{file}");
    }
    let left = first.read_dir().expect("a folder").count();
    assert_eq!(left, 4, "report, plots and lines, and nothing of the run");

    let (first, second) = (first.to_str().expect("text"), second.to_str().expect("text"));
    let rows: Value =
        serde_json::from_str(&bench(&["compare", first, second], true)).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(5 * 2 + 1));
}

#[test]
fn errors_are_counted_and_never_taken_for_work() {
    let (_stub, url) = Stub::start(50);
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("a");
    let words = ["--url", &url, "--time", "5s", "--rounds", "1", "--connections", "1"];
    let more = ["--workloads", "post", "--sizes", "64", "--out", out.to_str().expect("text")];
    let cli = Cli::try_parse_from([&["bench"], &words[..], &more].concat()).expect("options");
    let around = Surroundings { program: None, quiet: true };
    let mut text = Vec::new();
    let ended = marconi_bench::run(&cli.options, &around, false, &mut text);
    match ended {
        // The server is quick enough for a thousand errors: the run ends and says why.
        Err(error) => assert!(format!("{error:#}").contains("status 503"), "{error:#}"),
        Ok(()) => {
            let cells = lines(&out);
            let cell = cells.iter().find(|line| line["kind"] == "cell").expect("a cell");
            assert!(cell["errors"].as_u64().is_some_and(|errors| errors > 0), "{cell}");
            assert!(cell["error"].as_str().is_some_and(|text| text.contains("503")), "{cell}");
        }
    }
}

#[test]
fn a_scenario_of_ones_own_is_measured() {
    let (_stub, url) = Stub::start(0);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mine.toml");
    let scenario = "about = \"x\"\nduration_s = 0.2\nrepetitions = 2\n[queues]\ncount = 3\n\
        [prefill]\nmessages = 30\nsize_bytes = 64\n[load]\nconnections = 2\nrate_per_s = 200\n\
        [[operation]]\nkind = \"post\"\n[[operation]]\nkind = \"claim-delete\"\n";
    std::fs::write(&file, scenario).expect("writes");
    let out = folder.path().join("out");
    let (file, out_text) = (file.to_str().expect("text"), out.to_str().expect("text"));
    let text = bench(&["--url", &url, "--scenario", file, "--out", out_text], false);
    assert!(text.contains("an operation, from when it was due"), "{text}");
    let cells = lines(&out);
    let cells: Vec<&Value> = cells.iter().filter(|line| line["kind"] == "cell").collect();
    assert_eq!(cells.len(), 2);
    for cell in cells {
        assert_eq!(cell["workload"], "mine");
        assert!(cell["scenario"]["latency_us_by_request"]["post"]["count"].as_u64() > Some(0));
        let prefill = cell["scenario"]["prefill_per_s"].as_f64();
        assert!(prefill.is_some_and(|rate| rate > 0.0), "{cell}");
    }
}
