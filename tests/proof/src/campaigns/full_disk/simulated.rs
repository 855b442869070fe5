//! The simulated half: an engine whose disk loses its room and gets it back, and beside it the record of what was
//! acknowledged. Each refusal has to be one that the room explains, and to have changed nothing.

use crate::random::Random;
use crate::simulated::plan::{Move, Plan};
use crate::simulated::record::{Record, Step};
use crate::simulated::world::World;
use anyhow::{Context, bail, ensure};
use marconi_engine::env::sim::Loss;
use marconi_engine::{Durability, Engine, Error};
use std::io::ErrorKind;

/// Moments without room in a trial.
const MOMENTS: u64 = 4;
/// What a trial in good times has, at the most, before each of them.
const MOVES_BEFORE_MAX: u64 = 40;
/// And in each of them.
const MOVES_WITHOUT_MAX: u64 = 40;
const SEGMENT_SIZE: u64 = 64 << 10;
/// What posting leaves free where it does.
const RESERVE_SIZE: u64 = 8 * SEGMENT_SIZE;
/// A filling that ends no disk is no filling.
const FILLS_MAX: u64 = 200;
/// With nothing stored: the open segment and the next, one that a checkpoint ends in, the spares, two checkpoints.
const EMPTY_SIZE_MAX: u64 = 7 * SEGMENT_SIZE;
/// A reclaiming checkpoint is due after this.
const RECLAIM_MS: u64 = 11_000;

/// Who has the room, and so what may be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Nobody: all is taken.
    Free,
    /// Posts took it, down to the reserve: they alone are refused, and go on being refused.
    Posts,
    /// Somebody took all there was, and left what was made ready for the log: as with `Posts`.
    Others,
    /// Somebody took it in the midst of things: whatever needs a new piece of log is refused.
    Sudden,
}

pub(super) fn trial(seed: u64) -> anyhow::Result<u64> {
    let mut trial = Trial::new(seed)?;
    for moment in 0..MOMENTS {
        let told = trial.moment().with_context(|| format!("moment {moment}"));
        told.with_context(|| format!("after {:#?}", trial.done))?;
    }
    trial.leaves_no_waste().with_context(|| format!("after {:#?}", trial.done))?;
    trial.engine.crash();
    Ok(MOMENTS)
}

struct Trial {
    world: World,
    engine: Engine,
    /// What was acknowledged.
    record: Record,
    random: Random,
    plan: Plan,
    reserve_bytes: u64,
    capacity: Option<u64>,
    is_out_of_names: bool,
    /// What was done, and what became of it.
    done: Vec<String>,
}

impl Trial {
    fn new(seed: u64) -> anyhow::Result<Trial> {
        let mut random = Random::new(seed);
        let world = World::by_hand(seed);
        let plan = Plan::new(random.word(), u64::MAX);
        let reserve_bytes = if random.one_in(3) { 0 } else { RESERVE_SIZE };
        let mut trial = Trial {
            engine: open(&world, reserve_bytes)?,
            world,
            record: Record::default(),
            random,
            plan,
            reserve_bytes,
            capacity: None,
            is_out_of_names: false,
            done: Vec::new(),
        };
        let level = trial.plan.levels[0];
        trial.ask(&Step::CreateAt("a".to_owned(), level), Room::Free)?;
        Ok(trial)
    }

    /// Some time with room, some without, and room again.
    fn moment(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.random.below(MOVES_BEFORE_MAX) {
            self.go_on(Room::Free)?;
        }
        let room = self.take_room()?;
        self.compare().context("once the room was gone")?;
        for _ in 0..self.random.below(MOVES_WITHOUT_MAX) {
            if self.random.one_in(30) && !self.restart(room)? {
                break;
            }
            self.go_on(room)?;
        }
        self.compare().context("without room")?;
        self.give_room(room)?;
        self.compare().context("with room again")?;
        if self.random.one_in(2) {
            self.restart(Room::Free)?;
            self.compare().context("after a restart with room")?;
        }
        Ok(())
    }

    fn take_room(&mut self) -> anyhow::Result<Room> {
        let random = &mut self.random;
        let used = self.world.disk.used_bytes();
        if self.reserve_bytes == 0 || random.one_in(2) {
            // From any byte on.
            let most = 1 << random.below(19);
            let left = random.below(most);
            self.is_out_of_names = random.one_in(4);
            self.set_capacity(Some(used + left));
            let names = if self.is_out_of_names { "no names" } else { "names" };
            self.done.push(format!("{left} bytes and {names} are left"));
            // Whatever makes a file comes by soon.
            self.fill(Room::Sudden, 8)?;
            return Ok(Room::Sudden);
        }
        if random.one_in(2) {
            self.bear("prepare", Engine::prepare)?;
            let used = self.world.disk.used_bytes();
            self.set_capacity(Some(used));
            self.done.push("nothing is left but what was made ready".to_owned());
            self.bear("care", Engine::care)?;
            ensure!(is_full(&self.engine), "nothing is left, and posting goes on");
            return Ok(Room::Others);
        }
        let left = RESERVE_SIZE + (3 + random.below(8)) * SEGMENT_SIZE;
        self.set_capacity(Some(used + left));
        self.done.push(format!("{left} bytes are left to posts and the reserve"));
        ensure!(self.fill(Room::Posts, FILLS_MAX)?, "{FILLS_MAX} posts do not fill {left} bytes");
        Ok(Room::Posts)
    }

