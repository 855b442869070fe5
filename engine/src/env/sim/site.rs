//! Where in the engine something was asked of the disk, read off the stack: slow, so only a run that is to tell
//! the places notes them. A run that is done again does the same in the same order, so its places are known.

use std::backtrace::Backtrace;
use std::fmt;

/// A place in the engine's source, as `log/segment.rs:113`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site(String);

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Site {
    /// Who called the disk: the innermost frame of the engine outside this seam.
    pub(super) fn here() -> Site {
        const SOURCE: &str = "engine/src/";
        let frames = Backtrace::force_capture().to_string();
        let places = frames.lines().filter_map(|line| {
            let place = &line[line.find(SOURCE)? + SOURCE.len()..];
            let (file, line_and_column) = place.split_once(".rs:")?;
            let line = line_and_column.split(':').next()?;
            (!file.starts_with("env/")).then(|| format!("{file}.rs:{line}"))
        });
        Site(places.into_iter().next().unwrap_or_else(|| "nowhere".to_owned()))
    }
}
