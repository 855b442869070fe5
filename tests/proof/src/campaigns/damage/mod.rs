//! Bit rot: of a small data folder one file is harmed in one place - a bit, a byte, a block, a cut, a block that
//! landed elsewhere - and then the folder is checked, opened, read, compacted, repaired. What is shown has to be
//! what was written. The places are gone through one by one: every byte that means something, every block, and a
//! byte of each block of the zeros behind. Cannot see two harms that fit each other, nor a file replaced by an older
//! or another whole one; passes over a stray block that puts a whole message of another segment exactly into the place
//! of one of the same size, with the head of that one's frame in the block before; and the folder has one shape.

mod folder;
mod harm;
mod log;
mod shown;

use crate::campaign::{Campaign, Width, none};
use crate::random::Random;
use anyhow::{Context, bail, ensure};
use folder::{Ending, Image, scratch, world};
use harm::{Harmed, Place};
use log::Allowed;
use marconi_engine::inspect::{self, Finding, RepairPlan};
use marconi_engine::{Engine, Error, LostKind, MessageId, NewMessage};
use shown::{CLIENTS, Shown};
use std::collections::BTreeMap;

use std::path::Path;
use std::sync::OnceLock;

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "damage",
    promise: "what is read is what was written, or an error that names the damaged file",
    fault: "a bit, byte or block of any file rots, is cut off, or lands elsewhere; but for a whole message of another segment exactly over one of its size",
    unit: "damaged images",
    in_tests: 5_000,
    in_ledger: 300_000,
    once_failed: &[22, 58, 178, 201, 270, 3027, 4371, 4779],
    width: Width::Processors,
    trial,
    obstacle: none,
};

/// One in so many images is repaired, and one is compacted.
const SHARE: u64 = 8;
/// Far from all small factors: seeds next to each other harm files far from each other.
const STRIDE: u64 = 0x9e37_79b1;

/// The folders, and every place at which they can be harmed.
struct World {
    images: [Image; 2],
    places: Vec<(usize, Place)>,
}

/// The folders that a seed harms.
fn images(seed: u64) -> &'static World {
    static WORLDS: [OnceLock<World>; 2] = [const { OnceLock::new() }; 2];
    // Seeds of old found what they found in larger files.
    let is_large = CAMPAIGN.once_failed.contains(&seed);
    WORLDS[usize::from(is_large)].get_or_init(|| {
        let size = if is_large { 1 << 20 } else { 64 << 10 };
        let make = |ending| Image::make(ending, size).expect("a sound folder can be made");
        let images = [make(Ending::Crashed), make(Ending::Closed)];
        let of = |number: usize| {
            harm::places(&images[number]).into_iter().map(move |place| (number, place))
        };
        let places = of(0).chain(of(1)).collect();
        World { images, places }
    })
}

/// The place of a seed: all of them once, then all of them again with other dice.
fn place_of(world: &World, seed: u64) -> (&Image, &Place) {
    let count = world.places.len() as u64;
    let stride = (STRIDE..).find(|stride| are_coprime(*stride, count)).expect("a prime is");
    let number = (u128::from(seed) * u128::from(stride) % u128::from(count)) as usize;
    let (image, place) = &world.places[number];
    (&world.images[*image], place)
}

fn are_coprime(one: u64, other: u64) -> bool {
    let (mut one, mut other) = (one, other);
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one == 1
}

fn trial(seed: u64) -> anyhow::Result<u64> {
    let (image, place) = place_of(images(seed), seed);
    let mut random = Random::new(seed);
    let harmed = harm::harm(image, place, &mut random);
    if harmed.changed.is_empty() || log::is_out_of_reach(image, place.file, &harmed) {
        return Ok(0);
    }
    let path = &image.files[place.file].path;
    let told = || {
        format!(
            "{:?} at {} of {} of a folder that was {:?}, bytes {:?}",
            place.kind,
            place.offset,
            path.display(),
            image.ending,
            harmed.changed
        )
    };
    let trial = Trial { image, place, harmed: &harmed };
    let extra = random.below(SHARE);
    trial.check(extra).with_context(told).map(|()| 1)
}

struct Trial<'a> {
    image: &'a Image,
    place: &'a Place,
    harmed: &'a Harmed,
}

