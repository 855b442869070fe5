//! How should bodies be read, and what do the other tasks of the worker feel when they are cold?
use crate::disk::{self, KIB, MIB};
use crate::measure::{Dice, Effort, Study, Times};
use bytes::Bytes;
use memmap2::{Advice, Mmap};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{spawn_blocking, yield_now};

const FILE_SIZE: usize = 256 * MIB;
/// One body lies in each: as far as the kernel reads ahead, so that each is cold by itself.
const WINDOW_SIZE: usize = 128 * KIB;
const WINDOW_COUNT: usize = FILE_SIZE / WINDOW_SIZE;
/// Bodies a claim brings, each from another place: as if many queues took turns.
const CLAIM_COUNT: usize = 10;
/// A claim begins so often.
const PACE: Duration = Duration::from_millis(5);
const CLAIMS_PER_TURN: usize = 60;
/// About what the claim's own commit takes, in which advice may already work.
const COMMIT: Duration = Duration::from_micros(150);

const _: () = assert!(CLAIMS_PER_TURN * CLAIM_COUNT <= WINDOW_COUNT, "a turn reads no body twice");

/// Ways to get the bodies of a claim into one buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Copied out of the map in the task, which reads around each fault as the device is set to.
    Map,
    /// The same with `MADV_RANDOM`, like all that follow: a fault brings its page and no other.
    RandomMap,
    Pread,
    /// `preadv2` with `RWF_NOWAIT`; `pread` in the blocking pool of what is not cached.
    NowaitElsePool,
    /// `MADV_WILLNEED` when the claim is decided, copied once its commit is done.
    WillneedThenMap,
    /// `MADV_WILLNEED` and `MADV_POPULATE_READ` in the pool, whether cold or not.
    PopulateInPoolThenMap,
    /// The same, only where `RWF_NOWAIT` of the body's last byte says that it is cold.
    AskCacheElsePopulateInPool,
    /// Advice when the claim is decided, and after its commit the question, and the pool.
    WillneedThenAskCache,
    MapInPool,
}

const WAYS: [(&str, Way); 9] = [
    ("map", Way::Map),
    ("map, RANDOM", Way::RandomMap),
    ("pread", Way::Pread),
    ("NOWAIT, else pread in the pool", Way::NowaitElsePool),
    ("WILLNEED, commit, map", Way::WillneedThenMap),
    ("populate in the pool, map", Way::PopulateInPoolThenMap),
    ("ask; if cold populate in the pool; map", Way::AskCacheElsePopulateInPool),
    ("WILLNEED, commit, ask, pool, map", Way::WillneedThenAskCache),
    ("map in the pool", Way::MapInPool),
];

pub(crate) fn ask(effort: Effort) -> io::Result<()> {
    let folder = disk::scratch()?;
    let path = folder.path().join("segment");
    let file = File::create(&path)?;
    disk::fill(&file, FILE_SIZE, MIB)?;
    file.sync_all()?;
    let file = Arc::new(File::open(&path)?);
    for size in [256, KIB, 16 * KIB] {
        hot(&file, size, effort)?;
    }
    let one = || Builder::new_current_thread().build();
    let two = || Builder::new_multi_thread().worker_threads(2).build();
    claims("Hot, one worker", &file, KIB, one()?, Pages::Hot, effort)?;
    claims("Cold, one worker", &file, KIB, one()?, Pages::Cold, effort)?;
    claims("Cold, one worker", &file, 16 * KIB, one()?, Pages::Cold, effort)?;
    claims("Cold, two workers", &file, KIB, two()?, Pages::Cold, effort)
}

/// Reads the body at a place into a buffer, which says how long it is.
type ReadOne = &'static dyn Fn(&Segment, &Bytes, usize, &mut [u8]);

