//! Every setting of the engine, with its unit and bounds, and the checks between them.
//! Knows no file and no thread.

use crate::domain::{Durability, QueueKey};
use crate::error::{Error, Result};
use std::path::PathBuf;

/// Bytes in a mebibyte.
const MIB: u64 = 1 << 20;
/// Simulated worlds and those of schedules are small, so that many fit into a minute.
const SEGMENT_SIZE_MIN: u64 = match (cfg!(shuttle), cfg!(feature = "sim")) {
    (true, _) => MIB / 64,
    (_, true) => MIB / 16,
    _ => MIB,
};

/// How an [`Engine`](crate::Engine) is to be run. Start from [`Config::new`] and change what you
/// need; [`Engine::open`](crate::Engine::open) checks it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder. Made if it is not there; its parent has to be.
    pub folder: PathBuf,
    /// What a write gets when neither its queue nor a rule says otherwise. Default: `Group`.
    pub durability: Durability,
    /// Levels by queue name; the first rule whose pattern matches counts.
    pub durability_rules: Vec<DurabilityRule>,
    /// Longest time, in milliseconds, that a write in mode `Interval` stays unsynced.
    /// 1 to 60,000; default 100.
    pub sync_interval_ms: u64,
    /// Size of a log file, in bytes. 1 MiB to 1 GiB; default 64 MiB. The largest frame (a batch with
    /// its heads) is a quarter of it.
    pub segment_size_bytes: u64,
    /// How much log is written between two checkpoints, in bytes: what a start after a crash may
    /// have to read. 1 MiB to 64 GiB; default 64 MiB. Where a checkpoint itself is larger, its size
    /// counts instead, so that checkpoints never write more than the log does.
    pub checkpoint_interval_bytes: u64,
    /// How many bytes may wait to be written, before writers have to wait. 1 MiB to 1 GiB;
    /// default 32 MiB.
    pub write_buffer_max_bytes: u64,
    /// Disk space, in bytes, that posting leaves free, and that checkpoints and compaction may use
    /// when the disk is full. 0 to 1 TiB; default 256 MiB.
    pub disk_reserve_bytes: u64,
    /// How much compaction may write per second, in bytes. 1 MiB or more; default 256 MiB.
    pub compact_rate_bytes_per_s: u64,
    /// Pause, in milliseconds, between two rounds of the background thread: expiry, reclaiming.
    /// 1 to 60,000; default 200.
    pub upkeep_interval_ms: u64,
}

/// A durability level for the queues whose name matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurabilityRule {
    /// A queue name in which `*` stands for any run of characters, the empty one included.
    pub pattern: String,
    /// What writes to those queues get at least.
    pub durability: Durability,
}

impl Config {
    /// The defaults, over `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Config {
        Config {
            folder: folder.into(),
            durability: Durability::Group,
            durability_rules: Vec::new(),
            sync_interval_ms: 100,
            segment_size_bytes: 64 * MIB,
            checkpoint_interval_bytes: 64 * MIB,
            write_buffer_max_bytes: 32 * MIB,
            disk_reserve_bytes: 256 * MIB,
            compact_rate_bytes_per_s: 256 * MIB,
            upkeep_interval_ms: 200,
        }
    }

    /// Checks every bound.
    pub(crate) fn check(&self) -> Result<()> {
        let bounds: [(&'static str, u64, u64, u64); 7] = [
            ("sync_interval_ms", self.sync_interval_ms, 1, 60_000),
            ("segment_size_bytes", self.segment_size_bytes, SEGMENT_SIZE_MIN, 1024 * MIB),
            ("checkpoint_interval_bytes", self.checkpoint_interval_bytes, MIB, 65_536 * MIB),
            ("write_buffer_max_bytes", self.write_buffer_max_bytes, MIB, 1024 * MIB),
            ("disk_reserve_bytes", self.disk_reserve_bytes, 0, 1024 * 1024 * MIB),
            ("compact_rate_bytes_per_s", self.compact_rate_bytes_per_s, MIB, u64::MAX),
            ("upkeep_interval_ms", self.upkeep_interval_ms, 1, 60_000),
        ];
        for (name, value, least, most) in bounds {
            if value < least || value > most {
                return Err(Error::Setting {
                    name,
                    value: value.to_string(),
                    bound: format!("from {least} to {most}"),
                });
            }
        }
        Ok(())
    }

    /// What a write to this queue gets when neither it nor the queue asks for anything.
    pub(crate) fn durability_of(&self, key: &QueueKey) -> Durability {
        self.durability_rules
            .iter()
            .find(|rule| matches(rule.pattern.as_bytes(), key.name().as_bytes()))
            .map_or(self.durability, |rule| rule.durability)
    }
}

/// Whether `name` matches `pattern`, in time linear in both but for one retry a star.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // Where to go on when the last star has to swallow one more byte.
    let mut retry: Option<(usize, usize)> = None;
    while read < name.len() {
        if pattern.get(at) == Some(&b'*') {
            retry = Some((at + 1, read));
            at += 1;
        } else if pattern.get(at) == Some(&name[read]) {
            at += 1;
            read += 1;
        } else if let Some((after_star, from)) = retry {
            retry = Some((after_star, from + 1));
            at = after_star;
            read = from + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("telemetry-*", "telemetry-a", true),
            ("telemetry-*", "telemetry-", true),
            ("telemetry-*", "telemetry", false),
            ("*", "", true),
            ("*a*b", "xaybzb", true),
            ("*a*b", "xaybz", false),
            ("a", "ab", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_setting_out_of_bounds_names_itself_and_the_bound() {
        let config = Config { segment_size_bytes: 5, ..Config::new("x") };
        let text = config.check().expect_err("too small").to_string();
        let bound = format!("it has to be from {SEGMENT_SIZE_MIN} to 1073741824");
        assert_eq!(text, format!("segment_size_bytes is 5; {bound}"));
    }
}
