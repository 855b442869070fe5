//! What an open engine consists of; shared by the verbs and the background threads. Holds the parts,
//! decides nothing.

use crate::config::Config;
use crate::domain::{Durability, QueueKey};
use crate::env::{Background, Environment};
use crate::error::{Error, Result};
use crate::files::checkpoint::CheckpointHeader;
use crate::files::format::{CHECKPOINT_FOLDER, LOG_FOLDER};
use crate::log::commit::Log;
use crate::log::segment::Segment;
use crate::metrics::Counters;
use crate::state::State;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Condvar, Instant, Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

/// Between two pieces of a segment being filled the disk has so long for other work, at most.
pub(crate) const BREATH_MAX: Duration = Duration::from_millis(1);

/// How far the log had come when it got its last segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Milestone {
    pub(crate) at: Instant,
    pub(crate) log_bytes: u64,
    pub(crate) sync_count: u64,
}

impl Milestone {
    pub(crate) fn of(core: &Core) -> Milestone {
        Milestone {
            at: Instant::now(),
            log_bytes: core.counters.log_bytes.load(Ordering::Relaxed),
            sync_count: core.counters.sync_us.count(),
        }
    }
}

/// The parts of an open engine.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) env: Environment,
    pub(crate) engine_id: u128,
    pub(crate) state: State,
    pub(crate) log: Log,
    /// Every sealed segment by number. Those still open are the log's.
    segments: Mutex<BTreeMap<u64, Arc<Segment>>>,
    /// Files that can become segments: emptied ones, and those filled in advance.
    spares: Mutex<Vec<PathBuf>>,
    /// Numbers for the names of spare files.
    pub(crate) spare_ticket: AtomicU64,
    /// How long filling a new file leaves the disk to others after each piece, in microseconds.
    pub(crate) breath_us: AtomicU64,
    /// The checkpoints kept, oldest first.
    checkpoints: Mutex<Vec<CheckpointHeader>>,
    /// The highest number that a checkpoint was ever begun under. Each is used once: a number says
    /// which segments a checkpoint can know of.
    pub(crate) last_checkpoint: AtomicU64,
    /// Checkpoints, by number, that are damaged or could not be finished, and may lie there still.
    pub(crate) stray_checkpoints: Mutex<Vec<u64>>,
    /// Held while the next segment is made ready. When the log got the last one.
    pub(crate) preparing: Mutex<Option<Milestone>>,
    /// Checkpoints and compactions take turns: a checkpoint knows either all or nothing of one.
    pub(crate) turn: Mutex<()>,
    /// Held while segments are indexed: two that index the same one would take the unfinished file
    /// away from each other. Nothing but short locks is taken while it is held.
    pub(crate) sealing: Mutex<()>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) closing: AtomicBool,
    /// Wakes the background threads before their pause is over; counts the calls.
    wake: (Mutex<u64>, Condvar),
    /// Held for as long as the folder is ours.
    pub(crate) lock: Mutex<Option<Box<dyn Debug + Send + Sync>>>,
}

impl Core {
    pub(crate) fn new(
        config: Config,
        env: Environment,
        engine_id: u128,
        state: State,
        log: Log,
        counters: Arc<Counters>,
    ) -> Core {
        Core {
            config,
            env,
            engine_id,
            state,
            log,
            segments: Mutex::default(),
            spares: Mutex::default(),
            breath_us: AtomicU64::new(BREATH_MAX.as_micros() as u64),
            spare_ticket: AtomicU64::new(0),
            checkpoints: Mutex::default(),
            last_checkpoint: AtomicU64::new(0),
            stray_checkpoints: Mutex::default(),
            preparing: Mutex::default(),
            turn: Mutex::default(),
            sealing: Mutex::default(),
            counters,
            closing: AtomicBool::new(false),
            wake: Default::default(),
            lock: Mutex::default(),
        }
    }

    pub(crate) fn log_folder(&self) -> PathBuf {
        self.config.folder.join(LOG_FOLDER)
    }

    pub(crate) fn checkpoint_folder(&self) -> PathBuf {
        self.config.folder.join(CHECKPOINT_FOLDER)
    }

    pub(crate) fn spares(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.spares.lock().expect("no code panics while it holds the spares")
    }

    pub(crate) fn strays(&self) -> MutexGuard<'_, Vec<u64>> {
        self.stray_checkpoints.lock().expect("no code panics while it holds the strays")
    }

    /// Checkpoints and compaction end with the log: once it failed, nothing on disk is moved about.
    pub(crate) fn check_writable(&self) -> Result<()> {
        let failure = self.log.watermarks().failure();
        failure.map_or(Ok(()), |why| Err(Error::ReadOnly(why.clone())))
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.env.clock.now_ms()
    }

    /// Whether the caller does the work of the background: nobody is waited for, and nobody to make way for.
    pub(crate) fn is_by_hand(&self) -> bool {
        self.env.background == Background::Caller
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn segments(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        self.segments.lock().expect("no code panics while it holds the segments")
    }

    pub(crate) fn checkpoints(&self) -> MutexGuard<'_, Vec<CheckpointHeader>> {
        self.checkpoints.lock().expect("no code panics while it holds the checkpoints")
    }

    /// The durability of a write to a queue that may not exist.
    pub(crate) fn durability_of(&self, key: &QueueKey, ask: Option<Durability>) -> Durability {
        let known = self.state.lock(key).get(key).map(|queue| queue.demand(ask));
        known.unwrap_or_else(|| {
            let default = self.config.durability_of(key);
            ask.map_or(default, |ask| ask.max(default))
        })
    }

    /// Wakes the background threads.
    pub(crate) fn wake_upkeep(&self) {
        *self.wake.0.lock().expect("no code panics while it holds the bell") += 1;
        self.wake.1.notify_all();
    }

    /// Pauses a background thread, until it is woken or `most` is over. `heard` is what the last
    /// call returned.
    pub(crate) fn pause(&self, heard: u64, most: Duration) -> u64 {
        let calls = self.wake.0.lock().expect("no code panics while it holds the bell");
        let silent = |calls: &mut u64| *calls == heard && !self.is_closing();
        let waited = self.wake.1.wait_timeout_while(calls, most, silent);
        *waited.expect("no code panics while it holds the bell").0
    }
}
