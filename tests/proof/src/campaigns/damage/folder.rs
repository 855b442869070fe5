//! A small data folder that has everything in it: rewritten segments, sealed ones below the checkpoints, some that a
//! start replays, indexes, two checkpoints, claims, deletes; and all it shows. Knows nothing of harm.

use super::shown::{CLIENTS, Shown};
use anyhow::Context;
use bytes::Bytes;
use marconi_engine::env::{Environment, ManualClock};
use marconi_engine::{ClaimId, Config, Durability, Engine, MessageId, NewMessage, QueueKey};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const STARTED_MS: u64 = 1_700_000_000_000;
const QUEUES: usize = 4;
/// Nothing dies by itself.
const TTL_S: u32 = 1_000_000;
const BLOCK: usize = 4096;
/// When every folder is looked at.
const LOOKED_AT_MS: u64 = STARTED_MS + 500_000;
/// Frames that end the log of a crashed folder and that nothing proves to have been durable.
pub(super) const UNPROVED: usize = 6;

/// How the last run of the folder ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// In good order.
    Closed,
    /// By a crash, with all of the log on stable storage.
    Crashed,
}

/// A file of the folder.
#[derive(Debug)]
pub(super) struct Stored {
    /// Below the folder.
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    /// Where it is more than zeros, about.
    pub(super) meant: Vec<Range<usize>>,
}

impl Stored {
    /// Whether the two are files of one kind.
    pub(super) fn is_of_kind(&self, other: &Stored) -> bool {
        self.path.extension() == other.path.extension()
    }
}

/// A folder as it lies on the disk, and what it shows.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) ending: Ending,
    segment_size_bytes: u64,
    pub(super) files: Vec<Stored>,
    pub(super) shown: Shown,
    /// What was shown before each of the log's last frames, which nothing proves to have been durable; empty
    /// where the log ended in good order.
    pub(super) before: Vec<Shown>,
    /// Every message there ever was.
    pub(super) ever: HashMap<MessageId, Bytes>,
    /// Every claim there ever was.
    pub(super) claims: Vec<(QueueKey, ClaimId)>,
}

/// Where folders are made: in memory, where there is such a place.
pub(super) fn scratch() -> anyhow::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("marconi-damage-").tempdir_in(place).context("a folder")
}

/// The time at which every folder is looked at.
pub(super) fn world() -> Environment {
    Environment { clock: Arc::new(ManualClock::new(LOOKED_AT_MS)), ..Environment::system() }
}

/// How a folder of segments of this size is opened. Answers wait for no sync: what is synced is decided here.
fn config(folder: &Path, segment_size_bytes: u64) -> Config {
    Config {
        segment_size_bytes,
        checkpoint_interval_bytes: 1 << 30,
        disk_reserve_bytes: 0,
        upkeep_interval_ms: 60_000,
        compact_rate_bytes_per_s: u64::MAX,
        durability: Durability::Os,
        ..Config::new(folder)
    }
}

impl Image {
    /// Makes the folder and reads it back into memory.
    pub(super) fn make(ending: Ending, segment_size_bytes: u64) -> anyhow::Result<Image> {
        let place = scratch()?;
        let folder = place.path().join("data");
        let mut maker = Maker::new(&folder, segment_size_bytes);
        maker.first_runs()?;
        let before = maker.last_run(ending)?;
        let mut files = Vec::new();
        for part in ["", "log", "checkpoint"] {
            let mut paths = Vec::new();
            for entry in fs::read_dir(folder.join(part))? {
                let path = entry?.path();
                let is_of_meaning = path.extension().is_none_or(|end| end != "tmp");
                if path.is_file() && is_of_meaning && !path.ends_with("LOCK") {
                    paths.push(path);
                }
            }
            paths.sort();
            for path in paths {
                let bytes = fs::read(&path)?;
                let meant = meant(&bytes);
                files.push(Stored {
                    path: path.strip_prefix(&folder)?.to_path_buf(),
                    bytes,
                    meant,
                });
            }
        }
        // As a sound start shows it, at the time at which all are looked at.
        let engine = Engine::open_in(config(&folder, segment_size_bytes), world())?;
        let Maker { ever, claims, .. } = maker;
        let shown = Shown::by(&engine, &claims)?;
        engine.crash();
        Ok(Image { ending, segment_size_bytes, files, shown, before, ever, claims })
    }

