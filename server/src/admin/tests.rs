//! The admin API over a store that says what the test wants, and over a real one.

use super::*;
use crate::api::limits::Limits;
use crate::app::{App, NoObserver};
use crate::metrics::process::Process;
use crate::run::EngineCare;
use crate::shutdown::{ShutdownTrigger, shutdown};
use crate::store::EngineStore;
use http_body_util::BodyExt;
use marconi_engine::env::{Environment, ManualClock};
use marconi_engine::{ClientId, Config, Engine, NewMessage, QueueKey};
use std::path::Path;
use std::sync::Mutex;

struct Patient(Mutex<Result<(), Error>>, ShutdownTrigger);

impl Care for Patient {
    fn health(&self) -> Result<(), Error> {
        self.0.lock().expect("no panic").clone()
    }
    fn checkpoint(&self) -> Result<(), Error> {
        self.health()
    }
    fn compact(&self) -> Result<u64, Error> {
        self.health().map(|()| 5)
    }
    fn compaction(&self) -> CompactionMetrics {
        CompactionMetrics { gain_bytes: 7, gain_segments: 1, ..CompactionMetrics::default() }
    }
    fn store(&self) -> EngineMetrics {
        crate::metrics::engine::tests::sample()
    }
    fn segments(&self) -> Vec<SegmentMetrics> {
        self.store().segments
    }
    fn visit_queues(&self, _: &mut dyn FnMut(QueueGlance<'_>)) -> Result<(), Error> {
        self.health()
    }
    fn process(&self) -> ProcessMetrics {
        Process::new(Arc::default()).measure(9)
    }
    fn drain(&self) {
        self.1.trigger();
    }
}

struct World<C> {
    care: Arc<C>,
    admin: Admin<C>,
}

impl<C: Care> World<C> {
    fn new(care: C, draining: Shutdown) -> World<C> {
        let care = Arc::new(care);
        let settings = Arc::new(RwLock::new(Settings::default()));
        let admin = Admin::new(Arc::clone(&care), Arc::default(), settings, draining);
        World { care, admin }
    }