    /// Posts, and does what the background does in between, until a post is refused or so often.
    fn fill(&mut self, room: Room, posts_max: u64) -> anyhow::Result<bool> {
        for _ in 0..posts_max {
            let new = self.plan.new_number();
            let batch = (new..new + 4).map(|number| (number, 3_500)).collect();
            let queue = self.record.queues.keys().next().cloned();
            let step = match queue {
                Some(queue) => Step::Post(queue, batch),
                None => Step::CreateAt("a".to_owned(), self.plan.levels[0]),
            };
            if !self.ask(&step, room)? {
                return Ok(true);
            }
            self.bear("prepare", Engine::prepare)?;
            self.bear("care", Engine::care)?;
        }
        Ok(false)
    }

    /// One move of the plan.
    fn go_on(&mut self, room: Room) -> anyhow::Result<()> {
        let mut now = self.record.clone();
        now.expire(self.world.clock_ms());
        match self.plan.next(&now, &|_| true).context("a plan without an end")? {
            Move::Ask(step) => drop(self.ask(&step, room)?),
            Move::Commit => self.engine.before_sleep(),
            Move::Prepare => self.bear("prepare", Engine::prepare)?,
            Move::Care => self.bear("care", Engine::care)?,
            Move::Advance(by_ms) => self.world.clock.advance_ms(by_ms),
        }
        self.is_well()
    }

    /// Asks for a step; whether it was taken.
    fn ask(&mut self, step: &Step, room: Room) -> anyhow::Result<bool> {
        let now_ms = self.world.clock_ms();
        let is_post = matches!(step, Step::Post(..) | Step::CreateAt(..));
        let was_full = is_full(&self.engine);
        let outcome = self.world.run(&self.engine, step);
        self.done.push(format!("{step:?}: {:?}", outcome.as_ref().err()));
        let is_taken = match outcome {
            Ok(()) => {
                ensure!(!(is_post && was_full), "taken while posting is stopped: {step:?}");
                self.record = self.record.after(step, now_ms);
                true
            }
            Err(Error::Full | Error::Busy) if room == Room::Sudden => false,
            Err(Error::Full) if is_post && room != Room::Free => false,
            Err(error) if is_upkeep(step) && room != Room::Free && is_out_of_space(&error) => false,
            Err(error) => bail!("{step:?}, and the room is {room:?}'s: {error}"),
        };
        self.is_well()?;
        Ok(is_taken)
    }

    /// Upkeep, which only the room may keep from its work.
    fn bear(&mut self, name: &str, round: fn(&Engine) -> Result<(), Error>) -> anyhow::Result<()> {
        let outcome = round(&self.engine);
        self.done.push(format!("{name}: {:?}", outcome.as_ref().err()));
        match outcome {
            Err(error) if self.capacity.is_none() || !is_out_of_space(&error) => {
                Err(error).with_context(|| format!("{name}, capacity {:?}", self.capacity))
            }
            _ => self.is_well(),
        }
    }

    /// A full disk is not a failure.
    fn is_well(&self) -> anyhow::Result<()> {
        match self.engine.health() {
            Ok(()) | Err(Error::Full) => Ok(()),
            Err(error) => bail!("the engine is not well: {error}"),
        }
    }

    /// What is there is what was acknowledged.
    fn compare(&self) -> anyhow::Result<()> {
        let (seen, expected) =
            (self.world.view(&self.engine), self.record.view(self.world.clock_ms()));
        ensure!(seen == expected, "there is {seen:#?}, and acknowledged was {expected:#?}");
        Ok(())
    }

