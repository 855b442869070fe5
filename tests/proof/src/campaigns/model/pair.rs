//! An engine and the reference model, driven side by side: each operation is done to both, and
//! their answers have to be the same. Knows no random numbers.

use super::operation::{NAME_COUNT, Name, NamedClaim, Operation, Sequence};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use marconi_engine::env::{Background, Clock, Environment, ManualClock};
use marconi_engine::{
    Attendance, ClaimId, ClientId, Config, Created, Durability, Engine, Error, ListFilter, Lsn,
    Marker, MessageId, NewMessage, QueueId, QueueKey, Seq,
};
use marconi_server::store::{Claim, Message, Page};
use marconi_tests::model::Model;
use proptest::sample::Index;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Debug;
use std::mem::discriminant;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const START_MS: u64 = 1_767_225_600_000;
const MIB: u64 = 1 << 20;
const PAGE_SIZE: usize = 7;
/// Where files are memory, so that a sync takes no time.
const MEMORY: &str = "/dev/shm";

/// Both, and what was seen so far.
pub(crate) struct Pair {
    /// In every second sequence this thread attends to the log.
    attendance: Option<Attendance>,
    attends: bool,
    background: Background,
    engine: Engine,
    model: Model,
    clock: Arc<ManualClock>,
    now_ms: u64,
    /// The clock is so far behind the engine's time.
    behind_ms: u64,
    step: usize,
    config: Config,
    messages: Vec<MessageId>,
    claims: Vec<ClaimId>,
    queue_ids: BTreeSet<QueueId>,
    claim_ids: BTreeSet<ClaimId>,
    /// Queues whose next message need not have the next number, since a crash.
    may_skip: [bool; NAME_COUNT],
    _folder: TempDir,
}

/// Runs a whole sequence; an error says at which step the two came apart.
pub(crate) fn run(sequence: &Sequence, background: Background) -> anyhow::Result<()> {
    let mut pair = Pair::new(sequence, background)?;
    for (step, operation) in sequence.operations.iter().enumerate() {
        pair.step = step;
        pair.care(step).context("upkeep")?;
        pair.take(operation).with_context(|| format!("step {step}, {operation:?}"))?;
    }
    pair.compare_all().context("at the end")?;
    pair.take(&Operation::Restart).context("restarting at the end")
}

