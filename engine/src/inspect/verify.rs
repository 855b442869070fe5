//! Checks all of a folder: every checksum, every index against its segment, the newest checkpoint
//! against a replay from the older one, every count against a recount. Writes nothing.

use super::view;
use crate::config::Config;
use crate::domain::{QueueId, QueueKey, Seq};
use crate::env::Environment;
use crate::error::{Error, Result};
use crate::fault::{Fault, FaultKind, LostKind, Severity};
use crate::files::checkpoint::{Checkpoint, CheckpointHeader};
use crate::files::format::{self, CHECKPOINT_FOLDER, FORMAT_FILE, LOG_FOLDER};
use crate::progress::Progress;
use crate::state::State;
use crate::state::queue::Queue;
use crate::state::ranges::Walk;
use crate::upkeep::recover::{self, Look};
use crate::upkeep::replay::Until;
use crate::upkeep::salvage::{self, Salvaged};
use crate::upkeep::survey::Access;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Both states of a comparison are asked at this time behind the checkpoint, or now where that is later:
/// what time did to one of them it has then done to the other.
const SETTLED_MS: u64 = 600_000;
/// Beside a running engine a comparison is tried so often.
const COMPARES_MAX: usize = 3;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// The process that had the folder open meanwhile.
    pub holder: Option<String>,
    /// Files read.
    pub files: u64,
    /// Bytes of segments and checkpoints read.
    pub bytes: u64,
    /// Frames checked.
    pub frames: u64,
    /// Messages checked, those that live no more included.
    pub messages: u64,
    /// Indexes held against their segments.
    pub indexes: u64,
    /// Checkpoints read.
    pub checkpoints: u64,
    /// Whether the newest checkpoint could be held against a replay; it takes two.
    pub compared: bool,
}

impl Verification {
    /// The worst of it.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

/// Something that is wrong, as people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of wrong; [`FaultKind::name`] is for programs.
    pub kind: FaultKind,
    /// In which file.
    pub file: PathBuf,
    /// Where in it, if at one place.
    pub offset: Option<u64>,
    /// What was found.
    pub what: String,
    /// What it means for those who use the folder.
    pub meaning: &'static str,
    /// What to do.
    pub next_step: &'static str,
    /// What is lost by it, as far as that can be told.
    pub lost: Vec<LostItem>,
}

/// Something that is lost, with the name of its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostItem {
    /// What it is.
    pub what: LostKind,
    /// The queue's id, if it can be told.
    pub queue: Option<QueueId>,
    /// The queue's key, if that is known.
    pub key: Option<QueueKey>,
    /// The first message.
    pub first: Option<Seq>,
    /// How many messages, records or bytes; 0 where nobody knows.
    pub count: u64,
    /// What can be said of it besides.
    pub note: String,
}

/// The faults as people are told, the worst first.
pub(super) fn findings(faults: &[Fault], state: &State) -> Vec<Finding> {
    let mut findings: Vec<Finding> = faults
        .iter()
        .map(|fault| Finding {
            severity: fault.kind.severity(),
            kind: fault.kind,
            file: fault.file.clone(),
            offset: fault.offset,
            what: fault.what.clone(),
            meaning: fault.kind.meaning(),
            next_step: fault.kind.next_step(),
            lost: fault
                .lost
                .iter()
                .map(|lost| LostItem {
                    what: lost.what,
                    queue: lost.queue,
                    key: lost.queue.and_then(|id| state.key_of(id)),
                    first: lost.first,
                    count: lost.count,
                    note: lost.note.clone(),
                })
                .collect(),
        })
        .collect();
    findings.sort_by(|one, next| {
        let order = |finding: &Finding| (std::cmp::Reverse(finding.severity), finding.file.clone());
        order(one).cmp(&order(next)).then(one.offset.cmp(&next.offset))
    });
    findings
}

/// Checks a folder, beside the engine that has it open or not.
///
/// # Errors
/// When it could not be checked: `Folder` when it is none of ours, `Io`.
pub fn verify(folder: &Path, progress: &mut dyn Progress) -> Result<Verification> {
    verify_in(folder, &super::world(folder), progress)
}

