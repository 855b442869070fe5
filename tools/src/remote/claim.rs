//! `marconi claim`: the verbs on claims.

use super::server::ServerOptions;
use super::time::{grace, ttl};
use super::{REFUSED, log, show};
use crate::output::Output;
use marconi_client::ClaimOptions;
use std::process::ExitCode;
use std::time::Duration;

/// What can be done with claims.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ClaimCommand {
    /// Claims the oldest free messages: nobody else gets them meanwhile.
    #[command(after_help = "Examples:
  marconi claim create jobs --limit 1
  marconi claim create jobs --ttl 10m --grace 5m --json")]
    Create {
        /// The queue.
        queue: String,
        /// How long the claim holds its messages.
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = ttl)]
        ttl: Duration,
        /// How much longer than the claim the messages live at least.
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = grace)]
        grace: Duration,
        /// Messages to claim at most; 10 where nothing is said, and mostly up to 20.
        #[arg(long, value_name = "COUNT")]
        limit: Option<u32>,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Shows a claim with what it still holds.
    #[command(after_help = "Examples:
  marconi claim show jobs gEDiyiQ
  marconi claim show jobs gEDiyiQ --json | jq '.messages | length'")]
    Show {
        /// The queue.
        queue: String,
        /// Id of the claim.
        claim: String,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Starts the time of a claim anew.
    #[command(after_help = "Examples:
  marconi claim renew jobs gEDiyiQ
  marconi claim renew jobs gEDiyiQ --ttl 10m --grace 1m")]
    Renew {
        /// The queue.
        queue: String,
        /// Id of the claim.
        claim: String,
        /// How long it holds its messages from now on.
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = ttl)]
        ttl: Duration,
        /// How much longer than the claim the messages live at least.
        #[arg(long, value_name = "TIME", default_value = "0", value_parser = grace)]
        grace: Duration,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Gives back what a claim still holds; that it is over already is no fault.
    #[command(after_help = "Examples:
  marconi claim release jobs gEDiyiQ
  marconi claim release jobs gEDiyiQ --project photos")]
    Release {
        /// The queue.
        queue: String,
        /// Id of the claim.
        claim: String,
        #[command(flatten)]
        server: ServerOptions,
    },
}

pub(super) async fn run(command: ClaimCommand, output: &mut Output) -> anyhow::Result<ExitCode> {
    match command {
        ClaimCommand::Create { queue, ttl, grace, limit, server } => {
            let options = ClaimOptions { ttl, grace, limit };
            let Some(claim) = server.client()?.queue(&queue).claim(&options).await? else {
                log(format_args!("no message of {queue} is free, or there is no such queue"));
                return Ok(ExitCode::from(REFUSED));
            };
            show::claim(output, &claim)?;
        }
        ClaimCommand::Show { queue, claim, server } => {
            let claim = server.client()?.queue(&queue).claim_by_id(&claim).await?;
            show::claim(output, &claim)?;
        }
        ClaimCommand::Renew { queue, claim, ttl, grace, server } => {
            server.client()?.queue(&queue).renew(&claim, ttl, grace).await?;
        }
        ClaimCommand::Release { queue, claim, server } => {
            server.client()?.queue(&queue).release(&claim).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
