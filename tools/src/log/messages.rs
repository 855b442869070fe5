//! `marconi log messages`: the living messages of a queue in their order, one at a time.

use super::folder::Folder;
use super::queue_name::{parse, shown};
use super::table::{Side, Table};
use crate::output::{Output, Tone, duration, moment, size};
use anyhow::bail;
use marconi_engine::inspect::{View, ViewMessage};
use marconi_engine::{ClientId, QueueKey, Seq};
use marconi_export::body::{Body, shown as bytes_shown};
use serde::Serialize;
use std::ops::ControlFlow;
use std::process::ExitCode;
use uuid::Uuid;

const EXAMPLES: &str = "\
Examples:
  marconi log messages data acme/jobs --limit 10 --bodies
  marconi log messages data jobs --json | jq 'select(.claim != null)'";

/// Of which queue, and how much of them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    folder: Folder,
    /// The queue: PROJECT/QUEUE, or QUEUE for one without a project.
    #[arg(value_name = "QUEUE", value_parser = parse)]
    queue: QueueKey,
    /// Begin with the message of this number.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    from: u64,
    /// Show at most so many.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
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
    let mut left = options.limit.unwrap_or(u64::MAX);
    let mut ended = Ok(());
    let mut found = ExitCode::SUCCESS;
    view.messages(&options.queue, Seq(options.from), &mut |message| {
        if left == 0 {
            return ControlFlow::Break(());
        }
        left -= 1;
        ended = lines.message(&message, output).map(|is_read| {
            if !is_read {
                found = ExitCode::FAILURE;
            }
        });
        if ended.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .map_err(|error| folder.explain(error))?;
    ended.map(|()| found)
}

/// Refuses a queue that is not there.
pub(crate) fn check_queue(folder: &Folder, view: &View, key: &QueueKey) -> anyhow::Result<()> {
    match view.queue(key).map_err(|error| folder.explain(error))? {
        Some(_) => Ok(()),
        None => bail!(
            "{folder} has no queue {}; marconi log queues {folder} lists those it has",
            shown(key)
        ),
    }
}

/// How messages are printed, one a line.
pub(crate) struct Lines {
    bodies: bool,
    now_ms: u64,
    table: Table,
}

impl Lines {
    pub(crate) fn new(bodies: bool, now_ms: u64) -> Lines {
        let table = Table::new(&[
            ("Seq", Side::Right, 8),
            ("Id", Side::Left, 12),
            ("Posted", Side::Left, 24),
            ("Expires in", Side::Right, 11),
            ("Size", Side::Right, 9),
            ("Claim", Side::Left, 8),
            (if bodies { "Body" } else { "" }, Side::Left, 0),
        ]);
        Lines { bodies, now_ms, table }
    }

    pub(crate) fn wants_bodies(&self) -> bool {
        self.bodies
    }

    pub(crate) fn heading(&self, output: &mut Output) -> anyhow::Result<()> {
        if !output.json {
            self.table.heading(output)?;
        }
        Ok(())
    }

    /// A message of a folder, read now. Whether it could be.
    pub(crate) fn message(
        &self,
        message: &ViewMessage,
        output: &mut Output,
    ) -> anyhow::Result<bool> {
        let read = message.read();
        let content = read.as_ref().ok();
        let facts = Facts {
            seq: message.id.seq.0,
            id: message.id.to_string(),
            created_ms: content.map(|content| content.created_ms),
            ttl_s: content.map(|content| content.ttl_s),
            expires_ms: message.expires_ms,
            claim: message.claim.map(|claim| claim.to_string()),
            size_bytes: content.map(|content| content.body.len()),
            segment: message.segment(),
            position: message.position(),
        };
        let told = content.filter(|_| self.bodies);
        let told = told.map(|content| (content.client, &content.body[..]));
        let fault = read.as_ref().err().map(ToString::to_string);
        self.line(&facts, told, fault.as_deref(), output)?;
        Ok(read.is_ok())
    }

    /// One message, with its poster and body where they are asked for, or with why it cannot be read.
    pub(crate) fn line(
        &self,
        facts: &Facts,
        body: Option<(ClientId, &[u8])>,
        fault: Option<&str>,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        if output.json {
            let client = body.map(|(client, _)| Uuid::from_u128(client.0).to_string());
            let body = body.map(|(_, body)| Body::of(body));
            output.document(&Document { facts, client, body, fault })?;
            return Ok(());
        }
        self.table.row(
            output,
            &[
                facts.seq.to_string().into(),
                facts.id.clone().into(),
                facts.created_ms.map(moment).unwrap_or("–".to_owned()).into(),
                duration(facts.expires_ms.saturating_sub(self.now_ms)).into(),
                facts.size_bytes.map_or("–".to_owned(), |bytes| size(bytes as u64)).into(),
                facts.claim.clone().unwrap_or("–".to_owned()).into(),
                body.map(|(_, body)| bytes_shown(body)).unwrap_or_default().into(),
            ],
        )?;
        if let Some(fault) = fault {
            output
                .line(output.tone(Tone::Warning, format!("{:>8}  cannot be read: {fault}", "")))?;
        }
        Ok(())
    }
}

/// What a line tells of a message besides poster and body.
#[derive(Debug, Serialize)]
pub(crate) struct Facts {
    pub(crate) seq: u64,
    pub(crate) id: String,
    pub(crate) created_ms: Option<u64>,
    pub(crate) ttl_s: Option<u32>,
    pub(crate) expires_ms: u64,
    pub(crate) claim: Option<String>,
    pub(crate) size_bytes: Option<usize>,
    pub(crate) segment: u64,
    pub(crate) position: u32,
}

/// A line of `messages --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    facts: &'a Facts,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Body<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'a str>,
}