/// As [`verify`], in a world of your own.
///
/// # Errors
/// As [`verify`].
pub fn verify_in(
    folder: &Path,
    env: &Environment,
    progress: &mut dyn Progress,
) -> Result<Verification> {
    let config = Config::new(folder);
    let holder = view::holder(folder, env)?;
    let salvaged = match salvage::read(&config, env, Access::Read, progress) {
        Ok(salvaged) => salvaged,
        Err(Error::OtherVersion { what, .. }) => {
            return Ok(other_version(folder, holder, what));
        }
        Err(error) => return Err(error),
    };
    let Salvaged { look, mut faults, counts, .. } = salvaged;
    recount(&look, folder, &mut faults);
    let is_sound = faults.iter().all(|fault| fault.kind.severity() < Severity::Warning);
    let mut compared = false;
    if is_sound && let [older, newer] = look.checkpoints[..] {
        progress.begin("comparing the checkpoints", 0);
        let differences = compare_settled(&config, env, older, newer, holder.is_some())?;
        compared = differences.is_some();
        faults.extend(differences.into_iter().flatten());
    }
    if holder.is_some() {
        // The end of a log that is being written, and files that are being made.
        let is_passing = |kind| {
            use FaultKind::{IndexMissing, Leftover, StaleTail, TornTail};
            matches!(kind, TornTail | Leftover | StaleTail | IndexMissing)
        };
        faults.retain(|fault| !is_passing(fault.kind));
    }
    Ok(Verification {
        findings: findings(&faults, &look.state),
        holder,
        files: counts.files,
        bytes: counts.bytes,
        frames: counts.frames,
        messages: counts.messages,
        indexes: counts.indexes,
        checkpoints: counts.checkpoints,
        compared,
    })
}

fn other_version(folder: &Path, holder: Option<String>, what: String) -> Verification {
    let fault = Fault::new(FaultKind::OtherVersion, folder.join(FORMAT_FILE), None, what);
    Verification {
        findings: findings(&[fault], &State::new()),
        holder,
        files: 1,
        bytes: 0,
        frames: 0,
        messages: 0,
        indexes: 0,
        checkpoints: 0,
        compared: false,
    }
}

/// Counts what lives, message by message, and holds it against what is kept as counted.
fn recount(look: &Look, folder: &Path, faults: &mut Vec<Fault>) {
    let log = folder.join(LOG_FOLDER);
    let mut differ = |what: String| {
        faults.push(Fault::new(FaultKind::CounterDiffers, log.clone(), None, what));
    };
    let mut segments: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    look.state.visit_all(|queue| {
        let (kept, last) = (queue.ranges.live(), queue.ranges.last());
        let mut count = 0;
        // An index that cannot be read is a finding of its own.
        let Ok(recounted) = queue.ranges.recount() else { return };
        for (segment, live, cost) in recounted {
            let sums = segments.entry(segment).or_default();
            sums.0 += live;
            sums.1 += cost;
            count += live;
        }
        if count != kept {
            differ(format!(
                "queue {:?} has {count} messages, and is said to have {kept}",
                queue.key
            ));
        }
        let last = last.ok().flatten().map_or(Seq(0), |found| found.seq);
        if last >= queue.next_seq {
            let (last, next) = (last.0, queue.next_seq.0);
            differ(format!(
                "queue {:?} has message {last}, and its next is to be {next}",
                queue.key
            ));
        }
        let held = queue.claims().map_or(0, |claims| claims.held_count());
        let claimed: usize = queue
            .claims()
            .map_or(0, |claims| claims.iter().map(|(_, claim)| claim.seqs.len()).sum());
        for seq in queue.absent_claimed().unwrap_or_default() {
            let key = &queue.key;
            differ(format!("queue {key:?} has a claim of message {}, which is not there", seq.0));
        }
        if held != claimed as u64 {
            differ(format!(
                "queue {:?} has {claimed} claimed messages, and is said to have {held}",
                queue.key
            ));
        }
    });
    for segment in &look.tail.segments {
        let (count, cost) = segments.get(&segment.number()).copied().unwrap_or_default();
        let (kept_count, kept_cost) = (segment.live_count(), segment.live_cost());
        if (count, cost) != (kept_count, kept_cost) {
            differ(format!(
                "in {} live {count} messages of {cost} bytes, and {kept_count} of {kept_cost} are said to",
                segment.path.display()
            ));
        }
    }
}

