//! Two runs side by side: for each cell that both have the ratio of the second to the first, with its
//! confidence. Pure but for reading the files.

use crate::options::CompareOptions;
use crate::report::{plain_table, short, table_text, time};
use crate::results::{Cell, CellKey, Results};
use crate::stats::{Ratio, median, ratio};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;

/// Compares two runs and prints what changed.
///
/// # Errors
/// When one cannot be read.
pub(crate) fn run(options: &CompareOptions, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let (first, second) = (Results::read(&options.first)?, Results::read(&options.second)?);
    let rows = compare(&first, &second);
    if json {
        serde_json::to_writer(&mut *out, &rows)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", text(&first, &second, &rows))?;
    }
    Ok(())
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// Units a second: more is better.
    Rate,
    /// The 99th percentile at a fixed rate, in microseconds: less is better.
    P99Us,
    /// What the machine could do.
    Limit,
}

/// One ratio.
#[derive(Debug, Clone, Serialize)]
struct Row {
    name: String,
    what: What,
    #[serde(flatten)]
    cell: Option<CellKey>,
    /// The medians.
    first: f64,
    second: f64,
    /// The second over the first.
    ratio: f64,
    /// The interval that holds it in 95 of 100 bootstraps.
    low: f64,
    high: f64,
    /// Repetitions in the first and in the second run.
    repetitions: (usize, usize),
    /// Whether the interval lies on one side of 1, and there were repetitions enough to say so.
    sure: bool,
}

/// Of fewer repetitions nothing is said for sure.
const REPETITIONS_MIN: usize = 3;

fn row(
    name: String,
    what: What,
    cell: Option<&CellKey>,
    first: &[f64],
    second: &[f64],
) -> Option<Row> {
    let found: Ratio = ratio(first, second)?;
    Some(Row {
        name,
        what,
        cell: cell.cloned(),
        first: median(first),
        second: median(second),
        ratio: found.ratio,
        low: found.low,
        high: found.high,
        repetitions: (first.len(), second.len()),
        sure: found.is_beyond_noise() && first.len().min(second.len()) >= REPETITIONS_MIN,
    })
}

/// All ratios: the limits of the machine first, then what changed for sure, the largest change first.
fn compare(first: &Results, second: &Results) -> Vec<Row> {
    let mut rows = Vec::new();
    let limits: BTreeSet<(&str, usize)> =
        first.limits.iter().map(|one| (one.what.as_str(), one.connections)).collect();
    for (what, connections) in limits {
        let values = |results: &Results| -> Vec<f64> {
            let all = results.limits.iter();
            all.filter(|one| one.what == what && one.connections == connections)
                .map(|one| one.value)
                .collect()
        };
        let name =
            if connections > 0 { format!("{what}, {connections} conn") } else { what.into() };
        rows.extend(row(name, What::Limit, None, &values(first), &values(second)));
    }
    let (cells, others) = (first.by_cell(), second.by_cell());
    let mut changes = Vec::new();
    for (key, cells) in &cells {
        let Some(others) = others.get(*key) else { continue };
        let (what, figure): (_, fn(&Cell) -> f64) = match key.open {
            false => (What::Rate, |cell| cell.rate),
            true => (What::P99Us, |cell| cell.latency_us.p99),
        };
        let values = |cells: &[&Cell]| cells.iter().map(|cell| figure(cell)).collect::<Vec<_>>();
        changes.extend(row(name(key), what, Some(key), &values(cells), &values(others)));
    }
    let size = |row: &Row| row.ratio.ln().abs();
    changes.sort_by(|a, b| b.sure.cmp(&a.sure).then(size(b).total_cmp(&size(a))));
    rows.extend(changes);
    rows
}

fn name(key: &CellKey) -> String {
    let size = crate::report::size(key.size_bytes);
    let what = if key.open { ", p99" } else { "" };
    format!("{} {size}, {} conn, {}{what}", key.workload, key.connections, key.mode)
}

