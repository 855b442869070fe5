//! One simulated disk, one clock, and engines opened over them again and again. Knows how to do a
//! [`Step`] and how to see a [`View`]; knows nothing of what is expected.

use super::record::{QueueView, Step, View};
use marconi_engine::env::sim::SimDisk;
use marconi_engine::env::{Background, Environment, ManualClock};
use marconi_engine::{
    Claim, ClaimId, ClientId, Config, Created, Durability, Engine, Error, ListFilter, MessageId,
    NewMessage, QueueInfo, QueueKey, Receipt,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const START_MS: u64 = 1_700_000_000_000;
pub const MESSAGE_TTL_S: u32 = 10_000_000;

/// Waits for a condition; a failure names it.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::yield_now();
    }
}

pub struct World {
    pub disk: SimDisk,
    pub clock: Arc<ManualClock>,
    pub durability: Durability,
    /// Who works in the background of the engines.
    pub background: Background,
    /// The size of their segments.
    pub segment_size_bytes: u64,
    /// The id of each message by its number, of each claim by its key; as told to the client.
    pub messages: HashMap<u64, MessageId>,
    pub claims: HashMap<u64, ClaimId>,
    told_messages: HashMap<MessageId, u64>,
    told_claims: HashMap<ClaimId, u64>,
}

/// What was asked for and not answered yet.
#[derive(Debug)]
pub enum Waiting {
    /// There is nothing to wait for.
    Nothing,
    /// Ids, of these numbers.
    Ids(Vec<u64>, Receipt<Vec<MessageId>>),
    /// A claim, of this key.
    Claim(u64, Receipt<Option<Claim>>),
    /// A queue.
    Queue(Receipt<Created>),
    /// That it lasts.
    Done(Receipt<()>),
    /// A look at a queue.
    Look(Receipt<QueueInfo>),
}

impl Waiting {
    /// How durable the answer will be.
    pub fn durability(&self) -> Durability {
        match self {
            Waiting::Nothing => Durability::Memory,
            Waiting::Ids(_, receipt) => receipt.durability(),
            Waiting::Claim(_, receipt) => receipt.durability(),
            Waiting::Queue(receipt) => receipt.durability(),
            Waiting::Done(receipt) => receipt.durability(),
            Waiting::Look(receipt) => receipt.durability(),
        }
    }
}

impl World {
    /// An empty disk, and engines whose background are threads.
    pub fn new(seed: u64) -> World {
        World::over(SimDisk::new(seed).expect("a temporary folder"), START_MS)
    }

    /// An empty disk, and engines of small segments that do nothing by themselves.
    pub fn by_hand(seed: u64) -> World {
        let world = World::new(seed);
        World { background: Background::Caller, segment_size_bytes: 64 << 10, ..world }
    }

    /// The same world on another disk at another time; what clients were told stays told.
    pub fn elsewhere(&self, disk: SimDisk, now_ms: u64) -> World {
        World {
            durability: self.durability,
            background: self.background,
            segment_size_bytes: self.segment_size_bytes,
            messages: self.messages.clone(),
            claims: self.claims.clone(),
            told_messages: self.told_messages.clone(),
            told_claims: self.told_claims.clone(),
            ..World::over(disk, now_ms)
        }
    }

    fn over(disk: SimDisk, now_ms: u64) -> World {
        World {
            disk,
            clock: Arc::new(ManualClock::new(now_ms)),
            durability: Durability::Group,
            background: Background::Threads,
            segment_size_bytes: 1 << 20,
            messages: HashMap::new(),
            claims: HashMap::new(),
            told_messages: HashMap::new(),
            told_claims: HashMap::new(),
        }
    }

    pub fn folder(&self) -> PathBuf {
        self.disk.root().join("data")
    }

    /// Small files, and background threads that sleep after their first round.
    pub fn config(&self) -> Config {
        Config {
            durability: self.durability,
            segment_size_bytes: self.segment_size_bytes,
            checkpoint_interval_bytes: 1 << 30,
            disk_reserve_bytes: 0,
            upkeep_interval_ms: 60_000,
            ..Config::new(self.folder())
        }
    }

    pub fn try_open(&self, config: Config) -> Result<Engine, Error> {
        let disk = Arc::new(self.disk.clone());
        let clock = self.clock.clone();
        let env = Environment { disk, clock, background: self.background };
        Engine::open_in(config, env)
    }

    pub fn open(&self) -> Engine {
        let engine = self.try_open(self.config()).unwrap_or_else(|error| panic!("open: {error}"));
        self.settle(&engine);
        engine
    }

    /// The first round of the background: a next segment, a first checkpoint. Waits for it, or does it.
    pub fn settle(&self, engine: &Engine) {
        let _ = engine.prepare();
        if self.background == Background::Caller {
            let _ = engine.checkpoint();
        }
        let has_checkpoint = || {
            let names = std::fs::read_dir(self.folder().join("checkpoint")).expect("is there");
            names.flatten().any(|entry| entry.path().extension().is_some_and(|end| end == "ckp"))
        };
        let has_failed = || self.disk.trace().iter().any(|change| change.ends_with(" failed"));
        until("the first checkpoint", || {
            has_checkpoint() || self.disk.is_stopped() || has_failed()
        });
    }

    pub fn clock_ms(&self) -> u64 {
        marconi_engine::env::Clock::now_ms(&*self.clock)
    }

