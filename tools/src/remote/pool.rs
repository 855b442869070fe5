//! What becomes of a message in `marconi work`: claimed, worked off under a claim that is kept,
//! deleted or given back.
//!
//! - A message is deleted only after its command ended well, and only under its claim.
//! - A claim is for one message, so giving it back takes nothing from another command.
//! - Where nothing is free, one job looks for all.

use super::child::{Running, describe};
use super::log;
use super::work::WorkOptions;
use anyhow::Context;
use marconi_client::{Claim, ClaimOptions, Error, Message, Queue};
use std::collections::HashMap;
use std::io;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// The first pause between two looks at a queue where nothing is free, and between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two attempts while the server is away.
const OUTAGE_PAUSE_MAX: Duration = Duration::from_secs(5);
/// The longest pause a server gets by asking for it.
const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// How long a message is held after its first failure, and at most.
const FAILURE_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Messages that failed and are held, at most; a job whose message is one more waits.
const HELD_COUNT_MAX: u32 = 1000;
/// Messages whose failures are remembered, at most; then all are forgotten.
const FAILURES_COUNT_MAX: usize = 100_000;

/// How much is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    /// Nothing.
    No,
    /// The claiming; what is under way is finished.
    Finish,
    /// The commands, too.
    Kill,
}

/// What the jobs share.
pub(super) struct Pool {
    pub(super) options: WorkOptions,
    queue: Queue,
    stop: watch::Sender<Stop>,
    /// Held by the job that looks for all.
    lookout: tokio::sync::Mutex<()>,
    /// A permit for each failed message that is held.
    held: Arc<Semaphore>,
    /// How often each message failed here.
    failures: Mutex<HashMap<String, u32>>,
    done_count: AtomicU64,
    failed_count: AtomicU64,
    lost_count: AtomicU64,
}

/// How the work on a message ended.
enum Work {
    /// By itself; `is_held` says whether the claim still holds the message.
    Ended { status: ExitStatus, is_held: bool },
    /// It was killed because all is to end.
    Killed,
}

impl Pool {
    pub(super) fn new(queue: Queue, options: WorkOptions) -> Pool {
        Pool {
            options,
            queue,
            stop: watch::Sender::new(Stop::No),
            lookout: tokio::sync::Mutex::new(()),
            held: Arc::new(Semaphore::new(HELD_COUNT_MAX as usize)),
            failures: Mutex::default(),
            done_count: AtomicU64::new(0),
            failed_count: AtomicU64::new(0),
            lost_count: AtomicU64::new(0),
        }
    }

    /// Asks for an end; a stronger one stays.
    pub(super) fn stop(&self, stop: Stop) {
        self.stop.send_modify(|now| *now = stop.max(*now));
    }

    pub(super) fn stopping(&self) -> Stop {
        *self.stop.borrow()
    }

    /// How many messages were done and deleted, failed, and were done without a claim in the end.
    pub(super) fn tally(&self) -> (u64, u64, u64) {
        let [done, failed, lost] = [&self.done_count, &self.failed_count, &self.lost_count]
            .map(|count| count.load(Ordering::Relaxed));
        (done, failed, lost)
    }

    /// Works until the end is asked for.
    pub(super) async fn job(self: Arc<Self>) -> anyhow::Result<()> {
        while let Some(claim) = self.next().await? {
            self.work_off(claim).await?;
        }
        Ok(())
    }

    /// Waits until every failed message that is held was given back.
    pub(super) async fn nothing_is_held(&self) {
        // The semaphore is never closed.
        let _ = self.held.acquire_many(HELD_COUNT_MAX).await;
    }

