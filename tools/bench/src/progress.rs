//! How far it is, on standard error: a bar on a terminal, a line a round elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

/// How far it is.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    lines: bool,
}

impl Progress {
    /// Says how long it will take, and what will mislead.
    pub(crate) fn start(quiet: bool, time: Duration, steps: usize, notes: &[String]) -> Progress {
        let is_terminal = stderr().is_terminal();
        let progress = Progress {
            bar: ProgressBar::with_draw_target(
                Some(steps as u64),
                match quiet || !is_terminal {
                    true => ProgressDrawTarget::hidden(),
                    false => ProgressDrawTarget::stderr(),
                },
            ),
            lines: !quiet && !is_terminal,
        };
        let style = ProgressStyle::with_template("[{bar:32}] {pos} of {len}, {elapsed}: {msg}")
            .expect("the template is well formed");
        progress.bar.set_style(style.progress_chars("=> "));
        if !quiet {
            say(&format!("This takes about {}.", text(time)));
            notes.iter().for_each(|note| say(&format!("Note: {note}")));
        }
        progress
    }

    /// A round begins.
    pub(crate) fn round(&self, round: usize, rounds: usize) {
        if self.lines {
            say(&format!("round {round} of {rounds}"));
        }
    }

    /// A step begins.
    pub(crate) fn step(&self, what: &str) {
        self.bar.inc(1);
        self.bar.set_message(what.to_owned());
        if self.lines && what == "power cuts" {
            say(what);
        }
    }

    /// It is done.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Where nobody reads it, so be it.
fn say(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// A length of time for people.
fn text(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}
