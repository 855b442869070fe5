//! What a server took, trial by trial, and whether that is flat: the median of the first third of the trials after
//! warm-up against that of the last third. Knows no server.
//!
//! Tolerances. *Memory* 10% and 4 MiB: an allocator keeps what a peak took, and the peaks of a random load grow with
//! the number of looks at it; a leak of 100 bytes a request would be 20 MiB in an hour of this load. *Descriptors* and
//! *threads* 2: connections come and go, always the same number of them, and the next file may be open or not.
//! *Disk*, the least of each trial, 10% and two segments. *Latency* as the ratio to what the machine gives everybody at
//! the time, whoever else it serves: a request that touches no store, and a sync of a file beside. Half as much again
//! for the median; three times for the 99th percentile, which a few slow moments of the disk decide in a trial.

use anyhow::ensure;

const MIB: f64 = (1 << 20) as f64;
/// Trials that are not looked at: buffers and pools find their sizes.
const WARM_UP: usize = 4;
/// Fewer than so many after that have no slope.
const SLOPE_COUNT_MIN: usize = 9;

/// What was measured in one trial.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    pub(super) memory_bytes: f64,
    pub(super) descriptors: f64,
    pub(super) threads: f64,
    /// The least.
    pub(super) disk_bytes: f64,
    /// Of posts, in microseconds.
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// Of a request that touches no store and a sync of a file beside.
    pub(super) control_p50_us: f64,
    pub(super) control_p99_us: f64,
}

/// Something that is to be flat.
struct Measure {
    name: &'static str,
    of: fn(&Sample) -> f64,
    /// It may grow by this share and by so much.
    share: f64,
    more: f64,
    /// And is at most this at any time, warm-up and short runs included: far more than the load can need.
    most: f64,
}

const MEASURES: [Measure; 6] = [
    Measure {
        name: "memory in bytes",
        of: |s| s.memory_bytes,
        share: 0.1,
        more: 4.0 * MIB,
        most: 256.0 * MIB,
    },
    Measure { name: "open descriptors", of: |s| s.descriptors, share: 0.0, more: 2.0, most: 200.0 },
    Measure { name: "threads", of: |s| s.threads, share: 0.0, more: 2.0, most: 100.0 },
    Measure {
        name: "disk in bytes",
        of: |s| s.disk_bytes,
        share: 0.1,
        more: 2.0 * MIB,
        most: 128.0 * MIB,
    },
    Measure {
        name: "median latency of posts, in that of a bare request and a sync",
        of: |s| s.p50_us / s.control_p50_us.max(1.0),
        share: 0.5,
        more: 0.2,
        most: f64::INFINITY,
    },
    Measure {
        name: "99th percentile of the latency of posts, in that of a bare request and a sync",
        of: |s| s.p99_us / s.control_p99_us.max(1.0),
        share: 2.0,
        more: 1.0,
        most: f64::INFINITY,
    },
];

/// The trials of a run.
#[derive(Debug)]
pub(super) struct Series(Vec<Sample>);

impl Series {
    pub(super) const fn new() -> Series {
        Series(Vec::new())
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    pub(super) fn samples(&self) -> &[Sample] {
        &self.0
    }

    /// Whether there is enough for a slope.
    pub(super) fn has_slope(&self) -> bool {
        self.0.len() >= WARM_UP + SLOPE_COUNT_MIN
    }

    /// Whether all so far is flat, as far as there is enough of it.
    pub(super) fn judge(&self) -> anyhow::Result<()> {
        for Measure { name, of, share, more, most } in &MEASURES {
            let values: Vec<f64> = self.0.iter().map(of).collect();
            let largest = values.iter().copied().fold(0.0, f64::max);
            ensure!(largest <= *most, "{name}: {largest:.1}, more than {most}");
            let Some((first, last)) = thirds(values.get(WARM_UP..).unwrap_or_default()) else {
                continue;
            };
            let limit = first * (1.0 + share) + more;
            ensure!(
                last <= limit,
                "{name} grew over {} half minutes from {first:.1} to {last:.1}, more than to {limit:.1}: {values:.1?}",
                values.len(),
            );
        }
        Ok(())
    }
}

/// The medians of the first and the last third.
fn thirds(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < SLOPE_COUNT_MIN {
        return None;
    }
    let third = values.len() / 3;
    Some((quantile(&values[..third], 0.5), quantile(&values[values.len() - third..], 0.5)))
}

/// The value below which so large a share lies; 0 of none.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(count: usize, sample: impl Fn(f64) -> Sample) -> Series {
        Series((0..count).map(|number| sample(number as f64)).collect())
    }

    fn flat() -> Sample {
        Sample {
            memory_bytes: 30.0 * MIB,
            descriptors: 30.0,
            threads: 8.0,
            disk_bytes: 6.0 * MIB,
            p50_us: 300.0,
            p99_us: 900.0,
            control_p50_us: 100.0,
            control_p99_us: 300.0,
        }
    }

    #[test]
    fn what_is_flat_passes_and_what_grows_is_told() {
        let noisy = |number: f64| Sample { p99_us: 900.0 + 400.0 * (number % 3.0), ..flat() };
        series(100, noisy).judge().expect("noise is no slope");
        type Slope = fn(f64) -> Sample;
        let grows: [(&str, Slope); 6] = [
            ("memory", |n| Sample { memory_bytes: (30.0 + 0.2 * n) * MIB, ..flat() }),
            ("descriptors", |n| Sample { descriptors: 30.0 + 0.1 * n, ..flat() }),
            ("threads", |n| Sample { threads: 8.0 + 0.1 * n, ..flat() }),
            ("disk", |n| Sample { disk_bytes: (6.0 + 0.1 * n) * MIB, ..flat() }),
            ("median", |n| Sample { p50_us: 300.0 + 5.0 * n, ..flat() }),
            ("99th", |n| Sample { p99_us: 900.0 + 300.0 * n, ..flat() }),
        ];
        for (name, sample) in grows {
            let told = series(100, sample).judge().expect_err(name).to_string();
            assert!(told.contains(name) && told.contains("grew"), "{name}: {told}");
            // So little has no slope.
            series(WARM_UP + SLOPE_COUNT_MIN - 1, sample).judge().expect(name);
        }
        let told = series(1, |_| Sample { descriptors: 1e4, ..flat() }).judge();
        assert!(told.is_err_and(|told| told.to_string().contains("more than 200")));
    }

    #[test]
    fn warm_up_is_not_looked_at() {
        let cold = |number: f64| {
            if number < WARM_UP as f64 { Sample::default() } else { flat() }
        };
        series(WARM_UP + SLOPE_COUNT_MIN, cold).judge().expect("it is flat once it is warm");
    }
}
