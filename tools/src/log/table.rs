//! Text in aligned columns, a row at a time. Knows nothing of what stands in them.

use crate::output::{Output, Tone};
use std::io;

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// One text of a row, and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    pub(crate) fn toned(tone: Tone, text: impl Into<String>) -> Cell {
        Cell { text: text.into(), tone: Some(tone) }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.into(), tone: None }
    }
}

/// The columns: title, side and width, which a longer text of a row breaks.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Side, usize)>,
}

impl Table {
    /// Columns of a least width each, in characters; never narrower than their titles.
    pub(crate) fn new(columns: &[(&'static str, Side, usize)]) -> Table {
        let wide = |&(title, side, width): &(&'static str, Side, usize)| {
            (title, side, width.max(title.chars().count()))
        };
        Table { columns: columns.iter().map(wide).collect() }
    }

    /// Widens the columns to what these rows need.
    pub(crate) fn fit(&mut self, rows: &[Vec<Cell>]) {
        for row in rows {
            for ((_, _, width), cell) in self.columns.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
    }

    /// The titles.
    pub(crate) fn heading(&self, output: &mut Output) -> io::Result<()> {
        let titles: Vec<Cell> =
            self.columns.iter().map(|(title, ..)| Cell::toned(Tone::Heading, *title)).collect();
        self.row(output, &titles)
    }

    /// One row.
    pub(crate) fn row(&self, output: &mut Output, cells: &[Cell]) -> io::Result<()> {
        let mut line = String::new();
        for (index, ((_, side, width), cell)) in self.columns.iter().zip(cells).enumerate() {
            let room = width.saturating_sub(cell.text.chars().count());
            let text = match cell.tone {
                Some(tone) if !cell.text.is_empty() => output.tone(tone, &cell.text),
                _ => cell.text.clone(),
            };
            if index > 0 {
                line.push_str("  ");
            }
            match side {
                Side::Left => line.extend([text.as_str(), &" ".repeat(room)]),
                Side::Right => line.extend([" ".repeat(room).as_str(), &text]),
            }
        }
        output.line(line.trim_end())
    }

    /// All rows, below the titles, as wide as they need.
    pub(crate) fn print(mut self, output: &mut Output, rows: &[Vec<Cell>]) -> io::Result<()> {
        self.fit(rows);
        self.heading(output)?;
        rows.iter().try_for_each(|row| self.row(output, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let (mut output, captured) = Output::captured(false);
        let table = Table::new(&[("queue", Side::Left, 0), ("size", Side::Right, 6)]);
        let rows = [vec!["a".into(), "1 B".into()], vec!["longer…".into(), "12 KiB".into()]];
        table.print(&mut output, &rows).expect("a buffer takes all");
        output.flush().expect("a buffer takes all");
        assert_eq!(captured.text(), "queue      size\na           1 B\nlonger…  12 KiB\n");
    }
}