impl Trial<'_> {
    fn check(&self, extra: u64) -> anyhow::Result<()> {
        let scratch = scratch()?;
        let folder = scratch.path().join("data");
        self.image.lay(&folder, self.place.file, &self.harmed.bytes)?;
        let found = inspect::verify_in(&folder, &world(), &mut ()).context("verify failed")?;
        let is_named = found.findings.iter().any(|finding| self.is_named_in(finding));
        ensure!(
            is_named || !log::is_covered(self.image, self.place.file, self.harmed),
            "verify does not name the file: {:?}",
            found.findings
        );
        let is_told = self.open(&folder)?;
        ensure!(is_named || !is_told, "verify finds nothing: {:?}", found.findings);
        match extra {
            0 => self.repair(&scratch.path().join("repaired")),
            1 => self.compact(&scratch.path().join("compacted")),
            _ => Ok(()),
        }
    }

    /// Opens the folder and looks at all of it. Whether it was refused, or an error stood in the place of something.
    fn open(&self, folder: &Path) -> anyhow::Result<bool> {
        let allowed = log::allowed(self.image, self.place.file, self.harmed);
        let engine = match (Engine::open_in(self.image.config(folder), world()), allowed) {
            (Ok(engine), _) => engine,
            (Err(error), Allowed::Refused { position }) => {
                self.is_named_by(&error)?;
                let at = offset(&error);
                ensure!(at == Some(position), "damage at {position} is told as at {at:?}: {error}");
                return Ok(true);
            }
            (Err(error), Allowed::Errors) => return self.is_named_by(&error).map(|()| true),
            (Err(error), _) => bail!("it does not start, though it could: {error}"),
        };
        let found = Shown::by(&engine, &self.image.claims)?;
        let report = engine.recovery().clone();
        let is_told = match allowed {
            Allowed::Refused { .. } => bail!("it starts, though a durable frame is damaged"),
            Allowed::EndsBefore { frame, is_silent, .. } => {
                let errors =
                    self.image.before[frame].compare(&found).context("the end of the log")?;
                ensure!(errors.is_empty(), "errors: {errors:?}");
                ensure!(
                    report.torn_bytes > 0 || is_silent,
                    "the log lost its end, and the start does not say so"
                );
                !is_silent
            }
            Allowed::Errors | Allowed::ErrorsOnce | Allowed::Nothing => {
                let errors = self.image.shown.compare(&found)?;
                for error in &errors {
                    ensure!(allowed != Allowed::Nothing, "it can be read all the same: {error}");
                    self.is_named_by(error)?;
                }
                !errors.is_empty() || report.fell_back.is_some()
            }
        };
        if let Some(why) = &report.fell_back {
            let name = self.name();
            ensure!(why.contains(&name), "it fell back, and does not name {name}: {why}");
        }
        if allowed == Allowed::ErrorsOnce && is_told {
            engine.prepare()?;
            engine.crash();
            let engine =
                Engine::open_in(self.image.config(folder), world()).context("the next start")?;
            let errors = self.image.shown.compare(&Shown::by(&engine, &self.image.claims)?)?;
            ensure!(errors.is_empty(), "after another start: {errors:?}");
            self.go_on(&engine)?;
            engine.crash();
            return Ok(true);
        }
        self.go_on(&engine)?;
        engine.crash();
        Ok(is_told)
    }

    /// New messages get ids that nobody was told before.
    fn go_on(&self, engine: &Engine) -> anyhow::Result<()> {
        let mut keys = Vec::new();
        engine.visit_queues(|queue| keys.push(queue.key().clone()))?;
        for key in keys {
            let message = NewMessage { ttl_s: 100, body: b"new" };
            let posted = match engine.post(&key, CLIENTS[0], &[message], None) {
                Ok(posted) => posted.wait()?,
                Err(error) => return self.is_named_by(&error),
            };
            for id in posted {
                ensure!(!self.image.ever.contains_key(&id), "{id:?} was given out before");
                let found = engine.get(&key, &[id])?.wait()?;
                ensure!(found.len() == 1 && found[0].body()? == b"new"[..], "{id:?} is not there");
            }
        }
        Ok(())
    }

    /// What there was before what the log's end has lost.
    fn truth(&self) -> &Shown {
        match log::allowed(self.image, self.place.file, self.harmed) {
            Allowed::EndsBefore { frame, .. } => &self.image.before[frame],
            _ => &self.image.shown,
        }
    }

    /// What compaction writes anew is what was there, also after another start.
    fn compact(&self, folder: &Path) -> anyhow::Result<()> {
        self.image.lay(folder, self.place.file, &self.harmed.bytes)?;
        let Ok(engine) = Engine::open_in(self.image.config(folder), world()) else { return Ok(()) };
        if let Err(error) = engine.compact() {
            self.is_named_by(&error).context("compaction")?;
        }
        let after = Shown::by(&engine, &self.image.claims)?;
        self.truth().compare(&after).context("after a compaction")?;
        engine.close()?;
        let engine = match Engine::open_in(self.image.config(folder), world()) {
            Ok(engine) => engine,
            Err(error) => return self.is_named_by(&error),
        };
        let again = Shown::by(&engine, &self.image.claims)?;
        engine.crash();
        self.truth().compare(&again).context("after a compaction and a start").map(drop)
    }

    /// Repairs the folder: it opens, and no more is lost than the plan says.
    fn repair(&self, folder: &Path) -> anyhow::Result<()> {
        self.image.lay(folder, self.place.file, &self.harmed.bytes)?;
        let plan = match inspect::plan_repair_in(folder, &world(), &mut ()) {
            // Nothing is touched where all says that another program wrote it.
            Err(error @ Error::OtherVersion { .. }) => return self.is_named_by(&error),
            plan => plan.context("planning a repair")?,
        };
        let done = inspect::apply_repair_in(folder, &world(), &mut ()).context("repairing")?;
        ensure!(done.plan.findings == plan.findings, "planned {plan:?}, done {done:?}");
        let engine = Engine::open_in(self.image.config(folder), world())
            .with_context(|| format!("repaired, it does not start: {plan:?}"))?;
        let found = Shown::by(&engine, &self.image.claims)?;
        engine.crash();
        for (id, body) in found.bodies() {
            let posted = self.image.ever.get(&id);
            ensure!(posted == Some(body), "repaired, {id:?} has another body: {body:?}");
        }
        let was = self.truth();
        let (said, ids) = (Said::by(&plan), found.ids());
        for (key, was) in was.ids() {
            let is = ids.get(key).map(Vec::as_slice).unwrap_or_default();
            for id in was.iter().filter(|id| !is.contains(id)) {
                ensure!(
                    said.has(key.name(), id),
                    "{id:?} is lost, and the plan did not say: {plan:?}"
                );
            }
            let back = is.iter().any(|id| !was.contains(id));
            ensure!(!back || !plan.findings.is_empty(), "messages came back: {plan:?}");
        }
        let mended = inspect::verify_in(folder, &world(), &mut ())?;
        ensure!(
            mended.worst() < Some(marconi_engine::Severity::Warning),
            "repaired, verify still finds {:?}",
            mended.findings
        );
        Ok(())
    }

    fn name(&self) -> String {
        let path = &self.image.files[self.place.file].path;
        path.file_name().expect("a file").to_string_lossy().into_owned()
    }

    fn is_named_in(&self, finding: &Finding) -> bool {
        finding.file.ends_with(&self.image.files[self.place.file].path)
    }

    fn is_named_by(&self, error: &Error) -> anyhow::Result<()> {
        let name = self.name();
        ensure!(error.to_string().contains(&name), "the error does not name {name}: {error}");
        Ok(())
    }
}

