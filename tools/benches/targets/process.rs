//! What `/proc` tells of a process and of the machine.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// The number behind `name` in a file of lines `name: number`.
fn number_of(path: &str, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("{path} has no {name}")))
}

/// Resident bytes that no file stands behind.
///
/// # Errors
/// When the process is gone.
pub(crate) fn anonymous_bytes(pid: u32) -> io::Result<u64> {
    Ok(number_of(&format!("/proc/{pid}/status"), "RssAnon:")? << 10)
}

/// Bytes that a process had written to the disk: whole pages, at the moment they became dirty or, past the
/// page cache, were handed over.
///
/// # Errors
/// When the process is gone.
pub(crate) fn written_bytes(pid: u32) -> io::Result<u64> {
    number_of(&format!("/proc/{pid}/io"), "write_bytes:")
}

/// CPU time that a process used, in steps of a hundredth of a second.
///
/// # Errors
/// When the process is gone.
pub(crate) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let behind_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = behind_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// Waits until a process hardly uses the CPU for half a second; a minute at the most.
///
/// # Errors
/// When the process is gone.
pub(crate) fn wait_idle(pid: u32) -> io::Result<()> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        let before = cpu_time(pid)?;
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(500) {
            std::thread::park_timeout(Duration::from_millis(500));
        }
        if cpu_time(pid)? - before <= Duration::from_millis(20) {
            break;
        }
    }
    Ok(())
}

/// What a line of a file in `/proc` says behind its colon.
fn text_of(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, text)| text.trim()).to_owned()
}

/// The CPU and the kernel.
pub(crate) fn machine() -> (String, String) {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    (text_of("/proc/cpuinfo", "model name"), kernel)
}