    /// The next message under its claim; `None` once the end is asked for.
    async fn next(&self) -> anyhow::Result<Option<Claim>> {
        let options =
            ClaimOptions { ttl: self.options.ttl, grace: self.options.grace, limit: Some(1) };
        let mut is_lookout = None;
        let mut is_out = false;
        let mut pause = FIRST_PAUSE;
        while self.stopping() == Stop::No {
            let mut wait = Duration::ZERO;
            let pause_max = match self.queue.claim(&options).await {
                Ok(Some(claim)) => return Ok(Some(claim)),
                Ok(None) if self.options.exit_when_empty && self.is_empty().await => {
                    self.stop(Stop::Finish);
                    break;
                }
                Ok(None) => self.options.poll,
                // What a lost claim holds comes back when it runs out.
                Err(error) if error.is_temporary() => {
                    wait = asked_for(&error);
                    if is_lookout.is_some() && !is_out {
                        log(format_args!("{:#}; trying on", anyhow::Error::from(error)));
                        is_out = true;
                    }
                    OUTAGE_PAUSE_MAX
                }
                Err(error) => return Err(error.into()),
            };
            if is_lookout.is_none() {
                // Whoever looked until now may have found many, so the next look is at once.
                is_lookout = tokio::select! {
                    turn = self.lookout.lock() => Some(turn),
                    () = self.asked(Stop::Finish) => None,
                };
                continue;
            }
            self.pause(pause.min(pause_max).max(wait)).await;
            pause = (pause * 2).min(OUTAGE_PAUSE_MAX);
        }
        Ok(None)
    }

    /// Whether the queue has no messages any more. What cannot be asked now is not known.
    async fn is_empty(&self) -> bool {
        match self.queue.stats().await {
            Ok(stats) => stats.total == 0,
            Err(error) => matches!(error, Error::NotFound { .. }),
        }
    }

    async fn work_off(self: &Arc<Self>, claim: Claim) -> anyhow::Result<()> {
        let Some(message) = claim.messages.first() else { return Ok(()) };
        let id = &message.id;
        let variables = [
            ("MARCONI_QUEUE", self.queue.name()),
            ("MARCONI_MESSAGE_ID", id),
            ("MARCONI_CLAIM_ID", &claim.id),
        ];
        let input = self.input(message);
        let mut command = match Running::start(&self.options.command, &variables, &input) {
            Ok(command) => command,
            Err(cause) => {
                // It would be no different with the next message.
                self.give_back(&claim.id).await;
                let program = self.options.command[0].to_string_lossy();
                return Err(cause).with_context(|| format!("cannot run {program}"));
            }
        };
        match self.watch(&mut command, &claim).await.context("cannot wait for the command")? {
            Work::Killed => {
                log(format_args!("message {id}: killed; given back"));
                self.give_back(&claim.id).await;
            }
            Work::Ended { status, is_held: false } => {
                self.lost_count.fetch_add(1, Ordering::Relaxed);
                let how = describe(status);
                log(format_args!("message {id}: {how}, without a claim: it may be done again"));
            }
            Work::Ended { status, is_held: true } if status.success() => {
                self.delete(message, &claim.id).await?;
            }
            Work::Ended { status, .. } => self.fail(id, claim.id.clone(), status).await,
        }
        Ok(())
    }

    /// What the command reads.
    fn input(&self, message: &Message) -> Vec<u8> {
        let text = self.options.text.then(|| message.read::<String>().ok()).flatten();
        text.unwrap_or_else(|| message.body.get().to_owned()).into_bytes()
    }

    /// Keeps the claim until the command has ended.
    async fn watch(&self, command: &mut Running, claim: &Claim) -> io::Result<Work> {
        let mut losing = std::pin::pin!(self.lost(&claim.id));
        let mut is_held = true;
        loop {
            tokio::select! {
                status = command.ended() => {
                    return Ok(Work::Ended { status: status?, is_held });
                }
                () = &mut losing, if is_held => {
                    is_held = false;
                    let id = claim.messages.first().map_or("", |message| &message.id);
                    log(format_args!("message {id}: its claim ran out while it was worked on"));
                }
                () = self.asked(Stop::Kill) => {
                    command.kill();
                    command.ended().await?;
                    return Ok(Work::Killed);
                }
            }
        }
    }

