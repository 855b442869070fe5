//! What was measured, line by line as it is kept in `results.jsonl`, and read again. The schema
//! stands in `docs/benchmarks/README.md`. Knows nothing of how it is measured or shown.

use crate::stats::Spread;
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The version of the schema.
pub(crate) const FORMAT: u32 = 1;
/// The file with the lines, in a folder of results.
pub(crate) const FILE_NAME: &str = "results.jsonl";
/// Every mode, from the quickest to the safest.
pub(crate) const MODES: [&str; 5] = ["memory", "os", "interval", "group", "each"];

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Line {
    /// The first one: where and how it was measured.
    Header(Header),
    /// What the machine can do.
    Limit(Limit),
    /// One cell, one repetition.
    Cell(Cell),
    /// One cut of the power, or one crash of the process.
    Loss(Loss),
}

/// Where and how it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// Name and version of the program.
    pub(crate) program: String,
    /// The commit it was built from, or `unknown`.
    pub(crate) commit: String,
    /// The command line.
    pub(crate) command: String,
    /// When it began, RFC 3339.
    pub(crate) started: String,
    /// What was measured: `own server`, or its URL.
    pub(crate) target: String,
    /// The time it was to take, in seconds.
    pub(crate) budget_s: f64,
    /// Repetitions of each cell.
    pub(crate) rounds: usize,
    /// Of these, the unmeasured beginning of a cell and its measured part, in seconds.
    pub(crate) warm_up_s: f64,
    /// See `warm_up_s`.
    pub(crate) measured_s: f64,
    /// The machine.
    pub(crate) machine: Machine,
    /// What was chosen that no cell tells, for people.
    pub(crate) notes: Vec<String>,
}

/// The machine that client and server ran on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Its processor.
    pub(crate) cpu: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// Its memory, in bytes.
    pub(crate) memory_bytes: u64,
    /// Name and version of its kernel.
    pub(crate) kernel: String,
    /// The file system of the data folder, and its device.
    pub(crate) file_system: String,
}

/// What the machine can do, measured beside the cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// `fdatasync`, `sequential-write` or `hello`.
    pub(crate) what: String,
    /// The connections that `hello` was asked over; 0 for others.
    pub(crate) connections: usize,
    /// The repetition, from 1.
    pub(crate) round: usize,
    /// Syncs a second, MiB a second, or requests a second.
    pub(crate) value: f64,
    /// CPU of the client, in cores; 0 where there was none.
    pub(crate) client_cpu: f64,
}

/// Which cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct CellKey {
    /// `post`, `post-batch`, `claim-delete`, `mixed`, `list`, or the name of a scenario.
    pub(crate) workload: String,
    /// Whether requests come at a fixed rate, or as fast as they are answered.
    pub(crate) open: bool,
    /// The size of a message's body, in bytes.
    pub(crate) size_bytes: usize,
    /// Connections, each with one request in flight.
    pub(crate) connections: usize,
    /// The durability mode; `server` where the server speaks of none.
    pub(crate) mode: String,
}

/// One cell, one repetition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// Which cell.
    #[serde(flatten)]
    pub(crate) key: CellKey,
    /// The repetition, from 1.
    pub(crate) round: usize,
    /// What `rate` counts: `messages` posted or worked off, or `pages`.
    pub(crate) unit: String,
    /// How many a second.
    pub(crate) rate: f64,
    /// Requests a second.
    pub(crate) requests_per_s: f64,
    /// Open loop: operations that came a second.
    pub(crate) offered_per_s: Option<f64>,
    /// The measured time, in seconds.
    pub(crate) measured_s: f64,
    /// Of each request; in an open loop of each operation, from when it was due.
    pub(crate) latency_us: Percentiles,
    /// Answers that were not what was asked for, and broken connections.
    pub(crate) errors: u64,
    /// The first of them.
    pub(crate) error: Option<String>,
    /// CPU of the client, in cores. It has one thread: at 1 it is the client that is measured.
    pub(crate) client_cpu: f64,
    /// CPU of the server, in cores, where it is ours.
    pub(crate) server_cpu: Option<f64>,
    /// Whether the messages ran out before the time.
    pub(crate) dry: bool,
    /// Open loop: how late requests were sent while a connection was free, 99th percentile.
    pub(crate) sent_late_us: Option<f64>,
    /// What only scenarios measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scenario: Option<ScenarioFigures>,
}

