//! What the engine counts of itself: plain counters and histograms of fixed buckets, cheap enough
//! for every commit. Knows nothing of how they are shown.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets of a [`HistogramSnapshot`]: one for each power of two up to this many.
pub const BUCKET_COUNT: usize = 28;

/// Counts values by powers of two: bucket `n` holds values below `2^n`, and not below `2^(n-1)`.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKET_COUNT],
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn record(&self, value: u64) {
        let bucket = (64 - value.leading_zeros() as usize).min(BUCKET_COUNT - 1);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// How many values were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].load(Ordering::Relaxed)),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// How many values fell below `2^n` and not below `2^(n-1)`; the last bucket holds all larger.
    pub buckets: [u64; BUCKET_COUNT],
    /// All values added up.
    pub sum: u64,
}

/// Counters that many threads add to.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) posted: AtomicU64,
    pub(crate) claimed: AtomicU64,
    pub(crate) deleted: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) frames: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
    pub(crate) freed_bytes: AtomicU64,
    /// Calls that ask for compaction, and rewrites, under way.
    pub(crate) compacting: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) commit_frames: Histogram,
    pub(crate) sync_us: Histogram,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Counted as under way for as long as it lives.
#[derive(Debug)]
pub(crate) struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    pub(crate) fn new(count: &'a AtomicU64) -> UnderWay<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        UnderWay(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One segment, as the metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentMetrics {
    /// Its number.
    pub number: u64,
    /// How often it was rewritten.
    pub generation: u64,
    /// Bytes on disk, index included.
    pub disk_size: u64,
    /// What keeping its live messages costs on disk.
    pub live_cost: u64,
    /// How many messages live in it.
    pub live_count: u64,
    /// When this generation of it was made.
    pub created_ms: u64,
}

/// What compaction would gain now, and what it did since the engine was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactionMetrics {
    /// Bytes of disk that [`Engine::compact`](crate::Engine::compact) would free, about: what is dead in
    /// segments that are mostly dead. Those still being written to are not counted.
    pub gain_bytes: u64,
    /// How many segments are mostly dead.
    pub gain_segments: u64,
    /// Whether segments are being rewritten, or somebody asked for it and waits.
    pub running: bool,
    /// Bytes that compaction wrote.
    pub rewritten_bytes: u64,
    /// Bytes of disk that it freed.
    pub freed_bytes: u64,
}

/// What the engine counted since it was opened, and its state now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineMetrics {
    /// Queues now.
    pub queues: u64,
    /// Messages that live now, those whose expiry was not noticed yet included.
    pub live_messages: u64,
    /// Claims now, those whose end was not noticed yet included.
    pub claims: u64,
    /// Messages posted.
    pub posted: u64,
    /// Messages claimed.
    pub claimed: u64,
    /// Messages deleted, by name or with their queue.
    pub deleted: u64,
    /// Messages that expired.
    pub expired: u64,
    /// Frames appended.
    pub frames: u64,
    /// Bytes appended.
    pub log_bytes: u64,
    /// Bytes that compaction wrote.
    pub compacted_bytes: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Milliseconds since the newest checkpoint, or since the start where there was none.
    pub checkpoint_age_ms: u64,
    /// Log behind the newest checkpoint: what a start after a crash would have to read.
    pub replay_bytes: u64,
    /// Frames a commit.
    pub commit_frames: HistogramSnapshot,
    /// Microseconds a sync took.
    pub sync_us: HistogramSnapshot,
    /// The segments, by number.
    pub segments: Vec<SegmentMetrics>,
    /// Bytes waiting to be written.
    pub waiting_bytes: u64,
    /// Milliseconds that opening took.
    pub recovery_ms: u64,
    /// Why writes are refused, when they are.
    pub read_only: Option<String>,
    /// Whether posting is refused because the disk is full.
    pub disk_full: bool,
}
