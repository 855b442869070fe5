//! `marconi log inspect`: the log frame by frame. Streams: nothing is kept of a frame once it is
//! printed. Knows no byte layouts.

use super::folder::Folder;
use super::frame_lines::{BadDocument, FrameDocument, detail, queue_of};
use super::hex;
use super::kind::KindName;
use super::queue_name::{parse, shown};
use super::table::{Cell, Side, Table};
use crate::output::{Output, Tone, moment, size};
use marconi_engine::inspect::{FrameOptions, FrameView, QueueNames, Step, frame_fields, frames};
use marconi_engine::log::frame::Head;
use marconi_engine::log::record::Record;
use marconi_engine::log::scan::ScanEnd;
use marconi_engine::{Lsn, QueueKey};
use marconi_export::body::shown as bytes_shown;
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  marconi log inspect data --queue acme/jobs --kind post,delete --bodies
  marconi log inspect data --frame 4096 --hex
  marconi log inspect data --json | jq 'select(.type == \"bad\")'

Ends with code 1 when it met bytes that are no frame.";

/// Which frames, and how much of each.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    folder: Folder,
    /// Only the segment of this number.
    #[arg(long, value_name = "N")]
    segment: Option<u64>,
    /// Only frames of this queue: PROJECT/QUEUE, or QUEUE for one without a project.
    #[arg(long, value_name = "QUEUE", value_parser = parse)]
    queue: Option<QueueKey>,
    /// Begin at this position of the log.
    #[arg(long, value_name = "LSN", default_value_t = 0)]
    from: u64,
    /// Only frames of these kinds.
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<KindName>,
    /// Only the frame at this position of the log.
    #[arg(long, value_name = "LSN", conflicts_with_all = ["from", "limit"])]
    frame: Option<u64>,
    /// Show at most so many frames.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Show the bodies of messages, a line each.
    #[arg(long)]
    bodies: bool,
    /// Show each frame's bytes with its fields named.
    #[arg(long)]
    hex: bool,
}

