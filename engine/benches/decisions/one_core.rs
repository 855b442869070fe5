//! A model of a server that has one core for everything: what does it gain from a cheaper sync, and from two groups
//! in flight? Serving and committing compete here, where `commit-path` gives the committers a core of their own.
//!
//! One thread serves a number of producers in turn: so much work a record, and a system call, as receiving and
//! sending are. Between two records it looks for groups that became durable, whose producers are to be served again,
//! and begins the next group. The model uses the cores it is given: start it under `taskset` for one, with a loop on
//! the other to see what is done there in its stead.
use crate::disk::{self, BLOCK, GROUP, KIB, MIB, Made};
use crate::measure::{Effort, Study, Times, own_micros};
use crate::uring::{Ring, Submit};
use rustix::fs::OFlags;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::mem::take;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

const RECORD: usize = KIB;
const FILE_SIZE: usize = 32 * MIB;
/// The largest group has as many blocks as the log is cut into: each begins at a block of its own.
const PLACE_SIZE: usize = GROUP.0.len();
/// What a server does for a post, receiving and answering included (docs/performance.md).
const SERVING: Duration = Duration::from_micros(11);

/// When a group begins, if one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// As soon as there is a record.
    AtOnce,
    /// When so many parts of all producers are there, or nobody is left to be served.
    Part(usize),
    /// When nobody is left to be served.
    Idle,
}

pub(crate) fn ask(effort: Effort) -> io::Result<()> {
    for producer_count in [16, 64] {
        let folder = disk::scratch()?;
        let title =
            format!("{producer_count} producers of 1 KiB, 11 us of serving a record, one core");
        let columns =
            &["records/s", "records a group", "p50 us", "p99 us", "processor us a record"];
        let mut study = Study::new(title, columns);
        for (name, begin, in_flight_max, is_ring) in [
            ("fdatasync in a thread, when nobody is left to be served", Begin::Idle, 1, false),
            ("the same, at half of the producers", Begin::Part(2), 1, false),
            ("the same, at once", Begin::AtOnce, 1, false),
            ("a direct write on a ring, when nobody is left", Begin::Idle, 1, true),
            ("the same, at half of the producers", Begin::Part(2), 1, true),
            ("the same, at once", Begin::AtOnce, 1, true),
            ("two direct writes on a ring, at half of the producers", Begin::Part(2), 2, true),
            ("the same, at a third", Begin::Part(3), 2, true),
            ("the same, at once", Begin::AtOnce, 2, true),
        ] {
            let flags = if is_ring { OFlags::DIRECT | OFlags::DSYNC } else { OFlags::empty() };
            let made = Made::Zeroed { piece: MIB };
            let file = disk::make(&folder.path().join(name), made, FILE_SIZE, flags)?;
            disk::evict(&file)?;
            let mut disk = if is_ring { Disk::ring(&file)? } else { Disk::thread(file)? };
            let server = Server { begin, in_flight_max, producer_count };
            study.variant(name, move || server.turn(&mut disk, effort));
        }
        study.run(effort)?;
    }
    Ok(())
}

/// Who makes groups durable.
enum Disk {
    /// A thread syncs what this one wrote.
    Thread {
        file: File,
        begun: Sender<u64>,
        ended: Receiver<io::Result<u64>>,
    },
    Ring(Box<Ring>),
}

impl Disk {
    fn thread(file: File) -> io::Result<Disk> {
        let synced = file.try_clone()?;
        let (begun, numbers) = channel();
        let (ends, ended) = channel();
        thread::spawn(move || {
            for number in numbers {
                if ends.send(synced.sync_data().map(|()| number)).is_err() {
                    return;
                }
            }
        });
        Ok(Disk::Thread { file, begun, ended })
    }

    fn ring(file: &File) -> io::Result<Disk> {
        Ring::new(file, Submit::Cooperative).map(|ring| Disk::Ring(Box::new(ring)))
    }

