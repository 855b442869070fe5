//! What a round measured: figures by name. Knows not what they are held against.

use std::collections::BTreeMap;
use std::io::Write;

/// The figures of one round.
#[derive(Debug, Default)]
pub(crate) struct Round(BTreeMap<String, f64>);

impl Round {
    /// Keeps a figure, and shows it on standard error.
    pub(crate) fn put(&mut self, name: &str, value: f64) {
        // Somebody who watches is no part of the measurement.
        let _ = writeln!(std::io::stderr(), "  {name}: {}", short(value));
        self.0.insert(name.to_owned(), value);
    }

    /// Keeps a figure that nobody waits for.
    pub(crate) fn note(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), value);
    }

    /// A figure, where it was measured.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// The largest of several.
    pub(crate) fn best(&self, names: &[&str]) -> Option<f64> {
        names.iter().filter_map(|name| self.get(name)).reduce(f64::max)
    }

    /// The largest whose name begins and ends so.
    pub(crate) fn best_between(&self, start: &str, end: &str) -> Option<f64> {
        let fits = |name: &str| name.starts_with(start) && name.ends_with(end);
        self.0.iter().filter(|(name, _)| fits(name)).map(|(_, value)| *value).reduce(f64::max)
    }

    /// Whether there is something for the table of servers.
    pub(crate) fn has_rates(&self) -> bool {
        self.best_between("", " post c1").is_some()
    }

    /// All of them.
    pub(crate) fn all(&self) -> &BTreeMap<String, f64> {
        &self.0
    }
}

/// Middle, least and most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of some values; `None` of none.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Some(Spread { median, least, most })
    }
}

/// Three digits that count, thousands as `k` and millions as `M`.
pub(crate) fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 999_500.0 => (value / 1e6, "M"),
        size if size >= 9_995.0 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.digits$}{unit}")
}
