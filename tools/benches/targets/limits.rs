//! What the disk can do at best: a write of 4 KiB and a sync, on a file that was written full of zeros.

use hdrhistogram::Histogram;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of one write.
pub(crate) const BLOCK_SIZE: usize = 4096;
/// Blocks of the file that is written over and over.
const BLOCKS: u64 = 4096;

/// What syncs cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Syncs {
    /// A second.
    pub(crate) rate: f64,
    /// Microseconds of the one in the middle.
    pub(crate) median_us: f64,
}

/// A new file of zeros whose blocks are all on the disk. It is written block by block: what is written in
/// large pieces lies in large pages, and changing a byte of one writes the whole page back.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn file_of_zeros(path: &Path, blocks: u64) -> io::Result<File> {
    let mut file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
    for _ in 0..blocks {
        file.write_all(&[0; BLOCK_SIZE])?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Writes and syncs, one after the other, for `time`.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn syncs(folder: &Path, time: Duration) -> io::Result<Syncs> {
    let path = folder.join("syncs");
    let file = file_of_zeros(&path, BLOCKS)?;
    let mut times = Histogram::<u64>::new_with_bounds(1000, 60_000_000_000, 3)
        .expect("the bounds are in order");
    let started = Instant::now();
    let mut last = started;
    while last - started < time {
        let block = times.len() % BLOCKS;
        file.write_all_at(&[block as u8 | 1; BLOCK_SIZE], block * BLOCK_SIZE as u64)?;
        file.sync_data()?;
        let now = Instant::now();
        times.saturating_record((now - last).as_nanos() as u64);
        last = now;
    }
    std::fs::remove_file(&path)?;
    Ok(Syncs {
        rate: times.len() as f64 / (last - started).as_secs_f64(),
        median_us: times.value_at_quantile(0.5) as f64 / 1e3,
    })
}
