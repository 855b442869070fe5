//! A queue inside another program: thumbnails are made by two threads, after a third took some and
//! was never heard of again; nothing is lost, and what was posted outlives a restart.
//!
//! ```text
//! cargo run --release -p marconi-engine --example embed
//! ```

use marconi_engine::{Claim, ClientId, Config, Engine, NewMessage, QueueKey, Result};
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Who posts: any number that tells one poster from another.
const UPLOADS: ClientId = ClientId(1);
/// A worker has so long, in seconds.
const CLAIM_TTL_S: u32 = 1;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("queue");
    let jobs = QueueKey::new(None, "thumbnails").expect("a short name");

    println!("Posting 100 pictures, on stable storage once `wait` returns.");
    let engine = Engine::open(Config::new(&data))?;
    engine.create_queue(&jobs, None)?.wait()?;
    let names: Vec<String> = (0..100).map(|number| format!("picture-{number}.png")).collect();
    let batch: Vec<NewMessage<'_>> =
        names.iter().map(|name| NewMessage { ttl_s: 3600, body: name.as_bytes() }).collect();
    engine.post(&jobs, UPLOADS, &batch, None)?.wait()?;
    engine.close()?;

    let engine = Engine::open(Config::new(&data))?;
    println!("Closed and opened again: {} wait.", engine.stats(&jobs)?.wait()?.free);
    let lost = claim(&engine, &jobs, 10)?.expect("a hundred wait");
    println!("One worker took {} and is never heard of again.", lost.messages.len());

    let done = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(|| work(&engine, &jobs, &done))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;
    let done = done.into_inner().expect("no worker panics");
    assert_eq!(done.len(), names.len(), "every picture, also those of the lost worker");
    println!("{} thumbnails made: the lost worker's came back when its time was over.", done.len());
    engine.close()?;
    Ok(())
}

fn claim(engine: &Engine, jobs: &QueueKey, limit: usize) -> Result<Option<Claim>> {
    engine.claim(jobs, CLAIM_TTL_S, CLAIM_TTL_S, limit, None)?.wait()
}

/// Claims, works, deletes, until nothing is left.
fn work(engine: &Engine, jobs: &QueueKey, done: &Mutex<BTreeSet<String>>) -> Result<()> {
    loop {
        let Some(claim) = claim(engine, jobs, 5)? else {
            // Nothing is free: either all is done, or somebody still holds some.
            let left = engine.stats(jobs)?.wait()?;
            if left.free + left.claimed == 0 {
                return Ok(());
            }
            std::thread::yield_now();
            continue;
        };
        for message in &claim.messages {
            let name = String::from_utf8_lossy(&message.body()?).into_owned();
            done.lock().expect("no worker panics").insert(name);
            // Waits for a sync, which it shares with whoever else waits at the moment.
            engine.delete(jobs, message.id, Some(Some(claim.id)), None)?.wait()?;
        }
    }
}
