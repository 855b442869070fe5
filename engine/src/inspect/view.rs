//! The state of a folder as a server would see it, read without starting one. Knows how the state is
//! looked at; knows no byte layouts and writes nothing.

use super::build::{ClaimImage, LifeImage, QueueImage};
use crate::config::Config;
use crate::domain::{
    ClaimId, ClientId, Durability, Lsn, MessageId, QueueId, QueueKey, QueueStats, Seq,
};
use crate::env::Environment;
use crate::error::{Error, Result};
use crate::files::checkpoint::Checkpoint;
use crate::files::format::{self, CHECKPOINT_FOLDER, LOCK_FILE, VERSION};
use crate::log::segment::Segment;
use crate::log::stored::Stored;
use crate::state::queue::{Located, Queue, Read};
use crate::state::ranges::Walk;
use crate::upkeep::compact;
use crate::upkeep::recover::{self, Look};
use bytes::Bytes;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder's state at one moment, in memory: queues, claims, and where messages lie. Bodies are read
/// when they are asked for.
pub struct View {
    folder: PathBuf,
    env: Environment,
    look: Look,
    holder: Option<String>,
    now_ms: u64,
}

/// A folder in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The version of its format.
    pub format_version: u32,
    /// Its own random number.
    pub engine_id: u128,
    /// When it was made.
    pub created_ms: u64,
    /// The moment of which all this is true.
    pub now_ms: u64,
    /// The process that has it open, by its id, if one has.
    pub holder: Option<String>,
    /// The segments of the log, by number.
    pub segments: Vec<SegmentSummary>,
    /// The checkpoints, oldest first, damaged ones included.
    pub checkpoints: Vec<CheckpointSummary>,
    /// Queues.
    pub queues: u64,
    /// Messages that a claim could take.
    pub waiting: u64,
    /// Messages under a claim.
    pub claimed: u64,
    /// Messages that take room and live no more.
    pub dead: u64,
    /// Claims.
    pub claims: u64,
    /// Behind the last whole frame.
    pub end: Lsn,
    /// Bytes of log that a start would read behind the checkpoint.
    pub replay_bytes: u64,
    /// Frames in them.
    pub replay_frames: u64,
    /// Milliseconds that reading all this took, which is what a start does first.
    pub restart_ms: u64,
    /// Whether the last run ended in good order. Meaningless while one is running.
    pub was_clean: bool,
    /// Bytes of the log and its indexes.
    pub disk_bytes: u64,
    /// What of them keeping the living messages costs.
    pub live_bytes: u64,
    /// What a compaction now would give back, about.
    pub reclaimable_bytes: u64,
}

/// A segment in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Its number.
    pub number: u64,
    /// The last number it stands for.
    pub last_number: u64,
    /// How often it was rewritten.
    pub generation: u64,
    /// Its file.
    pub file: PathBuf,
    /// The first LSN it stands for.
    pub base: Lsn,
    /// How many LSNs it stands for.
    pub span: u64,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of its index; 0 where there is none.
    pub index_size: u64,
    /// Messages in it, dead ones included.
    pub messages: u64,
    /// Messages that live in it.
    pub live_messages: u64,
    /// What keeping those costs on disk.
    pub live_bytes: u64,
    /// When it was made.
    pub created_ms: u64,
    /// What a compaction would give back of it, about.
    pub reclaimable_bytes: u64,
    /// Frames are still added, or would be had the run not ended.
    pub is_active: bool,
}

/// A checkpoint in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointSummary {
    /// Its number.
    pub number: u64,
    /// The log is replayed from here.
    pub lsn: Lsn,
    /// When it was begun.
    pub created_ms: u64,
    /// Bytes of the file.
    pub size: u64,
    /// The log ended here in good order.
    pub clean: bool,
    /// Why it cannot be used, if it cannot.
    pub fault: Option<String>,
}

/// A queue in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSummary {
    /// Its key.
    pub key: QueueKey,
    /// Its id.
    pub id: QueueId,
    /// Its metadata; empty when none was set.
    pub metadata: Bytes,
    /// Its durability floor.
    pub floor: Option<Durability>,
    /// The number of the next message.
    pub next_seq: Seq,
    /// Messages that a claim could take.
    pub waiting: u64,
    /// Messages under a claim.
    pub claimed: u64,
    /// Claims.
    pub claims: u64,
    /// When the oldest living message was posted; `None` without any, or where it cannot be read.
    pub oldest_ms: Option<u64>,
    /// When the newest living message was posted.
    pub newest_ms: Option<u64>,
}

