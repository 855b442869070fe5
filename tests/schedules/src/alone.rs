//! The log without an engine: who appends, who waits and how, who gives it room, who ends it, and a disk that
//! fails. Knows no queues.

use crate::run::{below, pick};
use crate::witness::Witness;
use crate::worker::{Task, work};
use marconi_engine::internals::journal::Journal;
use marconi_engine::{Durability, Error, Lsn, Receipt, Result};
use shuttle::future::block_on;
use shuttle::thread;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Room for a few frames.
const SEGMENT_SIZE: u64 = 8 << 10;
/// Of which so large ones fill it with four.
const LARGE_SIZE: usize = 900;
/// More than is ever written here.
const NO_BOUND: u64 = 1 << 20;

/// A log, the disk it is on, and what was appended.
struct World {
    journal: Journal,
    disk: Witness,
    /// Each frame's bytes, and where the log says it is.
    appended: Mutex<Vec<(Vec<u8>, Lsn)>>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(waiting_max: u64) -> Arc<World> {
        let folder = folder();
        let disk = Witness::default();
        let journal =
            Journal::start(Arc::new(disk.clone()), folder.path().into(), SEGMENT_SIZE, waiting_max);
        let journal = journal.expect("nothing fails so early");
        Arc::new(World { journal, disk, appended: Mutex::default(), _folder: folder })
    }

    /// Appends a frame that no other is like.
    fn append(&self, who: u8, number: u8, size: usize, demand: Durability) -> Result<Waiting> {
        let mut bytes = vec![who, 0xa5, number, 0x5a, who ^ number, 0xc3, number, who];
        bytes.resize(size, 0xee);
        let receipt = self.journal.append(&bytes, demand)?;
        bytes.truncate(8);
        Ok(Waiting { bytes, demand, receipt })
    }

    /// Checks an answer the moment it is given.
    fn check(&self, bytes: &[u8], demand: Durability, lsn: Lsn) {
        match demand {
            Durability::Memory => {}
            Durability::Os | Durability::Interval => {
                assert!(self.disk.has_written(bytes), "{demand}: told before it was written");
            }
            Durability::Group | Durability::Each => {
                assert!(self.disk.has_synced(bytes), "{demand}: told before it was synced");
            }
        }
        self.appended().push((bytes.to_vec(), lsn));
    }

    /// Appends and waits, as a thread does; what was refused is not there.
    fn post(&self, who: u8, number: u8, size: usize, demand: Durability) -> Result<()> {
        let Waiting { bytes, demand, receipt } = self.append(who, number, size, demand)?;
        let lsn = receipt.wait()?;
        self.check(&bytes, demand, lsn);
        Ok(())
    }

    /// As [`World::post`], as a task does.
    async fn post_later(&self, who: u8, number: u8, size: usize, demand: Durability) -> Result<()> {
        self.journal.ready().await;
        let Waiting { bytes, demand, receipt } = self.append(who, number, size, demand)?;
        let lsn = receipt.await?;
        self.check(&bytes, demand, lsn);
        Ok(())
    }

    /// Ends it in good order, after which all that was answered before is on the disk.
    fn close_and_look(&self) {
        self.journal.close();
        if !self.journal.has_failed() {
            for (bytes, lsn) in &*self.appended() {
                assert!(self.disk.has_synced(bytes), "{lsn} was answered before the end, and lost");
            }
        }
        self.look_at_order();
    }

    /// Frames lie in the order of their LSNs.
    fn look_at_order(&self) {
        let mut appended = self.appended().clone();
        appended.sort_by_key(|(_, lsn)| *lsn);
        let places: Vec<(u64, u64)> =
            appended.iter().filter_map(|(bytes, _)| self.disk.place(bytes)).collect();
        assert!(places.is_sorted(), "frames lie in another order than their LSNs: {places:?}");
    }

