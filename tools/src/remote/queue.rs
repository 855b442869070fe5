//! `marconi queue`: the verbs on queues.

use super::server::ServerOptions;
use super::show::one_line;
use super::{REFUSED, log};
use crate::output::{Output, Tone, count, duration};
use anyhow::Context;
use marconi_client::{Created, QueueStats, RawValue};
use serde::Serialize;
use std::io::{self, Read};
use std::process::ExitCode;

/// What can be done with queues.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum QueueCommand {
    /// Names all queues of the project, sorted.
    #[command(after_help = "Examples:
  marconi queue list
  marconi queue list --project photos --detailed --json")]
    List {
        /// Show the metadata as well.
        #[arg(long)]
        detailed: bool,
        /// Show queues behind this name only.
        #[arg(long, value_name = "NAME")]
        after: Option<String>,
        /// Queues a request asks for; servers take up to 20 unless configured otherwise.
        #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        page: u32,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Makes queues; one that is there stays as it is.
    #[command(after_help = "Examples:
  marconi queue create jobs
  marconi queue create telemetry --durability os")]
    Create {
        /// Names: 1 to 64 of letters, digits, `_`, `-` and `.`.
        #[arg(value_name = "QUEUE", required = true)]
        queues: Vec<String>,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// All about a queue: durability, counts, metadata.
    #[command(after_help = "Examples:
  marconi queue show jobs
  marconi queue show jobs --json | jq .messages.free")]
    Show {
        /// The queue.
        queue: String,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// The counts of a queue.
    #[command(after_help = "Examples:
  marconi queue stats jobs
  marconi queue stats jobs --json | jq .total")]
    Stats {
        /// The queue.
        queue: String,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// The object that is kept with a queue for whoever owns it.
    #[command(subcommand)]
    Metadata(MetadataCommand),
    /// Deletes queues with all their messages and claims, if they are there.
    #[command(after_help = "Examples:
  marconi queue delete jobs
  marconi queue list | grep ^test- | xargs marconi queue delete")]
    Delete {
        /// The queues.
        #[arg(value_name = "QUEUE", required = true)]
        queues: Vec<String>,
        #[command(flatten)]
        server: ServerOptions,
    },
}

/// What can be done with metadata.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum MetadataCommand {
    /// Shows it.
    #[command(after_help = "Examples:
  marconi queue metadata get jobs
  marconi queue metadata get jobs | jq .owner")]
    Get {
        /// The queue.
        queue: String,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Replaces the whole object.
    #[command(after_help = "Examples:
  marconi queue metadata set jobs '{\"owner\": \"ops\"}'
  marconi queue metadata set jobs < metadata.json")]
    Set {
        /// The queue.
        queue: String,
        /// A JSON object, no key of which begins with `_`; standard input where it is left out.
        metadata: Option<String>,
        #[command(flatten)]
        server: ServerOptions,
    },
}

/// A queue in a list, as a document.
#[derive(Serialize)]
struct EntryDocument<'a> {
    name: &'a str,
    href: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

/// A queue, as a document.
#[derive(Serialize)]
struct QueueDocument<'a> {
    name: &'a str,
    durability: Option<&'static str>,
    messages: QueueStats,
    metadata: &'a RawValue,
}

pub(super) async fn run(command: QueueCommand, output: &mut Output) -> anyhow::Result<ExitCode> {
    match command {
        QueueCommand::List { detailed, after, page, server } => {
            let mut pages = server.client()?.queues(Some(page), after.as_deref(), detailed);
            while let Some(queues) = pages.next().await? {
                for queue in queues {
                    let metadata = queue.metadata.as_deref().map(one_line);
                    let (name, href) = (&queue.name, &queue.href);
                    if output.json {
                        let metadata = metadata.as_deref();
                        output.document(&EntryDocument { name, href, metadata })?;
                    } else if let Some(metadata) = metadata {
                        let name = output.tone(Tone::Heading, name);
                        output.line(format_args!("{name}  {}", metadata.get()))?;
                    } else {
                        output.line(name)?;
                    }
                }
                output.flush()?;
            }
        }
        QueueCommand::Create { queues, server } => {
            let client = server.client()?;
            for queue in queues {
                let made = client.queue(&queue).create().await?;
                let is_new = made == Created::New;
                if output.json {
                    output.document(&serde_json::json!({"name": queue, "created": is_new}))?;
                } else {
                    let what = if is_new { "made" } else { "was there" };
                    output.line(format_args!("{queue}: {what}"))?;
                }
            }
        }
        QueueCommand::Show { queue, server } => return show(&queue, &server, output).await,
        QueueCommand::Stats { queue, server } => {
            let stats = server.client()?.queue(&queue).stats().await?;
            if output.json {
                output.document(&stats)?;
            } else {
                show_stats(&stats, output)?;
            }
        }
        QueueCommand::Metadata(MetadataCommand::Get { queue, server }) => {
            let metadata = server.client()?.queue(&queue).metadata().await?;
            if output.json {
                output.document(&one_line(&metadata))?;
            } else {
                output.line(metadata.get())?;
            }
        }
        QueueCommand::Metadata(MetadataCommand::Set { queue, metadata, server }) => {
            let metadata = match metadata {
                Some(text) => text,
                None => io::read_to_string(io::stdin().take(METADATA_SIZE_MAX))
                    .context("cannot read standard input")?,
            };
            let metadata = RawValue::from_string(metadata)
                .map_err(|cause| anyhow::anyhow!("the metadata is no JSON: {cause}"))?;
            server.client()?.queue(&queue).set_metadata(&metadata).await?;
        }
        QueueCommand::Delete { queues, server } => {
            let client = server.client()?;
            for queue in queues {
                client.queue(&queue).remove().await?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// More is read from no standard input; servers take 64 KiB by default.
const METADATA_SIZE_MAX: u64 = 1 << 30;

async fn show(name: &str, server: &ServerOptions, output: &mut Output) -> anyhow::Result<ExitCode> {
    let queue = server.client()?.queue(name);
    let Some(state) = queue.state().await? else {
        log(format_args!("there is no queue {name}; `marconi queue list` names those there are"));
        return Ok(ExitCode::from(REFUSED));
    };
    let (stats, metadata) = (queue.stats().await?, queue.metadata().await?);
    let metadata = one_line(&metadata);
    let durability = state.durability.map(|level| level.name());
    if output.json {
        let metadata = &metadata;
        output.document(&QueueDocument { name, durability, messages: stats, metadata })?;
        return Ok(ExitCode::SUCCESS);
    }
    output.line(output.tone(Tone::Heading, name))?;
    if let Some(level) = durability {
        output.line(format_args!("durability  {level}"))?;
    }
    output.line(format_args!("metadata    {}", metadata.get()))?;
    show_stats(&stats, output)?;
    Ok(ExitCode::SUCCESS)
}

fn show_stats(stats: &QueueStats, output: &mut Output) -> io::Result<()> {
    output.line(format_args!("free        {}", count(stats.free)))?;
    output.line(format_args!("claimed     {}", count(stats.claimed)))?;
    output.line(format_args!("total       {}", count(stats.total)))?;
    for (name, end) in [("oldest", &stats.oldest), ("newest", &stats.newest)] {
        if let Some(message) = end {
            let age = duration(message.age_s.saturating_mul(1000));
            output.line(format_args!("{name}      {age} old, of {}", message.created))?;
        }
    }
    Ok(())
}
