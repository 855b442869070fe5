//! `marconi log claims`: the live claims of a folder and what they hold.

use super::folder::Folder;
use super::messages::check_queue;
use super::queue_name::{Name, parse, shown};
use super::runs::{Runs, shown as runs_shown};
use super::table::{Cell, Side, Table};
use crate::output::{Output, count, duration, moment};
use marconi_engine::QueueKey;
use marconi_engine::inspect::ClaimSummary;
use serde::Serialize;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  marconi log claims data
  marconi log claims data acme/jobs --json";

/// Of what.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    folder: Folder,
    /// Only those of this queue: PROJECT/QUEUE, or QUEUE for one without a project.
    #[arg(value_name = "QUEUE", value_parser = parse)]
    queue: Option<QueueKey>,
}

pub(crate) fn run(options: &Options, output: &mut Output) -> anyhow::Result<ExitCode> {
    let folder = &options.folder;
    folder.step_back();
    let view = folder.view()?;
    if let Some(key) = &options.queue {
        check_queue(folder, &view, key)?;
    }
    let now_ms = view.now_ms();
    let claims = view.claims(options.queue.as_ref()).map_err(|error| folder.explain(error))?;
    if output.json {
        claims.iter().try_for_each(|claim| output.document(&Document::from(claim)))?;
    } else {
        text(&claims, now_ms, output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(claims: &[ClaimSummary], now_ms: u64, output: &mut Output) -> anyhow::Result<()> {
    let rows: Vec<Vec<Cell>> = claims
        .iter()
        .map(|claim| {
            vec![
                shown(&claim.key).into(),
                claim.id.to_string().into(),
                moment(claim.renewed_ms).into(),
                duration(claim.ends_ms.saturating_sub(now_ms)).into(),
                count(claim.messages.len() as u64).into(),
                runs_shown(claim.messages.iter().map(|message| message.seq)).into(),
            ]
        })
        .collect();
    Table::new(&[
        ("Queue", Side::Left, 12),
        ("Claim", Side::Left, 8),
        ("Made or renewed", Side::Left, 24),
        ("Ends in", Side::Right, 8),
        ("Messages", Side::Right, 0),
        ("Seqs", Side::Left, 0),
    ])
    .print(output, &rows)?;
    Ok(())
}

/// A line of `claims --json`.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    name: Name,
    claim: String,
    renewed_ms: u64,
    ttl_s: u32,
    grace_s: u32,
    ends_ms: u64,
    messages: u64,
    seqs: Runs,
}

impl From<&ClaimSummary> for Document {
    fn from(claim: &ClaimSummary) -> Document {
        Document {
            name: Name::from(&claim.key),
            claim: claim.id.to_string(),
            renewed_ms: claim.renewed_ms,
            ttl_s: claim.ttl_s,
            grace_s: claim.grace_s,
            ends_ms: claim.ends_ms,
            messages: claim.messages.len() as u64,
            seqs: Runs::of(claim.messages.iter().map(|message| message.seq)),
        }
    }
}
