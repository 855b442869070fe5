//! May the log be written through a shared map?
use crate::disk::{self, MIB, Made, Meter};
use crate::measure::{Effort, Study, repeat};
use memmap2::{Advice, MmapMut};
use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const FILE_SIZE: usize = 64 * MIB;
const LARGE: Made = Made::Zeroed { piece: MIB };
const SMALL: Made = Made::Zeroed { piece: disk::BLOCK };

/// How a commit is stored and made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Pwrite,
    MapThenFdatasync,
    MapThenMsync,
    /// With the file dropped from the page cache first, and no read-ahead around faults.
    ColdMapThenMsync,
}

pub(crate) fn ask(effort: Effort) -> io::Result<()> {
    for size in [300, 4096] {
        stores(size, effort)?;
    }
    Ok(())
}

fn stores(size: usize, effort: Effort) -> io::Result<()> {
    let folder = disk::scratch()?;
    let meter = Meter::new(folder.path())?;
    let title = format!("Commits of {size} bytes");
    let mut study = Study::new(title, &["commits/s", "p10 us", "p50 us", "KiB written a commit"]);
    for (index, (name, made, how)) in [
        ("pwrite + fdatasync, zeros by 1 MiB", LARGE, How::Pwrite),
        ("pwrite + fdatasync, zeros by 4 KiB", SMALL, How::Pwrite),
        ("map + fdatasync, zeros by 1 MiB", LARGE, How::MapThenFdatasync),
        ("map + msync, zeros by 1 MiB", LARGE, How::MapThenMsync),
        ("map + fdatasync, zeros by 4 KiB", SMALL, How::MapThenFdatasync),
        ("map + msync, zeros by 4 KiB", SMALL, How::MapThenMsync),
        ("map + msync, zeros by 1 MiB, dropped, MADV_RANDOM", LARGE, How::ColdMapThenMsync),
    ]
    .into_iter()
    .enumerate()
    {
        let file =
            disk::make(&folder.path().join(index.to_string()), made, FILE_SIZE, OFlags::empty())?;
        if how == How::ColdMapThenMsync {
            disk::evict(&file)?;
        }
        let mut map = disk::map_mut(&file)?;
        if how == How::ColdMapThenMsync {
            map.advise(Advice::Random)?;
        }
        let (bytes, mut end, meter) = (vec![7; size], 0, &meter);
        study.variant(name, move || {
            let before = meter.written_kib();
            let (mut times, seconds) = repeat(effort.turn(), || {
                if end + size > FILE_SIZE {
                    end = 0;
                }
                store(&file, &mut map, how, &bytes, end)?;
                end += size;
                Ok(())
            })?;
            let kib = (meter.written_kib() - before) / times.count();
            Ok(vec![times.count() / seconds, times.micros(0.1), times.micros(0.5), kib])
        });
    }
    study.run(effort)
}

fn store(file: &File, map: &mut MmapMut, how: How, bytes: &[u8], at: usize) -> io::Result<()> {
    if how == How::Pwrite {
        file.write_all_at(bytes, at as u64)?;
        return file.sync_data();
    }
    map[at..at + bytes.len()].copy_from_slice(bytes);
    match how {
        How::MapThenFdatasync => file.sync_data(),
        _ => map.flush_range(at, bytes.len()),
    }
}
