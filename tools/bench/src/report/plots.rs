//! The plots: throughput, latency, and loss against latency. Pure.

mod canvas;

use super::table::{connections, title};
use super::verdict::Verdict;
use super::{short, time};
use crate::results::{Cell, CellKey, Results};
use crate::stats::median;
use canvas::{Anchor, Axis, Canvas, DIM, INK, draw, log_range, spread_labels, ticks_between};
use plotters::style::RGBColor;

/// A plot.
#[derive(Debug)]
pub(super) struct Plot {
    /// The name of its file.
    pub(super) file: &'static str,
    /// What it shows.
    pub(super) title: &'static str,
    /// How to read it.
    pub(super) caption: String,
    /// The drawing.
    pub(super) svg: String,
}

/// Those plots for which something was measured.
pub(super) fn all(results: &Results, verdict: &Verdict) -> anyhow::Result<Vec<Plot>> {
    let plots = [throughput(results)?, latency(results)?, loss(results, verdict)?];
    Ok(plots.into_iter().flatten().collect())
}

/// The colour of a mode, on white and on black.
fn colour(mode: &str) -> RGBColor {
    match mode {
        "memory" => RGBColor(0xd9, 0x48, 0x5f),
        "os" => RGBColor(0xd9, 0x82, 0x1f),
        "interval" => RGBColor(0x9b, 0x6f, 0xd6),
        "group" => RGBColor(0x1f, 0x9d, 0x63),
        _ => RGBColor(0x3b, 0x82, 0xd6),
    }
}

fn width(mode: &str) -> u32 {
    if mode == "group" { 4 } else { 2 }
}

const PANEL: (i32, i32) = (360, 300);

/// The box of a panel's axes: left, right, top, bottom.
fn frame(place: usize, columns: usize, size: (i32, i32), top: i32) -> (i32, i32, i32, i32) {
    let (x, y) = ((place % columns) as i32 * size.0, (place / columns) as i32 * size.1 + top);
    (x + 56, x + size.0 - 70, y + 40, y + size.1 - 34)
}

/// Labels at the ends of lines.
fn end_labels(canvas: &Canvas<'_>, x: i32, ends: &[(String, i32)]) -> anyhow::Result<()> {
    let places: Vec<i32> = ends.iter().map(|(_, y)| *y).collect();
    for ((mode, _), y) in ends.iter().zip(spread_labels(&places, 14)) {
        let colour = if mode == BARE { DIM } else { colour(mode) };
        canvas.text((x + 9, y), 13, colour, Anchor::Start, mode)?;
    }
    Ok(())
}

/// The label of the bare server.
const BARE: &str = "bare";

/// A panel for each workload: units a second by connections, a line for each mode.
fn throughput(results: &Results) -> anyhow::Result<Option<Plot>> {
    let mut panels = super::table::tables(results);
    let first_sizes: Vec<usize> = panels.first().map(|(_, size)| *size).into_iter().collect();
    panels.retain(|(workload, size)| {
        first_sizes.contains(size) && !connections(results, workload, *size).is_empty()
    });
    if panels.is_empty() {
        return Ok(None);
    }
    let columns = panels.len().min(3);
    let rows = panels.len().div_ceil(columns) as i32;
    let size = ((columns as i32 * PANEL.0) as u32, (rows * PANEL.1 + 8) as u32);
    let name = "Throughput by mode and connections";
    let svg = draw(name, size, |canvas| {
        for (place, (workload, size_bytes)) in panels.iter().enumerate() {
            let frame = frame(place, columns, PANEL, 0);
            throughput_panel(canvas, results, workload, *size_bytes, frame)?;
        }
        Ok(())
    })?;
    let caption =
        "Medians over the repetitions, as fast as answers come; both axes are logarithmic. \
        The grey line is a bare hyper server that does nothing, under the same client."
            .to_owned();
    Ok(Some(Plot { file: "throughput.svg", title: name, caption, svg }))
}

