//! Hours of a moderate load on one server: clients over HTTP/1.1 and HTTP/2 that come and go post, claim, renew,
//! delete, release, list and count in several queues, let claims and messages run out, make queues and remove them; an
//! operator asks for checkpoints and compaction (`load.rs`). A trial is half a minute, and the server lives on from one
//! to the next, as long as the run. After each, everything listed is what was acknowledged; and what the server takes
//! must have stayed flat: memory, descriptors, threads, the least of its disk use, and latency, against that of a
//! bare request and a sync at the same time (`series.rs` says how flat). `proof run soak` draws it (`picture.rs`).
//!
//! Cannot see what grows by less than the tolerances in the hours of one run: runs add up in the ledger, servers do
//! not. A run of less than six minutes has no slope, and is only held to bounds.

mod book;
mod load;
pub mod picture;
mod series;

use crate::campaign::{Campaign, Width, none};
use crate::load::{Server, Starter};
use anyhow::Context;
use load::Clients;
use series::Series;
use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a trial is.
const TRIAL_TIME: Duration = Duration::from_secs(30);

/// See the file's first lines.
pub const CAMPAIGN: Campaign = Campaign {
    name: "soak",
    promise: "a server that works for hours takes no more memory, descriptors, threads, disk or time than in its first \
              minutes, and loses nothing",
    fault: "hours of a mixed load, with connections, queues, claims and messages that come and go",
    unit: "half minutes of load",
    in_tests: 1,
    in_ledger: 360,
    once_failed: &[],
    width: Width::One,
    trial,
    obstacle: none,
};

thread_local! {
    /// The server of this run, which ends with the thread that tries its seeds.
    static SOAK: RefCell<Option<Soak>> = const { RefCell::new(None) };
}

/// What the last run measured.
static SERIES: Mutex<Series> = Mutex::new(Series::new());

struct Soak {
    clients: Clients,
    server: Server,
    _folder: tempfile::TempDir,
}

fn trial(seed: u64) -> anyhow::Result<u64> {
    SOAK.with_borrow_mut(|soak| {
        // What was found wrong stays wrong: the next seed gets a server of its own.
        let mut running = match soak.take() {
            Some(running) => running,
            None => Soak::start()?,
        };
        let measured = running
            .clients
            .work(seed, TRIAL_TIME, &running.server)
            .with_context(|| format!("the server's log ends with\n{}", running.server.log()))?;
        let mut series = SERIES.lock().unwrap_or_else(PoisonError::into_inner);
        series.push(measured);
        series.judge()?;
        *soak = Some(running);
        Ok(1)
    })
}

impl Soak {
    fn start() -> anyhow::Result<Soak> {
        SERIES.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let folder = tempfile::tempdir().context("make a folder")?;
        let data = folder.path().join("data");
        let options = [
            "--segment-size-bytes=1MiB",
            "--checkpoint-interval-bytes=1MiB",
            // Claims and messages that run out within a trial.
            "--min-claim-ttl=1s",
            "--min-claim-grace=0",
            "--min-message-ttl=1s",
            "--max-messages-per-page=100000",
            "--disk-reserve-bytes=0",
        ];
        let options = options.map(str::to_owned).to_vec();
        let starter = Starter::new(&data, &folder.path().join("log"), options)?;
        let started = starter.start(&[])?;
        let server = started
            .map_err(|ended| anyhow::anyhow!("no start: {}\n{}", ended.status, ended.log))?;
        let clients = Clients::new(&server, data)?;
        Ok(Soak { clients, server, _folder: folder })
    }
}
