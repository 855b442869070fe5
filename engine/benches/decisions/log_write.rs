//! How should a commit reach the disk, and what does the reader of fresh bodies pay for it?
use crate::disk::{self, BLOCK, KIB, MIB, Made, Meter};
use crate::measure::{Effort, Study, Times, repeat};
use memmap2::{Mmap, MmapMut};
use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

const FILE_SIZE: usize = 64 * MIB;
/// One small message, a few, and what sixteen connections bring.
const COMMIT_SIZES: [usize; 3] = [300, 4_200, 20_000];
const ZEROED: Made = Made::Zeroed { piece: MIB };

/// How the bytes of a commit become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    WriteThenSync,
    SyncOnWrite,
    Direct,
}

impl How {
    fn flags(self) -> OFlags {
        match self {
            How::WriteThenSync => OFlags::empty(),
            How::SyncOnWrite => OFlags::DSYNC,
            How::Direct => OFlags::DSYNC | OFlags::DIRECT,
        }
    }
}

pub(crate) fn ask(effort: Effort) -> io::Result<()> {
    let folder = disk::scratch()?;
    for size in COMMIT_SIZES {
        write(folder.path(), size, effort)?;
    }
    for size in COMMIT_SIZES {
        read_back(folder.path(), size, effort)?;
    }
    Ok(())
}

fn write(folder: &Path, size: usize, effort: Effort) -> io::Result<()> {
    let meter = Meter::new(folder)?;
    let title = format!("Commits of {size} bytes");
    let mut study = Study::new(title, &["commits/s", "p10 us", "p50 us", "KiB written a commit"]);
    for (name, made, how) in [
        ("zeros, pwrite + fdatasync", ZEROED, How::WriteThenSync),
        ("growing, pwrite + fdatasync", Made::Growing, How::WriteThenSync),
        ("reserved, pwrite + fdatasync", Made::Reserved, How::WriteThenSync),
        ("zeros, O_DSYNC", ZEROED, How::SyncOnWrite),
        ("zeros, O_DIRECT and O_DSYNC", ZEROED, How::Direct),
        ("reserved, O_DIRECT and O_DSYNC", Made::Reserved, How::Direct),
    ] {
        let path = folder.join(format!("{made:?}-{how:?}"));
        let mut tail = Tail::new(&path, made, how, size)?;
        let meter = &meter;
        study.variant(name, move || {
            if !matches!(made, Made::Zeroed { .. }) {
                tail = Tail::new(&path, made, how, size)?; // Used up by the round before.
            }
            let before = meter.written_kib();
            let (mut times, seconds) = repeat(effort.turn(), || tail.commit())?;
            let kib = (meter.written_kib() - before) / times.count();
            Ok(vec![times.count() / seconds, times.micros(0.1), times.micros(0.5), kib])
        });
    }
    study.run(effort)
}

/// Reads every commit once, right after it, as a claim of the newest message would.
fn read_back(folder: &Path, size: usize, effort: Effort) -> io::Result<()> {
    let title = format!("Commit {size} bytes, then read them back");
    let mut study =
        Study::new(title, &["commits/s", "commit p50 us", "read p50 us", "read p99 us"]);
    for how in [How::WriteThenSync, How::Direct] {
        for through_map in [true, false] {
            let path = folder.join(format!("read-{how:?}-{through_map}"));
            let mut tail = Tail::new(&path, ZEROED, how, size)?;
            let reader = File::open(&path)?;
            let map = if through_map { Some(disk::map(&reader)?) } else { None };
            let name = format!("{how:?}, read by {}", if through_map { "map" } else { "pread" });
            study.variant(name, move || committed_reads(&mut tail, &reader, &map, effort));
        }
    }
    study.run(effort)
}

fn committed_reads(
    tail: &mut Tail,
    reader: &File,
    map: &Option<Mmap>,
    effort: Effort,
) -> io::Result<Vec<f64>> {
    let (mut commits, mut reads, start) = (Times::default(), Times::default(), Instant::now());
    let mut body = vec![0; tail.bytes.len()];
    while start.elapsed() < effort.turn() {
        let before = Instant::now();
        tail.commit()?;
        commits.add(before.elapsed());
        let (from, before) = (tail.end - tail.bytes.len(), Instant::now());
        match map {
            Some(map) => body.copy_from_slice(&map[from..tail.end]),
            None => reader.read_exact_at(&mut body, from as u64)?,
        }
        reads.add(before.elapsed());
        assert_eq!(body, tail.bytes, "what was committed is what is read");
    }
    let rate = commits.count() / start.elapsed().as_secs_f64();
    Ok(vec![rate, commits.micros(0.5), reads.micros(0.5), reads.micros(0.99)])
}

/// A log's end: where the next commit goes.
struct Tail {
    file: File,
    how: How,
    end: usize,
    count: u64,
    bytes: Vec<u8>,
    /// Aligned, for direct writes: begins with the last block of the log, which may be half full.
    blocks: MmapMut,
}

impl Tail {
    fn new(path: &Path, made: Made, how: How, size: usize) -> io::Result<Tail> {
        let file = disk::make(path, made, FILE_SIZE, how.flags())?;
        let blocks = MmapMut::map_anon(64 * KIB)?;
        Ok(Tail { file, how, end: 0, count: 0, bytes: vec![0; size], blocks })
    }

    /// Appends durably; begins again at the front when the file is full.
    fn commit(&mut self) -> io::Result<()> {
        if self.end + self.bytes.len() + BLOCK > FILE_SIZE {
            self.end = 0;
        }
        self.count += 1; // So that an old commit at the same place is not taken for this one.
        self.bytes[..8].copy_from_slice(&self.count.to_le_bytes());
        match self.how {
            How::Direct => self.write_blocks()?,
            How::SyncOnWrite => self.file.write_all_at(&self.bytes, self.end as u64)?,
            How::WriteThenSync => {
                self.file.write_all_at(&self.bytes, self.end as u64)?;
                self.file.sync_data()?;
            }
        }
        self.end += self.bytes.len();
        Ok(())
    }

    /// Writes whole blocks: the last one again, with what was appended, and zeros behind.
    fn write_blocks(&mut self) -> io::Result<()> {
        let used = self.end % BLOCK;
        let filled = used + self.bytes.len();
        let whole = filled.next_multiple_of(BLOCK);
        self.blocks[used..filled].copy_from_slice(&self.bytes);
        self.blocks[filled..whole].fill(0);
        self.file.write_all_at(&self.blocks[..whole], (self.end - used) as u64)?;
        let last = filled / BLOCK * BLOCK;
        self.blocks.copy_within(last..last + BLOCK, 0);
        Ok(())
    }
}
