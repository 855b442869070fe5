//! Which calls make a group durable soonest, how should it be laid, and do two syncs at once, or a wait for
//! company, bring more? Groups of whole blocks, into a file written full before.
use crate::disk::{self, BLOCK, GROUP, KIB, MIB, Made, Meter};
use crate::measure::{Effort, Study, Times, own_micros, repeat};
use crate::uring::{Ring, Submit};
use rustix::fs::OFlags;
use rustix::io::{ReadWriteFlags, pwritev2};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

mod gathering;

/// The log goes round in it.
const FILE_SIZE: usize = 32 * MIB;
const GROUP_SIZES: [usize; 3] = [4 * KIB, 16 * KIB, 64 * KIB];

pub(crate) fn ask(effort: Effort) -> io::Result<()> {
    for size in GROUP_SIZES {
        one_at_a_time(size, effort)?;
    }
    laid(effort)?;
    for size in GROUP_SIZES {
        two_at_a_time(size, effort)?;
    }
    gathering::ask(effort)
}

/// The calls that make a group durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    WriteThenSync,
    /// `O_DSYNC`: each write syncs.
    SyncOnWrite,
    /// `RWF_DSYNC`: this one does.
    SyncThisWrite,
    /// `O_DIRECT` and `O_DSYNC`.
    Direct,
    DirectThenSync,
}

impl How {
    fn flags(self) -> OFlags {
        match self {
            How::WriteThenSync | How::SyncThisWrite => OFlags::empty(),
            How::SyncOnWrite => OFlags::DSYNC,
            How::Direct => OFlags::DIRECT | OFlags::DSYNC,
            How::DirectThenSync => OFlags::DIRECT,
        }
    }
}

/// A file full of zeros, none of them in the page cache: so a segment is made.
fn made(path: &Path, flags: OFlags) -> io::Result<File> {
    let file = disk::make(path, Made::Zeroed { piece: MIB }, FILE_SIZE, flags)?;
    disk::evict(&file)?;
    Ok(file)
}

