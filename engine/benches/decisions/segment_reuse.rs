//! What does a new segment cost, and what do commits feel while one is made?
use crate::disk::{self, BLOCK, MIB, Made, Meter};
use crate::measure::{Effort, Study, Times, repeat};
use memmap2::MmapMut;
use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SEGMENT_SIZE: usize = 64 * MIB;
const ZEROED: Made = Made::Zeroed { piece: MIB };
/// How often a paced filler writes its next MiB.
const PACE: Duration = Duration::from_millis(10);

pub(crate) fn ask(effort: Effort) -> io::Result<()> {
    make(effort)?;
    commits_beside(effort)
}

fn make(effort: Effort) -> io::Result<()> {
    let folder = disk::scratch()?;
    let folder = folder.path();
    let meter = Meter::new(folder)?;
    let mut study =
        Study::new("A segment of 64 MiB, made ready", &["ms", "MiB written to the device"]);
    for (name, made) in [
        ("zeros, by 1 MiB", Some(ZEROED)),
        ("zeros, by 4 KiB", Some(Made::Zeroed { piece: BLOCK })),
        ("reserved only", Some(Made::Reserved)),
        ("recycled: header, rename", None),
    ] {
        let (old, new) = (folder.join(name), folder.join(format!("{name}, new")));
        let meter = &meter;
        study.variant(name, move || {
            let made_before = made.unwrap_or(ZEROED);
            drop(disk::make(&old, made_before, SEGMENT_SIZE, OFlags::empty())?);
            if made.is_some() {
                std::fs::remove_file(&old)?;
                File::open(folder)?.sync_all()?;
            }
            let (before, start) = (meter.written_kib(), Instant::now());
            match made {
                Some(made) => drop(disk::make(&new, made, SEGMENT_SIZE, OFlags::empty())?),
                None => recycle(&old, &new)?,
            }
            File::open(folder)?.sync_all()?;
            let ms = start.elapsed().as_secs_f64() * 1e3;
            let mib = (meter.written_kib() - before) / 1024.0;
            std::fs::remove_file(&new)?;
            Ok(vec![ms, mib])
        });
    }
    study.run(effort)
}

/// A header that says what the file is now, then its new name.
fn recycle(old: &Path, new: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(old)?;
    file.write_all_at(&[1; BLOCK], 0)?;
    file.sync_data()?;
    std::fs::rename(old, new)
}

/// How the next segment is filled with zeros while commits go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filler {
    None,
    /// All of it, then one sync.
    AtOnce,
    /// A sync for each MiB.
    Stepwise,
    /// The same with a pause behind each MiB.
    Paced,
    /// The same without the page cache.
    PacedDirect,
}

fn commits_beside(effort: Effort) -> io::Result<()> {
    let folder = disk::scratch()?;
    let log = disk::make(&folder.path().join("log"), ZEROED, SEGMENT_SIZE, OFlags::empty())?;
    let (next, log) = (folder.path().join("next"), &log);
    let columns = &["commits/s", "p50 us", "p99 us", "longest us", "MiB of zeros/s"];
    let mut study = Study::new("Commits of 4 KiB while the next segment is filled", columns);
    for (name, filler) in [
        ("nothing beside", Filler::None),
        ("64 MiB, one sync", Filler::AtOnce),
        ("a sync each MiB", Filler::Stepwise),
        ("a sync each MiB, one in 10 ms", Filler::Paced),
        ("O_DIRECT and O_DSYNC, 1 MiB in 10 ms", Filler::PacedDirect),
    ] {
        let next = next.clone();
        study.variant(name, move || {
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                let filling = scope.spawn(|| fill_until(&stop, &next, filler));
                let done = commits(log, effort.turn() * 4);
                stop.store(true, Ordering::Relaxed);
                let mib_per_s = filling.join().expect("the filler does not panic")?;
                let (mut times, seconds) = done?;
                let rate = times.count() / seconds;
                let (p50, p99) = (times.micros(0.5), times.micros(0.99));
                Ok(vec![rate, p50, p99, times.micros(1.0), mib_per_s])
            })
        });
    }
    study.run(effort)
}

fn commits(log: &File, turn: Duration) -> io::Result<(Times, f64)> {
    let mut at = 0;
    repeat(turn, || {
        log.write_all_at(&[7; BLOCK], at as u64)?;
        at = (at + BLOCK) % SEGMENT_SIZE;
        log.sync_data()
    })
}

/// Makes one segment after the other; returns MiB a second.
fn fill_until(stop: &AtomicBool, path: &Path, filler: Filler) -> io::Result<f64> {
    if filler == Filler::None {
        return Ok(0.0);
    }
    let flags = match filler {
        Filler::PacedDirect => OFlags::DIRECT | OFlags::DSYNC,
        _ => OFlags::empty(),
    };
    let (zeros, start, mut mib) = (MmapMut::map_anon(MIB)?, Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        let file = disk::make(path, Made::Reserved, SEGMENT_SIZE, flags)?;
        for step in 0..SEGMENT_SIZE / MIB {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            file.write_all_at(&zeros, (step * MIB) as u64)?;
            mib += 1;
            if filler != Filler::AtOnce {
                file.sync_data()?;
            }
            if filler == Filler::Paced || filler == Filler::PacedDirect {
                thread::sleep(PACE);
            }
        }
        file.sync_data()?;
    }
    let rate = f64::from(mib) / start.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}