    fn appended(&self) -> MutexGuard<'_, Vec<(Vec<u8>, Lsn)>> {
        self.appended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waiting {
    bytes: Vec<u8>,
    demand: Durability,
    receipt: Receipt<Lsn>,
}

/// A folder in memory, where there is one.
pub(crate) fn folder() -> tempfile::TempDir {
    let made = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    made.expect("the system has room for a folder")
}

fn spawn(world: &Arc<World>, work: impl FnOnce(&World) + Send + 'static) -> thread::JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || work(&world))
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("its panic is told first");
    }
}

fn demand() -> Durability {
    // The default as often as all others.
    if below(2) == 0 { Durability::Group } else { pick(&Durability::ALL) }
}

/// Only a wait of seconds ends with `Busy`, and the clock leaps.
fn expect_done(done: Result<()>) {
    assert!(matches!(done, Ok(()) | Err(Error::Busy)), "refused: {done:?}");
}

/// A thread that attends, with a task for each frame.
fn attendant(world: &Arc<World>, who: u8, expect: fn(Result<()>)) -> thread::JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || {
        let tasks = (0..2).map(|number| -> Task {
            let world = world.clone();
            Box::pin(async move { expect(world.post_later(who, number, 8, demand()).await) })
        });
        let chores = |can_look| world.journal.do_chores(can_look);
        work(world.journal.attend(), chores, tasks.collect());
    })
}

/// Threads of no kind append and wait; one asks for all to be synced.
pub(crate) fn group() {
    let world = World::new(NO_BOUND);
    let mut threads: Vec<_> = (1..=2)
        .map(|who| {
            spawn(&world, move |world| {
                for number in 0..2 {
                    expect_done(world.post(who, number, 8, demand()));
                }
            })
        })
        .collect();
    threads.push(spawn(&world, |world| {
        let appended = world.append(3, 0, 8, Durability::Memory).expect("there is room");
        world.journal.sync().expect("the disk works");
        assert!(world.disk.has_synced(&appended.bytes), "a sync ended before it was one");
    }));
    join(threads);
    world.close_and_look();
}

/// Threads that attend to the log, and one that does not.
pub(crate) fn attending() {
    let world = World::new(NO_BOUND);
    let threads = vec![
        attendant(&world, 1, expect_done),
        attendant(&world, 2, expect_done),
        spawn(&world, |world| expect_done(world.post(3, 0, 8, demand()))),
        spawn(&world, |world| {
            // Attends by the way, as a thread of a program that embeds the engine does.
            let _attendance = world.journal.attend();
            expect_done(world.post(4, 0, 8, demand()));
        }),
    ];
    join(threads);
    world.close_and_look();
}

/// Too many bytes wait, and the segment fills: threads and tasks wait for room.
pub(crate) fn room() {
    let world = World::new(LARGE_SIZE as u64);
    crowd(&world, expect_done);
    world.close_and_look();
}

/// Six large frames: the fifth has to wait for the next segment.
fn crowd(world: &Arc<World>, expect: fn(Result<()>)) {
    let mut threads: Vec<_> = (1..=2)
        .map(|who| {
            spawn(world, move |world| {
                for number in 0..2 {
                    expect(world.post(who, number, LARGE_SIZE, demand()));
                }
            })
        })
        .collect();
    threads.push(spawn(world, move |world| {
        for number in 0..2 {
            expect(block_on(world.post_later(3, number, LARGE_SIZE, demand())));
        }
    }));
    threads.push(spawn(world, |world| {
        // Where the disk fails, so may this.
        let _ = world.journal.give_segment();
    }));
    join(threads);
}

/// A failure comes to everybody as what it is.
fn expect_done_or_failed(done: Result<()>) {
    let is_well = matches!(done, Ok(()) | Err(Error::Busy | Error::ReadOnly(_)));
    assert!(is_well, "refused: {done:?}");
}

fn fail_soon(world: &World, most: u32) {
    let n = 1 + below(most);
    match below(3) {
        0 => world.disk.fail(Some(n), None),
        1 => world.disk.fail(None, Some(n)),
        _ => world.disk.fail(Some(n), Some(1 + below(most))),
    }
}

