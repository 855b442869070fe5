//! `marconi message`: the verbs on messages. Posting is in `post`.

use super::post::{self, PostOptions};
use super::server::ServerOptions;
use super::time::length;
use super::{REFUSED, log, show};
use crate::output::Output;
use marconi_client::{ListOptions, Message};
use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

/// What can be done with messages.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum MessageCommand {
    /// Posts messages: arguments, or standard input line by line.
    #[command(after_help = "Examples:
  marconi message post jobs '{\"resize\": \"cat.png\"}' --ttl 1h
  find . -name '*.png' | marconi message post jobs --text --batch 500")]
    Post(PostOptions),
    /// Lists messages, oldest first.
    #[command(after_help = "Examples:
  marconi message list jobs --limit 10
  marconi message list jobs --follow --bodies-only | jq .resize")]
    List(ListArguments),
    /// Shows messages by their ids, claimed or not.
    #[command(after_help = "Examples:
  marconi message get jobs gCABHZeG
  marconi message get jobs gCABHZeG gCACY9MD --json")]
    Get {
        /// The queue.
        queue: String,
        /// Ids of messages.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        /// Show their bodies only, one a line.
        #[arg(long)]
        bodies_only: bool,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Deletes messages; that one is gone already is no fault.
    #[command(after_help = "Examples:
  marconi message delete jobs gCABHZeG
  marconi message delete jobs gCABHZeG --claim gEDiyiQ")]
    Delete {
        /// The queue.
        queue: String,
        /// Ids of messages.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        /// The claim that holds them.
        #[arg(long, value_name = "CLAIM")]
        claim: Option<String>,
        /// Delete also what others have claimed.
        #[arg(long, conflicts_with = "claim")]
        force: bool,
        #[command(flatten)]
        server: ServerOptions,
    },
}

/// What to list.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArguments {
    /// The queue.
    queue: String,
    /// Go on for ever: show what is posted from now on, too.
    #[arg(long, short)]
    follow: bool,
    /// Show also what --client-id posted itself; without one nobody is left out.
    #[arg(long)]
    echo: bool,
    /// Show also what is claimed.
    #[arg(long)]
    claimed: bool,
    /// End after so many messages.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Show bodies only, one a line.
    #[arg(long)]
    bodies_only: bool,
    /// Messages a request asks for; servers take up to 20 unless configured otherwise.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    page: u32,
    /// With --follow, the pause between two looks when nothing is new.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = length)]
    poll: Duration,
    #[command(flatten)]
    server: ServerOptions,
}

pub(super) async fn run(command: MessageCommand, output: &mut Output) -> anyhow::Result<ExitCode> {
    match command {
        MessageCommand::Post(options) => post::run(&options, output).await,
        MessageCommand::List(arguments) => list(&arguments, output).await,
        MessageCommand::Get { queue, ids, bodies_only, server } => {
            let queue = server.client()?.queue(&queue);
            let found = match &ids[..] {
                // A single one has an answer that says why not.
                [id] => vec![queue.message(id).await?],
                ids => queue.messages_by_id(ids).await?,
            };
            for message in &found {
                show_one(bodies_only, message, output)?;
            }
            let found: HashSet<&str> = found.iter().map(|message| &*message.id).collect();
            let missing = ids.iter().filter(|id| !found.contains(id.as_str()));
            let missing: Vec<&str> = missing.map(String::as_str).collect();
            if missing.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            log(format_args!("not there, or no longer: {}", missing.join(" ")));
            Ok(ExitCode::from(REFUSED))
        }
        MessageCommand::Delete { queue, ids, claim, force, server } => {
            let queue = server.client()?.queue(&queue);
            if force {
                queue.delete_many(&ids).await?;
            } else {
                for id in &ids {
                    queue.delete_by_id(id, claim.as_deref()).await?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn show_one(bodies_only: bool, message: &Message, output: &mut Output) -> std::io::Result<()> {
    if bodies_only { show::body(output, message) } else { show::message(output, message) }
}

async fn list(arguments: &ListArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let server = arguments.server.server()?;
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let page = u32::try_from(left).unwrap_or(u32::MAX).min(arguments.page).max(1);
    let options = ListOptions {
        limit: Some(page),
        echo: arguments.echo || !server.has_client_id,
        include_claimed: arguments.claimed,
        ..ListOptions::default()
    };
    let mut pages = server.builder.build()?.queue(&arguments.queue).messages(&options);
    // An outage is told once.
    let mut is_out = false;
    while left > 0 {
        let messages = match pages.next().await {
            Err(error) if arguments.follow && error.is_temporary() => {
                if !is_out {
                    log(format_args!("{:#}; trying on", anyhow::Error::from(error)));
                    is_out = true;
                }
                tokio::time::sleep(arguments.poll).await;
                continue;
            }
            page => page?,
        };
        is_out = false;
        let Some(messages) = messages else {
            if !arguments.follow {
                break;
            }
            tokio::time::sleep(arguments.poll).await;
            continue;
        };
        for message in &messages {
            if left > 0 {
                show_one(arguments.bodies_only, message, output)?;
                left -= 1;
            }
        }
        output.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}