    async fn ask(&self, method: Method, target: &str) -> (u16, String) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let response = self.admin.answer(&method, path, query);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("it is whole").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    /// The document that a GET gives.
    async fn get(&self, target: &str) -> Value {
        let (status, text) = self.ask(Method::GET, target).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

/// Over a store that says what the test wants.
fn world() -> World<Patient> {
    let (trigger, draining) = shutdown();
    World::new(Patient(Mutex::new(Ok(())), trigger), draining)
}

impl World<Patient> {
    async fn health(&self) -> (u16, u16, Value) {
        let (health, text) = self.ask(Method::GET, "/health").await;
        let (ready, same) = self.ask(Method::GET, "/ready").await;
        assert_eq!(text, same);
        let document: Value = serde_json::from_str(&text).expect("JSON");
        (health, ready, document["state"].clone())
    }
}

#[tokio::test]
async fn health_tells_the_states_apart_and_ready_sends_requests_elsewhere() {
    let world = world();
    assert_eq!(world.health().await, (200, 200, json!("up")));
    *world.care.0.lock().expect("no panic") = Err(Error::Full);
    assert_eq!(world.health().await, (200, 200, json!("disk full")));
    *world.care.0.lock().expect("no panic") = Err(Error::ReadOnly("sync: EIO".into()));
    assert_eq!(world.health().await, (200, 503, json!("read only")));
    let (_, text) = world.ask(Method::GET, "/health").await;
    assert!(text.contains("sync: EIO"), "{text}");
    world.care.drain();
    assert_eq!(world.health().await, (200, 503, json!("draining")));
}

#[tokio::test]
async fn care_is_asked_for_by_post() {
    let world = world();
    let (status, text) = world.ask(Method::POST, "/compact").await;
    assert_eq!(status, 200);
    assert!(text.contains("\"freed_bytes\":5"), "{text}");
    assert_eq!(world.ask(Method::GET, "/checkpoint").await.0, 405);
    assert_eq!(world.ask(Method::GET, "/").await.0, 404);
    *world.care.0.lock().expect("no panic") = Err(Error::Closed);
    let (status, text) = world.ask(Method::POST, "/checkpoint").await;
    assert_eq!((status, text.as_str()), (503, "{\"error\":\"the engine is closed\"}\n"));
}

#[tokio::test]
async fn the_configuration_in_force_is_shown_with_its_origins() {
    let (status, text) = world().ask(Method::GET, "/config").await;
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let options = document["options"].as_array().expect("a list");
    let ttl = options.iter().find(|option| option["name"] == "max_message_ttl");
    let ttl = ttl.expect("it is an option");
    assert_eq!(ttl["value"], "14d");
    assert_eq!(ttl["origin"], "default");
}

#[test]
fn the_page_for_operators_lists_every_request() {
    let page = include_str!("../../../docs/operating.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Admin API"));
    let first_table = section.expect("a section").lines().skip_while(|line| !line.starts_with('|'));
    let rows = first_table.skip(2).take_while(|line| line.starts_with('|'));
    let requests: Vec<_> = rows
        .filter_map(|row| row.split('`').nth(1)?.split('?').next().map(ToOwned::to_owned))
        .collect();
    let known: Vec<_> =
        ACTIONS.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(requests, known);
}

#[tokio::test]
async fn a_path_may_take_two_methods_and_names_them_to_who_uses_a_third() {
    let world = world();
    let expected = json!({
        "running": false, "gain_bytes": 7, "gain_segments": 1,
        "rewritten_bytes": 0, "freed_bytes": 0,
    });
    assert_eq!(world.get("/compact").await, expected);
    let refusal = world.admin.answer(&Method::PUT, "/compact", "");
    assert_eq!(refusal.status(), 405);
    assert_eq!(refusal.headers()[ALLOW], "GET, POST");
}

#[tokio::test]
async fn draining_is_answered_and_then_told_by_health() {
    let world = world();
    let (status, text) = world.ask(Method::POST, "/drain").await;
    assert_eq!(status, 202);
    assert!(text.contains("\"state\":\"draining\""), "{text}");
    assert_eq!(world.health().await, (200, 503, json!("draining")));
}

#[tokio::test]
async fn parameters_out_of_bounds_are_refused_by_name() {
    let (status, text) = world().ask(Method::GET, "/queues?limit=5000").await;
    let refusal = "{\"error\":\"limit is \\\"5000\\\"; it has to be a number, 1 to 1000\"}\n";
    assert_eq!((status, text.as_str()), (400, refusal));
}

/// A real store.
struct Real {
    world: World<EngineCare>,
    clock: Arc<ManualClock>,
}

impl Real {
    fn open(folder: &Path) -> Real {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let config = Config {
            segment_size_bytes: 1 << 20,
            disk_reserve_bytes: 0,
            // Nothing is rewritten before the test asks for it.
            upkeep_interval_ms: 60_000,
            ..Config::new(folder.join("data"))
        };
        let env = Environment { clock: clock.clone(), ..Environment::system() };
        let store = EngineStore::open(config, env).expect("it opens");
        let app = Arc::new(App::new(store, Limits::default(), Arc::new(NoObserver)));
        let (stop, draining) = shutdown();
        let process = Process::new(Arc::default());
        let care = EngineCare { app, process, stop: Arc::new(stop) };
        Real { world: World::new(care, draining), clock }
    }

    fn engine(&self) -> &Engine {
        self.world.care.app.store().engine()
    }

    /// Posts to a queue, making it, and gives the ids.
    fn post(&self, key: &QueueKey, count: usize, body: &str) -> Vec<marconi_engine::MessageId> {
        self.engine().create_queue(key, None).expect("made").wait().expect("durable");
        let new = vec![NewMessage { ttl_s: 86_400, body: body.as_bytes() }; count];
        let posted = self.engine().post(key, ClientId(1), &new, None).expect("posted");
        posted.wait().expect("durable")
    }

    async fn names(&self, target: &str) -> (u64, Vec<String>) {
        let document = self.world.get(target).await;
        let queues = document["queues"].as_array().expect("a list").iter();
        let names = queues.map(|queue| queue["name"].as_str().expect("a name").to_owned());
        (document["total"].as_u64().expect("a number"), names.collect())
    }
}

fn key(project: Option<&str>, name: &str) -> QueueKey {
    QueueKey::new(project, name).expect("short")
}

#[tokio::test]
async fn queues_come_in_the_order_asked_for_and_no_more_than_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let real = Real::open(folder.path());
    for (place, (name, count)) in [("d", 3), ("b", 9), ("c", 1), ("a", 0)].into_iter().enumerate() {
        if place > 0 {
            real.clock.advance_ms(1000);
        }
        real.post(&key(None, name), count, "x");
    }
    real.post(&key(Some("p"), "z"), 5, "x");
    let claimed = real.engine().claim(&key(None, "b"), 60, 60, 4, None).expect("claims");
    claimed.wait().expect("durable");

    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(real.names("/queues").await, (5, names(&["b", "z", "d", "c", "a"])));
    assert_eq!(real.names("/queues?limit=2").await, (5, names(&["b", "z"])));
    assert_eq!(real.names("/queues?sort=age&limit=3").await, (5, names(&["d", "b", "c"])));
    assert_eq!(real.names("/queues?sort=name").await, (5, names(&["a", "b", "c", "d", "z"])));
    assert_eq!(real.names("/queues?project=p").await, (1, names(&["z"])));
    assert_eq!(real.names("/queues?project=&sort=name&limit=1").await, (4, names(&["a"])));