/// A write or a sync fails while others wait, write and sync.
pub(crate) fn failure() {
    let world = World::new(NO_BOUND);
    fail_soon(&world, 3);
    let threads = vec![
        attendant(&world, 1, expect_done_or_failed),
        spawn(&world, |world| {
            for number in 0..3 {
                expect_done_or_failed(world.post(2, number, 8, demand()));
            }
        }),
        spawn(&world, |world| {
            let _ = world.append(3, 0, 8, Durability::Memory);
            expect_done_or_failed(world.journal.sync());
        }),
    ];
    join(threads);
    if world.journal.has_failed() {
        let refused = world.append(4, 0, 8, Durability::Memory).err();
        assert!(matches!(refused, Some(Error::ReadOnly(_))), "taken after a failure");
    }
    world.close_and_look();
}

/// The disk fails while threads and tasks wait for room.
pub(crate) fn failure_without_room() {
    let world = World::new(LARGE_SIZE as u64);
    fail_soon(&world, 4);
    let mut threads: Vec<_> = (1..=2)
        .map(|who| {
            spawn(&world, move |world| {
                for number in 0..3 {
                    let posted = match who {
                        1 => world.post(who, number, LARGE_SIZE, demand()),
                        _ => block_on(world.post_later(who, number, LARGE_SIZE, demand())),
                    };
                    expect_done_or_failed(posted);
                }
            })
        })
        .collect();
    threads.push(spawn(&world, |world| {
        // Without this nobody would be woken but by the failure, which may have been passed by.
        while !world.journal.has_failed() && !matches!(world.journal.give_segment(), Ok(true)) {
            thread::yield_now();
        }
    }));
    join(threads);
    world.close_and_look();
}

/// The write fails on which somebody waits for room; nothing else would wake him.
pub(crate) fn failure_at_the_door() {
    let world = World::new(0);
    world.disk.fail(Some(1), None);
    let threads = vec![
        spawn(&world, |world| {
            let _ = world.append(1, 0, 8, Durability::Memory);
            expect_done_or_failed(world.post(1, 1, 8, Durability::Os));
        }),
        spawn(&world, |world| {
            expect_done_or_failed(block_on(world.post_later(2, 0, 8, Durability::Os)));
        }),
    ];
    join(threads);
}

/// Whoever comes too late is told so; everybody else gets what was promised.
fn expect_done_or_closed(done: Result<()>) {
    let is_well = matches!(done, Ok(()) | Err(Error::Busy | Error::Closed));
    assert!(is_well, "refused: {done:?}");
}

/// The log is closed while threads of each kind append.
pub(crate) fn close() {
    let world = World::new(NO_BOUND);
    let threads = vec![
        attendant(&world, 1, expect_done_or_closed),
        spawn(&world, |world| {
            for number in 0..2 {
                expect_done_or_closed(world.post(2, number, 8, demand()));
            }
        }),
        spawn(&world, |world| {
            expect_done_or_closed(world.post(3, 0, 8, Durability::Os));
            expect_done_or_closed(world.journal.sync());
        }),
    ];
    world.journal.close();
    join(threads);
    world.look_at_order();
}

/// Whoever waits when it is abandoned is told that nobody knows.
fn expect_any_answer(done: Result<()>) {
    let is_well = matches!(done, Ok(()) | Err(Error::Busy | Error::Closed | Error::ReadOnly(_)));
    assert!(is_well, "refused: {done:?}");
}

/// The log is abandoned, as in a crash, while threads of each kind append and wait for room.
pub(crate) fn abandon() {
    let world = World::new(LARGE_SIZE as u64);
    let threads = vec![
        attendant(&world, 1, expect_any_answer),
        spawn(&world, |world| {
            for number in 0..3 {
                expect_any_answer(world.post(2, number, LARGE_SIZE, demand()));
            }
        }),
        spawn(&world, |world| {
            for number in 0..2 {
                expect_any_answer(block_on(world.post_later(3, number, LARGE_SIZE, demand())));
            }
            expect_any_answer(world.journal.sync());
        }),
    ];
    world.journal.abandon();
    let refused = world.append(4, 0, 8, Durability::Memory).err();
    assert!(refused.is_some(), "taken after the end");
    join(threads);
    world.look_at_order();
}