    /// How it is opened where it was laid down.
    pub(super) fn config(&self, folder: &Path) -> Config {
        config(folder, self.segment_size_bytes)
    }

    /// Lays the folder down anew, with one file replaced.
    pub(super) fn lay(&self, folder: &Path, replaced: usize, by: &[u8]) -> anyhow::Result<()> {
        for part in ["", "log", "checkpoint"] {
            fs::create_dir(folder.join(part)).context("a folder")?;
        }
        for (number, stored) in self.files.iter().enumerate() {
            let bytes = if number == replaced { by } else { &stored.bytes };
            let mut file = fs::File::create(folder.join(&stored.path))?;
            // Zeros are left to the file system.
            file.set_len(bytes.len() as u64)?;
            for (place, block) in bytes.chunks(BLOCK).enumerate() {
                if block.iter().any(|byte| *byte != 0) {
                    file.seek(SeekFrom::Start((place * BLOCK) as u64))?;
                    file.write_all(block)?;
                }
            }
        }
        Ok(())
    }
}

/// Where bytes are more than zeros; gaps of less than a head's size belong to it.
fn meant(bytes: &[u8]) -> Vec<Range<usize>> {
    const GAP: usize = 64;
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        if *byte != 0 {
            match ranges.last_mut() {
                Some(last) if at - last.end < GAP => last.end = at + 1,
                _ => ranges.push(at..at + 1),
            }
        }
    }
    // The zeros around belong to what lies there: ends of heads, beginnings of numbers.
    for range in &mut ranges {
        range.end = (range.end + GAP).min(bytes.len());
    }
    ranges
}

#[derive(Debug)]
struct Maker {
    folder: PathBuf,
    segment_size_bytes: u64,
    clock: Arc<ManualClock>,
    posted: u64,
    living: BTreeMap<QueueKey, Vec<MessageId>>,
    ever: HashMap<MessageId, Bytes>,
    claims: Vec<(QueueKey, ClaimId)>,
}

fn key(number: usize) -> QueueKey {
    let project = if number == 0 { None } else { Some("p") };
    QueueKey::new(project, &format!("queue-{number}")).expect("it is short")
}

impl Maker {
    fn new(folder: &Path, segment_size_bytes: u64) -> Maker {
        Maker {
            folder: folder.to_path_buf(),
            segment_size_bytes,
            clock: Arc::new(ManualClock::new(STARTED_MS)),
            posted: 0,
            living: BTreeMap::new(),
            ever: HashMap::new(),
            claims: Vec::new(),
        }
    }

    fn open(&self) -> anyhow::Result<Engine> {
        self.clock.advance_ms(10_000);
        let env = Environment { clock: self.clock.clone(), ..Environment::system() };
        Ok(Engine::open_in(config(&self.folder, self.segment_size_bytes), env)?)
    }

    /// Posts a batch; bodies tell what they are, and have many sizes.
    fn post(&mut self, engine: &Engine, queue: usize, count: usize) -> anyhow::Result<()> {
        let bodies: Vec<String> = (0..count)
            .map(|_| {
                self.posted += 1;
                let long = "abcdefgh".repeat(self.posted as usize % 7);
                format!("{{\"queue\":{queue},\"number\":{},\"x\":\"{long}\"}}", self.posted)
            })
            .collect();
        let batch: Vec<NewMessage<'_>> =
            bodies.iter().map(|body| NewMessage { ttl_s: TTL_S, body: body.as_bytes() }).collect();
        let client = CLIENTS[self.posted as usize % CLIENTS.len()];
        let ids = engine.post(&key(queue), client, &batch, None)?.wait()?;
        self.ever.extend(ids.iter().copied().zip(bodies.into_iter().map(Bytes::from)));
        self.living.entry(key(queue)).or_default().extend(ids);
        Ok(())
    }

