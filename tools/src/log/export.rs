//! `marconi log export`: the state of a folder as lines of JSON, and bodies as files. Knows no file
//! formats but that of the lines.

use super::folder::Folder;
use super::messages::check_queue;
use super::queue_name::parse;
use crate::files::{NewFile, is_standard, make_folder, write_whole};
use crate::output::{Output, Unit, counted};
use indicatif::ProgressBar;
use marconi_engine::files::format::SEGMENT_HEADER_SIZE;
use marconi_engine::inspect::{MessageImage, QueueImage, Summary, View, ViewMessage};
use marconi_engine::{Config, QueueKey, Seq};
use marconi_export::lines::{EndLine, Header, Line, MessageLine, QueueLine, VERSION};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  marconi log export data --output backup.jsonl
  marconi log export data --queue acme/jobs | jq -c 'select(.message) | .message.body.json'
  marconi log export data | marconi log import copy -";

/// Names of files have at most so many bytes on every system.
const FILE_NAME_SIZE_MAX: usize = 255;

/// Of what, and where to.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    folder: Folder,
    /// Only this queue, PROJECT/QUEUE or QUEUE for one without a project; may be given again.
    #[arg(long = "queue", value_name = "QUEUE", value_parser = parse)]
    queues: Vec<QueueKey>,
    /// The file to write, which must not be there; - is standard output.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Also write each body to a file of its own in this folder: QUEUE/SEQ.
    #[arg(long, value_name = "DIR")]
    bodies: Option<PathBuf>,
}

pub(crate) fn run(options: &Options, output: &mut Output) -> anyhow::Result<ExitCode> {
    let folder = &options.folder;
    folder.step_back();
    let view = folder.view()?;
    let summary = view.summary().map_err(|error| folder.explain(error))?;
    let mut keys = options.queues.clone();
    for key in &keys {
        check_queue(folder, &view, key)?;
    }
    if keys.is_empty() {
        let queues = view.queues().map_err(|error| folder.explain(error))?;
        keys.extend(queues.into_iter().map(|queue| queue.key));
    }
    // A queue named twice is still one.
    keys.sort();
    keys.dedup();

    let progress = output.progress("exporting", summary.waiting + summary.claimed, Unit::Things);
    let file = match is_standard(&options.output) {
        true => None,
        false => Some(NewFile::create(&options.output)?),
    };
    let mut export = Export {
        folder,
        bodies: options.bodies.as_deref(),
        to: To { file, output },
        progress,
        line: Vec::new(),
        done: EndLine::default(),
    };
    export.write(&view, &summary, &keys)?;
    let Export { to, done, .. } = export;
    let Some(file) = to.file else { return Ok(ExitCode::SUCCESS) };
    file.finish()?;
    if output.json {
        output.document(&Document {
            folder: folder.path.display().to_string(),
            file: options.output.display().to_string(),
            queues: done.queues,
            messages: done.messages,
        })?;
    } else {
        output.line(format_args!(
            "{} of {} in {}",
            counted(done.messages, "message"),
            counted(done.queues, "queue"),
            options.output.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is said once a file is written.
#[derive(Debug, Serialize)]
struct Document {
    folder: String,
    file: String,
    queues: u64,
    messages: u64,
}

/// Where lines go.
struct To<'a> {
    file: Option<NewFile>,
    output: &'a mut Output,
}

impl To<'_> {
    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Ok(self.output.bytes(bytes)?),
        }
    }
}

/// An export under way.
struct Export<'a> {
    folder: &'a Folder,
    bodies: Option<&'a Path>,
    to: To<'a>,
    progress: ProgressBar,
    /// The line being put together.
    line: Vec<u8>,
    done: EndLine,
}

impl Export<'_> {
    fn write(&mut self, view: &View, summary: &Summary, keys: &[QueueKey]) -> anyhow::Result<()> {
        self.line(&Header {
            marconi_export: VERSION,
            engine_id: format!("{:032x}", summary.engine_id),
            exported_ms: summary.now_ms,
            end_lsn: summary.end.0,
            segment_size_bytes: segment_size_bytes(summary),
        })?;
        for key in keys {
            let image = view.image(key).map_err(|error| self.folder.explain(error))?;
            if let Some(image) = image {
                self.queue(view, &image)?;
            }
        }
        self.line(&Line::End(self.done))?;
        self.progress.finish_and_clear();
        Ok(())
    }

    fn queue(&mut self, view: &View, image: &QueueImage) -> anyhow::Result<()> {
        self.line(&Line::Queue(QueueLine::from(image)))?;
        self.done.queues += 1;
        let bodies = self.bodies.map(|folder| folder.join(folder_name(image)));
        if let Some(folder) = &bodies {
            make_folder(folder)?;
        }
        let mut ended = Ok(());
        view.messages(&image.key, Seq(0), &mut |message| {
            ended = self.message(&message, bodies.as_deref());
            if ended.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .map_err(|error| self.folder.explain(error))?;
        ended
    }

    fn message(&mut self, message: &ViewMessage, bodies: Option<&Path>) -> anyhow::Result<()> {
        let content = message.read().map_err(|error| self.folder.explain(error))?;
        let seq = message.id.seq;
        self.line(&Line::Message(MessageLine::from(&MessageImage {
            seq,
            created_ms: content.created_ms,
            ttl_s: content.posted_ttl_s,
            client: content.client,
            body: &content.body,
        })))?;
        if let Some(folder) = bodies {
            write_whole(&folder.join(seq.0.to_string()), &content.body)?;
        }
        self.done.messages += 1;
        self.progress.inc(1);
        Ok(())
    }

    fn line(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        self.to.write(&self.line)
    }
}

/// The size of log files that a copy of the folder needs: what a message may take depends on it.
fn segment_size_bytes(summary: &Summary) -> u64 {
    let appended = summary.segments.iter().filter(|segment| segment.generation == 0);
    let largest = appended.map(|segment| segment.span + SEGMENT_HEADER_SIZE).max();
    largest.unwrap_or_else(|| Config::new("").segment_size_bytes)
}

/// The folder of a queue's bodies: its name with what paths could take for something else encoded, or
/// its id where that would be too long.
fn folder_name(image: &QueueImage) -> String {
    let encode = |text: &str| percent_encode(text.as_bytes(), KEPT).to_string();
    let name = match image.key.project() {
        Some(project) => format!("{}%2F{}", encode(project), encode(image.key.name())),
        None => encode(image.key.name()),
    };
    if name.len() <= FILE_NAME_SIZE_MAX { name } else { format!("queue-{}", image.id.0) }
}

/// What is encoded in names of folders.
const KEPT: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
