//! The machine as `/proc` and the system calls show it, and the CPU time of this thread and of
//! another process. What cannot be read is `unknown`.

use crate::results::Machine;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The machine, with the file system under `folder`.
pub(crate) fn describe(folder: &Path) -> Machine {
    let cpu = line_of("/proc/cpuinfo", "model name").or_else(|| line_of("/proc/cpuinfo", "Model"));
    let memory = line_of("/proc/meminfo", "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").trim().parse::<u64>().ok());
    let system = rustix::system::uname();
    Machine {
        cpu: cpu.unwrap_or_else(|| "unknown".to_owned()),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_bytes: memory.unwrap_or(0) << 10,
        kernel: format!(
            "{} {}",
            system.sysname().to_string_lossy(),
            system.release().to_string_lossy()
        ),
        file_system: file_system(folder).unwrap_or_else(|| "unknown".to_owned()),
    }
}

/// The value of the first line `name: value`.
fn line_of(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Type and device of the mount that holds `folder`.
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    mount_of(&fs::read_to_string("/proc/self/mounts").ok()?, &folder)
}

/// The deepest mount point above `folder`; the later one where two are equal.
fn mount_of(mounts: &str, folder: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?, words.next()?, words.next()?))
    });
    let above = mounts.filter(|(_, point, ..)| folder.starts_with(point));
    let (device, _, kind, options) = above.max_by_key(|(_, point, ..)| point.len())?;
    let options: Vec<&str> = options.split(',').take(3).collect();
    Some(format!("{kind} on {device} ({})", options.join(",")))
}

/// Whether what lies in `folder` is lost in a power cut whatever is synced: it is in memory.
pub(crate) fn is_in_memory(folder: &Path) -> bool {
    file_system(folder).is_some_and(|text| text.starts_with("tmpfs") || text.starts_with("ramfs"))
}

/// Bytes that can still be written where `folder` lies.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail * found.f_frsize)
}

/// CPU time that this thread has used.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// CPU time that a process has used, to a hundredth of a second.
pub(crate) fn process_cpu(pid: u32) -> Option<Duration> {
    cpu_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn cpu_of(stat: &str) -> Option<Duration> {
    // The name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_secs_f64((user + system) as f64 / per_second as f64))
}

/// Memory that a process has to itself, in bytes: without what it maps of files.
pub(crate) fn process_memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_counts() {
        let mounts = "/dev/a / ext4 rw,relatime,x,y 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/x xfs rw 0 0\n";
        let of = |folder: &str| mount_of(mounts, Path::new(folder)).expect("there is a root");
        assert_eq!(of("/srv/data"), "ext4 on /dev/a (rw,relatime,x)");
        assert_eq!(of("/tmp/y"), "tmpfs on tmpfs (rw)");
        assert_eq!(of("/tmp/x/y"), "xfs on /dev/b (rw)");
        assert_eq!(of("/tmpx"), "ext4 on /dev/a (rw,relatime,x)");
    }

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 1 2 3";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(3)));
        assert!(process_cpu(std::process::id()).is_some());
        assert!(process_memory(std::process::id()).is_some_and(|bytes| bytes > 4096));
        assert!(describe(Path::new("/")).memory_bytes > 0);
    }
}