/// What only scenarios measure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScenarioFigures {
    /// Queues made a second.
    pub(crate) queues_per_s: Option<f64>,
    /// Messages stored a second before the load began.
    pub(crate) prefill_per_s: Option<f64>,
    /// Memory of the server before queues and messages, in bytes.
    pub(crate) memory_empty_bytes: Option<u64>,
    /// The same after them.
    pub(crate) memory_filled_bytes: Option<u64>,
    /// From the start of the program to its first answer, after it was killed with all of them.
    pub(crate) restart_s: Option<f64>,
    /// Latency by kind of request.
    pub(crate) latency_us_by_request: BTreeMap<String, Percentiles>,
}

/// Latencies, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    /// Half were no slower.
    pub(crate) p50: f64,
    /// 75 of 100.
    pub(crate) p75: f64,
    /// 90 of 100.
    pub(crate) p90: f64,
    /// 95 of 100.
    pub(crate) p95: f64,
    /// 99 of 100.
    pub(crate) p99: f64,
    /// 995 of 1,000.
    pub(crate) p995: f64,
    /// 999 of 1,000.
    pub(crate) p999: f64,
    /// 9,999 of 10,000.
    pub(crate) p9999: f64,
    /// The slowest.
    pub(crate) max: f64,
    /// How many there were.
    pub(crate) count: u64,
}

impl Percentiles {
    /// Reads them off a histogram of nanoseconds.
    pub(crate) fn of(histogram: &hdrhistogram::Histogram<u64>) -> Percentiles {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Percentiles {
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p995: at(0.995),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max() as f64 / 1000.0,
            count: histogram.len(),
        }
    }

    /// Each with the share of requests that were slower; those that so few requests cannot tell are
    /// left out.
    pub(crate) fn points(&self) -> Vec<(f64, f64)> {
        let all = [
            (0.5, self.p50),
            (0.25, self.p75),
            (0.1, self.p90),
            (0.05, self.p95),
            (0.01, self.p99),
            (0.005, self.p995),
            (0.001, self.p999),
            (0.0001, self.p9999),
        ];
        all.into_iter().filter(|(slower, _)| slower * self.count as f64 >= 5.0).collect()
    }
}

/// What one cut of the power, or one crash of the process, took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Loss {
    /// The durability mode.
    pub(crate) mode: String,
    /// `power-cut` or `process-crash`.
    pub(crate) event: String,
    /// What became of unsynced writes: `all` lost, `some`, `torn`, `reordered`; `none` for a crash.
    pub(crate) writes: String,
    /// Which cut, from 1.
    pub(crate) cut: usize,
    /// Messages acknowledged a second before it.
    pub(crate) rate: f64,
    /// The size of a body, in bytes.
    pub(crate) size_bytes: usize,
    /// How long it went well, in milliseconds.
    pub(crate) ran_ms: f64,
    /// Messages acknowledged.
    pub(crate) acknowledged: u64,
    /// Those of them that were gone.
    pub(crate) lost: u64,
    /// How long before the cut the oldest of those had been acknowledged, in milliseconds.
    pub(crate) lost_ms: f64,
}

/// A whole file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Results {
    /// Its first line.
    pub(crate) header: Header,
    /// Limits of the machine.
    pub(crate) limits: Vec<Limit>,
    /// All repetitions of all cells.
    pub(crate) cells: Vec<Cell>,
    /// All cuts and crashes.
    pub(crate) losses: Vec<Loss>,
}

impl Results {
    /// Nothing but a header.
    pub(crate) fn new(header: Header) -> Results {
        Results { header, limits: Vec::new(), cells: Vec::new(), losses: Vec::new() }
    }