fn text(first: &Results, second: &Results, rows: &[Row]) -> String {
    let cells: Vec<&Row> = rows.iter().filter(|row| row.what != What::Limit).collect();
    let sure = cells.iter().filter(|row| row.sure).count();
    let mut out = format!(
        "First:  {}, commit {}, {}\nSecond: {}, commit {}, {}\n",
        first.header.program,
        first.header.commit,
        first.header.started,
        second.header.program,
        second.header.commit,
        second.header.started
    );
    // Writing to a string does not fail.
    if cells.is_empty() {
        let _ = writeln!(out, "They have no cell in common.");
    } else {
        let _ = writeln!(out, "{sure} of {} cells changed beyond noise.", cells.len());
    }
    if first.header.machine != second.header.machine {
        let _ = writeln!(
            out,
            "The machines differ: {:?}\nand {:?}.",
            first.header.machine, second.header.machine
        );
    }
    let drifted: Vec<&str> = rows
        .iter()
        .filter(|row| row.what == What::Limit && row.sure)
        .map(|row| row.name.as_str())
        .collect();
    if !drifted.is_empty() {
        let _ = writeln!(out, "The machine itself changed: {}.", drifted.join("; "));
    }
    let head = ["", "first", "second", "ratio", "95 % interval", ""].map(str::to_owned);
    let mut table = plain_table(&head);
    for row in rows {
        let shown = |value| if row.what == What::P99Us { time(value) } else { short(value) };
        let is_better = (row.ratio > 1.0) == (row.what != What::P99Us);
        let verdict = match (row.sure, is_better) {
            (false, _) if row.repetitions.0.min(row.repetitions.1) < REPETITIONS_MIN => {
                "too few repetitions"
            }
            (false, _) => "within noise",
            (true, true) => "better",
            (true, false) => "worse",
        };
        table.add_row([
            row.name.clone(),
            shown(row.first),
            shown(row.second),
            format!("{:.2}", row.ratio),
            format!("{:.2}-{:.2}", row.low, row.high),
            verdict.to_owned(),
        ]);
    }
    let _ = write!(out, "\n{}", table_text(&table));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{cell, sample};

    /// Posts in two modes, three repetitions, these rates.
    fn results(os: [f64; 3], group: [f64; 3]) -> Results {
        let mut results = sample();
        results.cells.clear();
        for round in 0..3 {
            results.cells.push(cell("os", 16, false, round + 1, os[round]));
            results.cells.push(cell("group", 16, false, round + 1, group[round]));
        }
        results
    }

    #[test]
    fn what_changed_comes_first_and_noise_is_called_so() {
        let first = results([100.0, 120.0, 90.0], [50.0, 51.0, 49.0]);
        let second = results([130.0, 95.0, 110.0], [99.0, 101.0, 100.0]);
        let rows = compare(&first, &second);
        let cells: Vec<&Row> = rows.iter().filter(|row| row.what == What::Rate).collect();
        assert_eq!(cells[0].name, "post 1 KiB, 16 conn, group");
        assert_eq!((cells[0].ratio, cells[0].sure), (2.0, true));
        assert!(!cells[1].sure, "{rows:?}");
        let text = text(&first, &second, &rows);
        assert!(text.contains("1 of 2 cells changed beyond noise"), "{text}");
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).expect("a row");
        assert!(line("post 1 KiB, 16 conn, group").ends_with("better"), "{text}");
        assert!(line("post 1 KiB, 16 conn, os").ends_with("within noise"), "{text}");
    }

    #[test]
    fn a_longer_latency_is_worse_and_two_repetitions_prove_nothing() {
        let slower = |by: f64| {
            let mut results = sample();
            results.cells.retain(|cell| cell.key.open && cell.key.connections == 16);
            results.cells.iter_mut().for_each(|cell| cell.latency_us.p99 *= by);
            results
        };
        let rows = compare(&slower(1.0), &slower(3.0));
        assert!(text(&slower(1.0), &slower(3.0), &rows).contains("too few repetitions"));
        let more = |by| {
            let mut results = slower(by);
            let mut third = results.cells.clone();
            third.iter_mut().for_each(|cell| cell.round += 2);
            results.cells.extend(third);
            results
        };
        let (first, second) = (more(1.0), more(3.0));
        let rows = compare(&first, &second);
        let shown = text(&first, &second, &rows);
        let p99 = shown.lines().find(|line| line.contains("os, p99")).expect("a row");
        assert!(p99.ends_with("worse") && p99.contains("400 µs"), "{shown}");
        let json = serde_json::to_value(&rows).expect("plain data");
        let last = json.as_array().and_then(|rows| rows.last()).expect("rows");
        assert_eq!((&last["what"], &last["sure"]), (&"p99_us".into(), &true.into()));
        assert_eq!(last["workload"], "post");
    }

    #[test]
    fn runs_with_nothing_in_common_say_so() {
        let first = results([1.0; 3], [1.0; 3]);
        let mut second = first.clone();
        second.cells.iter_mut().for_each(|cell| cell.key.connections = 99);
        let rows = compare(&first, &second);
        assert!(text(&first, &second, &rows).contains("no cell in common"));
    }
}
