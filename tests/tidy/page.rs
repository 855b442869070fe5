//! A page of the documentation as tests read it: its text, and its tables by heading.

use std::path::{Path, PathBuf};

/// The top of the tree.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package lies in the tree").to_path_buf()
}

/// A page.
pub(crate) struct Page {
    name: &'static str,
    /// All of it.
    pub(crate) text: String,
}

impl Page {
    /// Reads a page, named from the top of the tree.
    pub(crate) fn read(name: &'static str) -> Page {
        let text = std::fs::read_to_string(root().join(name));
        Page { name, text: text.unwrap_or_else(|cause| panic!("{name}: {cause}")) }
    }

    /// The rows of the first table under a heading, cell by cell, without backquotes.
    pub(crate) fn table(&self, heading: &str) -> Vec<Vec<String>> {
        self.tables(heading).into_iter().next().unwrap_or_else(|| {
            panic!("{} has no heading {heading:?} with a table", self.name);
        })
    }

    /// All tables between a heading and the next one.
    pub(crate) fn tables(&self, heading: &str) -> Vec<Vec<Vec<String>>> {
        let is_heading = |line: &str| line.starts_with('#');
        let lines = self.text.lines();
        let section = lines
            .skip_while(|line| {
                !(is_heading(line) && line.trim_start_matches(['#', ' ']) == heading)
            })
            .skip(1)
            .take_while(|line| !is_heading(line));
        let (mut tables, mut rows) = (Vec::new(), Vec::new());
        for line in section.chain([""]) {
            if line.starts_with('|') {
                rows.push(cells(line));
            } else if !rows.is_empty() {
                // The first two rows are the head and the line under it.
                tables.push(rows.split_off(2));
                rows.clear();
            }
        }
        tables
    }
}

fn cells(line: &str) -> Vec<String> {
    let inside = line.trim().trim_matches('|');
    inside.split('|').map(|cell| cell.trim().replace('`', "")).collect()
}
