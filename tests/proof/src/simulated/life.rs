//! One life of an engine in a simulated world, recorded: what was asked and when, when it was acknowledged, and which
//! states the disk may therefore hold after a power cut at any point. Cuts no power itself.

use super::plan::{Known, Move, Plan};
use super::record::{Record, Step};
use super::world::{Waiting, World};
use marconi_engine::{Durability, Engine, Error};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A life, and what may be left of it.
pub struct Life {
    /// The world it was lived in, with its recorded disk.
    pub world: World,
    /// The state after each thing asked for, in the order of the log; first the empty one.
    pub states: Vec<Asked>,
    /// The clock: each time with the number of changes of the disk before it.
    times: Vec<(usize, u64)>,
    /// From so many changes on, all up to a state lasts.
    durable: Vec<(usize, usize)>,
    /// How it ended, if not well.
    pub ended: Option<Error>,
    /// What was shown after that, by queue and number, and therefore has to last.
    pub shown_at_last: BTreeSet<(String, u64)>,
}

/// Something that was asked for.
pub struct Asked {
    /// Changes of the disk before.
    pub at: usize,
    /// What it was; `None` for the beginning.
    pub step: Option<Step>,
    /// The state if it lasts.
    pub record: Record,
}

/// What is under way.
struct Pending {
    waiting: Waiting,
    /// Its place among the states.
    place: usize,
    /// Whether it changed anything: an answer without a change says nothing of what was asked for before.
    has_changed: bool,
}

impl Life {
    /// Lives as the plan says, until it is through or something fails for good. With `is_recorded`, every change of
    /// the disk can be played back.
    pub fn live(world: World, mut plan: Plan, is_recorded: bool) -> Life {
        if is_recorded {
            world.disk.record();
        }
        let empty = Asked { at: 0, step: None, record: Record::default() };
        let now_ms = world.clock_ms();
        let mut life = Life {
            world,
            states: vec![empty],
            times: vec![(0, now_ms)],
            durable: vec![(0, 0)],
            ended: None,
            shown_at_last: BTreeSet::new(),
        };
        match life.world.try_open(life.world.config()) {
            Ok(engine) => {
                life.ended = life.go(&engine, &mut plan).err();
                if plan.closes && life.ended.is_none() && engine.close().is_ok() {
                    let all = life.states.len() - 1;
                    life.durable.push((life.world.disk.recorded(), all));
                }
                if matches!(life.ended, Some(Error::ReadOnly(_))) {
                    let shown = life.world.shown_for_good(&engine);
                    life.shown_at_last = shown.expect("reads go on after a failure");
                }
                engine.crash();
            }
            Err(error) => life.ended = Some(error),
        }
        life
    }

    fn go(&mut self, engine: &Engine, plan: &mut Plan) -> Result<(), Error> {
        let mut pending: Vec<Pending> = Vec::new();
        loop {
            let record = &mut self.states.last_mut().expect("there is one").record;
            let now_ms = self.world.clock_ms();
            let mut now = record.clone();
            now.expire(now_ms);
            let (messages, claims) = (&self.world.messages, &self.world.claims);
            let knows = |known: Known| match known {
                Known::Message(number) => messages.contains_key(&number),
                Known::Claim(claim) => claims.contains_key(&claim),
            };
            let Some(next) = plan.next(&now, &knows) else { return Ok(()) };
            match next {
                Move::Ask(step) => self.ask(engine, step, &mut pending)?,
                Move::Commit => engine.before_sleep(),
                Move::Prepare => bear(engine.prepare())?,
                Move::Care => bear(engine.care())?,
                Move::Advance(by_ms) => {
                    self.world.clock.advance_ms(by_ms);
                    self.times.push((self.world.disk.recorded(), self.world.clock_ms()));
                }
            }
            self.hear(&mut pending)?;
        }
    }

    fn ask(
        &mut self,
        engine: &Engine,
        step: Step,
        pending: &mut Vec<Pending>,
    ) -> Result<(), Error> {
        let mut last = self.states.last().expect("there is one").record.clone();
        last.expire(self.world.clock_ms());
        let record = last.after(&step, self.world.clock_ms());
        let has_changed = record != last;
        let at = self.world.disk.recorded();
        let place = self.states.len();
        let is_upkeep = matches!(step, Step::Sync | Step::Checkpoint | Step::Compact);
        let queue = step.queue().filter(|_| has_changed).map(str::to_owned);
        // It may last whatever becomes of the answer, from now on.
        let asked = self.world.begin(engine, &step);
        match asked {
            // Refused before anything was done.
            Err(Error::Full | Error::Busy) => return Ok(()),
            Err(error) if is_upkeep => return bear(Err(error)),
            Err(error) => {
                self.states.push(Asked { at, step: Some(step), record });
                return Err(error);
            }
            Ok(_) if is_upkeep => {
                self.durable.push((self.world.disk.recorded(), self.states.len() - 1));
            }
            Ok(waiting) => {
                self.states.push(Asked { at, step: Some(step), record });
                pending.push(Pending { waiting, place, has_changed });
                if let Some(queue) = queue {
                    // Whoever sees the change may rely on it as much as whoever made it.
                    let waiting = self.world.look(engine, &queue)?;
                    pending.push(Pending { waiting, place, has_changed });
                }
            }
        }
        Ok(())
    }