    /// Takes one more line.
    pub(crate) fn push(&mut self, line: Line) {
        match line {
            Line::Header(header) => self.header = header,
            Line::Limit(limit) => self.limits.push(limit),
            Line::Cell(cell) => self.cells.push(cell),
            Line::Loss(loss) => self.losses.push(loss),
        }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// When a line is not of this schema; the error names it.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Results> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = |(number, line): (usize, &str)| {
            serde_json::from_str::<Line>(line).with_context(|| format!("line {}", number + 1))
        };
        let first = lines.next().map(read).transpose()?;
        let Some(Line::Header(header)) = first else {
            bail!("the first line is no header; is this a file of `marconi bench`?");
        };
        if header.format != FORMAT {
            bail!("the file has format {}, this program reads {FORMAT}", header.format);
        }
        let mut results = Results::new(header);
        for line in lines {
            results.push(read(line)?);
        }
        Ok(results)
    }

    /// Reads a file, or the one in a folder.
    ///
    /// # Errors
    /// When it is not there or not of this schema.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Results> {
        let file = if path.is_dir() { path.join(FILE_NAME) } else { path.to_path_buf() };
        let text = crate::folder::read_text(&file)?;
        Results::parse(&text).with_context(|| format!("cannot read {}", file.display()))
    }

    /// The repetitions of each cell, by cell.
    pub(crate) fn by_cell(&self) -> BTreeMap<&CellKey, Vec<&Cell>> {
        let mut cells: BTreeMap<&CellKey, Vec<&Cell>> = BTreeMap::new();
        for cell in &self.cells {
            cells.entry(&cell.key).or_default().push(cell);
        }
        cells
    }

    /// The repetitions of one cell.
    pub(crate) fn repetitions<'a>(&'a self, key: &'a CellKey) -> impl Iterator<Item = &'a Cell> {
        self.cells.iter().filter(move |cell| cell.key == *key)
    }

    /// The rates of one cell; `None` where it was not measured.
    pub(crate) fn rate(&self, key: &CellKey) -> Option<Spread> {
        Spread::of(&self.repetitions(key).map(|cell| cell.rate).collect::<Vec<_>>())
    }

    /// A limit of the machine.
    pub(crate) fn limit(&self, what: &str, connections: usize) -> Option<Spread> {
        let all = self.limits.iter();
        let values = all.filter(|one| one.what == what && one.connections == connections);
        Spread::of(&values.map(|one| one.value).collect::<Vec<_>>())
    }

    /// The modes that were measured, the known ones in their order.
    pub(crate) fn modes(&self) -> Vec<String> {
        let known = MODES.iter().map(|mode| (*mode).to_owned());
        let has = |mode: &String| {
            self.cells.iter().any(|cell| cell.key.mode == *mode)
                || self.losses.iter().any(|loss| loss.mode == *mode)
        };
        let mut modes: Vec<String> = known.filter(has).collect();
        for cell in &self.cells {
            if !modes.contains(&cell.key.mode) {
                modes.push(cell.key.mode.clone());
            }
        }
        modes
    }

    /// The workloads that were measured, in their order.
    pub(crate) fn workloads(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for cell in &self.cells {
            if !found.contains(&cell.key.workload) {
                found.push(cell.key.workload.clone());
            }
        }
        found
    }
}

/// Why a cell would mislead, in a word each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// The client had no CPU left: the server may be quicker.
    ClientBound,
    /// Some answers were not what was asked for.
    Errors,
    /// The messages ran out before the time.
    Dry,
    /// The repetitions lie far apart.
    Noisy,
    /// Open loop: the server did not keep up with the rate.
    Overloaded,
}

impl Mark {
    /// A letter for tables.
    pub(crate) fn letter(self) -> char {
        match self {
            Mark::ClientBound => 'c',
            Mark::Errors => 'e',
            Mark::Dry => 'd',
            Mark::Noisy => 'n',
            Mark::Overloaded => 'o',
        }
    }

    /// What it means.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Mark::ClientBound => "the client had no CPU left: the server may be quicker",
            Mark::Errors => "some answers were errors; they are not counted as done",
            Mark::Dry => "the messages ran out early: a short measurement",
            Mark::Noisy => "the repetitions lie more than half their median apart",
            Mark::Overloaded => "the server did not keep up with the offered rate",
        }
    }
}

/// The client counts as bound from this share of a core on.
const CLIENT_BOUND: f64 = 0.9;
/// Repetitions count as noisy when they lie this far apart, as a share of their median.
const NOISY: f64 = 0.5;