/// Compares until both replays found the same segments: a running engine may take some away between them.
/// `None` when it keeps doing so.
fn compare_settled(
    config: &Config,
    env: &Environment,
    older: CheckpointHeader,
    newer: CheckpointHeader,
    is_live: bool,
) -> Result<Option<Vec<Fault>>> {
    let names = || {
        let mut names = env.disk.list(&config.folder.join(LOG_FOLDER)).unwrap_or_default();
        names.retain(|name| name.ends_with(".seg"));
        names.sort_unstable();
        names
    };
    for _ in 0..COMPARES_MAX {
        let before = names();
        match compare(config, env, older, newer) {
            Ok(differences) if !is_live || differences.is_empty() || names() == before => {
                return Ok(Some(differences));
            }
            Err(error) if !is_live => return Err(error),
            // Changed, or taken away meanwhile.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(None)
}

/// What a start from the newer checkpoint shows otherwise than a replay from the older one.
fn compare(
    config: &Config,
    env: &Environment,
    older: CheckpointHeader,
    newer: CheckpointHeader,
) -> Result<Vec<Fault>> {
    let folder = config.folder.join(CHECKPOINT_FOLDER);
    let path = folder.join(format::checkpoint_name(newer.number));
    let open = |number: u64| {
        let path = folder.join(format::checkpoint_name(number));
        Checkpoint::open(&*env.disk, &path).map_err(|what| Error::Damaged {
            file: path,
            offset: 0,
            what,
            next_step: "check again",
        })
    };
    let (older, newer) = (open(older.number)?, open(newer.number)?);
    let mut until: Until = HashMap::new();
    let listed = newer.for_each_queue(|shape| {
        until.insert(QueueId(shape.id), crate::domain::Lsn(shape.as_of));
        Ok(())
    });
    listed.map_err(|what| Error::Damaged {
        file: path.clone(),
        offset: 0,
        what,
        next_step: "check again",
    })??;
    let told = recover::replay_until(config, env, &older, until.clone())?;
    let kept = recover::replay_until(config, env, &newer, until)?;
    let at_ms = env.clock.now_ms().max(newer.header.created_ms + SETTLED_MS);
    let mut faults = Vec::new();
    kept.visit_all(|queue| {
        let (id, key) = (queue.id, queue.key.clone());
        let mut difference = |what: &str| {
            let what = format!("queue {key:?}: {what}");
            faults.push(Fault::new(FaultKind::CheckpointDiffers, path.clone(), None, what));
        };
        let compared = told.with_id(id, |other| differences(queue, other, at_ms));
        match compared {
            None => difference("the log does not know it"),
            Some(Err(error)) => difference(&error.to_string()),
            Some(Ok(found)) => found.iter().for_each(|what| difference(what)),
        }
    });
    Ok(faults)
}

fn differences(kept: &mut Queue, told: &mut Queue, at_ms: u64) -> Result<Vec<&'static str>> {
    kept.expire(at_ms, at_ms)?;
    told.expire(at_ms, at_ms)?;
    let mut found = Vec::new();
    let mut check = |same: bool, what: &'static str| {
        if !same {
            found.push(what);
        }
    };
    check(kept.key == told.key, "its name differs");
    check(kept.metadata == told.metadata, "its metadata differ");
    check(kept.floor == told.floor, "its durability differs");
    check(kept.next_seq == told.next_seq, "the number of its next message differs");
    check(kept.cursor == told.cursor, "how far it was claimed differs");
    check(claims_of(kept) == claims_of(told), "its claims differ");
    let is_same = kept.ranges.is_alike(&told.ranges) || living(kept)? == living(told)?;
    check(is_same, "other messages live in it");
    Ok(found)
}

/// Claims, what came back, extended lives: as plain values.
fn claims_of(queue: &Queue) -> Vec<Vec<u64>> {
    let Some(claims) = queue.claims() else { return Vec::new() };
    let mut rows: Vec<Vec<u64>> = Vec::new();
    for (id, claim) in claims.iter() {
        let mut row = vec![id.0.0, claim.renewed_ms, claim.ttl_s.into(), claim.grace_s.into()];
        row.extend(claim.seqs.iter().map(|seq| seq.0));
        rows.push(row);
    }
    rows.extend(claims.returned().map(|(first, last)| vec![first, last]));
    let lives = claims.lives();
    rows.extend(lives.map(|(seq, life)| vec![seq.0, life.expires_ms, life.ttl_s.into()]));
    rows
}

fn living(queue: &Queue) -> Result<Vec<u64>> {
    let mut seqs = Vec::new();
    queue.visit(Seq(0), 0, |located, _| {
        seqs.push(located.seq.0);
        Walk::On
    })?;
    Ok(seqs)
}
