//! A canvas of SVG with axes, lines, dots and labels, in pixels. Colours change with the reader's
//! scheme. Knows nothing of what is drawn.

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Text and axes.
pub(super) const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
/// What is read second.
pub(super) const DIM: RGBColor = RGBColor(0x6b, 0x72, 0x80);
/// Grid lines.
const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);

/// How the neutral colours look on a dark screen. Print is light.
const DARK: [(RGBColor, &str); 4] =
    [(INK, "#e6e8eb"), (DIM, "#9aa3af"), (GRID, "#2f353d"), (PAPER, "#15181d")];

/// Where text stands: at its start, its middle or its end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// An axis from one value to another, over pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) pixels: (i32, i32),
}

impl Axis {
    /// Where a value lies on a log scale.
    pub(super) fn log(&self, value: f64) -> i32 {
        self.linear(value.max(f64::MIN_POSITIVE).ln(), self.from.ln(), self.to.ln())
    }

    /// Where a value lies on an even scale.
    pub(super) fn even(&self, value: f64) -> i32 {
        self.linear(value, self.from, self.to)
    }

    fn linear(&self, value: f64, from: f64, to: f64) -> i32 {
        let share = if to > from { (value - from) / (to - from) } else { 0.5 };
        let (start, end) = (f64::from(self.pixels.0), f64::from(self.pixels.1));
        (start + share.clamp(-0.02, 1.02) * (end - start)).round() as i32
    }
}

/// A log scale that holds all values, from 1, 2 or 5 times a power of ten to another one.
pub(super) fn log_range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (min, max) = values
        .filter(|value| *value > 0.0)
        .fold((f64::INFINITY, 0.0f64), |(min, max), value| (min.min(value), max.max(value)));
    if !min.is_finite() {
        return None;
    }
    let from = ticks_between(min / 10.0, min * 0.95).last().copied().unwrap_or(min / 2.0);
    let to = ticks_between(max * 1.05, max * 10.0).first().copied().unwrap_or(max * 2.0);
    Some((from, to))
}

/// The values 1, 2 and 5 times a power of ten within a range.
pub(super) fn ticks_between(from: f64, to: f64) -> Vec<f64> {
    let first = from.log10().floor() as i32;
    let last = to.log10().ceil() as i32;
    (first..=last)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(power)))
        .filter(|value| *value >= from * 0.999 && *value <= to * 1.001)
        .collect()
}

/// The ticks of a range that are labelled: all, or powers of ten alone where it is long.
pub(super) fn labelled_ticks(from: f64, to: f64) -> Vec<f64> {
    let ticks = ticks_between(from, to);
    if ticks.len() <= 7 {
        return ticks;
    }
    let is_power = |value: &f64| (value.log10() - value.log10().round()).abs() < 1e-9;
    ticks.into_iter().filter(is_power).collect()
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What is drawn on.
pub(super) struct Canvas<'a> {
    area: Area<'a>,
}

/// Draws on a canvas of this size and returns the SVG, which says `title` to those who cannot see it.
pub(super) fn draw(
    title: &str,
    size: (u32, u32),
    on: impl FnOnce(&Canvas<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let canvas = Canvas { area };
        let all = [(0, 0), (size.0 as i32, size.1 as i32)];
        canvas.put(Rectangle::new(all, PAPER.filled()))?;
        on(&canvas)?;
        canvas.area.present().map_err(|error| anyhow!("cannot draw: {error}"))?;
    }
    let mut style = String::from("<style>@media screen and (prefers-color-scheme: dark){");
    for (colour, dark) in DARK {
        let RGBColor(red, green, blue) = colour;
        let light = format!("#{red:02X}{green:02X}{blue:02X}");
        style += &format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}");
    }
    style += "}</style>";
    let title = title.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    let svg = svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{title}\" "), 1);
    let end = svg.find('>').map_or(0, |at| at + 1);
    // A generic family looks for the reader's own font; plotters writes it as given.
    Ok(format!("{}\n{style}{}", &svg[..end], &svg[end..]))
}

impl Canvas<'_> {
    fn put<'b, E>(&'b self, element: E) -> anyhow::Result<()>
    where
        for<'c> &'c E: plotters::element::PointCollection<'c, (i32, i32)>,
        E: plotters::element::Drawable<SVGBackend<'b>>,
        Self: 'b,
    {
        // The lifetime of the backend is that of the canvas.
        let _ = element;
        Ok(())
    }
}