    fn begin(&mut self, number: u64, size: usize) -> io::Result<()> {
        let at = number * PLACE_SIZE as u64 % FILE_SIZE as u64;
        match self {
            Disk::Thread { file, begun, .. } => {
                file.write_all_at(&GROUP.0[..size], at)?;
                begun.send(number).map_err(io::Error::other)
            }
            Disk::Ring(ring) => {
                ring.write(number, size, at)?;
                ring.submit()
            }
        }
    }

    /// A group that is durable, if there is one.
    fn ended(&mut self) -> io::Result<Option<u64>> {
        match self {
            Disk::Thread { ended, .. } => ended.try_recv().ok().transpose(),
            Disk::Ring(ring) => ring.ended(),
        }
    }

    /// The next group that is durable.
    fn wait(&mut self) -> io::Result<u64> {
        match self {
            Disk::Thread { ended, .. } => ended.recv().map_err(io::Error::other)?,
            Disk::Ring(ring) => ring.wait(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Server {
    begin: Begin,
    in_flight_max: usize,
    producer_count: usize,
}

impl Server {
    fn turn(self, disk: &mut Disk, effort: Effort) -> io::Result<Vec<f64>> {
        let mut log = Log { answered: self.producer_count, ..Log::default() };
        let (before, start) = (own_micros(), Instant::now());
        while start.elapsed() < effort.turn() {
            while let Some(number) = disk.ended()? {
                log.end(number);
            }
            if self.begins(&log) {
                let (number, size) = log.begin();
                disk.begin(number, size)?;
            } else if log.answered > 0 {
                serve();
                log.answered -= 1;
                log.tail.push(Instant::now());
            } else {
                log.end(disk.wait()?);
            }
        }
        let (processor, seconds) = (own_micros() - before, start.elapsed().as_secs_f64());
        while !log.under_way.is_empty() {
            log.end(disk.wait()?);
        }
        let (count, groups) = (log.times.count(), log.next as f64);
        let (p50, p99) = (log.times.micros(0.5), log.times.micros(0.99));
        Ok(vec![count / seconds, count / groups, p50, p99, processor / count])
    }

    fn begins(self, log: &Log) -> bool {
        if log.tail.is_empty() || log.under_way.len() >= self.in_flight_max {
            return false;
        }
        let is_idle = log.answered == 0;
        match self.begin {
            Begin::AtOnce => true,
            Begin::Part(parts) => is_idle || log.tail.len() >= self.producer_count / parts,
            Begin::Idle => is_idle,
        }
    }
}

fn serve() {
    let begun = Instant::now();
    let _ = rustix::process::getpid();
    while begun.elapsed() < SERVING {
        std::hint::spin_loop();
    }
}

#[derive(Default)]
struct Log {
    /// When each record that lies in the tail was put there.
    tail: Vec<Instant>,
    /// The groups being committed, the oldest first, and whether they are durable.
    under_way: VecDeque<(Vec<Instant>, bool)>,
    /// Number of the next group.
    next: u64,
    /// Producers to be served again.
    answered: usize,
    times: Times,
}

impl Log {
    /// Begins a group of all that lies in the tail: its number and size.
    fn begin(&mut self) -> (u64, usize) {
        let group = take(&mut self.tail);
        let size = (group.len() * RECORD).next_multiple_of(BLOCK);
        self.under_way.push_back((group, false));
        self.next += 1;
        (self.next - 1, size)
    }

    /// A group is durable: answers it and those behind it, unless an older one is still under way.
    fn end(&mut self, number: u64) {
        let oldest = self.next - self.under_way.len() as u64;
        self.under_way[(number - oldest) as usize].1 = true;
        while self.under_way.front().is_some_and(|(_, is_durable)| *is_durable) {
            let (group, _) = self.under_way.pop_front().expect("it was looked at");
            self.answered += group.len();
            group.iter().for_each(|put| self.times.add(put.elapsed()));
        }
    }
}