/// Nanoseconds a body from the page cache, without any runtime.
fn hot(file: &Arc<File>, size: usize, effort: Effort) -> io::Result<()> {
    let mut study = Study::new(format!("Hot bodies of {size} bytes"), &["ns a body"]);
    let segment = Segment::open(file, Way::RandomMap)?;
    let bytes = Bytes::from_owner(segment.clone());
    let mut turn = |name: &str, read: ReadOne| {
        let (segment, bytes, mut dice) = (segment.clone(), bytes.clone(), Dice::new(1));
        let mut body = vec![0; size];
        study.variant(name, move || {
            let (mut count, start) = (0, Instant::now());
            while start.elapsed() < effort.turn() {
                for _ in 0..16 {
                    // Within 16 MiB: neither the TLB nor the cache is what is measured.
                    let at = dice.below((16 * MIB - size) as u64) as usize;
                    read(&segment, &bytes, at, &mut body);
                }
                count += 16;
            }
            Ok(vec![start.elapsed().as_nanos() as f64 / f64::from(count)])
        });
    };
    turn("Bytes slice of the map, copied", &|_, bytes, at, body| {
        body.copy_from_slice(&bytes.slice(at..at + body.len()));
    });
    turn("Bytes slice of the map, not copied", &|_, bytes, at, body| {
        std::hint::black_box(bytes.slice(at..at + body.len()));
    });
    turn("pread", &|segment, _, at, body| {
        segment.file.read_exact_at(body, at as u64).expect("the body is there");
    });
    turn("preadv2 NOWAIT", &|segment, _, at, body| {
        segment.read_cached(at, body).expect("reads do not fail");
    });
    turn("preadv2 NOWAIT of 1 byte, then the Bytes slice", &|segment, bytes, at, body| {
        segment.read_cached(at, &mut body[..1]).expect("reads do not fail");
        body.copy_from_slice(&bytes.slice(at..at + body.len()));
    });
    study.run(effort)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pages {
    Hot,
    Cold,
}

fn claims(
    title: &str,
    file: &Arc<File>,
    size: usize,
    runtime: Runtime,
    pages: Pages,
    effort: Effort,
) -> io::Result<()> {
    let title = format!("{title}: claims of {CLAIM_COUNT} scattered bodies of {size} bytes");
    let columns =
        &["others held mean us", "held p50 us", "held p99 us", "claim mean us", "cold share"];
    let mut study = Study::new(title, columns);
    let (mut dice, runtime) = (Dice::new(2), &runtime);
    let mut windows: Vec<usize> = (0..WINDOW_COUNT).collect();
    for index in (1..WINDOW_COUNT).rev() {
        windows.swap(index, dice.below(index as u64 + 1) as usize);
    }
    let places: Vec<Vec<usize>> = windows
        .chunks_exact(CLAIM_COUNT)
        .take(CLAIMS_PER_TURN)
        .map(|claim| claim.iter().map(|window| window * WINDOW_SIZE).collect())
        .collect();
    for (name, way) in WAYS {
        let (file, places) = (file.clone(), places.clone());
        study.variant(name, move || {
            if pages == Pages::Cold {
                disk::evict(&file)?;
            }
            let segment = Segment::open(&file, way)?;
            runtime.block_on(turn(segment, places.clone(), size, way))
        });
    }
    study.run(effort)
}

/// Claims at a steady pace, beside tasks that only look how long they are kept from running.
async fn turn(
    segment: Segment,
    places: Vec<Vec<usize>>,
    size: usize,
    way: Way,
) -> io::Result<Vec<f64>> {
    let held = Arc::new(Held::default());
    let others = [tokio::spawn(held.clone().watch()), tokio::spawn(held.clone().watch())];
    let claims = tokio::spawn(claim_all(segment, places, size, way, held.clone()));
    let figures = claims.await.expect("the claims do not panic");
    held.stopped.store(true, Ordering::Relaxed);
    for other in others {
        other.await.expect("the watchers do not panic");
    }
    figures
}

async fn claim_all(
    segment: Segment,
    places: Vec<Vec<usize>>,
    size: usize,
    way: Way,
    held: Arc<Held>,
) -> io::Result<Vec<f64>> {
    let (mut holds, mut times, mut cold, mut next) =
        (Times::default(), Times::default(), 0, Instant::now());
    for claim in &places {
        while Instant::now() < next {
            yield_now().await;
        }
        next += PACE;
        held.longest_nanos.store(0, Ordering::Relaxed);
        let before = Instant::now();
        let (body, missing) = segment.claim(claim, size, way).await?;
        times.add(before.elapsed());
        assert_eq!(body.len(), size * CLAIM_COUNT, "every body is there");
        yield_now().await; // So that the others notice what they waited for last.
        yield_now().await;
        holds.add(Duration::from_nanos(held.longest_nanos.load(Ordering::Relaxed)));
        cold += missing;
    }
    let cold_share = cold as f64 / (places.len() * CLAIM_COUNT) as f64;
    // Below a microsecond nothing was held.
    let held_mean = holds.mean_micros().max(1.0);
    Ok(vec![held_mean, holds.micros(0.5), holds.micros(0.99), times.mean_micros(), cold_share])
}

/// The longest time a task that was ready did not run.
#[derive(Default)]
struct Held {
    longest_nanos: AtomicU64,
    stopped: AtomicBool,
}

impl Held {
    async fn watch(self: Arc<Held>) {
        while !self.stopped.load(Ordering::Relaxed) {
            let before = Instant::now();
            yield_now().await;
            self.longest_nanos.fetch_max(before.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    }
}

/// A segment's file and the map of it.
#[derive(Clone)]
struct Segment {
    file: Arc<File>,
    map: Arc<Mmap>,
}

impl AsRef<[u8]> for Segment {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Segment {
    fn open(file: &Arc<File>, way: Way) -> io::Result<Segment> {
        let map = disk::map(file)?;
        if way != Way::Map {
            map.advise(Advice::Random)?;
        }
        Ok(Segment { file: file.clone(), map: Arc::new(map) })
    }

    /// Returns the bodies, and how many were seen not to be in the page cache, where that is asked.
    async fn claim(&self, places: &[usize], size: usize, way: Way) -> io::Result<(Vec<u8>, usize)> {
        match way {
            Way::Map | Way::RandomMap => {}
            Way::Pread => return Ok((self.pread_all(places, size)?, 0)),
            Way::NowaitElsePool => return self.nowait_all(places, size).await,
            Way::WillneedThenMap => self.willneed_and_commit(places, size).await?,
            Way::PopulateInPoolThenMap => self.populate(places.to_vec(), size).await?,
            Way::AskCacheElsePopulateInPool | Way::WillneedThenAskCache => {
                if way == Way::WillneedThenAskCache {
                    self.willneed_and_commit(places, size).await?;
                }
                let missing = self.missing(places, size)?;
                let missing_count = missing.len();
                if missing_count > 0 {
                    self.populate(missing, size).await?;
                }
                return Ok((self.copy_all(places, size), missing_count));
            }
            Way::MapInPool => {
                let (segment, places) = (self.clone(), places.to_vec());
                return Ok((in_pool(move || Ok(segment.copy_all(&places, size))).await?, 0));
            }
        }
        Ok((self.copy_all(places, size), 0))
    }

    async fn willneed_and_commit(&self, places: &[usize], size: usize) -> io::Result<()> {
        self.advise_all(Advice::WillNeed, places, size)?;
        let before = Instant::now();
        while before.elapsed() < COMMIT {
            yield_now().await;
        }
        Ok(())
    }

    /// Asks for all pages at once, then waits for them, in the pool.
    async fn populate(&self, places: Vec<usize>, size: usize) -> io::Result<()> {
        let segment = self.clone();
        in_pool(move || {
            segment.advise_all(Advice::WillNeed, &places, size)?;
            segment.advise_all(Advice::PopulateRead, &places, size)
        })
        .await
    }

    fn missing(&self, places: &[usize], size: usize) -> io::Result<Vec<usize>> {
        let mut missing = Vec::new();
        for &at in places {
            if !self.read_cached(at + size - 1, &mut [0])? {
                missing.push(at);
            }
        }
        Ok(missing)
    }

    async fn nowait_all(&self, places: &[usize], size: usize) -> io::Result<(Vec<u8>, usize)> {
        let (mut bodies, mut missing) = (vec![0; size * places.len()], Vec::new());
        for (&at, body) in places.iter().zip(bodies.chunks_exact_mut(size)) {
            if !self.read_cached(at, body)? {
                missing.push(at);
            }
        }
        let missing_count = missing.len();
        if missing_count > 0 {
            let segment = self.clone();
            let late = in_pool(move || segment.pread_all(&missing, size)).await?;
            bodies[..late.len()].copy_from_slice(&late); // The order is no matter here.
        }
        Ok((bodies, missing_count))
    }

    fn copy_all(&self, places: &[usize], size: usize) -> Vec<u8> {
        let mut bodies = Vec::with_capacity(size * places.len());
        for &at in places {
            bodies.extend_from_slice(&self.map[at..at + size]);
        }
        bodies
    }

    fn pread_all(&self, places: &[usize], size: usize) -> io::Result<Vec<u8>> {
        let mut bodies = vec![0; size * places.len()];
        for (&at, body) in places.iter().zip(bodies.chunks_exact_mut(size)) {
            self.file.read_exact_at(body, at as u64)?;
        }
        Ok(bodies)
    }

    fn advise_all(&self, advice: Advice, places: &[usize], size: usize) -> io::Result<()> {
        places.iter().try_for_each(|&at| self.map.advise_range(advice, at, size))
    }

    /// Reads if the page cache has all of it; says whether.
    fn read_cached(&self, at: usize, body: &mut [u8]) -> io::Result<bool> {
        let size = body.len();
        let slices = &mut [IoSliceMut::new(body)];
        match preadv2(&self.file, slices, at as u64, ReadWriteFlags::NOWAIT) {
            Ok(count) => Ok(count == size),
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

async fn in_pool<T: Send + 'static>(
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(job).await.expect("the job does not panic")
}
