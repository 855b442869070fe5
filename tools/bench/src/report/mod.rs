//! What people read of results: the verdict, a table, a page with plots. Pure but for the last step,
//! which writes the files.

mod html;
mod plots;
mod table;
mod verdict;

use crate::results::Results;
use std::io::Write;
use std::path::Path;
use verdict::Verdict;

pub(crate) use table::{marked_rate, plain_table, size, table_text};

/// Writes `report.html` and the plots into the folder.
///
/// # Errors
/// When the disk refuses it.
pub(crate) fn write_files(results: &Results, folder: &Path) -> anyhow::Result<()> {
    if crate::scenario::table::is_one(results) {
        // It has one table, and no mode to choose.
        return Ok(());
    }
    let verdict = Verdict::of(results);
    let plots = plots::all(results, &verdict)?;
    for plot in &plots {
        crate::folder::put(folder, plot.file, &plot.svg)?;
    }
    crate::folder::put(folder, "report.html", &html::page(results, &verdict, &plots))
}

/// Prints the verdict and the tables, or both as one JSON document.
///
/// # Errors
/// When nobody reads it any more.
pub(crate) fn print(
    results: &Results,
    folder: Option<&Path>,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if crate::scenario::table::is_one(results) {
        return crate::scenario::table::print(results, json, out);
    }
    let verdict = Verdict::of(results);
    if json {
        serde_json::to_writer(&mut *out, &table::document(results, &verdict, folder))?;
        writeln!(out)?;
        return Ok(());
    }
    write!(out, "{}", table::text(results, &verdict))?;
    if let Some(folder) = folder {
        writeln!(out, "\nReport: {}", folder.join("report.html").display())?;
    }
    Ok(())
}

/// A rate or a count in three digits: `950`, `41.2k`, `1.05M`.
pub(crate) fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        v if v >= 999_500.0 => (value / 1e6, "M"),
        v if v >= 999.5 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        v if unit.is_empty() && v >= 9.95 => 0,
        v if v >= 99.5 => 0,
        v if v >= 9.95 => 1,
        0.0 => 0,
        _ => 2,
    };
    format!("{value:.digits$}{unit}")
}

/// A length of time in three digits: `85 µs`, `1.24 ms`, `3.9 s`.
pub(crate) fn time(us: f64) -> String {
    let (value, unit) = match us.abs() {
        v if v >= 999_500.0 => (us / 1e6, "s"),
        v if v >= 999.5 => (us / 1e3, "ms"),
        _ => (us, "µs"),
    };
    let digits = match value.abs() {
        v if unit == "µs" || v >= 99.5 => 0,
        v if v >= 9.95 => 1,
        0.0 => 0,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(
            [0.0, 0.5, 7.25, 950.4, 999.6, 41_234.0, 412_340.0, 1_050_000.0].map(short),
            ["0", "0.50", "7.25", "950", "1.00k", "41.2k", "412k", "1.05M"]
        );
        assert_eq!(
            [0.0, 85.3, 999.7, 1240.0, 52_000.0, 3_940_000.0].map(time),
            ["0 µs", "85 µs", "1.00 ms", "1.24 ms", "52.0 ms", "3.94 s"]
        );
    }
}