    let document = real.world.get("/queues?limit=1").await;
    let expected = json!({
        "project": null, "name": "b", "free": 5, "claimed": 4, "claims": 1, "durability": "group",
        "oldest_created_ms": 1_700_000_001_000u64, "oldest_age_ms": 2000,
        "newest_created_ms": 1_700_000_001_000u64,
    });
    assert_eq!(document["queues"][0], expected);
}

#[tokio::test]
async fn what_compaction_will_gain_is_told_and_is_what_it_gives() {
    let folder = tempfile::tempdir().expect("a folder");
    let real = Real::open(folder.path());
    let jobs = key(None, "jobs");
    let body = "x".repeat(1000);
    let ids: Vec<_> = (0..40).flat_map(|_| real.post(&jobs, 100, &body)).collect();
    // One in four lives on, so that each segment is to be rewritten.
    let dead = ids.iter().enumerate().filter(|(place, _)| place % 4 != 0);
    let dead: Vec<_> = dead.map(|(_, id)| *id).collect();
    real.engine().delete_many(&jobs, &dead, None).expect("deletes").wait().expect("durable");
    real.engine().checkpoint().expect("written");
    real.engine().prepare().expect("segments are indexed");

    let segments = real.world.get("/segments").await;
    let segments = segments["segments"].as_array().expect("a list");
    assert!(segments.len() >= 4, "{segments:?}");
    assert!(segments.iter().all(|segment| segment["created_ms"] == 1_700_000_000_000u64));
    let live: u64 = segments.iter().filter_map(|segment| segment["live_count"].as_u64()).sum();
    assert_eq!(live, 1000);

    let told = real.world.get("/compact").await;
    let told_bytes = told["gain_bytes"].as_u64().expect("a number");
    assert!(told["gain_segments"].as_u64() >= Some(3), "{told}");
    let (status, text) = real.world.ask(Method::POST, "/compact").await;
    assert_eq!(status, 200, "{text}");
    let given: Value = serde_json::from_str(&text).expect("JSON");
    let given_bytes = given["freed_bytes"].as_u64().expect("a number");
    // Frames of one message each cost more than the message's share of a batch.
    let range = told_bytes * 4 / 5..told_bytes * 5 / 4;
    assert!(range.contains(&given_bytes), "{told_bytes} were told, {given_bytes} given");

    let after = real.world.get("/compact").await;
    assert_eq!(after["running"], json!(false));
    assert_eq!(after["freed_bytes"], json!(given_bytes));
    assert!(after["rewritten_bytes"].as_u64() > Some(250_000), "{after}");
    assert!(after["gain_bytes"].as_u64() < Some(told_bytes / 4), "{after}");
}

#[tokio::test]
async fn one_document_holds_all_that_is_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let real = Real::open(folder.path());
    real.post(&key(None, "jobs"), 3, "x");
    let document = real.world.get("/stats").await;
    assert_eq!(document["state"], json!("up"));
    assert_eq!(document["version"], json!(env!("CARGO_PKG_VERSION")));
    assert!(document["uptime_ms"].is_u64(), "{document}");
    let engine = &document["engine"];
    for (name, value) in [("queues", 1), ("live_messages", 3), ("posted", 3), ("deleted", 0)] {
        assert_eq!(engine[name], json!(value), "{name} in {engine}");
    }
    assert_eq!(engine["commit_frames"]["sum"], engine["frames"]);
    assert!(engine["sync_us"]["count"].as_u64() > Some(0), "{engine}");
    assert_eq!(document["process"]["in_flight_bytes"], json!(0));
    assert_eq!(document["requests"], json!([]));
}
