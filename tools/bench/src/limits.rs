//! What the disk can do at best: syncs a second, MiB a second. The yardstick beside every cell.

use anyhow::Context as _;
use hdrhistogram::Histogram;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of one write before a sync.
pub const BLOCK_SIZE: usize = 4096;
/// Blocks of the file whose syncs are counted beside the cells.
const BLOCKS: u64 = 1024;
/// Bytes written in a row, at the most.
const SEQUENTIAL_MAX: u64 = 512 << 20;

/// What syncs cost.
#[derive(Debug, Clone, Copy)]
pub struct Syncs {
    /// A second.
    pub rate: f64,
    /// Microseconds of the one in the middle, its write included.
    pub median_us: f64,
}

/// A new file of zeros whose blocks are all on the disk. It is written block by block: what is written in
/// large pieces lies in large pages, and changing a byte of one writes the whole page back.
///
/// # Errors
/// When the disk refuses.
pub fn file_of_zeros(path: &Path, blocks: u64) -> io::Result<File> {
    let mut file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
    for _ in 0..blocks {
        file.write_all(&[0; BLOCK_SIZE])?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Writes of one block with an `fdatasync` each, one after the other for `time`, over and over in a file
/// of so many `blocks`, one at least, that was filled with zeros.
///
/// # Errors
/// When the disk refuses.
pub fn syncs(folder: &Path, blocks: u64, time: Duration) -> io::Result<Syncs> {
    let path = folder.join("limit-syncs");
    let file = file_of_zeros(&path, blocks)?;
    let mut times = Histogram::<u64>::new_with_bounds(1000, 60_000_000_000, 3)
        .expect("the bounds are in order");
    let started = Instant::now();
    let mut last = started;
    while last - started < time {
        let block = times.len() % blocks;
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

/// As [`syncs`], of them only how many a second.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn sync_rate(folder: &Path, time: Duration) -> anyhow::Result<f64> {
    let syncs = syncs(folder, BLOCKS, time).context("cannot measure the disk")?;
    Ok(syncs.rate)
}

/// MiB a second written to a new file one after the other, the sync at the end included.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn write_rate(folder: &Path, time: Duration) -> anyhow::Result<f64> {
    let path = folder.join("limit-writes");
    let mut file = File::create(&path).context("cannot measure the disk")?;
    let block: Vec<u8> =
        (0..1u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (started, mut size) = (Instant::now(), 0u64);
    while started.elapsed() < time && size < SEQUENTIAL_MAX {
        file.write_all(&block)?;
        size += block.len() as u64;
    }
    file.sync_data()?;
    let rate = (size >> 20) as f64 / started.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_measured_and_left_clean() {
        let folder = tempfile::tempdir().expect("a folder");
        let time = Duration::from_millis(20);
        assert!(sync_rate(folder.path(), time).expect("a disk") > 0.0);
        assert!(write_rate(folder.path(), time).expect("a disk") > 0.0);
        assert_eq!(folder.path().read_dir().expect("a folder").count(), 0);
    }
}
