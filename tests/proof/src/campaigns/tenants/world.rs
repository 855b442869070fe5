//! A server without sockets over a folder of its own, whose clock the trial moves, and what its tenants have seen
//! of it. Knows no kind of call.

use super::call::Filled;
use super::view::View;
use crate::random::Random;
use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use marconi_engine::env::{Environment, ManualClock};
use marconi_engine::{Config, Durability};
use marconi_server::api::limits::Limits;
use marconi_server::app::{App, Observer, RequestDone};
use marconi_server::http::service::handle;
use marconi_server::store::EngineStore;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// 2026-01-01T00:00:00Z.
const START_MS: u64 = 1_767_225_600_000;

/// Keeps what only the log is told of a call that the store failed.
#[derive(Debug, Default)]
struct Failure(Mutex<Option<String>>);

impl Observer for Failure {
    fn request_done(&self, done: &RequestDone<'_>) {
        let told = done.error.filter(|_| done.status >= 500).map(str::to_owned);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }
}

/// See the file's first line.
pub(super) struct World {
    app: Arc<App<EngineStore>>,
    failure: Arc<Failure>,
    /// What time it is there.
    pub(super) clock: Arc<ManualClock>,
    /// What each tenant has seen.
    pub(super) views: [View; 2],
    runtime: Runtime,
    _folder: TempDir,
}

impl World {
    pub(super) fn start() -> anyhow::Result<World> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let clock = Arc::new(ManualClock::new(START_MS));
        let config = Config {
            segment_size_bytes: 1 << 20,
            disk_reserve_bytes: 0,
            // What waits for syncs is the same, and slow.
            durability: Durability::Os,
            ..Config::new(folder.path().join("data"))
        };
        let environment =
            Environment { clock: Arc::<ManualClock>::clone(&clock), ..Environment::system() };
        let store = EngineStore::open(config, environment).context("open the engine")?;
        let failure = Arc::new(Failure::default());
        let app = Arc::new(App::new(store, Limits::default(), Arc::<Failure>::clone(&failure)));
        let runtime = Builder::new_current_thread().enable_time().build().context("a runtime")?;
        Ok(World { app, failure, clock, views: Default::default(), runtime, _folder: folder })
    }

    /// Writes a checkpoint, or files anew.
    pub(super) fn tidy_up(&self, random: &mut Random) -> anyhow::Result<()> {
        let engine = self.app.store().engine();
        if random.one_in(2) {
            engine.checkpoint().context("a checkpoint")
        } else {
            engine.compact().map(drop).context("compaction")
        }
    }

    /// The whole answer to a tenant's call, each id replaced by what it names.
    pub(super) fn answer(&mut self, who: usize, call: &Filled) -> anyhow::Result<String> {
        let mut request = Request::builder().method(call.method).uri(&call.target);
        for (name, value) in &call.headers {
            request = request.header(*name, value.as_slice());
        }
        let request = request.body(Full::new(Bytes::from(call.body.clone())));
        let request = request.with_context(|| format!("a call that cannot be sent:\n{call}"))?;
        let (head, body) =
            self.runtime.block_on(handle(Arc::clone(&self.app), request)).into_parts();
        let body = self.runtime.block_on(body.collect())?.to_bytes();
        if let Some(failure) = &*self.failure.0.lock().unwrap_or_else(PoisonError::into_inner) {
            bail!("the store failed: {failure}\n{call}");
        }
        let mut text = format!("{}\n", head.status);
        for (name, value) in &head.headers {
            // It counts the requests of all.
            let value = if name == "x-request-id" { b"any" } else { value.as_bytes() };
            writeln!(text, "{name}: {}", value.escape_ascii())?;
        }
        text.push_str(&String::from_utf8_lossy(&body));
        Ok(self.views[who].plain(&text, &call.target))
    }
}
