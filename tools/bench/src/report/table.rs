//! Results as text for a terminal, and as one JSON document. Pure.

use super::verdict::{LossVerdict, Verdict};
use super::{short, time};
use crate::results::{Cell, CellKey, Mark, Results, marks};
use crate::stats::Spread;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// The verdict, the rates of every workload, latencies, limits, and what the marks mean.
pub(crate) fn text(results: &Results, verdict: &Verdict) -> String {
    let mut out = format!("{}\n\n", verdict.headline);
    // Writing to a string does not fail.
    let _ = writeln!(out, "{}\n", summary(verdict));
    let mut seen = BTreeSet::new();
    for (workload, size_bytes) in tables(results) {
        let _ = writeln!(out, "{}", rates(results, &workload, size_bytes, &mut seen));
    }
    if let Some(latencies) = latencies(results, &mut seen) {
        let _ = writeln!(out, "{latencies}");
    }
    let _ = writeln!(out, "{}", limits(results));
    for mark in &seen {
        let _ = writeln!(out, "{}: {}.", mark.letter(), mark.meaning());
    }
    for note in &results.header.notes {
        let _ = writeln!(out, "Note: {note}");
    }
    out
}

/// A table without lines: the first column to the left, the others to the right.
pub(crate) fn plain_table(head: &[String]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if place > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The lines of a table, without blanks at their ends.
pub(crate) fn table_text(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn summary(verdict: &Verdict) -> String {
    let posts = format!("posts/s, {} conn", verdict.connections);
    let head = ["mode", &posts, "to group", "p99", "a power cut takes", "choose it when"];
    let mut table = plain_table(&head.map(str::to_owned));
    for place in [4, 5] {
        if let Some(column) = table.column_mut(place) {
            column.set_cell_alignment(CellAlignment::Left);
        }
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    for mode in &verdict.modes {
        table.add_row([
            mode.mode.clone(),
            or_dash(mode.posts_per_s.map(short)),
            or_dash(mode.ratio_to_group.map(|ratio| format!("{ratio:.2}"))),
            or_dash(mode.p99_us.map(time)),
            or_dash(mode.power_cut.as_ref().map(LossVerdict::text)),
            mode.choose_when.to_owned(),
        ]);
    }
    let mut out = table_text(&table);
    if let Some(cut) = verdict.modes.iter().find_map(|mode| mode.power_cut.as_ref()) {
        let _ = write!(
            out,
            "Losses: the oldest acknowledged message that was gone, at {} posts/s of 4 KiB; the most of {} cuts or more.",
            short(cut.rate),
            verdict
                .modes
                .iter()
                .filter_map(|m| Some(m.power_cut.as_ref()?.count))
                .min()
                .unwrap_or(0)
        );
    }
    out
}

/// Workloads, each with the sizes it was measured in at a closed loop.
pub(crate) fn tables(results: &Results) -> Vec<(String, usize)> {
    let mut tables = Vec::new();
    for workload in results.workloads() {
        for cell in results.cells.iter().filter(|cell| !cell.key.open) {
            let one = (workload.clone(), cell.key.size_bytes);
            if cell.key.workload == workload && !tables.contains(&one) {
                tables.push(one);
            }
        }
    }
    tables
}

/// The counts of connections of one table.
pub(crate) fn connections(results: &Results, workload: &str, size_bytes: usize) -> BTreeSet<usize> {
    let of = |cell: &&Cell| {
        cell.key.workload == workload && cell.key.size_bytes == size_bytes && !cell.key.open
    };
    results.cells.iter().filter(of).map(|cell| cell.key.connections).collect()
}

/// What a workload is called, and counted in.
pub(crate) fn title(results: &Results, workload: &str, size_bytes: usize) -> String {
    let unit = results.cells.iter().find(|cell| cell.key.workload == workload);
    let unit = unit.map_or("messages", |cell| cell.unit.as_str());
    let what = match workload {
        "post" => "Post, one message a request",
        "post-batch" => "Post in batches of 10",
        "claim-delete" => "Claim 10 and delete each",
        "mixed" => "Mixed: post 10, claim 10, delete each",
        "list" => "List, 20 messages a page",
        other => other,
    };
    format!("{what}: {unit}/s, bodies of {}", size(size_bytes))
}

/// A size in bytes, for titles.
pub(crate) fn size(bytes: usize) -> String {
    if bytes >= 1024 && bytes.is_multiple_of(1024) {
        format!("{} KiB", bytes / 1024)
    } else {
        format!("{bytes} B")
    }
}

fn rates(
    results: &Results,
    workload: &str,
    size_bytes: usize,
    seen: &mut BTreeSet<Mark>,
) -> String {
    let connections = connections(results, workload, size_bytes);
    let mut head = vec![String::new()];
    head.extend(connections.iter().map(|count| format!("{count} conn")));
    let mut table = plain_table(&head);
    for mode in results.modes() {
        let mut row = vec![mode.clone()];
        for count in &connections {
            let key = CellKey {
                workload: workload.to_owned(),
                open: false,
                size_bytes,
                connections: *count,
                mode: mode.clone(),
            };
            let (text, found) = marked_rate(results, &key);
            seen.extend(found);
            row.push(text);
        }
        table.add_row(row);
    }
    format!("{}\n{}", title(results, workload, size_bytes), table_text(&table))
}

/// A rate with its spread and its marks.
pub(crate) fn marked_rate(results: &Results, key: &CellKey) -> (String, Vec<Mark>) {
    let cells: Vec<&Cell> = results.repetitions(key).collect();
    let rates: Vec<f64> = cells.iter().map(|cell| cell.rate).collect();
    let Some(spread) = Spread::of(&rates) else { return ("–".to_owned(), Vec::new()) };
    let marks = marks(&cells);
    let letters: String = marks.iter().map(|mark| mark.letter()).collect();
    let space = if letters.is_empty() { "" } else { " " };
    let text = format!(
        "{} ({}-{}){space}{letters}",
        short(spread.median),
        short(spread.min),
        short(spread.max)
    );
    (text, marks)
}

fn latencies(results: &Results, seen: &mut BTreeSet<Mark>) -> Option<String> {
    let head = ["", "posts/s", "p50", "p90", "p99", "p99.9", "max", ""];
    let mut table = plain_table(&head.map(str::to_owned));
    let by_cell = results.by_cell();
    let mut open: Vec<_> = by_cell.iter().filter(|(key, _)| key.open).collect();
    let modes = results.modes();
    let place = |key: &CellKey| modes.iter().position(|mode| *mode == key.mode);
    open.sort_by_key(|(key, _)| (key.connections, place(key)));
    for (key, cells) in &open {
        let middle = |figure: fn(&Cell) -> f64| {
            crate::stats::median(&cells.iter().map(|cell| figure(cell)).collect::<Vec<_>>())
        };
        let found = marks(cells);
        table.add_row([
            format!("{}, {} conn", key.mode, key.connections),
            short(middle(|cell| cell.offered_per_s.unwrap_or(0.0))),
            time(middle(|cell| cell.latency_us.p50)),
            time(middle(|cell| cell.latency_us.p90)),
            time(middle(|cell| cell.latency_us.p99)),
            time(middle(|cell| cell.latency_us.p999)),
            time(middle(|cell| cell.latency_us.max)),
            found.iter().map(|mark| mark.letter()).collect(),
        ]);
        seen.extend(found);
    }
    let title = "Latency of a post at 70 % of the mode's own rate, from when it was due";
    (!open.is_empty()).then(|| format!("{title}\n{}", table_text(&table)))
}

/// What the machine can do, a line each.
pub(crate) fn limit_lines(results: &Results) -> Vec<String> {
    let mut out = Vec::new();
    let mut add = |what: &str, connections, name: String, unit: &str| {
        if let Some(spread) = results.limit(what, connections) {
            let noise = if spread.relative() > 0.25 { ": a noisy machine" } else { "" };
            out.push(format!(
                "{name}: {} {unit} ({}-{}{noise})",
                short(spread.median),
                short(spread.min),
                short(spread.max)
            ));
        }
    };
    add("fdatasync", 0, "fdatasync of 4 KiB".to_owned(), "/s");
    add("sequential-write", 0, "sequential write".to_owned(), "MiB/s");
    let counts: BTreeSet<usize> = results
        .limits
        .iter()
        .filter(|one| one.what == "hello")
        .map(|one| one.connections)
        .collect();
    for count in counts {
        add("hello", count, format!("bare hyper server, {count} conn"), "requests/s");
    }
    out
}

fn limits(results: &Results) -> String {
    let machine = &results.header.machine;
    let mut out = format!(
        "Machine: {}, {} cores, {:.1} GiB, {}, {}\n",
        machine.cpu,
        machine.cores,
        machine.memory_bytes as f64 / f64::from(1u32 << 30),
        machine.kernel,
        machine.file_system
    );
    for line in limit_lines(results) {
        let _ = writeln!(out, "  {line}");
    }
    out
}

/// Verdict and medians as one document.
pub(crate) fn document(results: &Results, verdict: &Verdict, folder: Option<&Path>) -> Value {
    let cells: Vec<Value> = results
        .by_cell()
        .into_iter()
        .map(|(key, cells)| {
            let rates: Vec<f64> = cells.iter().map(|cell| cell.rate).collect();
            let spread = Spread::of(&rates);
            let p99: Vec<f64> = cells.iter().map(|cell| cell.latency_us.p99).collect();
            json!({
                "cell": key,
                "unit": cells[0].unit,
                "rate": spread.map(|one| one.median),
                "rate_min": spread.map(|one| one.min),
                "rate_max": spread.map(|one| one.max),
                "p99_us": crate::stats::median(&p99),
                "errors": cells.iter().map(|cell| cell.errors).sum::<u64>(),
                "marks": marks(&cells).iter().map(|mark| mark.meaning()).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "header": results.header,
        "verdict": verdict,
        "cells": cells,
        "folder": folder.map(|folder| folder.display().to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    #[test]
    fn the_table_shows_what_a_person_asks_for() {
        let results = sample();
        let text = text(&results, &Verdict::of(&results));
        let lines: Vec<&str> = text.lines().collect();
        let line = |start: &str| {
            *lines.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{text}"))
        };
        assert!(lines[0].starts_with("Choose group"), "{text}");
        let os = line("os ");
        assert!(os.contains("60.9k") && os.contains("1.50") && os.contains("1.00 s"), "{os}");
        let post = lines.iter().position(|line| line.starts_with("Post, one")).expect("a table");
        assert!(lines[post + 1].contains("16 conn"), "{text}");
        assert!(lines[post + 2].contains("60.9k (60.6k-61.2k)"), "{text}");
        assert!(line("  fdatasync").contains("9.13k /s"), "{text}");
        assert!(line("group, 16 conn").contains("400 µs"), "{text}");
        assert!(!text.contains("noisy"), "{text}");
    }

    #[test]
    fn marks_are_explained_where_they_stand() {
        let mut results = sample();
        results.cells.iter_mut().for_each(|cell| cell.client_cpu = 1.0);
        let text = text(&results, &Verdict::of(&results));
        assert!(text.contains("-61.2k) c"), "{text}");
        assert!(text.contains("c: the client had no CPU left"), "{text}");
        let document = document(&results, &Verdict::of(&results), None);
        assert_eq!(document["cells"][0]["marks"][0], Mark::ClientBound.meaning());
        assert_eq!(document["verdict"]["modes"][1]["mode"], "group");
    }
}