    /// Ends in one way or another and starts again; without room it may be that it cannot, and then gets some, which
    /// is what `false` says.
    fn restart(&mut self, room: Room) -> anyhow::Result<bool> {
        // What weaker levels may lose is not the matter here.
        self.engine.sync().context("a sync needs no room")?;
        let end = self.random.below(3);
        if end == 0 {
            match self.engine.close() {
                Err(error) if room == Room::Free || !is_out_of_space(&error) => {
                    return Err(error).context("a close");
                }
                _ => {}
            }
        } else {
            self.engine.crash();
        }
        if end == 2 {
            let loss = *self.random.pick(&Loss::ALL).context("there are some")?;
            self.world.disk.crash(loss)?;
            self.set_capacity(self.capacity);
        }
        let free = self.free_bytes();
        self.done.push(format!("restart {end} with {free} bytes"));
        match open(&self.world, self.reserve_bytes) {
            Ok(engine) => self.engine = engine,
            Err(error) => {
                // A start begins a segment.
                let has_room = free >= 2 * SEGMENT_SIZE && !self.is_out_of_names;
                let needs_room = room != Room::Free && !has_room;
                ensure!(needs_room && is_out_of_space(&error), "{free} bytes are free: {error}");
                self.give_all();
                self.engine = open(&self.world, self.reserve_bytes)?;
                return Ok(false);
            }
        }
        self.compare().context("after a restart")?;
        self.bear("care", Engine::care)?;
        Ok(true)
    }

    /// There is room again; posting has to be taken again by itself.
    fn give_room(&mut self, room: Room) -> anyhow::Result<()> {
        if room == Room::Posts && self.capacity.is_some() && self.random.one_in(2) {
            // Who took it gives it back.
            let queues: Vec<(String, Vec<u64>)> = {
                let mut now = self.record.clone();
                now.expire(self.world.clock_ms());
                now.queues
                    .iter()
                    .map(|(name, queue)| (name.clone(), queue.messages.keys().copied().collect()))
                    .collect()
            };
            for (name, numbers) in queues {
                // So many ids as a request may name.
                for numbers in numbers.chunks(100) {
                    self.ask(&Step::DeleteMany(name.clone(), numbers.to_vec()), room)?;
                }
            }
            self.reclaim()?;
        } else {
            self.give_all();
        }
        self.bear("prepare", Engine::prepare)?;
        self.bear("care", Engine::care)?;
        ensure!(
            !is_full(&self.engine),
            "{} bytes are free, and posting does not resume: {:?}",
            self.free_bytes(),
            self.files(),
        );
        let queue = self.record.queues.keys().next().cloned();
        let step = match queue {
            Some(queue) => Step::Post(queue, vec![(self.plan.new_number(), 500)]),
            None => Step::CreateAt("b".to_owned(), Durability::Group),
        };
        self.ask(&step, Room::Free)?;
        self.give_all();
        Ok(())
    }

    /// What the background does while nobody asks for anything.
    fn reclaim(&mut self) -> anyhow::Result<()> {
        for _ in 0..4 {
            self.world.clock.advance_ms(RECLAIM_MS);
            self.bear("prepare", Engine::prepare)?;
            self.bear("care", Engine::care)?;
        }
        Ok(())
    }

    /// With all taken away no file is left that nobody needs.
    fn leaves_no_waste(&mut self) -> anyhow::Result<()> {
        for name in self.record.queues.keys().cloned().collect::<Vec<_>>() {
            self.ask(&Step::Remove(name), Room::Free)?;
        }
        self.ask(&Step::CreateAt("a".to_owned(), Durability::Group), Room::Free)?;
        self.fill(Room::Free, 6)?;
        self.ask(&Step::Remove("a".to_owned()), Room::Free)?;
        self.reclaim()?;
        let used = self.world.disk.used_bytes();
        ensure!(used <= EMPTY_SIZE_MAX, "nothing is stored in {used} bytes: {:?}", self.files());
        Ok(())
    }

    fn files(&self) -> Vec<String> {
        let list = |folder: &str| std::fs::read_dir(self.world.folder().join(folder));
        let entries = [list("log"), list("checkpoint")].into_iter().flatten().flatten().flatten();
        let shown = |entry: &std::fs::DirEntry| {
            let size = entry.metadata().map_or(0, |data| data.len());
            format!("{}: {size}", entry.file_name().display())
        };
        entries.map(|entry| shown(&entry)).collect()
    }

    fn set_capacity(&mut self, capacity: Option<u64>) {
        self.capacity = capacity;
        self.world.disk.set_capacity(capacity);
        self.world.disk.set_out_of_names(self.is_out_of_names);
    }

    fn give_all(&mut self) {
        self.is_out_of_names = false;
        self.set_capacity(None);
    }

    fn free_bytes(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |size| size.saturating_sub(self.world.disk.used_bytes()))
    }
}

fn open(world: &World, disk_reserve_bytes: u64) -> anyhow::Result<Engine, Error> {
    world.try_open(marconi_engine::Config { disk_reserve_bytes, ..world.config() })
}

fn is_full(engine: &Engine) -> bool {
    matches!(engine.health(), Err(Error::Full))
}

fn is_upkeep(step: &Step) -> bool {
    matches!(step, Step::Checkpoint | Step::Compact)
}

fn is_out_of_space(error: &Error) -> bool {
    match error {
        Error::Full => true,
        Error::Io { cause, .. } => cause.kind() == ErrorKind::StorageFull,
        _ => false,
    }
}
