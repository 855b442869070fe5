//! What the disk can do at best: syncs a second, MiB a second. The yardstick beside every cell.

use anyhow::Context as _;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of the file that is written over and over.
const FILE_SIZE: usize = 4 << 20;
/// Bytes of one write before a sync.
const BLOCK_SIZE: usize = 4096;
/// Bytes written in a row, at the most.
const SEQUENTIAL_MAX: u64 = 512 << 20;

/// `fdatasync` calls a second, each after a write of 4 KiB into a file that was filled with zeros.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn sync_rate(folder: &Path, time: Duration) -> anyhow::Result<f64> {
    let path = folder.join("limit-syncs");
    let mut file = File::create(&path).context("cannot measure the disk")?;
    // In pieces of one block: a page cache of large pages would write large pages back.
    for _ in 0..FILE_SIZE / BLOCK_SIZE {
        file.write_all(&[0; BLOCK_SIZE])?;
    }
    file.sync_all()?;
    let (started, mut count) = (Instant::now(), 0u64);
    while started.elapsed() < time {
        let offset = count % (FILE_SIZE / BLOCK_SIZE) as u64 * BLOCK_SIZE as u64;
        file.write_all_at(&[count as u8; BLOCK_SIZE], offset)?;
        file.sync_data()?;
        count += 1;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
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
