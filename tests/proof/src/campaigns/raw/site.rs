//! The server in this process that the streams are thrown at, and all that has to be right of it between them and
//! afterwards. Knows no attack.

use super::stream::Stream;
use super::talk::{self, Heard};
use crate::random::Random;
use anyhow::{Context, ensure};
use marconi_engine::env::Environment;
use marconi_engine::{Config, Durability};
use marconi_server::api::limits::Limits;
use marconi_server::app::{App, NoObserver};
use marconi_server::http::listen::{ListenOptions, ListenStats};
use marconi_server::store::EngineStore;
use marconi_tests::binary::wait_for;
use marconi_tests::client::Reply;
use marconi_tests::server::TestServer;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// A queue for posts whose framing is wrong: it has to stay empty.
pub(super) const EMPTY: &str = "empty";
/// A queue for all other posts.
pub(super) const OPEN: &str = "open";
/// How long the server waits for anything a client owes it. A stream that took less cannot have been cut for that.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// A client that needed so long to send was late: on a machine that has other things to do the server may have cut it
/// for that, and rightly so.
pub(super) const LATE: Duration = Duration::from_millis(200);
/// How often something is tried again whose client was late.
pub(super) const TRIES: usize = 50;
/// Largest body of a post.
pub(super) const BODY_SIZE_MAX: usize = 16 << 10;
/// Requests at a time on one connection of HTTP/2.
const HTTP2_STREAMS_MAX: u32 = 32;

/// See the file's first lines.
pub(super) struct Site {
    server: TestServer,
    app: Arc<App<EngineStore>>,
    stats: Arc<ListenStats>,
    runtime: Runtime,
    folder: TempDir,
    header_size_max: usize,
    /// Descriptors of the process before all of this.
    descriptors: usize,
}

/// What the clients know of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doors {
    pub(super) address: SocketAddr,
    pub(super) header_size_max: usize,
}

impl Site {
    pub(super) fn start(random: &mut Random) -> anyhow::Result<Site> {
        // The first runtime of a process opens what all of them share for ever.
        drop(Builder::new_current_thread().enable_all().build()?);
        let descriptors = descriptors()?;
        let in_memory = Path::new("/dev/shm");
        let folder =
            if in_memory.is_dir() { tempfile::tempdir_in(in_memory) } else { tempfile::tempdir() };
        let folder = folder.context("make a folder")?;
        let config = Config {
            segment_size_bytes: 1 << 20,
            disk_reserve_bytes: 0,
            durability: Durability::Os,
            ..Config::new(folder.path().join("data"))
        };
        let store = EngineStore::open(config, Environment::system()).context("open the engine")?;
        let limits = Limits {
            max_messages_post_size: BODY_SIZE_MAX,
            max_queue_metadata: BODY_SIZE_MAX,
            bytes_in_flight_max: 64 << 20,
            body_read_timeout_ms: PATIENCE.as_millis() as u64,
            ..Limits::default()
        };
        let app = Arc::new(App::new(store, limits, Arc::new(NoObserver)));
        let header_size_max = (8 << 10) << random.below(4);
        let stats = Arc::new(ListenStats::default());
        let options = ListenOptions {
            header_timeout: PATIENCE,
            idle_timeout: PATIENCE,
            header_size_max_bytes: header_size_max,
            http2_streams_max: HTTP2_STREAMS_MAX,
            stats: Arc::clone(&stats),
            ..ListenOptions::default()
        };
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let server = TestServer::start_app(runtime.handle(), Arc::clone(&app), options)?;
        let site = Site { server, app, stats, runtime, folder, header_size_max, descriptors };
        site.runtime.block_on(async {
            for queue in [EMPTY, OPEN] {
                let made = format!("PUT /v1/queues/{queue} HTTP/1.1\r\nHost: x\r\n");
                let replies = ask(site.server.address, &[made]).await?;
                // 204 where an earlier try made it, unheard.
                let is_made = matches!(replies[0].status, 201 | 204);
                ensure!(is_made, "no queue {queue}: {}", replies[0]);
            }
            anyhow::Ok(())
        })?;
        Ok(site)
    }