pub(crate) fn run(options: &Options, output: &mut Output) -> anyhow::Result<ExitCode> {
    let folder = &options.folder;
    folder.step_back();
    let names = QueueNames::read(&folder.path).map_err(|error| folder.explain(error))?;
    let from = Lsn(options.frame.unwrap_or(options.from));
    let which = FrameOptions { segment: options.segment, from };
    let mut walk = Walk::new(options, names);
    walk.heading(output)?;
    let mut ended = Ok(());
    frames(&folder.path, which, &mut |step| {
        let went = walk.step(step, output);
        let goes_on = matches!(went, Ok(ControlFlow::Continue(())));
        ended = went.map(|_| ());
        if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .map_err(|error| folder.explain(error))?;
    ended?;
    if let (Some(lsn), 0) = (options.frame, walk.shown) {
        anyhow::bail!(
            "{folder} has no frame at LSN {lsn}; marconi log inspect {folder} --from {lsn} shows those behind it"
        );
    }
    Ok(if walk.bad > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Prints what a walk over the log meets.
struct Walk<'a> {
    options: &'a Options,
    names: QueueNames,
    table: Table,
    /// Frames printed.
    shown: u64,
    /// Places that hold no frame.
    bad: u64,
    /// The segment that was begun, until something of it is printed.
    begun: Option<Begun>,
}

/// A segment whose beginning was not printed yet.
struct Begun {
    number: u64,
    generation: u64,
    file: String,
    size_bytes: u64,
}

impl<'a> Walk<'a> {
    fn new(options: &'a Options, names: QueueNames) -> Walk<'a> {
        let table = Table::new(&[
            ("LSN", Side::Right, 12),
            ("Kind", Side::Left, 7),
            ("Queue", Side::Left, 16),
            ("What", Side::Left, 36),
            ("At", Side::Left, 24),
            ("Size", Side::Right, 9),
            ("Sum", Side::Left, 0),
        ]);
        Walk { options, names, table, shown: 0, bad: 0, begun: None }
    }

    fn heading(&self, output: &mut Output) -> anyhow::Result<()> {
        if !output.json {
            self.table.heading(output)?;
        }
        Ok(())
    }

    fn step(&mut self, step: Step<'_>, output: &mut Output) -> anyhow::Result<ControlFlow<()>> {
        match step {
            Step::Segment { number, generation, file, size: size_bytes } => {
                let file = file.display().to_string();
                self.begun = Some(Begun { number, generation, file, size_bytes });
                if !self.is_picky() {
                    self.begin_segment(output)?;
                }
            }
            Step::Frame(frame) => return self.frame(&frame, output),
            Step::Bad { file, position, size: bytes, why, head, bytes: content } => {
                self.bad += 1;
                self.begin_segment(output)?;
                let queue = head.as_ref().and_then(|head| self.key(head)).map(shown);
                if output.json {
                    let content = self.options.hex.then(|| hex::plain(content));
                    let document =
                        BadDocument::new(file, position, bytes, &why, head.as_ref(), content);
                    output.document(&Item::Bad(document))?;
                } else {
                    let place = bad_line(file, position, bytes, &why, head.as_ref(), queue);
                    output.line(output.tone(Tone::Bad, place))?;
                    if self.options.hex {
                        hex::dump(content, &frame_fields(content), self.options.bodies, output)?;
                    }
                }
            }
            // Nothing was printed of it.
            Step::End { .. } if self.begun.take().is_some() || self.options.frame.is_some() => {}
            Step::End { file, position, how } => {
                let how = ending(how);
                if output.json {
                    let file = file.display().to_string();
                    output.document(&Item::End { file, position, how })?;
                } else {
                    let what = format!("ends at byte {position}: {how}");
                    output.line(output.tone(Tone::Dim, what))?;
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether some frames are passed over, and with them segments that hold no others.
    fn is_picky(&self) -> bool {
        let options = self.options;
        options.queue.is_some() || !options.kind.is_empty() || options.frame.is_some()
    }

    fn begin_segment(&mut self, output: &mut Output) -> anyhow::Result<()> {
        let Some(Begun { number, generation, file, size_bytes }) = self.begun.take() else {
            return Ok(());
        };
        if output.json {
            output.document(&Item::Segment { number, generation, file, size_bytes })?;
        } else {
            let what = format!("segment {number}: {file}, {}", size(size_bytes));
            output.line(output.tone(Tone::Dim, what))?;
        }
        Ok(())
    }

    fn frame(
        &mut self,
        frame: &FrameView<'_>,
        output: &mut Output,
    ) -> anyhow::Result<ControlFlow<()>> {
        self.names.learn(&frame.head, &frame.record);
        if let Some(lsn) = self.options.frame {
            // Rewritten segments are sorted by queue, so a later frame may have a smaller LSN.
            if frame.head.lsn.0 != lsn {
                return Ok(ControlFlow::Continue(()));
            }
        }
        if !self.is_wanted(&frame.head) {
            return Ok(ControlFlow::Continue(()));
        }
        self.begin_segment(output)?;
        self.print(frame, output)?;
        self.shown += 1;
        let is_last = self.options.frame.is_some() || self.options.limit == Some(self.shown);
        Ok(if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn is_wanted(&self, head: &Head) -> bool {
        let kinds = &self.options.kind;
        let of_kind = kinds.is_empty() || kinds.contains(&KindName::from(head.kind));
        let of_queue = self.options.queue.as_ref().is_none_or(|key| self.key(head) == Some(key));
        of_kind && of_queue
    }

    /// The queue that a frame is about.
    fn key(&self, head: &Head) -> Option<&QueueKey> {
        queue_of(head).and_then(|id| self.names.key(id))
    }

    fn print(&self, frame: &FrameView<'_>, output: &mut Output) -> anyhow::Result<()> {
        let key = self.key(&frame.head);
        if output.json {
            let mut document = FrameDocument::new(frame, key, self.options.bodies);
            if self.options.hex {
                document.hex = Some(hex::plain(frame.bytes));
            }
            output.document(&Item::Frame(Box::new(document)))?;
            return Ok(());
        }
        let head = &frame.head;
        let queue = match (key, queue_of(head)) {
            (Some(key), _) => shown(key),
            (None, Some(id)) => format!("#{}", id.0),
            (None, None) => String::new(),
        };
        self.table.row(
            output,
            &[
                head.lsn.to_string().into(),
                KindName::from(head.kind).word().into(),
                queue.into(),
                detail(head, &frame.record).into(),
                moment(head.at_ms).into(),
                size(u64::from(head.length)).into(),
                Cell::toned(Tone::Good, "good"),
            ],
        )?;
        if self.options.bodies {
            print_bodies(&frame.record, output)?;
        }
        if self.options.hex {
            hex::dump(frame.bytes, &frame_fields(frame.bytes), self.options.bodies, output)?;
        }
        Ok(())
    }
}

fn print_bodies(record: &Record<'_>, output: &mut Output) -> anyhow::Result<()> {
    let Record::Posted { first, messages, .. } = record else { return Ok(()) };
    for (seq, message) in (first.0..).zip(messages.clone()) {
        let message = message?;
        let body = bytes_shown(message.body);
        let line = format!("{:>14}  {seq}  ttl {} s  {body}", "", message.ttl_s);
        output.line(line.trim_end())?;
    }
    Ok(())
}

/// How the frames of a segment end.
fn ending(how: ScanEnd) -> String {
    match how {
        ScanEnd::Sealed(next) => format!("the log goes on at LSN {next}"),
        ScanEnd::Eof => "the end of the file".to_owned(),
        ScanEnd::Invalid(why) => why.to_string(),
    }
}

/// A place that holds no frame, for people.
fn bad_line(
    file: &Path,
    position: u64,
    bytes: u64,
    why: &str,
    head: Option<&Head>,
    queue: Option<String>,
) -> String {
    let mut line = format!("BAD  {} at byte {position}, {}: {why}", file.display(), size(bytes));
    if let Some(head) = head {
        let kind = KindName::from(head.kind).word();
        line += &format!("; it claims to be: {kind}, LSN {}", head.lsn);
        if let Some(queue) = queue {
            line += &format!(", queue {queue}");
        }
    }
    line
}

/// A line of `inspect --json`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Item<'a> {
    Segment { number: u64, generation: u64, file: String, size_bytes: u64 },
    Frame(Box<FrameDocument<'a>>),
    Bad(BadDocument<'a>),
    End { file: String, position: u64, how: String },
}