fn offset(error: &Error) -> Option<u64> {
    match error {
        Error::Damaged { offset, .. } => Some(*offset),
        _ => None,
    }
}

/// What a plan says is lost.
struct Said {
    /// By the queue's name: first number and count.
    messages: BTreeMap<String, Vec<(u64, u64)>>,
    /// Some bytes of which nobody knows what they said.
    anything: bool,
}

impl Said {
    fn by(plan: &RepairPlan) -> Said {
        let mut said = Said { messages: BTreeMap::new(), anything: false };
        for lost in plan.findings.iter().flat_map(|finding| &finding.lost) {
            match (lost.what, &lost.key, lost.first) {
                (LostKind::Messages, Some(key), Some(first)) if lost.count > 0 => {
                    let of_it = said.messages.entry(key.name().to_owned()).or_default();
                    of_it.push((first.0, lost.count));
                }
                (LostKind::Record, ..) => {}
                _ => said.anything = true,
            }
        }
        said
    }

    fn has(&self, queue: &str, id: &MessageId) -> bool {
        let ranges = self.messages.get(queue).map(Vec::as_slice).unwrap_or_default();
        let is_in = |(first, count): &(u64, u64)| (*first..first + count).contains(&id.seq.0);
        self.anything || ranges.iter().any(is_in)
    }
}
