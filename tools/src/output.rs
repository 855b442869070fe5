//! How the program speaks: text for people, JSON for programs, colour and progress only on a
//! terminal, sizes and times in human units. Knows nothing of what is said.

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

/// Where help lists the options that every command takes.
const HEADING: &str = "Output";

/// The options that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OutputOptions {
    /// Print JSON for programs instead of text: one document, or one a line where a command lists.
    #[arg(long, global = true, help_heading = HEADING)]
    pub(crate) json: bool,
    /// When to use colour. NO_COLOR in the environment counts as `never`.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto, help_heading = HEADING)]
    pub(crate) color: ColorChoice,
    /// Show no progress.
    #[arg(long, short, global = true, help_heading = HEADING)]
    pub(crate) quiet: bool,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where a command's results go: standard output, buffered.
pub(crate) struct Output {
    pub(crate) json: bool,
    colour: bool,
    quiet: bool,
    out: BufWriter<Box<dyn Write + Send>>,
}

/// What a piece of text means; only people on a terminal see it in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Heading,
    Good,
    Warning,
    Bad,
    Dim,
}

impl Output {
    pub(crate) fn new(options: &OutputOptions) -> Output {
        let colour = match options.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
            }
        };
        Output {
            json: options.json,
            colour: colour && !options.json,
            quiet: options.quiet,
            out: BufWriter::new(Box::new(io::stdout())),
        }
    }

    /// Text without colour, or JSON, that a test can look at.
    #[cfg(test)]
    pub(crate) fn captured(json: bool) -> (Output, Captured) {
        let captured = Captured::default();
        let out = BufWriter::new(Box::new(captured.clone()) as Box<dyn Write + Send>);
        (Output { json, colour: false, quiet: true, out }, captured)
    }

    /// A line of text.
    pub(crate) fn line(&mut self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// A document of its own, on one line.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, document)?;
        self.out.write_all(b"\n")
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Shows what was said so far.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Text in the colour of its meaning.
    pub(crate) fn tone(&self, tone: Tone, text: impl fmt::Display) -> String {
        if !self.colour {
            return text.to_string();
        }
        let style = match tone {
            Tone::Heading => Style::new().bold(),
            Tone::Good => Style::new().fg_color(Some(AnsiColor::Green.into())),
            Tone::Warning => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
            Tone::Bad => Style::new().bold().fg_color(Some(AnsiColor::Red.into())),
            Tone::Dim => Style::new().dimmed(),
        };
        format!("{style}{text}{style:#}")
    }

    /// A bar for work of `total` units, bytes or things, on standard error; hidden where nobody
    /// looks.
    pub(crate) fn progress(&self, what: &'static str, total: u64, unit: Unit) -> ProgressBar {
        if self.quiet || self.json || !io::stderr().is_terminal() {
            return ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        }
        let counts = match unit {
            Unit::Bytes => "{binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}",
            Unit::Things => "{human_pos} of {human_len}, {per_sec}",
        };
        let template = format!("{{prefix}} [{{bar:32}}] {counts}, {{eta}} left");
        let style = ProgressStyle::with_template(&template).expect("the template is well formed");
        let bar = ProgressBar::new(total).with_style(style.progress_chars("=> "));
        bar.with_prefix(what)
    }

    /// Ends the program: says what went wrong, if anything did, in one line on standard error.
    pub(crate) fn finish(mut self, ended: anyhow::Result<ExitCode>) -> ExitCode {
        let flushed = self.out.flush().map_err(anyhow::Error::from);
        match ended.and_then(|code| flushed.map(|()| code)) {
            Ok(code) => code,
            // Whoever read our output has seen enough, as `head` does.
            Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
            Err(error) => {
                // Where nobody can be told, so be it.
                let _ = writeln!(io::stderr(), "marconi: {error:#}");
                ExitCode::from(2)
            }
        }
    }
}

/// What was said to an [`Output::captured`] and flushed.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Captured(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
impl Captured {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no other test has it").clone()).expect("text")
    }
}

#[cfg(test)]
impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no other test has it").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// What progress counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Things,
}

/// A size in binary units: `512 B`, `1.5 KiB`, `64.0 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A length of time in the two largest units: `0 s`, `59 s`, `2 min 5 s`, `3 h 20 min`, `5 d 1 h`.
pub(crate) fn duration(ms: u64) -> String {
    if ms < 1000 {
        return if ms == 0 { "0 s".to_owned() } else { format!("{ms} ms") };
    }
    let seconds = ms / 1000;
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = parts[first..].iter().take(2).filter(|(count, _)| *count > 0);
    shown.map(|(count, unit)| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

/// A count with its thousands apart: `12 345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{a0}');
        }
        text.push(digit);
    }
    text
}

/// How many of something: `1 claim`, `2 claims`. For nouns that take an `s`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A moment as RFC 3339, in UTC, with milliseconds.
pub(crate) fn moment(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| format!("{at:.3}"))
}

/// A bar of `width` characters, filled by this share.
pub(crate) fn bar(share: f64, width: usize) -> String {
    let filled = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    format!("{}{}", "█".repeat(filled), "░".repeat(width - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_human() {
        assert_eq!(
            [0, 1023, 1536, 64 << 20, 1 << 40].map(size),
            ["0 B", "1023 B", "1.5 KiB", "64.0 MiB", "1.0 TiB"]
        );
        assert_eq!(
            [0, 999, 59_000, 125_000, 12_000_000, 435_600_000].map(duration),
            ["0 s", "999 ms", "59 s", "2 min 5 s", "3 h 20 min", "5 d 1 h"]
        );
        assert_eq!([7, 1234, 1_234_567].map(count), ["7", "1\u{a0}234", "1\u{a0}234\u{a0}567"]);
        assert_eq!(
            [0, 1, 2].map(|number| counted(number, "claim")),
            ["0 claims", "1 claim", "2 claims"]
        );
        assert_eq!(moment(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(bar(0.5, 4), "██░░");
    }
}