fn throughput_panel(
    canvas: &Canvas<'_>,
    results: &Results,
    workload: &str,
    size_bytes: usize,
    (left, right, top, bottom): (i32, i32, i32, i32),
) -> anyhow::Result<()> {
    let counts: Vec<usize> = connections(results, workload, size_bytes).into_iter().collect();
    let mut lines: Vec<(String, Vec<(usize, f64)>)> = Vec::new();
    for mode in results.modes() {
        let at = |connections: usize| CellKey {
            workload: workload.to_owned(),
            open: false,
            size_bytes,
            connections,
            mode: mode.clone(),
        };
        let rates = counts.iter().filter_map(|count| {
            let rate = results.rate(&at(*count))?.median;
            (rate > 0.0).then_some((*count, rate))
        });
        lines.push((mode.clone(), rates.collect()));
    }
    if workload == "post" {
        let rates = counts
            .iter()
            .filter_map(|count| Some((*count, results.limit("hello", *count)?.median)));
        lines.push((BARE.to_owned(), rates.collect()));
    }
    let values = lines.iter().flat_map(|(_, points)| points.iter().map(|(_, rate)| *rate));
    let Some((from, to)) = log_range(values) else { return Ok(()) };
    let y = Axis { from, to, pixels: (bottom, top) };
    let x = |count: usize| {
        let place = counts.iter().position(|one| *one == count).unwrap_or(0);
        let axis = Axis {
            from: 0.0,
            to: (counts.len().max(2) - 1) as f64,
            pixels: (left + 14, right - 6),
        };
        axis.even(place as f64)
    };
    let heading = title(results, workload, size_bytes);
    let (what, unit) = heading.rsplit_once(": ").unwrap_or((&heading, ""));
    canvas.text((left - 40, top - 28), 14, INK, Anchor::Start, what)?;
    canvas.text((left - 40, top - 12), 12, DIM, Anchor::Start, unit)?;
    canvas.rows(y, (left, right), short)?;
    for count in &counts {
        canvas.column(x(*count), (top, bottom), &count.to_string())?;
    }
    let mut ends = Vec::new();
    for (mode, points) in &lines {
        let colour = if mode == BARE { DIM } else { colour(mode) };
        let points: Vec<(i32, i32)> =
            points.iter().map(|(count, rate)| (x(*count), y.log(*rate))).collect();
        canvas.line(points.clone(), colour, if mode == BARE { 1 } else { width(mode) })?;
        for point in &points {
            canvas.dot(*point, 3, colour)?;
        }
        ends.extend(points.last().map(|(_, y)| (mode.clone(), *y)));
    }
    end_labels(canvas, right - 6, &ends)
}

