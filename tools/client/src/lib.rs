//! An asynchronous client of the Marconi v1 queue API: typed requests and answers, connections that
//! are used again, repetition where it is safe, one error for each different reaction.
//!
//! ```no_run
//! use marconi_client::{Client, ClaimOptions, NewMessage};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), marconi_client::Error> {
//! let client = Client::builder("http://127.0.0.1:8888").project("photos").build()?;
//! let jobs = client.queue("jobs");
//! jobs.create().await?;
//! jobs.post(&[NewMessage::new(Duration::from_secs(3600), &["resize", "cat.png"])?]).await?;
//!
//! let options = ClaimOptions { limit: Some(1), ..ClaimOptions::default() };
//! if let Some(claim) = jobs.claim(&options).await? {
//!     for message in &claim.messages {
//!         let work: Vec<String> = message.read()?;
//!         println!("{} takes {work:?}", claim.id);
//!         // The message's link names the claim, so nobody deletes what another one holds.
//!         jobs.delete(message).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it keeps to:
//! - Bodies are JSON text as it is ([`serde_json::value::RawValue`]): read and written, never encoded
//!   anew.
//! - Links are taken as the server gave them. Ids are opaque; they are what the links end with.
//! - Every request but POST is repeated when the connection fails or the server asks for patience:
//!   done twice it does what it does once. A POST is repeated only where nothing was sent. One whose
//!   answer got lost is [`Error::OutcomeUnknown`]. See [`Retries`].
//! - It speaks HTTP/1.1 without TLS. An `https://` address is refused: put a proxy in between.
//!
//! It needs a tokio runtime with time and I/O, and knows nothing of the server's code.

mod builder;
mod client;
mod documents;
mod error;
mod pages;
mod queue;
mod retry;
mod send;

pub use builder::{Builder, Durability, UnknownDurability};
pub use client::{Client, Version};
pub use documents::{
    Claim, Message, NewMessage, PostedMessage, QueueEntry, QueueState, QueueStats, StatMessage,
};
pub use error::Error;
pub use pages::{MessagePages, QueuePages};
pub use queue::{ClaimOptions, Created, ListOptions, Posted, Queue};
pub use retry::Retries;
pub use serde_json::value::RawValue;
pub use uuid::Uuid;