    /// Hears the answers that have come.
    fn hear(&mut self, pending: &mut Vec<Pending>) -> Result<(), Error> {
        let mut context = Context::from_waker(Waker::noop());
        let mut failed = None;
        let world = &mut self.world;
        let durable = &mut self.durable;
        pending.retain_mut(|one| {
            let level = one.waiting.durability();
            let heard = match &mut one.waiting {
                Waiting::Nothing => Poll::Ready(Ok(())),
                Waiting::Ids(numbers, receipt) => Pin::new(receipt)
                    .poll(&mut context)
                    .map_ok(|ids| world.learn_messages(numbers, ids)),
                Waiting::Claim(claim, receipt) => {
                    Pin::new(receipt).poll(&mut context).map_ok(|made| {
                        if let Some(made) = made {
                            world.learn_claim(*claim, made.id);
                        }
                    })
                }
                Waiting::Queue(receipt) => Pin::new(receipt).poll(&mut context).map_ok(drop),
                Waiting::Done(receipt) => Pin::new(receipt).poll(&mut context),
                Waiting::Look(receipt) => Pin::new(receipt).poll(&mut context).map_ok(drop),
            };
            match heard {
                Poll::Pending => return true,
                Poll::Ready(Ok(())) if level >= Durability::Group && one.has_changed => {
                    durable.push((world.disk.recorded(), one.place));
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => failed = Some(error),
            }
            false
        });
        failed.map_or(Ok(()), Err)
    }

    /// The places of the states that may be left when the power goes after so many changes of the disk: the last
    /// that was acknowledged as durable, and the last that was asked for.
    pub fn allowed(&self, changes: usize) -> (usize, usize) {
        let durable =
            self.durable.iter().filter(|(from, _)| *from <= changes).map(|(_, place)| *place);
        let asked = self.states.iter().take_while(|asked| asked.at <= changes).count() - 1;
        (durable.max().unwrap_or(0), asked)
    }

    /// What the clock said then.
    pub fn time_at(&self, changes: usize) -> u64 {
        self.times.iter().take_while(|(from, _)| *from <= changes).last().expect("it began").1
    }

    /// Opens what a power cut after so many changes left, and returns the state it has. `how` is told with a failure.
    ///
    /// # Panics
    /// When it does not open, or has none of the states it may have.
    pub fn check(&self, left: &World, changes: usize, how: &str) -> (Engine, Record) {
        self.find(left, changes, how).unwrap_or_else(|why| panic!("{why}"))
    }

    /// As [`Life::check`], for whoever expects a failure.
    ///
    /// # Errors
    /// What is wrong.
    ///
    /// # Panics
    /// When what is there contradicts itself.
    pub fn find(
        &self,
        left: &World,
        changes: usize,
        how: &str,
    ) -> Result<(Engine, Record), String> {
        let context = format!("after a power cut at change {changes} ({how})");
        let opened = left.try_open(left.config());
        let engine = opened.map_err(|error| format!("{context} it does not open: {error}"))?;
        let seen = left.view(&engine);
        let now_ms = left.clock_ms();
        let (first, last) = self.allowed(changes);
        let allowed = self.states[first..=last].iter().rev();
        let found = allowed.map(|asked| &asked.record).find(|record| record.view(now_ms) == seen);
        match found {
            Some(record) => Ok((engine, record.clone())),
            None => Err(format!(
                "{context} there is {seen:#?}, which is none of the states {first} (the last one acknowledged) \
                 to {last}: {:#?}\nasked was {:#?}",
                self.states[first].record.view(now_ms),
                self.states.iter().map(|asked| (asked.at, &asked.step)).collect::<Vec<_>>(),
            )),
        }
    }
}

/// What upkeep may fail with and life goes on; what ended it is heard by whoever asks next.
fn bear(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(error @ Error::Damaged { .. }) => Err(error),
        _ => Ok(()),
    }
}