    /// Deletes what `doomed` says of the messages of a queue, by their places.
    fn delete(
        &mut self,
        engine: &Engine,
        queue: usize,
        doomed: impl Fn(usize) -> bool,
    ) -> anyhow::Result<()> {
        let living = self.living.entry(key(queue)).or_default();
        let (gone, left): (Vec<_>, Vec<_>) =
            living.drain(..).enumerate().partition(|(place, _)| doomed(*place));
        living.extend(left.into_iter().map(|(_, id)| id));
        let gone: Vec<MessageId> = gone.into_iter().map(|(_, id)| id).collect();
        Ok(engine.delete_many(&key(queue), &gone, None)?.wait()?)
    }

    fn claim(
        &mut self,
        engine: &Engine,
        queue: usize,
        ttl_s: u32,
        limit: usize,
    ) -> anyhow::Result<ClaimId> {
        let claim = engine.claim(&key(queue), ttl_s, 60, limit, None)?.wait()?;
        let id = claim.context("messages wait")?.id;
        self.claims.push((key(queue), id));
        Ok(id)
    }

    /// All that lies below the checkpoints.
    fn first_runs(&mut self) -> anyhow::Result<()> {
        // What is rewritten.
        let engine = self.open()?;
        for queue in 0..QUEUES {
            engine.create_queue(&key(queue), None)?.wait()?;
            engine.set_metadata(&key(queue), b"{\"kept\": true}", None)?.wait()?;
            self.post(&engine, queue, 6)?;
        }
        self.delete(&engine, 0, |place| place % 2 == 0)?;
        engine.close()?;
        let engine = self.open()?;
        for queue in 0..QUEUES {
            self.post(&engine, queue, 3)?;
            self.delete(&engine, queue, |place| place % 3 == 1)?;
        }
        engine.prepare()?;
        engine.close()?;
        let engine = self.open()?;
        engine.compact()?;
        // What is sealed and stays as it is; a claim and deletes among it.
        for queue in 0..QUEUES {
            self.post(&engine, queue, 2)?;
            self.post(&engine, queue, 1)?;
        }
        self.claim(&engine, 1, 10_000, 2)?;
        engine.sync()?;
        engine.crash();
        let engine = self.open()?;
        for queue in 1..QUEUES {
            self.post(&engine, queue, 2)?;
            self.delete(&engine, queue, |place| place == 4)?;
        }
        engine.sync()?;
        engine.crash();
        Ok(())
    }

    /// The checkpoints, what a start has to replay, and the end. Returns [`Image::before`].
    fn last_run(&mut self, ending: Ending) -> anyhow::Result<Vec<Shown>> {
        let engine = self.open()?;
        engine.prepare()?;
        self.post(&engine, 0, 2)?;
        let released = self.claim(&engine, 2, 20_000, 3)?;
        engine.checkpoint()?;
        engine.checkpoint()?;
        // Each frame here is proved durable by the next.
        for queue in 0..QUEUES {
            self.post(&engine, queue, 2)?;
            engine.sync()?;
        }
        let claim = self.claim(&engine, 3, 10_000, 2)?;
        engine.sync()?;
        engine.renew(&key(3), claim, 30_000, 60, None)?.wait()?;
        engine.sync()?;
        engine.release(&key(2), released, None)?.wait()?;
        engine.sync()?;
        self.delete(&engine, 0, |place| place == 1)?;
        engine.sync()?;
        self.clock.set_ms(LOOKED_AT_MS);
        let mut before = Vec::new();
        if ending == Ending::Closed {
            engine.close()?;
            return Ok(before);
        }
        // And these by nothing: they are written, and then synced together.
        for step in 0..UNPROVED {
            before.push(Shown::by(&engine, &self.claims)?);
            match step {
                0 => self.post(&engine, 0, 1)?,
                1 => self.post(&engine, 1, 2)?,
                2 => self.delete(&engine, 1, |place| place == 2)?,
                3 => engine.set_metadata(&key(2), b"{\"last\": 1}", None)?.wait()?,
                4 => self.claim(&engine, 2, 40_000, 1).map(drop)?,
                _ => self.post(&engine, 3, 1)?,
            }
        }
        engine.sync()?;
        engine.crash();
        Ok(before)
    }
}