/// A panel for each count of connections: the latency of an open loop by percentile.
fn latency(results: &Results) -> anyhow::Result<Option<Plot>> {
    let by_cell = results.by_cell();
    let open: Vec<(&CellKey, &Vec<&Cell>)> =
        by_cell.iter().filter(|(key, _)| key.open).map(|(key, cells)| (*key, cells)).collect();
    let mut counts: Vec<usize> = open.iter().map(|(key, _)| key.connections).collect();
    counts.dedup();
    counts.sort_unstable();
    counts.dedup();
    if counts.is_empty() {
        return Ok(None);
    }
    let panel = (540, 380);
    let columns = counts.len().min(2);
    let rows = counts.len().div_ceil(columns) as i32;
    let size = ((columns as i32 * panel.0) as u32, (rows * panel.1 + 16) as u32);
    let points = |cells: &[&Cell]| middle_points(cells);
    let all = open.iter().flat_map(|(_, cells)| points(cells)).map(|(_, us)| us);
    let Some((from, to)) = log_range(all) else { return Ok(None) };
    // As far as the requests of some mode can tell.
    let rarest =
        open.iter().filter_map(|(_, cells)| Some(points(cells).last()?.0)).fold(0.1, f64::min);
    let name = "Latency of a post at 70 % of the mode's own rate";
    let svg = draw(name, size, |canvas| {
        for (place, count) in counts.iter().enumerate() {
            let (left, right, top, bottom) = frame(place, columns, panel, 0);
            let y = Axis { from, to, pixels: (bottom, top) };
            let x = Axis { from: 0.5, to: rarest, pixels: (left + 14, right - 6) };
            let heading = format!("Latency of a post over {count} connections");
            canvas.text((left - 40, top - 22), 14, INK, Anchor::Start, &heading)?;
            canvas.rows(y, (left, right), time)?;
            for (slower, label) in PERCENTILES.into_iter().filter(|(slower, _)| *slower >= rarest) {
                canvas.column(x.log(slower), (top, bottom), label)?;
            }
            let mut ends = Vec::new();
            let modes = results.modes();
            for mode in &modes {
                let cells =
                    open.iter().find(|(key, _)| key.connections == *count && key.mode == *mode);
                let Some((_, cells)) = cells else { continue };
                let line: Vec<(i32, i32)> =
                    points(cells).iter().map(|(slower, us)| (x.log(*slower), y.log(*us))).collect();
                canvas.line(line.clone(), colour(mode), width(mode))?;
                for point in &line {
                    canvas.dot(*point, 3, colour(mode))?;
                }
                ends.extend(line.last().map(|(_, y)| (mode.clone(), *y)));
            }
            end_labels(canvas, right - 6, &ends)?;
        }
        Ok(())
    })?;
    let caption = "How long posts took, from when they were due (not from when a connection was free), by \
        percentile: at 99 %, one post in a hundred took longer. Each mode under 70 % of the load it can bear, so \
        that a quicker mode also carries more."
        .to_owned();
    Ok(Some(Plot { file: "latency.svg", title: name, caption, svg }))
}

/// The percentiles that are labelled, by the share that is slower.
const PERCENTILES: [(f64, &str); 5] =
    [(0.5, "50 %"), (0.1, "90 %"), (0.01, "99 %"), (0.001, "99.9 %"), (0.0001, "99.99 %")];

/// The median over the repetitions of each percentile that most of them can tell.
fn middle_points(cells: &[&Cell]) -> Vec<(f64, f64)> {
    let all: Vec<Vec<(f64, f64)>> = cells.iter().map(|cell| cell.latency_us.points()).collect();
    let least = all.iter().map(Vec::len).min().unwrap_or(0);
    (0..least)
        .map(|place| {
            let values: Vec<f64> = all.iter().map(|points| points[place].1).collect();
            (all[0][place].0, median(&values))
        })
        .collect()
}

