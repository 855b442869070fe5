//! `marconi log import`: a new data folder out of the lines of an export. Knows no byte layouts.

use super::folder::Folder;
use crate::files::read;
use crate::output::{Output, Unit, counted};
use anyhow::{Context, bail};
use indicatif::ProgressBar;
use marconi_engine::Lsn;
use marconi_engine::inspect::{BuildOptions, Built, FolderBuilder};
use marconi_export::lines::{self, EndLine, Header, Line};
use serde::Serialize;
use std::io::{BufRead, Read};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  marconi log import copy backup.jsonl
  ssh old-host marconi log export data | marconi log import data -";

/// No line is longer: a body of the largest size, each of its bytes escaped.
const LINE_SIZE_MAX: u64 = 2 << 30;

/// From where to where.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The data folder to make: one that is empty, or not there yet.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The lines to read, as `marconi log export` writes them; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Size of the new folder's log files, if not that of the old one's. 1048576 to 1073741824.
    #[arg(long, value_name = "BYTES")]
    segment_size_bytes: Option<u64>,
}

pub(crate) fn run(options: &Options, output: &mut Output) -> anyhow::Result<ExitCode> {
    let (file, size) = read(&options.file)?;
    let progress = match size {
        Some(size) => output.progress("importing", size, Unit::Bytes),
        None => ProgressBar::hidden(),
    };
    let mut lines = Lines { file, line: Vec::new(), number: 0, progress };
    let built = import(options, &mut lines).map_err(|error| {
        // A fault in a line is told with its number; line 0 is before the first.
        let place = match lines.number {
            0 => options.file.display().to_string(),
            number => format!("{} line {number}", options.file.display()),
        };
        error.context(place)
    })?;
    lines.progress.finish_and_clear();
    let folder = Folder { path: options.folder.clone() };
    if output.json {
        output.document(&Document {
            folder: folder.path.display().to_string(),
            queues: built.queues,
            messages: built.messages,
            segments: built.segments,
        })?;
    } else {
        output.line(format_args!(
            "{} of {} in {folder}; to serve it: marconi serve --folder {folder}",
            counted(built.messages, "message"),
            counted(built.queues, "queue")
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What `import --json` prints.
#[derive(Debug, Serialize)]
struct Document {
    folder: String,
    queues: u64,
    messages: u64,
    segments: u64,
}

/// Builds the folder. Nothing is made before the first line was found in order.
fn import(options: &Options, lines: &mut Lines) -> anyhow::Result<Built> {
    let first = lines.next()?.context("the file is empty")?;
    let Header { end_lsn, segment_size_bytes, .. } = lines::header(first)?;
    let build = BuildOptions {
        end: Lsn(end_lsn),
        segment_size_bytes: options.segment_size_bytes.unwrap_or(segment_size_bytes),
    };
    let builder = FolderBuilder::create(&options.folder, build)?;
    fill(builder, lines).with_context(|| {
        let folder = Folder { path: options.folder.clone() };
        format!("{folder} is unfinished and no data folder: remove it before you try again")
    })
}

fn fill(mut builder: FolderBuilder, lines: &mut Lines) -> anyhow::Result<Built> {
    let mut done = EndLine::default();
    loop {
        let line = lines.next()?.context("the file was cut: its last line is not there")?;
        match serde_json::from_slice(line).context("this is no line of an export")? {
            Line::Queue(line) => {
                builder.queue(line.image()?)?;
                done.queues += 1;
            }
            Line::Message(line) => {
                let body = line.body()?;
                builder.message(line.image(&body))?;
                done.messages += 1;
            }
            Line::End(told) if told == done => break,
            Line::End(told) => bail!("{told:?} was to come, and {done:?} came"),
        }
    }
    if lines.next()?.is_some() {
        bail!("something follows the last line");
    }
    Ok(builder.finish()?)
}

/// The lines of a file, one at a time.
struct Lines {
    file: Box<dyn BufRead>,
    line: Vec<u8>,
    /// The number of the last line read, from 1.
    number: u64,
    progress: ProgressBar,
}

impl Lines {
    /// The next line; `None` at the end.
    fn next(&mut self) -> anyhow::Result<Option<&[u8]>> {
        self.line.clear();
        self.number += 1;
        let size = (&mut self.file).take(LINE_SIZE_MAX).read_until(b'\n', &mut self.line)?;
        self.progress.inc(size as u64);
        if size as u64 == LINE_SIZE_MAX {
            bail!("the line has {LINE_SIZE_MAX} bytes or more, which is more than any export has");
        }
        Ok((size > 0).then_some(&self.line))
    }
}