    /// Renews a claim over and over; comes back once there is nothing to renew.
    async fn lost(&self, claim_id: &str) {
        let WorkOptions { ttl, grace, .. } = self.options;
        let mut pause = ttl / 3;
        loop {
            tokio::time::sleep(pause).await;
            pause = match self.queue.renew(claim_id, ttl, grace).await {
                Ok(()) => ttl / 3,
                Err(Error::NotFound { .. }) => return,
                // There is still time.
                Err(_) => (ttl / 10).min(OUTAGE_PAUSE_MAX),
            };
        }
    }

    /// Deletes a message that is done, however long the server is away.
    async fn delete(&self, message: &Message, claim_id: &str) -> anyhow::Result<()> {
        let id = &message.id;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.queue.delete(message).await {
                Ok(()) => {
                    self.done_count.fetch_add(1, Ordering::Relaxed);
                    self.failures().remove(id);
                    return Ok(());
                }
                Err(error) => error,
            };
            if matches!(error, Error::Claimed { .. } | Error::ClaimMismatch { .. }) {
                self.lost_count.fetch_add(1, Ordering::Relaxed);
                log(format_args!(
                    "message {id}: done, but its claim {claim_id} has run out: it may be done again"
                ));
                return Ok(());
            }
            let error = anyhow::Error::from(error).context(format!("message {id} is done"));
            if error.downcast_ref().is_none_or(|error: &Error| !error.is_temporary()) {
                return Err(error);
            }
            if self.stopping() == Stop::Kill {
                log(format_args!("{error:#}: it may be done again"));
                return Ok(());
            }
            if pause == FIRST_PAUSE {
                log(format_args!("{error:#}; trying on"));
            }
            // A stop does not cut this short: the work is not finished without it.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.asked(Stop::Kill) => {}
            }
            pause = (pause * 2).min(OUTAGE_PAUSE_MAX);
            // The claim may be old by now. Whether it is still there the deletion will tell.
            let _ = self.queue.renew(claim_id, self.options.ttl, self.options.grace).await;
        }
    }

    /// Holds a message whose command failed for a while, and then gives it back. The job is free
    /// for the next one meanwhile.
    async fn fail(self: &Arc<Self>, id: &str, claim_id: String, status: ExitStatus) {
        self.failed_count.fetch_add(1, Ordering::Relaxed);
        let count = {
            let mut failures = self.failures();
            if failures.len() >= FAILURES_COUNT_MAX {
                failures.clear();
            }
            let count = failures.entry(id.to_owned()).or_default();
            *count = count.saturating_add(1);
            *count
        };
        let pause = failure_pause(count);
        let how = describe(status);
        log(format_args!("message {id}: {how}; failed {count}×, released in {pause:?}"));
        let permit = Arc::clone(&self.held).acquire_owned().await;
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                () = pool.pause(pause) => pool.give_back(&claim_id).await,
                () = pool.lost(&claim_id) => {}
            }
        });
    }

    /// Releases a claim. Where that fails it runs out by itself.
    async fn give_back(&self, claim_id: &str) {
        if let Err(error) = self.queue.release(claim_id).await {
            log(format_args!(
                "claim {claim_id} is not released and runs out by itself: {:#}",
                anyhow::Error::from(error)
            ));
        }
    }

    /// Waits, but not longer than until the end is asked for.
    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.asked(Stop::Finish) => {}
        }
    }

    /// Comes back once this much or more is to end.
    async fn asked(&self, stop: Stop) {
        // The sender lives as long as we do.
        let _ = self.stop.subscribe().wait_for(|now| *now >= stop).await;
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        // Numbers are whole whoever panicked.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The patience a server asks for.
fn asked_for(error: &Error) -> Duration {
    match error {
        Error::Unavailable { retry_after: Some(time), .. } => (*time).min(PATIENCE_MAX),
        _ => Duration::ZERO,
    }
}

/// How long a message is held after it failed so often, from once on.
fn failure_pause(count: u32) -> Duration {
    let (first, most) = FAILURE_PAUSES;
    let factor = 1_u32.checked_shl(count.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_held_longer_each_time_up_to_a_minute() {
        for (count, expected_s) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (40, 60)] {
            assert_eq!(failure_pause(count), Duration::from_secs(expected_s), "{count}");
        }
    }
}