/// A claim in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimSummary {
    /// Its queue.
    pub key: QueueKey,
    /// Its id.
    pub id: ClaimId,
    /// When it was made or last renewed.
    pub renewed_ms: u64,
    /// Seconds it lives from then.
    pub ttl_s: u32,
    /// Seconds by which its messages outlive it.
    pub grace_s: u32,
    /// When it ends.
    pub ends_ms: u64,
    /// What it holds.
    pub messages: Vec<MessageId>,
}

/// A living message.
#[derive(Debug, Clone)]
pub struct ViewMessage {
    /// Its id.
    pub id: MessageId,
    /// When it dies.
    pub expires_ms: u64,
    /// The claim that holds it.
    pub claim: Option<ClaimId>,
    located: Located,
}

/// What a message says.
#[derive(Debug, Clone)]
pub struct ViewContent {
    /// When it was posted.
    pub created_ms: u64,
    /// Seconds to live, as posted.
    pub posted_ttl_s: u32,
    /// The ttl it shows: as posted, or as a claim extended it.
    pub ttl_s: u32,
    /// Who posted it.
    pub client: ClientId,
    /// Its body.
    pub body: Bytes,
}

impl ViewMessage {
    /// The number of its segment.
    pub fn segment(&self) -> u64 {
        self.located.segment.number()
    }

    /// Where in its segment it begins: its frame, where that is its own, else its record.
    pub fn position(&self) -> u32 {
        self.located.entry.at().position()
    }

    /// What it says, read now and checked.
    ///
    /// # Errors
    /// `Damaged`, also where a running engine gave the segment another use meanwhile; `Io`.
    pub fn read(&self) -> Result<ViewContent> {
        let Read { stored, created_ms, ttl_s } = self.located.read(self.id.queue)?;
        let Stored { ttl_s: posted_ttl_s, client, body, .. } = stored;
        Ok(ViewContent { created_ms, posted_ttl_s, ttl_s, client, body })
    }
}

impl View {
    /// Reads a folder.
    ///
    /// # Errors
    /// Those with which a start would refuse it, but that it is in use.
    pub fn open(folder: &Path) -> Result<View> {
        View::open_in(folder, super::world(folder))
    }

    /// As [`View::open`], in a world of your own.
    ///
    /// # Errors
    /// As [`View::open`].
    pub fn open_in(folder: &Path, env: Environment) -> Result<View> {
        let config = Config::new(folder);
        let holder = holder(folder, &env)?;
        let mut looks = 0;
        let look = loop {
            looks += 1;
            match recover::look(&config, &env) {
                Ok(look) => break look,
                // What was taken away meanwhile looks like damage.
                Err(error) if holder.is_none() || looks == recover::LOOKS_MAX => return Err(error),
                Err(_) => {}
            }
        };
        let env = env.no_earlier_than(look.latest_ms);
        let now_ms = env.clock.now_ms();
        Ok(View { folder: folder.to_path_buf(), env, look, holder, now_ms })
    }

    /// Behind the last whole frame.
    pub fn end(&self) -> Lsn {
        self.look.tail.end
    }

    /// The moment of which the view is true.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The folder in figures.
    ///
    /// # Errors
    /// `Damaged` when an index cannot be read.
    pub fn summary(&self) -> Result<Summary> {
        let (mut waiting, mut claimed, mut claims) = (0, 0, 0);
        self.visit(|queue, stats| {
            waiting += stats.free;
            claimed += stats.claimed;
            claims += queue.claims().map_or(0, |claims| claims.len() as u64);
        })?;
        let segments: Vec<SegmentSummary> =
            self.look.tail.segments.iter().map(|segment| self.segment(segment)).collect();
        let sum = |of: fn(&SegmentSummary) -> u64| segments.iter().map(of).sum::<u64>();
        let messages = sum(|segment| segment.messages);
        Ok(Summary {
            format_version: VERSION,
            engine_id: self.look.header.engine_id,
            created_ms: self.look.header.created_ms,
            now_ms: self.now_ms,
            holder: self.holder.clone(),
            checkpoints: self.checkpoints()?,
            queues: self.look.report.queues,
            waiting,
            claimed,
            dead: messages.saturating_sub(waiting + claimed),
            claims,
            end: self.end(),
            replay_bytes: self.look.report.replayed_bytes,
            replay_frames: self.look.report.replayed_frames,
            restart_ms: self.look.report.duration_ms,
            was_clean: self.look.report.was_clean,
            disk_bytes: sum(|segment| segment.size + segment.index_size),
            live_bytes: sum(|segment| segment.live_bytes),
            reclaimable_bytes: sum(|segment| segment.reclaimable_bytes),
            segments,
        })
    }

