//! The files of the tree as tests read them: those that are kept, as text.

use crate::page::root;
use std::path::Path;

/// Folders that are made, not kept.
const MADE: [&str; 6] = ["target", "data", ".git", ".venv", "__pycache__", "node_modules"];

/// A file that is kept.
pub(crate) struct Source {
    /// Its path from the top of the tree, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is of a test, a benchmark or an example, and not of the product.
    pub(crate) fn is_beside_the_product(&self) -> bool {
        let of_tests = |part: &str| matches!(part, "tests" | "benches" | "examples");
        self.path.split('/').any(of_tests) || self.path.ends_with("/tests.rs")
    }

    /// The lines of the product itself with their numbers: no comments, nothing behind the first
    /// `mod tests`.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().map(str::trim).zip(1..);
        lines
            .map(|(line, number)| (number, line))
            .take_while(|(_, line)| *line != "mod tests {")
            .filter(|(_, line)| !line.starts_with("//"))
    }
}

/// All files that are text, in order of their paths.
pub(crate) fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    visit(&root(), &mut found);
    found.sort_by(|one, next| one.path.cmp(&next.path));
    assert!(found.len() > 100, "the tree was to have more than {} files", found.len());
    found
}

fn visit(folder: &Path, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the tree") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if MADE.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            visit(&path, found);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).expect("it lies in the tree");
            found.push(Source { path: path.to_string_lossy().replace('\\', "/"), text });
        }
    }
}