/// Why the repetitions of a cell would mislead.
pub(crate) fn marks(cells: &[&Cell]) -> Vec<Mark> {
    let mut marks = Vec::new();
    let most = |test: &dyn Fn(&Cell) -> bool| {
        2 * cells.iter().filter(|cell| test(cell)).count() > cells.len()
    };
    if most(&|cell| cell.client_cpu >= CLIENT_BOUND) {
        marks.push(Mark::ClientBound);
    }
    if cells.iter().any(|cell| cell.errors > 0) {
        marks.push(Mark::Errors);
    }
    if most(&|cell| cell.dry) {
        marks.push(Mark::Dry);
    }
    let rates: Vec<f64> = cells.iter().map(|cell| cell.rate).collect();
    if Spread::of(&rates).is_some_and(|spread| spread.relative() > NOISY) {
        marks.push(Mark::Noisy);
    }
    let is_behind =
        |cell: &Cell| cell.offered_per_s.is_some_and(|offered| cell.requests_per_s < 0.9 * offered);
    if most(&is_behind) {
        marks.push(Mark::Overloaded);
    }
    marks
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small file: two modes, post at 1 and 16 connections, closed and open, two rounds; losses.
    pub(crate) fn sample() -> Results {
        let header = Header {
            format: FORMAT,
            program: "marconi 0.1.0".into(),
            commit: "abc".into(),
            command: "marconi bench".into(),
            started: "2026-01-01T00:00:00Z".into(),
            target: "own server".into(),
            budget_s: 60.0,
            rounds: 2,
            warm_up_s: 0.1,
            measured_s: 0.4,
            machine: Machine {
                cpu: "A <CPU> & more".into(),
                cores: 2,
                memory_bytes: 8 << 30,
                kernel: "Linux 6".into(),
                file_system: "ext4".into(),
            },
            notes: vec![],
        };
        let mut results = Results::new(header);
        for round in 1..=2 {
            let wobble = 1.0 + round as f64 / 100.0;
            for (what, connections, value) in
                [("fdatasync", 0, 9000.0), ("sequential-write", 0, 900.0), ("hello", 16, 90_000.0)]
            {
                let value = value * wobble;
                let what = what.to_owned();
                results.limits.push(Limit { what, connections, round, value, client_cpu: 0.5 });
            }
            for (mode, rate) in [("os", 60_000.0), ("group", 40_000.0)] {
                for connections in [1, 16] {
                    for open in [false, true] {
                        let rate = rate * wobble * connections as f64 / 16.0;
                        results.cells.push(cell(mode, connections, open, round, rate));
                    }
                }
            }
        }
        for (mode, event, lost) in [
            ("os", "power-cut", 4000),
            ("os", "power-cut", 1000),
            ("os", "process-crash", 0),
            ("group", "power-cut", 0),
        ] {
            results.losses.push(Loss {
                mode: mode.into(),
                event: event.into(),
                writes: "all".into(),
                cut: 1,
                rate: 4000.0,
                size_bytes: 4096,
                ran_ms: 2000.0,
                acknowledged: 8000,
                lost,
                lost_ms: lost as f64 / 4.0,
            });
        }
        results
    }

    pub(crate) fn cell(
        mode: &str,
        connections: usize,
        open: bool,
        round: usize,
        rate: f64,
    ) -> Cell {
        Cell {
            key: CellKey {
                workload: "post".into(),
                open,
                size_bytes: 1024,
                connections,
                mode: mode.into(),
            },
            round,
            unit: "messages".into(),
            rate,
            requests_per_s: rate,
            offered_per_s: open.then_some(rate),
            measured_s: 0.4,
            latency_us: Percentiles {
                p50: 100.0,
                p75: 150.0,
                p90: 200.0,
                p95: 250.0,
                p99: 400.0,
                p995: 500.0,
                p999: 900.0,
                p9999: 2000.0,
                max: 3000.0,
                count: 20_000,
            },
            errors: 0,
            error: None,
            client_cpu: 0.5,
            server_cpu: Some(0.7),
            dry: false,
            sent_late_us: None,
            scenario: None,
        }
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let results = sample();
        let lines = std::iter::once(Line::Header(results.header.clone()))
            .chain(results.limits.iter().cloned().map(Line::Limit))
            .chain(results.cells.iter().cloned().map(Line::Cell))
            .chain(results.losses.iter().cloned().map(Line::Loss));
        let text: String =
            lines.map(|line| serde_json::to_string(&line).expect("plain data") + "\n").collect();
        assert_eq!(Results::parse(&text).expect("its own lines"), results);
        let broken = text.replacen("\"limit\"", "\"limits\"", 1);
        let error = format!("{:#}", Results::parse(&broken).expect_err("no such kind"));
        assert!(error.contains("line 2"), "{error}");
        assert!(Results::parse("{}").is_err());
        assert_eq!(results.modes(), ["os", "group"]);
    }

    #[test]
    fn cells_that_mislead_are_marked() {
        let good = cell("os", 1, false, 1, 100.0);
        assert_eq!(marks(&[&good, &good]), []);
        let bound = Cell { client_cpu: 0.97, errors: 1, dry: true, rate: 300.0, ..good.clone() };
        assert_eq!(
            marks(&[&bound, &good, &bound]),
            [Mark::ClientBound, Mark::Errors, Mark::Dry, Mark::Noisy]
        );
        let late = Cell { offered_per_s: Some(200.0), ..good };
        assert_eq!(marks(&[&late]), [Mark::Overloaded]);
    }

    #[test]
    fn percentiles_say_only_what_so_many_requests_can() {
        let mut histogram = hdrhistogram::Histogram::<u64>::new(3).expect("three digits");
        (1..=1000u64).for_each(|us| histogram.record(us * 1000).expect("it grows"));
        let percentiles = Percentiles::of(&histogram);
        assert!((499.0..=501.5).contains(&percentiles.p50), "{percentiles:?}");
        assert!((989.0..=991.5).contains(&percentiles.p99), "{percentiles:?}");
        let slower: Vec<f64> = percentiles.points().iter().map(|(slower, _)| *slower).collect();
        assert_eq!(slower, [0.5, 0.25, 0.1, 0.05, 0.01, 0.005]);
    }
}