impl Pair {
    fn new(sequence: &Sequence, background: Background) -> anyhow::Result<Pair> {
        let memory = Path::new(MEMORY);
        // Where threads wait for syncs, those are to be a disk's.
        let is_in_memory = background == Background::Caller && memory.is_dir();
        let folder = if is_in_memory { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.context("make a folder")?;
        let config = Config {
            durability: sequence.durability,
            segment_size_bytes: if sequence.has_large() { MIB } else { 64 << 10 },
            checkpoint_interval_bytes: MIB,
            disk_reserve_bytes: 0,
            upkeep_interval_ms: sequence.upkeep_interval_ms,
            ..Config::new(folder.path().join("data"))
        };
        let clock = Arc::new(ManualClock::new(START_MS));
        let engine = open(&config, &clock, background)?;
        let attends = sequence.operations.len().is_multiple_of(2);
        Ok(Pair {
            attendance: attends.then(|| engine.attend()),
            attends,
            background,
            engine,
            model: Model::new(sequence.durability),
            clock,
            now_ms: START_MS,
            behind_ms: 0,
            step: 0,
            config,
            messages: Vec::new(),
            claims: Vec::new(),
            queue_ids: BTreeSet::new(),
            claim_ids: BTreeSet::new(),
            may_skip: [false; NAME_COUNT],
            _folder: folder,
        })
    }

    /// What threads would have done meanwhile, where there are none.
    fn care(&self, step: usize) -> anyhow::Result<()> {
        if self.background == Background::Caller {
            self.engine.prepare()?;
            if step.is_multiple_of(4) {
                self.engine.care()?;
            }
        }
        Ok(())
    }

    /// How durable the write of this step is to be: all there is, and nothing said.
    fn ask(&self) -> Option<Durability> {
        Durability::ALL.get(self.step % 7).copied()
    }

    fn take(&mut self, operation: &Operation) -> anyhow::Result<()> {
        let now_ms = self.now_ms;
        match operation {
            Operation::Create { name, floor } => {
                let key = key(*name);
                let found = self.engine.create_queue(&key, *floor)?.wait()?;
                let expected = self.model.create_queue(&key, *floor, QueueId(u64::MAX));
                if found == Created::New {
                    self.may_skip[*name] = false;
                }
                same(&found, &expected)
            }
            Operation::Remove { name } => {
                self.engine.remove_queue(&key(*name), self.ask())?.wait()?;
                self.model.remove_queue(&key(*name));
                Ok(())
            }
            Operation::SetMetadata { name, size } => {
                let (key, metadata) = (key(*name), body(*size, b'm'));
                let found = self.engine.set_metadata(&key, &metadata, self.ask());
                let found = found.and_then(|receipt| receipt.wait());
                alike(found, self.model.set_metadata(&key, metadata)).map(drop)
            }
            Operation::Post { name, by, messages } => self.post(*name, *by, messages),
            Operation::List { name, after, limit, not_by, with_claimed } => {
                let after = after.as_ref().and_then(|index| self.seen_message(index));
                let after = after.map(|id| Marker { queue: id.queue, seq: id.seq });
                let not_by = not_by.map(client);
                let filter = ListFilter { not_by, include_claimed: *with_claimed };
                self.list(*name, after, *limit, filter).map(drop)
            }
            Operation::Get { name, messages } => {
                let ids = self.seen_messages(messages);
                let found = self.engine.get(&key(*name), &ids)?.wait()?;
                same(&all_read(found)?, &self.model.get(now_ms, &key(*name), &ids))
            }
            Operation::Delete { name, message, claim } => self.delete(*name, message, claim),
            Operation::DeleteMany { name, messages } => {
                let ids = self.seen_messages(messages);
                self.engine.delete_many(&key(*name), &ids, self.ask())?.wait()?;
                self.model.delete_many(now_ms, &key(*name), &ids);
                Ok(())
            }
            Operation::Claim { name, ttl_s, grace_s, limit } => {
                self.claim(*name, *ttl_s, *grace_s, *limit)
            }
            Operation::ClaimGet { name, claim } => {
                let Some(id) = self.seen_claim(claim) else { return Ok(()) };
                self.claim_get(*name, id)
            }
            Operation::Renew { name, claim, ttl_s, grace_s } => {
                let Some(id) = self.seen_claim(claim) else { return Ok(()) };
                let found = self.engine.renew(&key(*name), id, *ttl_s, *grace_s, self.ask());
                let found = found.and_then(|receipt| receipt.wait());
                alike(found, self.model.renew(now_ms, &key(*name), id, *ttl_s, *grace_s)).map(drop)
            }
            Operation::Release { name, claim } => {
                let Some(id) = self.seen_claim(claim) else { return Ok(()) };
                self.engine.release(&key(*name), id, self.ask())?.wait()?;
                self.model.release(&key(*name), id);
                Ok(())
            }
            Operation::Stats { name } => self.stats(*name),
            Operation::Queues { after, limit } => {
                let after = after.map(|name| key(name).name().to_owned());
                self.queues(after.as_deref(), *limit)
            }
            Operation::ClockOn { by_ms } => {
                self.set_clock(now_ms + by_ms);
                Ok(())
            }
            Operation::ClockTo { end, beside_ms } => {
                let ends: Vec<u64> = self.model.ends().filter(|end_ms| *end_ms > now_ms).collect();
                if !ends.is_empty() {
                    let to_ms = end.get(&ends).saturating_add_signed(*beside_ms);
                    self.set_clock(to_ms.max(now_ms));
                }
                self.compare_all()
            }
            Operation::StartAt { by_ms, is_after_crash } => {
                if *is_after_crash {
                    // What `memory` loses of its end is not the model's to know, nor what time it was when
                    // nothing was written any more.
                    self.write_the_time(by_ms % 2 == 0)?;
                    self.engine.sync()?;
                    self.engine.crash();
                    self.may_skip = [true; NAME_COUNT];
                } else {
                    self.engine.close()?;
                }
                // A running process never sees time go back, but the next one may.
                self.clock.set_ms(self.clock.now_ms().saturating_add_signed(*by_ms));
                self.reopen()?;
                self.compare_all()
            }
            Operation::Checkpoint => Ok(self.engine.checkpoint()?),
            Operation::Compact => {
                self.engine.compact()?;
                self.compare_all()
            }
            Operation::Restart => {
                self.engine.close()?;
                self.reopen()?;
                self.compare_all()
            }
            Operation::Crash => {
                // What `memory` loses of its end is not the model's to know.
                self.engine.sync()?;
                if self.behind_ms > 0 {
                    // Nor what time it was when nothing was written any more.
                    self.engine.checkpoint()?;
                }
                self.engine.crash();
                self.may_skip = [true; NAME_COUNT];
                self.reopen()?;
                self.compare_all()
            }
        }
    }

    /// Writes something that says what time it is: a record, where there is a queue and it may be one.
    fn write_the_time(&self, may_be_record: bool) -> anyhow::Result<()> {
        let is_there = |name: &Name| self.model.queue(&key(*name)).is_ok();
        match (0..NAME_COUNT).find(is_there).filter(|_| may_be_record) {
            Some(name) => {
                let metadata = self.model.queue(&key(name))?.metadata;
                self.engine.set_metadata(&key(name), &metadata, None)?.wait()?;
                Ok(())
            }
            None => Ok(self.engine.checkpoint()?),
        }
    }

    /// Starts again. Where the clock was put back, time goes on from where it was.
    fn reopen(&mut self) -> anyhow::Result<()> {
        self.engine = open(&self.config, &self.clock, self.background)?;
        let (clock_ms, now_ms) = (self.clock.now_ms(), self.engine.recovery().opened_ms);
        let expected_ms = clock_ms.max(self.now_ms);
        ensure!(now_ms == expected_ms, "it starts at {now_ms}, and it is {expected_ms}");
        (self.now_ms, self.behind_ms) = (now_ms, now_ms - clock_ms);
        self.attendance = self.attends.then(|| self.engine.attend());
        Ok(())
    }

    fn set_clock(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.clock.set_ms(now_ms - self.behind_ms);
    }

    fn seen_message(&self, index: &Index) -> Option<MessageId> {
        (!self.messages.is_empty()).then(|| *index.get(&self.messages))
    }

    fn seen_messages(&self, indexes: &[Index]) -> Vec<MessageId> {
        indexes.iter().filter_map(|index| self.seen_message(index)).collect()
    }

    fn seen_claim(&self, index: &Index) -> Option<ClaimId> {
        (!self.claims.is_empty()).then(|| *index.get(&self.claims))
    }

    fn post(&mut self, name: Name, by: u8, messages: &[(u32, usize)]) -> anyhow::Result<()> {
        let key = key(name);
        let first = u8::try_from(self.messages.len() % 251).context("below 251")?;
        let (ttls, bodies): (Vec<u32>, Vec<Bytes>) = messages
            .iter()
            .zip(first..)
            .map(|((ttl_s, size), letter)| (*ttl_s, body(*size, letter)))
            .unzip();
        let told: Vec<Bytes> = bodies.iter().map(told).collect();
        let sent = new_messages(&ttls, &bodies);
        let messages = new_messages(&ttls, &told);
        let found = self.engine.post(&key, client(by), &sent, self.ask());
        let found = found.and_then(|receipt| receipt.wait());
        if let Ok([first, ..]) = found.as_deref() {
            // A queue made anew, whose id only now comes to light.
            if self.queue_ids.insert(first.queue) {
                self.model.adopt_id(&key, first.queue);
            }
            if std::mem::take(&mut self.may_skip[name]) {
                self.model.skip_numbers(&key, Seq(first.seq.0 - 1));
            }
        }
        let ids = alike(found, self.model.post(self.now_ms, &key, client(by), &messages))?;
        self.messages.extend(ids.unwrap_or_default());
        Ok(())
    }

    /// The ids of what is listed.
    fn list(
        &self,
        name: Name,
        after: Option<Marker>,
        limit: usize,
        filter: ListFilter,
    ) -> anyhow::Result<Page> {
        let found = self.engine.list(&key(name), after, limit, filter)?.wait()?;
        let found = Page { messages: all_read(found.messages)?, next: found.next };
        same(&found, &self.model.list(self.now_ms, &key(name), after, limit, filter))?;
        Ok(found)
    }

    fn delete(&mut self, name: Name, message: &Index, claim: &NamedClaim) -> anyhow::Result<()> {
        let Some(id) = self.seen_message(message) else { return Ok(()) };
        let key = key(name);
        let claim = match claim {
            NamedClaim::None => None,
            NamedClaim::Malformed => Some(None),
            NamedClaim::Holder => {
                let held = self.model.get(self.now_ms, &key, &[id]);
                held.first().and_then(|message| message.claim).map(Some)
            }
            NamedClaim::Seen(index) => self.seen_claim(index).map(Some),
        };
        let found =
            self.engine.delete(&key, id, claim, self.ask()).and_then(|receipt| receipt.wait());
        alike(found, self.model.delete(self.now_ms, &key, id, claim)).map(drop)
    }

    fn claim(&mut self, name: Name, ttl_s: u32, grace_s: u32, limit: usize) -> anyhow::Result<()> {
        let key = key(name);
        let found = self.engine.claim(&key, ttl_s, grace_s, limit, self.ask())?.wait()?;
        let found = found.map(read_claim).transpose()?;
        // Where the engine found nothing the model has to as well, whatever the id.
        let fresh = found.as_ref().map_or(ClaimId(Lsn(u64::MAX)), |claim| claim.id);
        let expected = self.model.claim(self.now_ms, &key, ttl_s, grace_s, limit, fresh);
        same(&found, &expected)?;
        if let Some(claim) = found {
            ensure!(self.claim_ids.insert(claim.id), "a claim id was given twice");
            self.claims.push(claim.id);
        }
        Ok(())
    }

    fn claim_get(&self, name: Name, id: ClaimId) -> anyhow::Result<()> {
        let found = self.engine.claim_get(&key(name), id).and_then(|receipt| receipt.wait());
        let expected = self.model.claim_get(self.now_ms, &key(name), id);
        match (found, expected) {
            (Ok(found), expected) => {
                alike(Ok(read_claim(found)?), expected)?;
            }
            (Err(found), expected) => {
                alike(Err(found), expected)?;
            }
        }
        Ok(())
    }

    fn stats(&self, name: Name) -> anyhow::Result<()> {
        let found = self.engine.stats(&key(name)).and_then(|receipt| receipt.wait());
        alike(found, self.model.stats(self.now_ms, &key(name))).map(drop)
    }

    fn queues(&self, after: Option<&str>, limit: usize) -> anyhow::Result<()> {
        let found = self.engine.queues(PROJECT, after, limit)?;
        same(&found, &self.model.queues(PROJECT, after, limit))
    }

    /// Compares all that can be read.
    fn compare_all(&self) -> anyhow::Result<()> {
        self.queues(None, NAME_COUNT + 1).context("the queues")?;
        for name in 0..NAME_COUNT {
            self.compare_queue(name).with_context(|| format!("queue {name}"))?;
        }
        Ok(())
    }

    fn compare_queue(&self, name: Name) -> anyhow::Result<()> {
        let info = self.engine.queue(&key(name)).and_then(|receipt| receipt.wait());
        alike(info, self.model.queue(&key(name))).context("what is kept with it")?;
        for include_claimed in [true, false] {
            let filter = ListFilter { not_by: None, include_claimed };
            let mut after = None;
            loop {
                let page = self.list(name, after, PAGE_SIZE, filter).context("listing")?;
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        for id in &self.claims {
            self.claim_get(name, *id).context("a claim")?;
        }
        let found = self.engine.get(&key(name), &self.messages)?.wait()?;
        let expected = self.model.get(self.now_ms, &key(name), &self.messages);
        same(&all_read(found)?, &expected).context("all messages by id")?;
        self.stats(name).context("stats")
    }
}

const PROJECT: Option<&str> = Some("p");

fn open(
    config: &Config,
    clock: &Arc<ManualClock>,
    background: Background,
) -> anyhow::Result<Engine> {
    let clock = Arc::<ManualClock>::clone(clock);
    let environment = Environment { clock, background, ..Environment::system() };
    Engine::open_in(config.clone(), environment)
        .with_context(|| format!("open the engine over {:?}", files(&config.folder)))
}

/// The names of all files in the folders of a data folder.
fn files(folder: &Path) -> BTreeSet<OsString> {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries(folder).flat_map(|part| entries(&part.path())).map(|file| file.file_name()).collect()
}

fn key(name: Name) -> QueueKey {
    QueueKey::new(PROJECT, &format!("q{name}")).expect("it is short")
}

fn client(number: u8) -> ClientId {
    ClientId(u128::from(number) + 1)
}

fn body(size: usize, letter: u8) -> Bytes {
    vec![letter; size].into()
}

fn new_messages<'a>(ttls: &[u32], bodies: &'a [Bytes]) -> Vec<NewMessage<'a>> {
    ttls.iter().zip(bodies).map(|(&ttl_s, body)| NewMessage { ttl_s, body }).collect()
}

/// A body as the model keeps it: short enough to be printed, and another one for every other body
/// that [`body`] makes.
fn told(body: &Bytes) -> Bytes {
    let Some(letter) = body.first() else { return Bytes::new() };
    assert!(body.iter().all(|other| other == letter), "a body is made of one letter");
    format!("{} x {letter}", body.len()).into()
}

fn read(message: marconi_engine::Message) -> anyhow::Result<Message> {
    let marconi_engine::Content { ttl_s, age_s, body } = message.read()?;
    Ok(Message { id: message.id, ttl_s, age_s, body: told(&body), claim: message.claim })
}

fn all_read(messages: Vec<marconi_engine::Message>) -> anyhow::Result<Vec<Message>> {
    messages.into_iter().map(read).collect()
}

fn read_claim(claim: marconi_engine::Claim) -> anyhow::Result<Claim> {
    let messages = all_read(claim.messages)?;
    Ok(Claim { id: claim.id, ttl_s: claim.ttl_s, age_s: claim.age_s, messages })
}

fn same<T: PartialEq + Debug>(found: &T, expected: &T) -> anyhow::Result<()> {
    ensure!(found == expected, "the engine says\n{found:?}\nthe model says\n{expected:?}");
    Ok(())
}

/// The same answer, or the same refusal; the answer.
fn alike<T: PartialEq + Debug>(
    found: Result<T, Error>,
    expected: Result<T, Error>,
) -> anyhow::Result<Option<T>> {
    match (found, expected) {
        (Ok(found), Ok(expected)) => {
            same(&found, &expected)?;
            Ok(Some(found))
        }
        (Err(found), Err(expected)) if discriminant(&found) == discriminant(&expected) => Ok(None),
        (found, expected) => bail!("the engine says\n{found:?}\nthe model says\n{expected:?}"),
    }
}