fn commit(file: &File, how: How, size: usize, at: u64) -> io::Result<()> {
    let bytes = &GROUP.0[..size];
    match how {
        How::SyncOnWrite | How::Direct => file.write_all_at(bytes, at),
        How::WriteThenSync | How::DirectThenSync => {
            file.write_all_at(bytes, at)?;
            file.sync_data()
        }
        How::SyncThisWrite => {
            let written = pwritev2(file, &[IoSlice::new(bytes)], at, ReadWriteFlags::DSYNC)?;
            if written == size { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
        }
    }
}

/// Where the group of this number goes.
fn place(number: u64, size: usize) -> u64 {
    number * size as u64 % FILE_SIZE as u64
}

// ---- one group at a time ----

fn one_at_a_time(size: usize, effort: Effort) -> io::Result<()> {
    let folder = disk::scratch()?;
    let title = format!("Groups of {} KiB, one after the other", size / KIB);
    let mut study = Study::new(title, &["groups/s", "p50 us", "p99 us", "processor us a group"]);
    for (name, how) in [
        ("pwrite + fdatasync", How::WriteThenSync),
        ("O_DSYNC", How::SyncOnWrite),
        ("RWF_DSYNC", How::SyncThisWrite),
        ("O_DIRECT and O_DSYNC", How::Direct),
        ("O_DIRECT, pwrite + fdatasync", How::DirectThenSync),
    ] {
        let file = made(&folder.path().join(name), how.flags())?;
        let mut number = 0;
        study.variant(name, move || {
            turn(effort, || {
                number += 1;
                commit(&file, how, size, place(number, size))
            })
        });
    }
    for (name, submit, how) in [
        ("io_uring, write linked to fdatasync", Submit::Call, How::WriteThenSync),
        ("the same, SQPOLL", Submit::Polled, How::WriteThenSync),
        ("io_uring, O_DIRECT and O_DSYNC", Submit::Call, How::Direct),
        ("the same, SQPOLL", Submit::Polled, How::Direct),
    ] {
        let file = made(&folder.path().join(format!("{submit:?}-{how:?}")), how.flags())?;
        let mut ring = Ring::new(&file, submit)?;
        let mut number = 0;
        study.variant(name, move || {
            turn(effort, || {
                number += 1;
                match how {
                    How::Direct => ring.write(number, size, place(number, size))?,
                    _ => ring.write_then_sync(number, size, place(number, size))?,
                }
                ring.wait().map(|_| ())
            })
        });
    }
    study.run(effort)
}

fn turn(effort: Effort, op: impl FnMut() -> io::Result<()>) -> io::Result<Vec<f64>> {
    let before = own_micros();
    let (mut times, seconds) = repeat(effort.turn(), op)?;
    let processor = (own_micros() - before) / times.count();
    Ok(vec![times.count() / seconds, times.micros(0.5), times.micros(0.99), processor])
}

// ---- how a small group is laid ----

/// A record of 1 KiB, which is a quarter of a page.
fn laid(effort: Effort) -> io::Result<()> {
    const RECORD: usize = KIB;
    let folder = disk::scratch()?;
    let meter = Meter::new(folder.path())?;
    let title = "A record of 1 KiB, pwrite + fdatasync";
    let mut study = Study::new(title, &["groups/s", "p50 us", "p99 us", "KiB to the device"]);
    for (name, step, is_padded, is_in_memory) in [
        ("behind the last, padded to the page's end", RECORD, true, false),
        ("the same, pages in memory", RECORD, true, true),
        ("behind the last, not padded", RECORD, false, false),
        ("the same, pages in memory", RECORD, false, true),
        ("each in a page of its own", BLOCK, true, false),
    ] {
        let path = folder.path().join(format!("{step}-{is_padded}-{is_in_memory}"));
        let file = made(&path, OFlags::empty())?;
        let (mut at, meter) = (0, &meter);
        study.variant(name, move || {
            if is_in_memory {
                io::copy(&mut File::open(&path)?, &mut io::sink())?;
            } else {
                disk::evict(&file)?;
            }
            let before = meter.written_kib();
            let (mut times, seconds) = repeat(effort.turn(), || {
                let size = if is_padded { BLOCK - at % BLOCK } else { RECORD };
                file.write_all_at(&GROUP.0[..size], at as u64)?;
                at = (at + step) % FILE_SIZE;
                file.sync_data()
            })?;
            let kib = (meter.written_kib() - before) / times.count();
            Ok(vec![times.count() / seconds, times.micros(0.5), times.micros(0.99), kib])
        });
    }
    study.run(effort)
}

// ---- two groups at a time ----

fn two_at_a_time(size: usize, effort: Effort) -> io::Result<()> {
    let folder = disk::scratch()?;
    let title = format!("Groups of {} KiB on one log, answered in order", size / KIB);
    let mut study = Study::new(title, &["groups/s", "p50 us", "p99 us", "processor us a group"]);
    for (name, how, thread_count) in [
        ("pwrite + fdatasync", How::WriteThenSync, 1),
        ("the same, two threads", How::WriteThenSync, 2),
        ("O_DIRECT and O_DSYNC", How::Direct, 1),
        ("the same, two threads", How::Direct, 2),
    ] {
        let file = made(&folder.path().join(format!("{how:?}-{thread_count}")), how.flags())?;
        let mut first = 0;
        study.variant(name, move || {
            let order = Order::new(first);
            let figures = in_order(&order, || {
                thread::scope(|scope| {
                    let threads: Vec<_> = (0..thread_count)
                        .map(|_| scope.spawn(|| commits(&file, how, size, &order, effort)))
                        .collect();
                    let mut ended = threads.into_iter().map(|thread| thread.join());
                    ended.try_for_each(|end| end.expect("committers do not panic"))
                })
            });
            first = order.lock().next;
            figures
        });
    }
    let file = made(&folder.path().join("ring"), How::Direct.flags())?;
    let mut ring = Ring::new(&file, Submit::Call)?;
    let mut first = 0;
    study.variant("the same, one thread, io_uring", move || {
        let order = Order::new(first);
        let figures = in_order(&order, || two_in_a_ring(&mut ring, size, &order, effort));
        first = order.lock().next;
        figures
    });
    study.run(effort)
}

fn in_order(order: &Order, run: impl FnOnce() -> io::Result<()>) -> io::Result<Vec<f64>> {
    let (before, start) = (own_micros(), Instant::now());
    run()?;
    let (processor, seconds) = (own_micros() - before, start.elapsed().as_secs_f64());
    let times = &mut order.lock().times;
    let (p50, p99) = (times.micros(0.5), times.micros(0.99));
    Ok(vec![times.count() / seconds, p50, p99, processor / times.count()])
}

fn commits(file: &File, how: How, size: usize, order: &Order, effort: Effort) -> io::Result<()> {
    let start = Instant::now();
    while start.elapsed() < effort.turn() {
        let number = order.begin();
        commit(file, how, size, place(number, size))?;
        order.end(number);
    }
    Ok(())
}

fn two_in_a_ring(ring: &mut Ring, size: usize, order: &Order, effort: Effort) -> io::Result<()> {
    let (start, mut under_way) = (Instant::now(), 0);
    loop {
        let is_over = start.elapsed() >= effort.turn();
        while under_way < 2 && !is_over {
            let number = order.begin();
            ring.write(number, size, place(number, size))?;
            under_way += 1;
        }
        if under_way == 0 {
            return Ok(());
        }
        order.end(ring.wait()?);
        under_way -= 1;
    }
}

/// Groups in the order of the log: one is answered when it and all before it are durable.
struct Order(Mutex<UnderWay>);

struct UnderWay {
    next: u64,
    /// When each began, the oldest first, and whether it is durable.
    groups: VecDeque<(Instant, bool)>,
    times: Times,
}

impl Order {
    fn new(next: u64) -> Order {
        Order(Mutex::new(UnderWay { next, groups: VecDeque::new(), times: Times::default() }))
    }

    fn begin(&self) -> u64 {
        let mut order = self.lock();
        order.groups.push_back((Instant::now(), false));
        order.next += 1;
        order.next - 1
    }

    fn end(&self, number: u64) {
        let mut order = self.lock();
        let oldest = order.next - order.groups.len() as u64;
        order.groups[(number - oldest) as usize].1 = true;
        while let Some((began, true)) = order.groups.front().copied() {
            order.groups.pop_front();
            order.times.add(began.elapsed());
        }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.0.lock().expect("nobody panics with the lock")
    }
}
