//! A server at one moment, as its admin API tells it. Knows the names of the documents' fields, and
//! nothing of what is shown.

use crate::admin_client::AdminClient;
use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// One look at a server. Serialised, it is what programs get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Snapshot {
    pub(super) stats: Stats,
    pub(super) deepest: Queues,
    pub(super) oldest: Queues,
    pub(super) segments: Vec<Segment>,
    pub(super) compaction: Compaction,
}

/// `GET /stats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stats {
    pub(super) version: String,
    pub(super) state: String,
    pub(super) because: Option<String>,
    pub(super) uptime_ms: u64,
    pub(super) engine: Engine,
    pub(super) process: Process,
    pub(super) requests: Vec<Route>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Engine {
    pub(super) queues: u64,
    pub(super) live_messages: u64,
    pub(super) claims: u64,
    pub(super) posted: u64,
    pub(super) claimed: u64,
    pub(super) deleted: u64,
    pub(super) expired: u64,
    pub(super) log_bytes: u64,
    pub(super) compacted_bytes: u64,
    pub(super) checkpoint_age_ms: u64,
    pub(super) replay_bytes: u64,
    pub(super) waiting_bytes: u64,
    pub(super) segments_disk_bytes: u64,
    pub(super) segments_live_bytes: u64,
    pub(super) commit_frames: Histogram,
    pub(super) sync_us: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) connections_open: u64,
    pub(super) in_flight_bytes: u64,
    pub(super) memory_resident_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Route {
    pub(super) route: String,
    pub(super) method: String,
    pub(super) statuses: Statuses,
    pub(super) latency_us: Histogram,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Statuses {
    #[serde(rename = "4xx")]
    pub(super) client_errors: u64,
    #[serde(rename = "5xx")]
    pub(super) server_errors: u64,
}

/// `GET /queues`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Queues {
    pub(super) total: u64,
    pub(super) queues: Vec<Queue>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Queue {
    pub(super) project: Option<String>,
    pub(super) name: String,
    pub(super) free: u64,
    pub(super) claimed: u64,
    /// Not there where the queue cannot be read, `None` where it is empty.
    pub(super) oldest_age_ms: Option<u64>,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// One of `GET /segments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) disk_size: u64,
    pub(super) live_cost: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Segments {
    segments: Vec<Segment>,
}

/// `GET /compact`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Compaction {
    pub(super) running: bool,
    pub(super) gain_bytes: u64,
}

/// How many values fell between one bound and the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Histogram {
    pub(super) count: u64,
    pub(super) sum: u64,
    /// The most a value here may be (`None`: anything), and how many values are here.
    pub(super) buckets: Vec<(Option<u64>, u64)>,
}

impl Snapshot {
    /// Looks at a server, with so many queues by either order.
    ///
    /// # Errors
    /// Those of the client, and when a document is not as expected: another version's server.
    pub(super) async fn take(client: &AdminClient, queues: usize) -> anyhow::Result<Snapshot> {
        let by_depth = format!("/queues?sort=depth&limit={queues}");
        let by_age = format!("/queues?sort=age&limit={queues}");
        // First, so that a server that is not there is told by the plainest of the paths.
        let stats = get(client, "/stats").await?;
        let (deepest, oldest, Segments { segments }, compaction) = tokio::try_join!(
            get(client, &by_depth),
            get(client, &by_age),
            get(client, "/segments"),
            get(client, "/compact"),
        )?;
        Ok(Snapshot { stats, deepest, oldest, segments, compaction })
    }
}

async fn get<T: DeserializeOwned>(client: &AdminClient, path: &str) -> anyhow::Result<T> {
    let document = client.get(path).await?;
    serde_json::from_value(document).with_context(|| {
        let url = client.url();
        format!("{url}{path} is not what this program knows (is the server of another version?)")
    })
}

impl Histogram {
    /// What was added since an earlier look.
    pub(super) fn since(&self, earlier: &Histogram) -> Histogram {
        let mut new = self.clone();
        new.count = new.count.saturating_sub(earlier.count);
        new.sum = new.sum.saturating_sub(earlier.sum);
        for ((_, count), (_, before)) in new.buckets.iter_mut().zip(&earlier.buckets) {
            *count = count.saturating_sub(*before);
        }
        new
    }

    /// The mean; `None` when there is no value.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// The value below which this share of all lies, taken as evenly spread in its bucket; `None` when
    /// there is no value. Beyond the last bound it is that bound: at least so much.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let count: u64 = self.buckets.iter().map(|(_, count)| count).sum();
        if count == 0 {
            return None;
        }
        let wanted = share * count as f64;
        let (mut below, mut before) = (0.0, 0.0);
        for (most, here) in &self.buckets {
            let Some(most) = most.map(|most| most as f64) else { break };
            let here = *here as f64;
            if here > 0.0 && before + here >= wanted {
                return Some(below + (most - below) * (wanted - before) / here);
            }
            before += here;
            below = most;
        }
        Some(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_in_their_buckets_and_differences_are_what_came_between() {
        let earlier = Histogram {
            count: 5,
            sum: 500,
            buckets: vec![(Some(100), 5), (Some(200), 0), (None, 0)],
        };
        let now = Histogram {
            count: 16,
            sum: 2700,
            buckets: vec![(Some(100), 5), (Some(200), 10), (None, 1)],
        };
        let new = now.since(&earlier);
        assert_eq!((new.count, new.mean()), (11, Some(200.0)));
        let quantile = |share| new.quantile(share).expect("there are values");
        assert_eq!(quantile(0.5), 155.0);
        assert_eq!(quantile(0.99), 200.0, "the last bound is all that is known");
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(now.since(&now).quantile(0.5), None);
    }
}
