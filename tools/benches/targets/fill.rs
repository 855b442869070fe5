//! A child process that fills a data folder through the engine, says so, and waits to be killed: what it
//! leaves is what a crash leaves.

use marconi_engine::{ClientId, Config, Durability, Engine, NewMessage, QueueKey};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Messages posted at once.
const BATCH: u64 = 100;
/// Longer than any of them lives here.
const TTL_S: u32 = 1_000_000;
/// How long it waits for its end.
const PATIENCE: Duration = Duration::from_secs(600);

/// Fills `folder` with `count` messages: `small` of 100 bytes into queue `q0`; `thirds` of 1 KiB, one
/// part into `q0`, which stays, and two into `q1`, which will be removed.
///
/// # Errors
/// When the engine refuses.
pub(crate) fn run(kind: &str, folder: &Path, count: u64) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let config =
        Config { durability: Durability::Os, disk_reserve_bytes: 0, ..Config::new(folder) };
    let engine = Engine::open(config)?;
    let keys = ["q0", "q1"].map(|name| QueueKey::new(None, name).expect("a short name"));
    for key in &keys {
        engine.create_queue(key, None)?.wait()?;
    }
    let is_thirds = kind == "thirds";
    let body = format!("\"{}\"", "x".repeat(if is_thirds { 1022 } else { 98 }));
    let batch = [NewMessage { ttl_s: TTL_S, body: body.as_bytes() }; BATCH as usize];
    for number in 0..count / BATCH {
        let key = &keys[if is_thirds { usize::from(number % 3 > 0) } else { 0 }];
        engine.post(key, ClientId(1), &batch, None)?.wait()?;
    }
    engine.sync()?;
    let mut out = std::io::stdout();
    writeln!(out, "filled")?;
    out.flush()?;
    std::thread::park_timeout(PATIENCE);
    Ok(())
}
