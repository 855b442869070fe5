//! The work that nobody asked for by name: two background threads, and opening.
//!
//! * `marconi-prepare` keeps the log in segments: makes the next one ready, indexes the full ones, and looks at what
//!   room that left. Writers wait for it, so it does nothing else.
//! * `marconi-upkeep` notices what expired, writes checkpoints, gives space back, watches the disk.

pub(crate) mod checkpoint;
pub(crate) mod compact;
mod known;
pub(crate) mod lenience;
mod misnamed;
pub(crate) mod recover;
pub(crate) mod replay;
pub(crate) mod salvage;
pub(crate) mod segment_writer;
pub(crate) mod segments;
pub(crate) mod survey;
mod sweep;
#[cfg(test)]
mod tests;
pub(crate) mod whole;

use crate::core::Core;
use crate::env::Background;
use crate::error::Result;
use crate::sync::atomic::Ordering;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The background threads.
#[derive(Debug)]
pub(crate) struct Upkeep {
    threads: Vec<JoinHandle<()>>,
    /// What the second thread would know, where the caller does its work.
    rounds: Mutex<Rounds>,
}

impl Upkeep {
    pub(crate) fn start(core: &Arc<Core>) -> Upkeep {
        if core.env.background == Background::Caller {
            return Upkeep { threads: Vec::new(), rounds: Mutex::default() };
        }
        let prepare = spawn("marconi-prepare", core, (), |core, ()| segments::round(core));
        let upkeep = spawn("marconi-upkeep", core, Rounds::default(), |core, job| job.round(core));
        Upkeep { threads: vec![prepare, upkeep], rounds: Mutex::default() }
    }

    /// One round of `marconi-upkeep`, on this thread.
    pub(crate) fn round(&self, core: &Core) -> Result<()> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner).round(core)
    }

    /// Ends both, after the work in hand.
    pub(crate) fn stop(self, core: &Core) {
        core.closing.store(true, Ordering::Release);
        core.wake_upkeep();
        for thread in self.threads {
            if thread.join().is_err() {
                core.log.watermarks().fail("a background thread panicked");
            }
        }
    }
}

fn spawn<J: Send + 'static>(
    name: &str,
    core: &Arc<Core>,
    mut job: J,
    round: impl Fn(&Core, &mut J) -> Result<()> + Send + 'static,
) -> JoinHandle<()> {
    let core = core.clone();
    let work = move || {
        /// A panic here must not go unnoticed: without upkeep the engine would fill the disk.
        struct OnPanic(Arc<Core>);
        impl Drop for OnPanic {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.log.watermarks().fail("a background thread panicked");
                }
            }
        }
        crate::env::give_way();
        let guard = OnPanic(core);
        let pause = Duration::from_millis(guard.0.config.upkeep_interval_ms);
        let mut heard = 0;
        let mut complained = None;
        while !guard.0.is_closing() {
            match round(&guard.0, &mut job) {
                Ok(()) => complained = None,
                // Said once, not every round.
                Err(error) => {
                    let text = error.to_string();
                    if complained.as_ref() != Some(&text) {
                        tracing::warn!(error = %text, "upkeep could not finish its round");
                        complained = Some(text);
                    }
                }
            }
            heard = guard.0.pause(heard, pause);
        }
    };
    thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .expect("a thread can be started while the engine opens")
}

/// The rounds of `marconi-upkeep`.
#[derive(Debug, Default)]
struct Rounds {
    sweep: sweep::Sweep,
    checkpoints: checkpoint::Schedule,
}

impl Rounds {
    fn round(&mut self, core: &Core) -> Result<()> {
        watch_disk(core);
        // Each does its work whatever became of the others: a damaged index must not keep space from
        // being given back elsewhere, and what is given back may be the room a checkpoint needs.
        let sweep = self.sweep.round(core);
        let due = self.checkpoints.is_due(core);
        let checkpoint = if due { checkpoint::write(core, false).map(|_| ()) } else { Ok(()) };
        let compact = compact::round(core).map(|_| ());
        sweep.and(checkpoint).and(compact)
    }
}

/// Stops posting when the disk has less free than the reserve, and resumes when it has more again.
fn watch_disk(core: &Core) {
    let reserve = core.config.disk_reserve_bytes;
    // A disk that cannot say has room until a write fails.
    let ask = || core.env.disk.free_bytes(&core.config.folder).unwrap_or(u64::MAX);
    let mut free = ask();
    let kept = core.spares().len() as u64 * core.config.segment_size_bytes;
    if free < reserve && reserve - free <= kept {
        // Room that is kept for segments to come must not be what keeps them from coming.
        for spare in core.spares().drain(..) {
            let _ = core.env.disk.remove(&spare);
        }
        free = ask();
    }
    let stopped = core.log.is_posting_stopped();
    if !stopped && free < reserve {
        tracing::warn!(free, reserve, "the disk is nearly full: posting stops until there is room");
        core.log.stop_posting(true);
    } else if stopped && free >= reserve && core.log.wants_next().is_none() {
        tracing::info!(free, "the disk has room again: posting resumes");
        core.log.stop_posting(false);
    }
}
