//! One simulated disk, one clock, and engines opened over them again and again. Knows how to do a
//! [`Step`] and how to see a [`View`]; knows nothing of what is expected.

use crate::record::{QueueView, Step, View};
use marconi_engine::env::sim::SimDisk;
use marconi_engine::env::{Environment, ManualClock};
use marconi_engine::{
    ClaimId, ClientId, Config, Durability, Engine, Error, ListFilter, MessageId, NewMessage,
    QueueKey,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const START_MS: u64 = 1_700_000_000_000;
pub(crate) const MESSAGE_TTL_S: u32 = 10_000_000;

/// Waits for a condition; a failure names it.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::yield_now();
    }
}

pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) durability: Durability,
    /// The id of each message by its number, of each claim by its key; as told to the client.
    pub(crate) messages: HashMap<u64, MessageId>,
    pub(crate) claims: HashMap<u64, ClaimId>,
    told_messages: HashMap<MessageId, u64>,
    told_claims: HashMap<ClaimId, u64>,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        World {
            disk: SimDisk::new(seed).expect("a temporary folder"),
            clock: Arc::new(ManualClock::new(START_MS)),
            durability: Durability::Group,
            messages: HashMap::new(),
            claims: HashMap::new(),
            told_messages: HashMap::new(),
            told_claims: HashMap::new(),
        }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.disk.root().join("data")
    }

    /// Small files, and background threads that sleep after their first round.
    pub(crate) fn config(&self) -> Config {
        Config {
            durability: self.durability,
            segment_size_bytes: 1 << 20,
            checkpoint_interval_bytes: 1 << 30,
            disk_reserve_bytes: 0,
            upkeep_interval_ms: 60_000,
            ..Config::new(self.folder())
        }
    }

    pub(crate) fn try_open(&self, config: Config) -> Result<Engine, Error> {
        let env = Environment { disk: Arc::new(self.disk.clone()), clock: self.clock.clone() };
        Engine::open_in(config, env)
    }

    pub(crate) fn open(&self) -> Engine {
        let engine = self.try_open(self.config()).unwrap_or_else(|error| panic!("open: {error}"));
        self.settle(&engine);
        engine
    }

    /// Waits for the first round of the background: a next segment, a first checkpoint.
    pub(crate) fn settle(&self, engine: &Engine) {
        let _ = engine.prepare();
        let has_checkpoint = || {
            let names = std::fs::read_dir(self.folder().join("checkpoint")).expect("is there");
            names.flatten().any(|entry| entry.path().extension().is_some_and(|end| end == "ckp"))
        };
        let has_failed = || self.disk.trace().iter().any(|change| change.ends_with(" failed"));
        until("the first checkpoint", || {
            has_checkpoint() || self.disk.is_stopped() || has_failed()
        });
    }

    pub(crate) fn now_ms(&self) -> u64 {
        marconi_engine::env::Clock::now_ms(&*self.clock)
    }

    /// Does one step and waits until it is acknowledged.
    pub(crate) fn run(&mut self, engine: &Engine, step: &Step) -> Result<(), Error> {
        match step {
            Step::Create(queue) => {
                engine.create_queue(&key(queue), None)?.wait()?;
            }
            Step::Remove(queue) => engine.remove_queue(&key(queue), None)?.wait()?,
            Step::SetMetadata(queue, byte) => {
                engine.set_metadata(&key(queue), &[*byte], None)?.wait()?;
            }
            Step::Post(queue, batch) => {
                let bodies: Vec<Vec<u8>> =
                    batch.iter().map(|(number, size)| body(*number, *size)).collect();
                let new: Vec<NewMessage<'_>> =
                    bodies.iter().map(|body| NewMessage { ttl_s: MESSAGE_TTL_S, body }).collect();
                let ids = engine.post(&key(queue), ClientId(7), &new, None)?.wait()?;
                for ((number, _), id) in batch.iter().zip(ids) {
                    self.learn_message(*number, id);
                }
            }
            Step::Claim { queue, limit, claim, ttl_s } => {
                let made = engine.claim(&key(queue), *ttl_s, 60, *limit, None)?.wait()?;
                if let Some(made) = made {
                    self.learn_claim(*claim, made.id);
                }
            }
            Step::Delete { queue, number, claim } => {
                let claim = claim.map(|claim| Some(self.claims[&claim]));
                engine.delete(&key(queue), self.messages[number], claim, None)?.wait()?;
            }
            Step::DeleteMany(queue, numbers) => {
                let ids: Vec<MessageId> =
                    numbers.iter().map(|number| self.messages[number]).collect();
                engine.delete_many(&key(queue), &ids, None)?.wait()?;
            }
            Step::Release(queue, claim) => {
                engine.release(&key(queue), self.claims[claim], None)?.wait()?;
            }
            Step::Renew(queue, claim, ttl_s) => {
                engine.renew(&key(queue), self.claims[claim], *ttl_s, 60, None)?.wait()?;
            }
            Step::Advance(by_ms) => self.clock.advance_ms(*by_ms),
            Step::Sync => engine.sync()?,
            Step::Checkpoint => engine.checkpoint()?,
            Step::Compact => engine.compact().map(|_| ())?,
        }
        Ok(())
    }

    fn learn_message(&mut self, number: u64, id: MessageId) {
        let old = self.messages.insert(number, id);
        assert!(old.is_none_or(|old| old == id), "message {number}: {old:?} became {id:?}");
        let other = self.told_messages.insert(id, number);
        assert!(
            other.is_none_or(|other| other == number),
            "{id:?} given to {other:?} and {number}"
        );
    }

    fn learn_claim(&mut self, claim: u64, id: ClaimId) {
        let old = self.claims.insert(claim, id);
        assert!(old.is_none_or(|old| old == id), "claim {claim}: {old:?} became {id:?}");
        let other = self.told_claims.insert(id, claim);
        assert!(other.is_none_or(|other| other == claim), "{id:?} given to {other:?} and {claim}");
    }

    /// All there is to see, checked for agreeing with itself.
    pub(crate) fn view(&self, engine: &Engine) -> View {
        let mut view = View::default();
        for entry in engine.queues(None, None, 1000).expect("lists") {
            let filter = ListFilter { include_claimed: true, ..ListFilter::default() };
            let page = engine.list(&entry.key, None, usize::MAX, filter).expect("lists");
            let page = page.wait().expect("is durable");
            let mut claims: BTreeMap<ClaimId, Vec<u64>> = BTreeMap::new();
            let mut numbers = Vec::new();
            for message in &page.messages {
                let bytes = message.body().expect("is whole");
                let number = number_of(&bytes);
                numbers.push(number);
                assert!(self.messages.get(&number).is_none_or(|id| *id == message.id), "{number}");
                if let Some(claim) = message.claim {
                    claims.entry(claim).or_default().push(number);
                }
            }
            let mut seen = BTreeSet::new();
            for (id, held) in &claims {
                let claim = engine.claim_get(&entry.key, *id).expect("lives").wait().expect("ok");
                let listed: Vec<u64> = claim
                    .messages
                    .iter()
                    .map(|message| number_of(&message.body().expect("is whole")))
                    .collect();
                assert_eq!(&listed, held);
                // Whole seconds lie between any two steps.
                let renewed_ms = self.now_ms() - claim.age_s * 1000;
                seen.insert((listed, renewed_ms + u64::from(claim.ttl_s) * 1000));
            }
            let stats = engine.stats(&entry.key).expect("counts").wait().expect("is durable");
            let claimed: usize = claims.values().map(Vec::len).sum();
            // After a failure a post that never came to the file still counts.
            if engine.health().is_ok() {
                assert_eq!(stats.claimed, claimed as u64);
                assert_eq!(stats.free + stats.claimed, numbers.len() as u64);
            }
            let queue =
                QueueView { metadata: entry.metadata.to_vec(), messages: numbers, claims: seen };
            view.0.insert(entry.key.name().to_owned(), queue);
        }
        view
    }

    /// Learns the ids of what was not acknowledged and is there all the same. `claims` are the groups
    /// of numbers by key.
    pub(crate) fn adopt(&mut self, engine: &Engine, claims: &BTreeMap<u64, Vec<u64>>) {
        for entry in engine.queues(None, None, 1000).expect("lists") {
            let filter = ListFilter { include_claimed: true, ..ListFilter::default() };
            let page = engine.list(&entry.key, None, usize::MAX, filter).expect("lists");
            for message in page.wait().expect("is durable").messages {
                let number = number_of(&message.body().expect("is whole"));
                self.learn_message(number, message.id);
                if let Some(id) = message.claim {
                    let held = claims.iter().find(|(_, held)| held.contains(&number));
                    self.learn_claim(*held.expect("it is expected").0, id);
                }
            }
        }
    }
}

pub(crate) fn key(name: &str) -> QueueKey {
    QueueKey::new(None, name).expect("a short name")
}

/// A body that tells its number, and shows when a byte of it is wrong.
pub(crate) fn body(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; size.max(8)];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

pub(crate) fn number_of(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    assert!(bytes[8..].iter().all(|byte| *byte == number as u8), "message {number} is mixed up");
    number
}
