//! Draws what the last soak measured: one small panel for each thing that is to be flat, over the time of the run.

use super::SERIES;
use super::series::Sample;
use anyhow::anyhow;
use plotters::prelude::*;
use std::sync::PoisonError;

const PANEL: (u32, u32) = (300, 190);
const LINE: RGBColor = RGBColor(0x1f, 0x9d, 0x63);
const MIB: f64 = (1 << 20) as f64;

/// A title, and what the line shows.
type Panel = (&'static str, fn(&Sample) -> f64);

const PANELS: [Panel; 6] = [
    ("memory, MiB", |sample| sample.memory_bytes / MIB),
    ("open descriptors", |sample| sample.descriptors),
    ("threads", |sample| sample.threads),
    ("disk, MiB", |sample| sample.disk_bytes / MIB),
    ("post, median, ms", |sample| sample.p50_us / 1e3),
    ("post, 99%, ms", |sample| sample.p99_us / 1e3),
];

/// Whether the last run of this process was long enough to show more than its warm-up.
pub fn is_long() -> bool {
    SERIES.lock().unwrap_or_else(PoisonError::into_inner).has_slope()
}

/// The last run of this process as SVG.
///
/// # Errors
/// When it cannot be drawn.
pub fn draw() -> anyhow::Result<String> {
    let series = SERIES.lock().unwrap_or_else(PoisonError::into_inner);
    let samples = series.samples();
    let mut svg = String::new();
    {
        let size = (PANEL.0 * 3, PANEL.1 * 2);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(|error| anyhow!("cannot draw: {error}"))?;
        for (place, (title, of)) in area.split_evenly((2, 3)).iter().zip(&PANELS) {
            panel(place, title, samples, *of).map_err(|error| anyhow!("cannot draw: {error}"))?;
        }
        area.present().map_err(|error| anyhow!("cannot draw: {error}"))?;
    }
    Ok(svg)
}

fn panel<D: DrawingBackend>(
    area: &DrawingArea<D, plotters::coord::Shift>,
    title: &str,
    samples: &[Sample],
    of: fn(&Sample) -> f64,
) -> Result<(), DrawingAreaErrorKind<D::ErrorType>> {
    // From 0, so that what is flat looks flat.
    let most = samples.iter().map(of).fold(0.0, f64::max).max(1e-3) * 1.2;
    let minutes = samples.len() as f64 / 2.0;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 14))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..minutes, 0.0..most)?;
    chart.configure_mesh().x_labels(5).y_labels(4).x_desc("minutes").draw()?;
    let line = samples.iter().zip(1..).map(|(sample, end)| (f64::from(end) / 2.0, of(sample)));
    chart.draw_series(LineSeries::new(line, LINE.stroke_width(2)))?;
    Ok(())
}
