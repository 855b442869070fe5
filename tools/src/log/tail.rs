//! `marconi log tail`: the last messages of a queue, then those that come, as they lie on disk. Knows
//! no byte layouts.

use super::folder::Folder;
use super::messages::{Facts, Lines, check_queue};
use super::queue_name::{parse, shown};
use crate::output::{Output, Tone};
use marconi_engine::inspect::{Follow, FrameView, View, ViewMessage};
use marconi_engine::log::record::Record;
use marconi_engine::{MessageId, QueueId, QueueKey, Seq};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  marconi log tail data acme/jobs --bodies
  marconi log tail data jobs --lines 0 --json | jq -c .body

Goes on until it is interrupted, or until nobody reads what it prints.";

/// Pause between two looks at the log.
const LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Of which queue.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    folder: Folder,
    /// The queue: PROJECT/QUEUE, or QUEUE for one without a project.
    #[arg(value_name = "QUEUE", value_parser = parse)]
    queue: QueueKey,
    /// Begin with so many messages that are there already.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    lines: usize,
    /// Show bodies, and who posted them.
    #[arg(long)]
    bodies: bool,
}

pub(crate) fn run(options: &Options, output: &mut Output) -> anyhow::Result<ExitCode> {
    let folder = &options.folder;
    folder.step_back();
    let view = folder.view()?;
    check_queue(folder, &view, &options.queue)?;
    let now_ms = view.now_ms();
    let lines = Lines::new(options.bodies, now_ms);
    lines.heading(output)?;
    for message in last(&view, options)? {
        lines.message(&message, output)?;
    }
    output.flush()?;
    let queue = view.queue(&options.queue).map_err(|error| folder.explain(error))?;
    let mut tail = Tail { key: &options.queue, id: queue.map(|queue| queue.id), lines };
    let mut follow =
        Follow::new(&folder.path, view.end()).map_err(|error| folder.explain(error))?;
    // What the view keeps open a server could not reuse.
    drop(view);
    while is_read()? {
        let mut ended = Ok(());
        follow
            .poll(&mut |frame| {
                ended = tail.frame(&frame, output);
                if ended.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .map_err(|error| folder.explain(error))?;
        ended?;
        output.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The last messages that are there.
fn last(view: &View, options: &Options) -> anyhow::Result<VecDeque<ViewMessage>> {
    let mut last = VecDeque::new();
    view.messages(&options.queue, Seq(0), &mut |message| {
        if last.len() >= options.lines {
            last.pop_front();
        }
        if options.lines > 0 {
            last.push_back(message);
        }
        ControlFlow::Continue(())
    })
    .map_err(|error| options.folder.explain(error))?;
    Ok(last)
}

/// Waits for the next look; says whether anybody still reads standard output.
fn is_read() -> anyhow::Result<bool> {
    let stdout = std::io::stdout();
    // Asked for nothing, it wakes only for what always counts: the other end is gone.
    let mut wanted = [PollFd::new(&stdout, PollFlags::empty())];
    match poll(&mut wanted, Some(&LOOK_INTERVAL)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(true),
        Err(error) => return Err(std::io::Error::from(error).into()),
    }
    Ok(!wanted[0].revents().intersects(PollFlags::ERR | PollFlags::HUP))
}

/// Prints what comes to one queue.
struct Tail<'a> {
    key: &'a QueueKey,
    /// The queue that has the name now.
    id: Option<QueueId>,
    lines: Lines,
}

impl Tail<'_> {
    fn frame(&mut self, frame: &FrameView<'_>, output: &mut Output) -> anyhow::Result<()> {
        match &frame.record {
            Record::QueueCreated { key, .. } if key == self.key => {
                self.id = Some(QueueId(frame.head.lsn.0));
            }
            Record::QueueRemoved { queue } if Some(*queue) == self.id => {
                self.id = None;
                if !output.json {
                    let text = format!("the queue {} was removed", shown(self.key));
                    output.line(output.tone(Tone::Warning, text))?;
                }
            }
            Record::Posted { queue, first, client, messages } if Some(*queue) == self.id => {
                for (seq, message) in (first.0..).zip(messages.clone()) {
                    let message = message?;
                    let created_ms = frame.head.at_ms;
                    let facts = Facts {
                        seq,
                        id: MessageId { queue: *queue, seq: Seq(seq) }.to_string(),
                        created_ms: Some(created_ms),
                        ttl_s: Some(message.ttl_s),
                        expires_ms: created_ms + u64::from(message.ttl_s) * 1000,
                        claim: None,
                        size_bytes: Some(message.body.len()),
                        segment: frame.segment,
                        position: u32::try_from(frame.position as usize + message.offset)
                            .unwrap_or(u32::MAX),
                    };
                    let body = self.lines.wants_bodies().then_some((*client, message.body));
                    self.lines.line(&facts, body, None, output)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
