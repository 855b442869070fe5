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
        // An axis may fall.
        let share = if to == from { 0.5 } else { (value - from) / (to - from) };
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
        canvas.paper(size)?;
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
    Ok(format!("{}\n{style}{}", &svg[..end], &svg[end..]))
}

impl Canvas<'_> {
    /// Text of this size; `at` is where it stands, half its height above and below.
    pub(super) fn text(
        &self,
        at: (i32, i32),
        size: i32,
        colour: RGBColor,
        anchor: Anchor,
        text: &str,
    ) -> anyhow::Result<()> {
        let horizontal = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let style = TextStyle::from(("sans-serif", size).into_font())
            .color(&colour)
            .pos(Pos::new(horizontal, VPos::Center));
        self.area.draw_text(text, &style, at).map_err(failed)
    }

    /// A line through these points.
    pub(super) fn line(
        &self,
        points: Vec<(i32, i32)>,
        colour: RGBColor,
        width: u32,
    ) -> anyhow::Result<()> {
        let element = PathElement::new(points, colour.stroke_width(width));
        self.area.draw(&element).map_err(failed)
    }

    /// A dot.
    pub(super) fn dot(&self, at: (i32, i32), radius: i32, colour: RGBColor) -> anyhow::Result<()> {
        self.area.draw(&Circle::new(at, radius, colour.filled())).map_err(failed)
    }

    /// A pale dot.
    pub(super) fn pale_dot(
        &self,
        at: (i32, i32),
        radius: i32,
        colour: RGBColor,
    ) -> anyhow::Result<()> {
        self.area.draw(&Circle::new(at, radius, colour.mix(0.35).filled())).map_err(failed)
    }

    fn paper(&self, size: (u32, u32)) -> anyhow::Result<()> {
        let all = [(0, 0), (size.0 as i32, size.1 as i32)];
        self.area.draw(&Rectangle::new(all, PAPER.filled())).map_err(failed)
    }

    /// Grid lines of a log axis that goes up, each with its label.
    pub(super) fn rows(
        &self,
        axis: Axis,
        across: (i32, i32),
        label: impl Fn(f64) -> String,
    ) -> anyhow::Result<()> {
        for value in labelled_ticks(axis.from, axis.to) {
            let y = axis.log(value);
            self.line(vec![(across.0, y), (across.1, y)], GRID, 1)?;
            self.text((across.0 - 8, y), 12, DIM, Anchor::End, &label(value))?;
        }
        Ok(())
    }

    /// A grid line of an axis that goes right, with its label below.
    pub(super) fn column(&self, x: i32, along: (i32, i32), label: &str) -> anyhow::Result<()> {
        self.line(vec![(x, along.0), (x, along.1)], GRID, 1)?;
        self.text((x, along.1 + 14), 12, DIM, Anchor::Middle, label)
    }
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

/// Moves labels apart that would lie on each other: their places, `apart` pixels from the next at
/// the least, in the order given.
pub(super) fn spread_labels(places: &[i32], apart: i32) -> Vec<i32> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|place| places[*place]);
    let mut spread = places.to_vec();
    // From above down, then what was pushed too far comes back up by half.
    let mut last = i32::MIN / 2;
    for place in &order {
        spread[*place] = spread[*place].max(last + apart);
        last = spread[*place];
    }
    let pushed = order.iter().map(|place| spread[*place] - places[*place]).max().unwrap_or(0);
    spread.iter().map(|place| place - pushed / 2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_may_rise_or_fall() {
        let rising = Axis { from: 1.0, to: 100.0, pixels: (0, 200) };
        assert_eq!([1.0, 10.0, 100.0].map(|value| rising.log(value)), [0, 100, 200]);
        let falling = Axis { from: 0.1, to: 0.001, pixels: (0, 200) };
        assert_eq!([0.1, 0.01, 0.001].map(|value| falling.log(value)), [0, 100, 200]);
    }

    #[test]
    fn ranges_hold_their_values() {
        let (from, to) = log_range([850.0, 61_000.0].into_iter()).expect("values");
        assert!(from <= 850.0 && to >= 61_000.0, "{from} {to}");
        assert_eq!((from, to), (500.0, 100_000.0));
        assert_eq!(log_range([0.0].into_iter()), None);
        assert_eq!(ticks_between(10.0, 100.0), [10.0, 20.0, 50.0, 100.0]);
        assert_eq!(labelled_ticks(1.0, 1e6), [1.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e6]);
        let axis = Axis { from: 1.0, to: 100.0, pixels: (200, 0) };
        assert_eq!([axis.log(1.0), axis.log(10.0), axis.log(100.0)], [200, 100, 0]);
    }

    #[test]
    fn labels_keep_apart() {
        let spread = spread_labels(&[50, 52, 10, 51], 14);
        let mut sorted = spread.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|two| two[1] - two[0] >= 14), "{spread:?}");
        assert!(spread[0] < spread[3] && spread[3] < spread[1], "{spread:?}");
    }

    #[test]
    fn a_drawing_is_whole_and_has_a_name() {
        let svg =
            draw("a & b", (100, 50), |canvas| canvas.text((5, 5), 12, INK, Anchor::Start, "x < y"));
        let svg = svg.expect("draws");
        assert!(svg.starts_with("<svg role=\"img\" aria-label=\"a &amp; b\""), "{svg}");
        assert!(svg.contains("x &lt; y") && svg.contains("sans-serif"), "{svg}");
        assert!(svg.contains("fill=\"#24292F\"") && svg.trim_end().ends_with("</svg>"), "{svg}");
    }
}