/// What each power cut took against what the mode costs in latency.
fn loss(results: &Results, verdict: &Verdict) -> anyhow::Result<Option<Plot>> {
    let modes: Vec<(&str, f64)> = verdict
        .modes
        .iter()
        .filter(|mode| mode.power_cut.is_some())
        .filter_map(|mode| Some((mode.mode.as_str(), mode.p99_us?)))
        .collect();
    let cuts = |mode: &str| -> Vec<f64> {
        let all = results.losses.iter();
        all.filter(|loss| loss.mode == mode && loss.event == "power-cut")
            .map(|loss| if loss.lost == 0 { 0.0 } else { loss.lost_ms })
            .collect()
    };
    let Some((x_from, x_to)) = log_range(modes.iter().map(|(_, us)| *us)) else { return Ok(None) };
    let lost = modes.iter().flat_map(|(mode, _)| cuts(mode));
    // A scale is there also when nothing was lost.
    let (from, to) = log_range(lost.chain([10.0, 1000.0])).unwrap_or((10.0, 1000.0));
    let name = "What a power cut takes, against latency";
    let svg = draw(name, (720, 440), |canvas| {
        let (left, right, top, bottom, nothing) = (96, 690, 60, 330, 366);
        let y = Axis { from, to, pixels: (bottom, top) };
        let x = Axis { from: x_from, to: x_to, pixels: (left, right) };
        canvas.text((16, 18), 14, INK, Anchor::Start, name)?;
        let below = "age of the oldest acknowledged message that was gone";
        canvas.text((16, 36), 12, DIM, Anchor::Start, below)?;
        canvas.rows(y, (left, right), |ms| time(ms * 1e3))?;
        for us in ticks_between(x_from, x_to) {
            canvas.column(x.log(us), (top, nothing), &time(us))?;
        }
        canvas.line(vec![(left, nothing), (right, nothing)], DIM, 1)?;
        canvas.text((left - 8, nothing), 12, INK, Anchor::End, "nothing")?;
        let across = format!("99th percentile of a post over {} connections", verdict.connections);
        canvas.text((i32::midpoint(left, right), 412), 12, DIM, Anchor::Middle, &across)?;
        let place = |ms: f64| if ms > 0.0 { y.log(ms) } else { nothing };
        let mut labels = Vec::new();
        for (mode, us) in &modes {
            let at = x.log(*us);
            let cuts = cuts(mode);
            for ms in &cuts {
                canvas.pale_dot((at, place(*ms)), 4, colour(mode))?;
            }
            let most = place(cuts.iter().copied().fold(0.0, f64::max));
            canvas.dot((at, most), 7, colour(mode))?;
            labels.push((*mode, at, most));
        }
        // Labels beside dots that nearly share a place go above each other.
        let spread = spread_near(&labels);
        for ((mode, at, _), y) in labels.iter().zip(spread) {
            canvas.text((at + 12, y - 12), 14, colour(mode), Anchor::Start, mode)?;
        }
        Ok(())
    })?;
    let count = verdict.modes.iter().filter_map(|mode| Some(mode.power_cut.as_ref()?.count)).min();
    let caption = format!(
        "Each pale dot is one cut of the power on a simulated disk at a random moment, the large one the worst of {} or \
         more. Lower is safer, further left is quicker.",
        count.unwrap_or(0)
    );
    Ok(Some(Plot { file: "loss.svg", title: name, caption, svg }))
}

/// The heights of labels, moved up where another one is near.
fn spread_near(labels: &[(&str, i32, i32)]) -> Vec<i32> {
    let mut placed: Vec<(i32, i32)> = Vec::new();
    for (_, x, y) in labels {
        let mut at = *y;
        while placed.iter().any(|(px, py)| (px - x).abs() < 70 && (py - at).abs() < 15) {
            at -= 15;
        }
        placed.push((*x, at));
    }
    placed.into_iter().map(|(_, y)| y).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    #[test]
    fn every_mode_is_in_every_plot() {
        let results = sample();
        let plots = all(&results, &Verdict::of(&results)).expect("draws");
        let files: Vec<&str> = plots.iter().map(|plot| plot.file).collect();
        assert_eq!(files, ["throughput.svg", "latency.svg", "loss.svg"]);
        for plot in &plots {
            for mode in ["\nos\n", "\ngroup\n"] {
                assert!(plot.svg.contains(mode), "{} has no {mode:?}:\n{}", plot.file, plot.svg);
            }
            assert!(!plot.svg.contains("NaN"), "{}", plot.file);
        }
        assert!(plots[2].svg.contains("nothing"));
    }

    #[test]
    fn without_power_cuts_or_a_fixed_rate_there_are_fewer_plots() {
        let mut results = sample();
        results.losses.clear();
        results.cells.retain(|cell| !cell.key.open);
        let plots = all(&results, &Verdict::of(&results)).expect("draws");
        assert_eq!(plots.len(), 1);
        results.cells.clear();
        assert_eq!(all(&results, &Verdict::of(&results)).expect("draws").len(), 0);
    }
}