    fn segment(&self, segment: &Arc<Segment>) -> SegmentSummary {
        let header = segment.header;
        let indexed = segment
            .index()
            .map(|index| (0..index.run_count()).map(|run| index.run(run).count).sum());
        let scanned = || self.look.tail.scanned.get(&header.number).copied().unwrap_or(0);
        let is_active = self.look.tail.torn.is_some()
            && self.look.tail.segments.last().is_some_and(|last| Arc::ptr_eq(last, segment));
        SegmentSummary {
            number: header.number,
            last_number: header.last_number,
            generation: header.generation,
            file: segment.path.clone(),
            base: header.base,
            span: header.span,
            size: segment.size(),
            index_size: segment.disk_size() - segment.size(),
            messages: indexed.map_or_else(scanned, |count: u32| u64::from(count)),
            live_messages: segment.live_count(),
            // A message in a frame of its own costs more than many in one.
            live_bytes: segment.live_cost().min(segment.disk_size()),
            created_ms: header.created_ms,
            reclaimable_bytes: if is_active { 0 } else { compact::gain(segment) },
            is_active,
        }
    }

    fn checkpoints(&self) -> Result<Vec<CheckpointSummary>> {
        let folder = self.folder.join(CHECKPOINT_FOLDER);
        let disk = &*self.env.disk;
        let names =
            disk.list(&folder).map_err(|cause| Error::io("reading", folder.as_path(), cause))?;
        let mut numbers: Vec<u64> =
            names.iter().filter_map(|name| format::checkpoint_number(name)).collect();
        numbers.sort_unstable();
        let summaries = numbers.into_iter().map(|number| {
            let file = Checkpoint::open(disk, &folder.join(format::checkpoint_name(number)));
            let (header, fault) = match file {
                Ok(file) => (Some(file.header), None),
                Err(why) => (None, Some(why)),
            };
            CheckpointSummary {
                number,
                lsn: header.map_or(Lsn(0), |header| header.lsn),
                created_ms: header.map_or(0, |header| header.created_ms),
                size: header.map_or(0, |header| header.size),
                clean: header.is_some_and(|header| header.clean),
                fault,
            }
        });
        Ok(summaries.collect())
    }

    /// Looks at every queue, with its exact counts.
    fn visit(&self, mut look: impl FnMut(&mut Queue, QueueStats)) -> Result<()> {
        let mut failed = None;
        self.look.state.visit_all(|queue| match self.count(queue) {
            Ok(stats) => look(queue, stats),
            Err(error) => failed = Some(error),
        });
        failed.map_or(Ok(()), Err)
    }

    fn count(&self, queue: &mut Queue) -> Result<QueueStats> {
        queue.expire(self.now_ms, self.now_ms)?;
        // Where the oldest message cannot be read, all else is to be seen still.
        let ends = queue.ends(self.now_ms).unwrap_or(None);
        Ok(QueueStats { ends, ..queue.counts() })
    }

    /// All queues, sorted by key.
    ///
    /// # Errors
    /// `Damaged` when an index cannot be read.
    pub fn queues(&self) -> Result<Vec<QueueSummary>> {
        let mut queues = Vec::new();
        self.visit(|queue, stats| queues.push(summary(queue, &stats)))?;
        queues.sort_by(|one, next| one.key.cmp(&next.key));
        Ok(queues)
    }

    /// One queue.
    ///
    /// # Errors
    /// `Damaged` when an index cannot be read.
    pub fn queue(&self, key: &QueueKey) -> Result<Option<QueueSummary>> {
        let mut shard = self.look.state.lock(key);
        let Some(queue) = shard.get(key) else { return Ok(None) };
        let stats = self.count(queue)?;
        Ok(Some(summary(queue, &stats)))
    }

