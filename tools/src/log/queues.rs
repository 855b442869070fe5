//! `marconi log queues`: the queues of a folder, as a server would see them.

use super::folder::Folder;
use super::queue_name::{Name, shown};
use super::table::{Cell, Side, Table};
use crate::output::{Output, count, duration};
use marconi_engine::inspect::QueueSummary;
use marconi_export::body::{Body, shown as bytes_shown};
use serde::Serialize;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  marconi log queues data --sort depth
  marconi log queues data --json | jq 'select(.claimed > 0)'";

/// Of what, and in which order.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    folder: Folder,
    /// What decides the order: the name, the most messages first, or the oldest message first.
    #[arg(long, value_enum, value_name = "BY", default_value_t = Order::Name)]
    sort: Order,
    /// Show each queue's metadata as well. JSON always has it.
    #[arg(long)]
    metadata: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    /// By project, then by name.
    Name,
    /// The most messages first.
    Depth,
    /// The oldest message first.
    Age,
}

pub(crate) fn run(options: &Options, output: &mut Output) -> anyhow::Result<ExitCode> {
    let folder = &options.folder;
    folder.step_back();
    let view = folder.view()?;
    let mut queues = view.queues().map_err(|error| folder.explain(error))?;
    sort(&mut queues, options.sort);
    if output.json {
        queues.iter().try_for_each(|queue| output.document(&Document::from(queue)))?;
    } else {
        text(&queues, view.now_ms(), options.metadata, output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts the queues, which come by name, into another order.
fn sort(queues: &mut [QueueSummary], order: Order) {
    match order {
        Order::Name => {}
        Order::Depth => {
            queues.sort_by_key(|queue| std::cmp::Reverse(queue.waiting + queue.claimed));
        }
        Order::Age => queues.sort_by_key(|queue| queue.oldest_ms.unwrap_or(u64::MAX)),
    }
}

fn text(
    queues: &[QueueSummary],
    now_ms: u64,
    metadata: bool,
    output: &mut Output,
) -> anyhow::Result<()> {
    let age =
        |at: Option<u64>| at.map_or("–".to_owned(), |at| duration(now_ms.saturating_sub(at)));
    let rows: Vec<Vec<Cell>> = queues
        .iter()
        .map(|queue| {
            vec![
                shown(&queue.key).into(),
                count(queue.waiting).into(),
                count(queue.claimed).into(),
                count(queue.claims).into(),
                age(queue.oldest_ms).into(),
                age(queue.newest_ms).into(),
                queue.floor.map_or("–", |floor| floor.name()).into(),
                if metadata { bytes_shown(&queue.metadata).into() } else { "".into() },
            ]
        })
        .collect();
    Table::new(&[
        ("Queue", Side::Left, 12),
        ("Waiting", Side::Right, 0),
        ("Claimed", Side::Right, 0),
        ("Claims", Side::Right, 0),
        ("Oldest", Side::Right, 8),
        ("Newest", Side::Right, 8),
        ("Floor", Side::Left, 0),
        (if metadata { "Metadata" } else { "" }, Side::Left, 0),
    ])
    .print(output, &rows)?;
    Ok(())
}

/// A line of `queues --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    name: Name,
    queue_id: u64,
    waiting: u64,
    claimed: u64,
    claims: u64,
    oldest_ms: Option<u64>,
    newest_ms: Option<u64>,
    next_seq: u64,
    floor: Option<&'static str>,
    metadata: Body<'a>,
}

impl<'a> From<&'a QueueSummary> for Document<'a> {
    fn from(queue: &'a QueueSummary) -> Document<'a> {
        Document {
            name: Name::from(&queue.key),
            queue_id: queue.id.0,
            waiting: queue.waiting,
            claimed: queue.claimed,
            claims: queue.claims,
            oldest_ms: queue.oldest_ms,
            newest_ms: queue.newest_ms,
            next_seq: queue.next_seq.0,
            floor: queue.floor.map(|floor| floor.name()),
            metadata: Body::of(&queue.metadata),
        }
    }
}