    /// Does one step and waits until it is acknowledged.
    pub fn run(&mut self, engine: &Engine, step: &Step) -> Result<(), Error> {
        match self.begin(engine, step)? {
            Waiting::Nothing => {}
            Waiting::Ids(numbers, receipt) => {
                let ids = receipt.wait()?;
                self.learn_messages(&numbers, ids);
            }
            Waiting::Claim(claim, receipt) => {
                if let Some(made) = receipt.wait()? {
                    self.learn_claim(claim, made.id);
                }
            }
            Waiting::Queue(receipt) => drop(receipt.wait()?),
            Waiting::Done(receipt) => receipt.wait()?,
            Waiting::Look(receipt) => drop(receipt.wait()?),
        }
        Ok(())
    }

    /// Looks at a queue, and leaves the answer to wait for.
    pub fn look(&self, engine: &Engine, queue: &str) -> Result<Waiting, Error> {
        engine.queue(&key(queue)).map(Waiting::Look)
    }

    /// Asks for one step, and leaves the answer to wait for.
    pub fn begin(&mut self, engine: &Engine, step: &Step) -> Result<Waiting, Error> {
        Ok(match step {
            Step::Create(queue) => Waiting::Queue(engine.create_queue(&key(queue), None)?),
            Step::CreateAt(queue, level) => {
                Waiting::Queue(engine.create_queue(&key(queue), Some(*level))?)
            }
            Step::Remove(queue) => Waiting::Done(engine.remove_queue(&key(queue), None)?),
            Step::SetMetadata(queue, byte) => {
                Waiting::Done(engine.set_metadata(&key(queue), &[*byte], None)?)
            }
            Step::Post(queue, batch) => {
                let bodies: Vec<Vec<u8>> =
                    batch.iter().map(|(number, size)| body(*number, *size)).collect();
                let new: Vec<NewMessage<'_>> =
                    bodies.iter().map(|body| NewMessage { ttl_s: MESSAGE_TTL_S, body }).collect();
                let numbers = batch.iter().map(|(number, _)| *number).collect();
                Waiting::Ids(numbers, engine.post(&key(queue), ClientId(7), &new, None)?)
            }
            Step::Claim { queue, limit, claim, ttl_s } => {
                Waiting::Claim(*claim, engine.claim(&key(queue), *ttl_s, 60, *limit, None)?)
            }
            Step::Delete { queue, number, claim } => {
                let claim = claim.map(|claim| Some(self.claims[&claim]));
                Waiting::Done(engine.delete(&key(queue), self.messages[number], claim, None)?)
            }
            Step::DeleteMany(queue, numbers) => {
                let ids: Vec<MessageId> =
                    numbers.iter().map(|number| self.messages[number]).collect();
                Waiting::Done(engine.delete_many(&key(queue), &ids, None)?)
            }
            Step::Release(queue, claim) => {
                Waiting::Done(engine.release(&key(queue), self.claims[claim], None)?)
            }
            Step::Renew(queue, claim, ttl_s) => {
                Waiting::Done(engine.renew(&key(queue), self.claims[claim], *ttl_s, 60, None)?)
            }
            Step::Advance(by_ms) => {
                self.clock.advance_ms(*by_ms);
                Waiting::Nothing
            }
            Step::Sync => {
                engine.sync()?;
                Waiting::Nothing
            }
            Step::Checkpoint => {
                engine.checkpoint()?;
                Waiting::Nothing
            }
            Step::Compact => {
                engine.compact()?;
                Waiting::Nothing
            }
        })
    }

    /// Learns the ids of a batch.
    pub fn learn_messages(&mut self, numbers: &[u64], ids: Vec<MessageId>) {
        for (number, id) in numbers.iter().zip(ids) {
            self.learn_message(*number, id);
        }
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

    /// Learns the id of a claim.
    pub fn learn_claim(&mut self, claim: u64, id: ClaimId) {
        let old = self.claims.insert(claim, id);
        assert!(old.is_none_or(|old| old == id), "claim {claim}: {old:?} became {id:?}");
        let other = self.told_claims.insert(id, claim);
        assert!(other.is_none_or(|other| other == claim), "{id:?} given to {other:?} and {claim}");
    }

    /// All there is to see, checked for agreeing with itself.
    pub fn view(&self, engine: &Engine) -> View {
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
                let renewed_ms = self.clock_ms() - claim.age_s * 1000;
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

    /// The messages, by queue and number, that queues show which promise that what they show lasts.
    pub fn shown_for_good(&self, engine: &Engine) -> Result<BTreeSet<(String, u64)>, Error> {
        let mut shown = BTreeSet::new();
        for entry in engine.queues(None, None, 1000)? {
            let filter = ListFilter { include_claimed: true, ..ListFilter::default() };
            let page = engine.list(&entry.key, None, usize::MAX, filter)?;
            if page.durability() < Durability::Group {
                continue;
            }
            for message in page.wait()?.messages {
                shown.insert((entry.key.name().to_owned(), number_of(&message.body()?)));
            }
        }
        Ok(shown)
    }

    /// Learns the ids of what was not acknowledged and is there all the same. `claims` are the groups
    /// of numbers by key.
    pub fn adopt(&mut self, engine: &Engine, claims: &BTreeMap<u64, Vec<u64>>) {
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

pub fn key(name: &str) -> QueueKey {
    QueueKey::new(None, name).expect("a short name")
}

/// A body that tells its number, and shows when a byte of it is wrong.
pub fn body(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; size.max(8)];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

pub fn number_of(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    assert!(bytes[8..].iter().all(|byte| *byte == number as u8), "message {number} is mixed up");
    number
}
