//! What a seed decides of a trial: the abuse, how much of it, the server's limits; and the memory that follows from
//! them. Knows no requests.

use super::abuse::Told;
use crate::random::Random;
use std::time::Duration;

/// The kinds of abuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Many times the posts that it can serve.
    Flood,
    /// Connections on which nothing happens.
    Idle,
    /// Clients that read a byte a second.
    SlowReaders,
    /// Bodies that never end.
    EndlessBodies,
    /// Deep and wide documents.
    Documents,
    /// Queues, ids, markers and claims that somebody made up.
    Names,
    /// A client that claims all there is, and deletes nothing.
    Hoarder,
}

const KINDS: [Kind; 7] = [
    Kind::Flood,
    Kind::Idle,
    Kind::SlowReaders,
    Kind::EndlessBodies,
    Kind::Documents,
    Kind::Names,
    Kind::Hoarder,
];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Largest page.
pub(super) const PAGE_SIZE_MAX: u64 = 200;
/// Most connections that others than the abusers need.
const OTHERS_MAX: usize = 50;

/// See the file's first lines.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    /// Whether it is one of those that run with the tests.
    pub(super) is_small: bool,
    /// Connections of the abusers.
    pub(super) connections: usize,
    /// What is enough of the abuse: requests, connections or messages.
    pub(super) amount: u64,
    /// Calls of the polite client before the abuse, and in each attempt to measure during it.
    pub(super) calls: usize,
    /// How long an abuse goes on that counts no requests.
    pub(super) time: Duration,
    /// Size of a message of a flood, or of one that is read slowly.
    pub(super) message_size: usize,
    pub(super) connections_max: usize,
    pub(super) post_size_max: u64,
    pub(super) header_size_max: u64,
    pub(super) bytes_in_flight_max: u64,
    pub(super) write_buffer_max: u64,
}

impl Plan {
    /// The plan of a seed, for processes that may open so many files.
    pub(super) fn new(seed: u64, files_max: usize) -> Plan {
        let mut random = Random::new(seed);
        let kind = KINDS[(seed % KINDS.len() as u64) as usize];
        let is_small = seed < KINDS.len() as u64;
        let size = if is_small { 0 } else { 1 + random.below(10) };
        let grows = |small: u64, large: u64| small + (large - small) * size / 10;
        let (connections, amount) = match kind {
            Kind::Flood => (grows(50, 400), grows(3_000, 100_000)),
            Kind::Idle => (grows(1_000, 10_000), 0),
            Kind::SlowReaders => (grows(50, 500), 0),
            Kind::EndlessBodies => (grows(60, 600), grows(100, 2_000)),
            Kind::Documents => (grows(4, 16), grows(40, 1_000)),
            Kind::Names => (grows(8, 64), grows(20_000, 1_000_000)),
            Kind::Hoarder => (grows(4, 32), grows(500, 20_000)),
        };
        // The server has its log's files besides, and this process has its own.
        let connections = (connections as usize).min(files_max.saturating_sub(200));
        let is_low = is_small || random.one_in(2);
        let connections_max = match kind {
            // Some find no room.
            Kind::Idle if is_low => connections * 2 / 3 + OTHERS_MAX,
            _ => 10_000.max(connections + OTHERS_MAX),
        };
        Plan {
            kind,
            is_small,
            connections,
            amount,
            calls: if is_small { 100 } else { 300 },
            time: Duration::from_secs(if is_small { 1 } else { 4 }),
            message_size: 10 + random.below(2_000) as usize,
            connections_max,
            post_size_max: 256 * KIB,
            header_size_max: if is_low { 16 * KIB } else { 64 * KIB },
            bytes_in_flight_max: if is_low { 8 * MIB } else { 256 * MIB },
            write_buffer_max: if is_low { MIB } else { 32 * MIB },
        }
    }

    /// The options of the server.
    pub(super) fn options(&self) -> Vec<String> {
        let mut options = vec![
            format!("--connections-max={}", self.connections_max),
            format!("--max-messages-post-size={}", self.post_size_max),
            format!("--header-size-max-bytes={}", self.header_size_max),
            format!("--bytes-in-flight-max={}", self.bytes_in_flight_max),
            format!("--write-buffer-max-bytes={}", self.write_buffer_max),
            format!("--max-messages-per-page={PAGE_SIZE_MAX}"),
            format!("--max-messages-per-claim-or-pop={PAGE_SIZE_MAX}"),
            "--body-read-timeout-ms=1s".to_owned(),
            "--min-claim-ttl=1".to_owned(),
            "--disk-reserve-bytes=0".to_owned(),
            "--checkpoint-interval-bytes=16MiB".to_owned(),
        ];
        if self.kind == Kind::Idle {
            // Longer than the trial: a connection whose client has left ends at once, or it is found here.
            options.push("--header-timeout-ms=10m".to_owned());
            options.push("--idle-timeout-ms=10m".to_owned());
        }
        if self.kind == Kind::SlowReaders {
            options.push("--idle-timeout-ms=3s".to_owned());
        }
        options
    }

    /// What the server may take more than before. Bodies and what waits to be written have bounds of their own; buffers
    /// that grow are copied, so that each counts twice. A connection holds what it has read of a head, what it has not
    /// sent of small answers, and one answer that is larger; one on which nothing happens only its first buffer.
    pub(super) fn memory_max(&self, told: &Told) -> u64 {
        let connections = self.connections_max.min(self.connections + OTHERS_MAX) as u64;
        let connection = match self.kind {
            Kind::Idle => 16 * KIB,
            _ => 3 * self.header_size_max + 16 * KIB + told.answer_size_max,
        };
        let bodies = match self.kind {
            Kind::Idle | Kind::SlowReaders | Kind::Names => 0,
            _ => self.bytes_in_flight_max.min(connections * self.post_size_max),
        };
        // A queue's name and its ranges; a place for each message of segments that are not indexed yet; a claim's.
        let state = 2 * KIB * told.queue_count + 200 * told.acknowledged.len() as u64;
        connections * connection + 2 * bodies + 2 * self.write_buffer_max + state + 32 * MIB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_seven_seeds_are_each_abuse_once_and_files_are_a_bound() {
        let plans: Vec<Plan> = (0..7).map(|seed| Plan::new(seed, 1_000)).collect();
        for (plan, kind) in plans.iter().zip(KINDS) {
            assert!(plan.is_small && plan.kind == kind && plan.connections <= 800, "{plan:?}");
        }
        assert!((7..200).all(|seed| !Plan::new(seed, 1_000).is_small));
        let largest = (7..200).map(|seed| Plan::new(seed, 20_000).connections).max();
        assert_eq!(largest, Some(10_000));
    }
}
