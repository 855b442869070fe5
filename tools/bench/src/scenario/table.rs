//! What came of a scenario, as text or JSON. Pure.

use crate::report::{marked_rate, plain_table, short, table_text, time};
use crate::results::{Cell, Results, ScenarioFigures};
use crate::stats::median;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;

/// Whether results are those of a scenario.
pub(crate) fn is_one(results: &Results) -> bool {
    results.cells.iter().any(|cell| cell.scenario.is_some())
}

/// Prints the results of a scenario; as JSON its lines in an array.
///
/// # Errors
/// When nobody reads it any more.
pub(crate) fn print(results: &Results, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, &results.cells)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", text(results))?;
    }
    Ok(())
}

fn text(results: &Results) -> String {
    let mut out = String::new();
    let mut seen = BTreeSet::new();
    // Writing to a string does not fail.
    for note in &results.header.notes {
        let _ = writeln!(out, "{note}");
    }
    for (key, cells) in results.by_cell() {
        let (rate, marks) = marked_rate(results, key);
        let _ = writeln!(
            out,
            "\n{}, {} connections, {}: {} {rate}/s",
            key.mode,
            key.connections,
            if key.open { "at a fixed rate" } else { "as fast as answers come" },
            cells[0].unit,
        );
        seen.extend(marks);
        for line in care(&cells) {
            let _ = writeln!(out, "  {line}");
        }
        out.push_str(&latencies(&cells));
        if let Some(error) = cells.iter().find_map(|cell| cell.error.as_ref()) {
            let errors: u64 = cells.iter().map(|cell| cell.errors).sum();
            let _ = writeln!(out, "  {errors} errors, the first: {error}");
        }
    }
    for mark in &seen {
        let _ = writeln!(out, "{}: {}.", mark.letter(), mark.meaning());
    }
    out
}

/// A figure of all repetitions that have it.
fn figure(cells: &[&Cell], of: impl Fn(&ScenarioFigures) -> Option<f64>) -> Option<f64> {
    let all: Vec<f64> =
        cells.iter().filter_map(|cell| cell.scenario.as_ref().and_then(&of)).collect();
    (!all.is_empty()).then(|| median(&all))
}

/// What making, filling and restarting took.
fn care(cells: &[&Cell]) -> Vec<String> {
    let mut lines = Vec::new();
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    if let Some(rate) = figure(cells, |one| one.queues_per_s) {
        lines.push(format!("queues made: {}/s", short(rate)));
    }
    if let Some(rate) = figure(cells, |one| one.prefill_per_s) {
        lines.push(format!("messages stored before: {}/s", short(rate)));
    }
    let empty = figure(cells, |one| one.memory_empty_bytes.map(|bytes| bytes as f64));
    let filled = figure(cells, |one| one.memory_filled_bytes.map(|bytes| bytes as f64));
    if let Some((empty, filled)) = empty.zip(filled) {
        let (empty, filled) = (mib(empty), mib(filled));
        lines.push(format!("memory of the server: {empty:.1} MiB empty, {filled:.1} MiB filled"));
    }
    if let Some(seconds) = figure(cells, |one| one.restart_s) {
        lines.push(format!("restart after a kill: {}", time(seconds * 1e6)));
    }
    lines
}

fn latencies(cells: &[&Cell]) -> String {
    let mut table = plain_table(&["  latency of", "p50", "p99", "p99.9", "max"].map(str::to_owned));
    let kinds: BTreeSet<&String> = cells
        .iter()
        .filter_map(|cell| cell.scenario.as_ref())
        .flat_map(|one| one.latency_us_by_request.keys())
        .collect();
    let mut row = |name: &str, of: &dyn Fn(&Cell) -> Option<crate::results::Percentiles>| {
        let all: Vec<_> = cells.iter().filter_map(|cell| of(cell)).collect();
        let middle = |figure: fn(&crate::results::Percentiles) -> f64| {
            time(median(&all.iter().map(figure).collect::<Vec<_>>()))
        };
        table.add_row([
            format!("  {name}"),
            middle(|one| one.p50),
            middle(|one| one.p99),
            middle(|one| one.p999),
            middle(|one| one.max),
        ]);
    };
    if cells[0].key.open {
        row("an operation, from when it was due", &|cell| Some(cell.latency_us));
    }
    for kind in kinds {
        row(kind, &|cell| cell.scenario.as_ref()?.latency_us_by_request.get(kind).copied());
    }
    table_text(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Percentiles;
    use crate::results::tests::sample;

    #[test]
    fn a_scenario_shows_its_figures() {
        let mut results = sample();
        results.cells.retain(|cell| cell.key.open && cell.key.connections == 16);
        for cell in &mut results.cells {
            let latency = Percentiles { p99: 777.0, ..cell.latency_us };
            cell.scenario = Some(ScenarioFigures {
                prefill_per_s: Some(150_000.0),
                memory_empty_bytes: Some(4 << 20),
                memory_filled_bytes: Some(6 << 20),
                restart_s: Some(0.25),
                latency_us_by_request: [("claim".to_owned(), latency)].into(),
                ..ScenarioFigures::default()
            });
        }
        assert!(is_one(&results));
        let text = text(&results);
        for word in ["150k/s", "4.0 MiB empty, 6.0 MiB filled", "250 ms", "777 µs", "from when"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
