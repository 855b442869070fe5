//! Rounds, medians and ratios. Knows nothing of what is measured.
//!
//! The machine may be slow in one second and quick in the next. So the variants take turns, round
//! by round, and each is divided by the first variant of the *same* round: that ratio is what counts.
//! Where others compute beside us, more rounds are run, and the quietest ones count.
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::time::{Duration, Instant};

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds that count; one more comes first and does not.
    pub(crate) rounds: usize,
    /// How many times so many rounds are run at most, in hope of quiet ones.
    pub(crate) tries: usize,
    /// Length of one variant's turn, in milliseconds.
    pub(crate) turn_ms: u64,
}

impl Default for Effort {
    fn default() -> Effort {
        Effort { rounds: 9, tries: 4, turn_ms: 100 }
    }
}

impl Effort {
    pub(crate) fn turn(self) -> Duration {
        Duration::from_millis(self.turn_ms)
    }
}

type Turn<'a> = Box<dyn FnMut() -> io::Result<Vec<f64>> + 'a>;

/// Variants of one thing, the anchor first.
pub(crate) struct Study<'a> {
    title: String,
    columns: &'static [&'static str],
    variants: Vec<(String, Turn<'a>)>,
}

impl<'a> Study<'a> {
    /// A turn returns one figure a column; the ratios are made from the first.
    pub(crate) fn new(title: impl Into<String>, columns: &'static [&'static str]) -> Study<'a> {
        Study { title: title.into(), columns, variants: Vec::new() }
    }

    pub(crate) fn variant(
        &mut self,
        name: impl Into<String>,
        turn: impl FnMut() -> io::Result<Vec<f64>> + 'a,
    ) {
        self.variants.push((name.into(), Box::new(turn)));
    }

    /// Lets the variants take turns, and prints a table.
    pub(crate) fn run(mut self, effort: Effort) -> io::Result<()> {
        self.round()?; // Warms caches, files and clocks.
        let mut tried: Vec<Round> = Vec::new();
        while tried.len() < effort.rounds * effort.tries
            && tried.iter().filter(|round| round.others_cores < QUIET_CORES).count() < effort.rounds
        {
            tried.push(self.round()?);
        }
        tried.sort_by(|one, other| one.others_cores.total_cmp(&other.others_cores));
        tried.truncate(effort.rounds);
        let others = spread(tried.iter().map(|round| round.others_cores).collect());
        self.print(&tried.into_iter().map(|round| round.figures).collect::<Vec<_>>());
        println!("\n{} rounds; others kept {others} cores busy meanwhile.", effort.rounds);
        Ok(())
    }

    fn round(&mut self) -> io::Result<Round> {
        let (before, start, mut figures) = (others_seconds()?, Instant::now(), Vec::new());
        for (_, turn) in &mut self.variants {
            figures.push(turn()?);
            assert_eq!(figures[figures.len() - 1].len(), self.columns.len(), "one a column");
        }
        let others_cores = (others_seconds()? - before) / start.elapsed().as_secs_f64();
        Ok(Round { figures, others_cores: others_cores.max(0.0) })
    }

    fn print(&self, rounds: &[Vec<Vec<f64>>]) {
        println!("\n### {}\n", self.title);
        println!("| variant | ratio of {} | {} |", self.columns[0], self.columns.join(" | "));
        println!("|---|--:|{}", "--:|".repeat(self.columns.len()));
        for (index, (name, _)) in self.variants.iter().enumerate() {
            let ratios = rounds.iter().map(|round| round[index][0] / round[0][0]);
            let mut cells = vec![spread(ratios.collect())];
            for column in 0..self.columns.len() {
                cells.push(spread(rounds.iter().map(|round| round[index][column]).collect()));
            }
            println!("| {name} | {} |", cells.join(" | "));
        }
    }
}

/// A round is quiet if others keep less of the cores busy than this.
const QUIET_CORES: f64 = 0.3;

/// Each variant's figures, and how many cores others kept busy.
struct Round {
    figures: Vec<Vec<f64>>,
    others_cores: f64,
}

/// Processor time that was spent outside this process since the machine started, in seconds.
fn others_seconds() -> io::Result<f64> {
    let all = ticks("/proc/stat", 1)?; // After "cpu": user, nice, system, idle, iowait, irq, ..., steal.
    let own = ticks("/proc/self/stat", 13)?; // Our user and system time.
    let busy: f64 = [0, 1, 2, 5, 6, 7].iter().map(|&index| all[index]).sum();
    Ok((busy - own[0] - own[1]) / 100.0) // The kernel shows hundredths of a second.
}

/// Processor time of all our threads, and of those the kernel has for us, in microseconds.
pub(crate) fn own_micros() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// The numbers of the first line from a place on; the name in it holds no space.
fn ticks(path: &str, skipped: usize) -> io::Result<Vec<f64>> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().next().unwrap_or_default();
    Ok(line.split_ascii_whitespace().skip(skipped).map(|n| n.parse().unwrap_or(0.0)).collect())
}

/// `median (min-max)`.
fn spread(mut figures: Vec<f64>) -> String {
    figures.sort_unstable_by(f64::total_cmp);
    let (low, high) = (figures[0], figures[figures.len() - 1]);
    if low == high {
        return short(low);
    }
    format!("{} ({}-{})", short(figures[figures.len() / 2]), short(low), short(high))
}

fn short(figure: f64) -> String {
    match figure {
        f if f >= 1e6 => format!("{:.2}M", f / 1e6),
        f if f >= 1e4 => format!("{:.1}k", f / 1e3),
        f if f >= 100.0 => format!("{f:.0}"),
        f if f >= 10.0 => format!("{f:.1}"),
        f => format!("{f:.2}"),
    }
}

/// Times of single operations.
#[derive(Default)]
pub(crate) struct Times {
    nanos: Vec<u64>,
}

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.nanos.push(time.as_nanos() as u64);
    }

    pub(crate) fn append(&mut self, mut other: Times) {
        self.nanos.append(&mut other.nanos);
    }

    pub(crate) fn count(&self) -> f64 {
        self.nanos.len() as f64
    }

    pub(crate) fn mean_micros(&self) -> f64 {
        self.nanos.iter().sum::<u64>() as f64 / 1e3 / self.count().max(1.0)
    }

    /// The time in microseconds that `share` of the operations stayed below.
    pub(crate) fn micros(&mut self, share: f64) -> f64 {
        self.nanos.sort_unstable();
        let index = (self.nanos.len() as f64 * share) as usize;
        let last = self.nanos.len().saturating_sub(1);
        self.nanos.get(index.min(last)).map_or(0.0, |nanos| *nanos as f64 / 1e3)
    }
}

/// Repeats `op` for `turn`; returns what each took, and the seconds in all.
pub(crate) fn repeat(
    turn: Duration,
    mut op: impl FnMut() -> io::Result<()>,
) -> io::Result<(Times, f64)> {
    let (mut times, start) = (Times::default(), Instant::now());
    while start.elapsed() < turn {
        let before = Instant::now();
        op()?;
        times.add(before.elapsed());
    }
    Ok((times, start.elapsed().as_secs_f64()))
}

/// Numbers without a pattern, the same ones in every run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `bound` (splitmix64).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