    pub(super) fn doors(&self) -> Doors {
        Doors { address: self.server.address, header_size_max: self.header_size_max }
    }

    /// Stops it, and looks whether anything is left.
    pub(super) fn end(self) -> anyhow::Result<()> {
        let Site { server, app, stats, runtime, folder, descriptors: before, .. } = self;
        wait_for("all connections being gone", || {
            (stats.connections_open.load(Relaxed) == 0).then_some(())
        });
        let panicked = stats.connections_panicked_count.load(Relaxed);
        ensure!(panicked == 0, "{panicked} connections panicked");
        wait_for("all bodies being gone", || (app.in_flight().get() == 0).then_some(()));
        drop(server);
        wait_for("the listener being gone", || (Arc::strong_count(&app) == 1).then_some(()));
        // A sound store closes in good order, and reads nothing of what was thrown at it as damage.
        app.store().engine().close().context("close the store")?;
        drop(app);
        drop(runtime);
        folder.close().context("remove the folder")?;
        let after = descriptors()?;
        ensure!(after <= before, "{before} descriptors were open before, {after} are now");
        Ok(())
    }
}

/// How many descriptors this process has.
fn descriptors() -> anyhow::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd").context("look at the descriptors")?.count())
}

/// Asks for the queues of a stream: what was hidden in it was not made, what was answered 201 was. That they are
/// answered at all says that the server goes on.
pub(super) async fn look_at_queues(
    doors: &Doors,
    stream: &Stream,
    heard: &Heard,
) -> anyhow::Result<()> {
    look_at(doors, stream, stream.made_for_certain(heard)).await
}

/// The same when nobody knows what was answered in time.
pub(super) async fn look_at_hidden(doors: &Doors, stream: &Stream) -> anyhow::Result<()> {
    look_at(doors, stream, 0).await
}

async fn look_at(doors: &Doors, stream: &Stream, made_count: usize) -> anyhow::Result<()> {
    let mut wanted = vec![(stream.hidden.as_str(), 404)];
    wanted.extend(stream.made.iter().take(made_count).map(|name| (name.as_str(), 204)));
    let heads: Vec<String> = wanted
        .iter()
        .map(|(name, _)| format!("GET /v1/queues/{name} HTTP/1.1\r\nHost: x\r\n"))
        .collect();
    let replies = ask(doors.address, &heads).await.context("a good client afterwards")?;
    for ((name, status), reply) in wanted.iter().zip(&replies) {
        let what = if *name == stream.hidden { "what was hidden" } else { "what was made" };
        ensure!(reply.status == *status, "{what}, queue {name}, is answered {reply}");
    }
    Ok(())
}

/// No post whose framing was wrong has stored anything.
pub(super) async fn look_at_what_is_stored(doors: &Doors) -> anyhow::Result<()> {
    let stats = format!("GET /v1/queues/{EMPTY}/stats HTTP/1.1\r\nHost: x\r\n");
    let reply = &ask(doors.address, &[stats]).await?[0];
    let is_empty = String::from_utf8_lossy(&reply.body).contains(r#""total":0"#);
    ensure!(reply.status == 200 && is_empty, "a post that was framed wrongly was stored: {reply}");
    Ok(())
}

/// Sends requests without bodies on one connection, given without the end of their heads, and waits for their answers.
async fn ask(address: SocketAddr, heads: &[String]) -> anyhow::Result<Vec<Reply>> {
    let mut text = String::new();
    for (place, head) in heads.iter().enumerate() {
        text.push_str(head);
        text.push_str(if place + 1 == heads.len() { "Connection: close\r\n\r\n" } else { "\r\n" });
    }
    let mut tries = 0;
    loop {
        let (bytes, sent_in) = talk::ask(address, text.as_bytes()).await?;
        let mut replies = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((reply, size)) = Reply::first(rest, false)? {
            replies.push(reply);
            rest = &rest[size..];
        }
        if replies.len() == heads.len() && rest.is_empty() {
            return Ok(replies);
        }
        tries += 1;
        ensure!(
            sent_in >= LATE && tries < TRIES,
            "{} answers to {} good requests:\n{}",
            replies.len(),
            heads.len(),
            super::shown(&bytes)
        );
    }
}