    /// Visits a queue's living messages in their order, from number `from` on. Without the queue there
    /// are none.
    ///
    /// # Errors
    /// `Damaged` when an index cannot be read.
    pub fn messages(
        &self,
        key: &QueueKey,
        from: Seq,
        visit: &mut dyn FnMut(ViewMessage) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut shard = self.look.state.lock(key);
        let Some(queue) = shard.get(key) else { return Ok(()) };
        let id = queue.id;
        queue.visit(from, self.now_ms, |located, expires_ms| {
            let id = MessageId { queue: id, seq: located.seq };
            let message = ViewMessage { id, expires_ms, claim: located.claim, located };
            if visit(message).is_continue() { Walk::On } else { Walk::Stop }
        })
    }

    /// The claims of one queue, or of all.
    ///
    /// # Errors
    /// `Damaged` when an index cannot be read.
    pub fn claims(&self, of: Option<&QueueKey>) -> Result<Vec<ClaimSummary>> {
        let mut found = Vec::new();
        self.visit(|queue, _| {
            if of.is_none_or(|key| *key == queue.key) {
                found.extend(claim_summaries(queue));
            }
        })?;
        found.sort_by(|one, next| (&one.key, one.id).cmp(&(&next.key, next.id)));
        Ok(found)
    }

    /// All of a queue but its messages, to be built again elsewhere.
    ///
    /// # Errors
    /// `Damaged` when an index cannot be read.
    pub fn image(&self, key: &QueueKey) -> Result<Option<QueueImage>> {
        let mut shard = self.look.state.lock(key);
        let Some(queue) = shard.get(key) else { return Ok(None) };
        self.count(queue)?;
        let claims = queue.claims();
        Ok(Some(QueueImage {
            key: queue.key.clone(),
            id: queue.id,
            metadata: Bytes::copy_from_slice(&queue.metadata),
            floor: queue.floor,
            next_seq: queue.next_seq,
            cursor: queue.cursor,
            claims: claims.map_or_else(Vec::new, |claims| {
                let images = claims.iter().map(|(id, claim)| ClaimImage {
                    id,
                    renewed_ms: claim.renewed_ms,
                    ttl_s: claim.ttl_s,
                    grace_s: claim.grace_s,
                    seqs: claim.seqs.clone(),
                });
                images.collect()
            }),
            returned: claims.map_or_else(Vec::new, |claims| {
                claims.returned().map(|(first, last)| (Seq(first), Seq(last))).collect()
            }),
            lives: claims.map_or_else(Vec::new, |claims| {
                let lives = claims.lives().map(|(seq, life)| LifeImage {
                    seq,
                    expires_ms: life.expires_ms,
                    ttl_s: life.ttl_s,
                });
                lives.collect()
            }),
        }))
    }
}

/// The process that has the folder open.
pub(super) fn holder(folder: &Path, env: &Environment) -> Result<Option<String>> {
    let lock = folder.join(LOCK_FILE);
    env.disk.lock_holder(&lock).map_err(|cause| Error::io("reading", lock, cause))
}

/// A moment as a part of a file's name.
pub(super) fn stamp(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| ms.to_string(), |at| at.strftime("%Y%m%dT%H%M%SZ").to_string())
}

fn summary(queue: &Queue, stats: &QueueStats) -> QueueSummary {
    let ends = stats.ends.as_ref();
    QueueSummary {
        key: queue.key.clone(),
        id: queue.id,
        metadata: Bytes::copy_from_slice(&queue.metadata),
        floor: queue.floor,
        next_seq: queue.next_seq,
        waiting: stats.free,
        claimed: stats.claimed,
        claims: queue.claims().map_or(0, |claims| claims.len() as u64),
        oldest_ms: ends.map(|(oldest, _)| oldest.created_ms),
        newest_ms: ends.map(|(_, newest)| newest.created_ms),
    }
}

fn claim_summaries(queue: &Queue) -> Vec<ClaimSummary> {
    let Some(claims) = queue.claims() else { return Vec::new() };
    let summaries = claims.iter().map(|(id, claim)| ClaimSummary {
        key: queue.key.clone(),
        id,
        renewed_ms: claim.renewed_ms,
        ttl_s: claim.ttl_s,
        grace_s: claim.grace_s,
        ends_ms: claim.ends_ms(),
        messages: claim.seqs.iter().map(|seq| MessageId { queue: queue.id, seq: *seq }).collect(),
    });
    summaries.collect()
}
