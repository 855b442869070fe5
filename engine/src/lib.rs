//! A durable store of message queues: one checksummed log for all of them, mapped indexes beside it,
//! claims on top. One folder, no other process.
//!
//! ```
//! use marconi_engine::{ClientId, Config, Engine, NewMessage, QueueKey};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let engine = Engine::open(Config::new(folder.path().join("data")))?;
//! let jobs = QueueKey::new(None, "jobs").expect("a short name");
//! engine.create_queue(&jobs, None)?.wait()?;
//!
//! // On stable storage once `wait` returns; `.await` does the same.
//! let message = NewMessage { ttl_s: 3600, body: b"resize 42.png" };
//! engine.post(&jobs, ClientId(1), &[message], None)?.wait()?;
//!
//! // A worker has 60 seconds; then the message goes to somebody else.
//! let claim = engine.claim(&jobs, 60, 60, 10, None)?.wait()?.expect("a message waits");
//! for message in &claim.messages {
//!     assert_eq!(&message.body()?[..], b"resize 42.png");
//!     engine.delete(&jobs, message.id, Some(Some(claim.id)), None)?.wait()?;
//! }
//! engine.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! * A [`Receipt`] opens only when its answer is as durable as asked: see [`Durability`]. After a
//!   crash the state is that of a prefix of the log, with all that was acknowledged in it.
//! * Messages of a queue are listed and claimed in the order they were posted; one that comes back
//!   comes back to its old place. A batch is posted whole or not at all.
//! * A message is under one live claim at most. A delete that names a claim which ran out fails.
//! * Damage is reported, never hidden; a failed sync ends writing, not reading; a full disk ends
//!   posting, not deleting.
//! * Memory does not grow with waiting messages, but for a bit each once their neighbours died.
//!
//! # How it works
//!
//! Every verb *decides* under a lock, *appends* one frame to the log, and *applies* it to the state;
//! a start applies the same frames again. The thread `marconi-commit` writes and syncs what gathered, one
//! group at a time, unless threads that attend to the log ([`Engine::attend`]) did.
//! `docs/architecture.md` walks through it; `docs/format.md` describes every byte.

mod checksum;
mod config;
mod core;
mod domain;
mod engine;
pub mod env;
mod error;
mod fault;
pub mod files;
pub mod inspect;
pub mod log;
mod metrics;
mod progress;
mod receipt;
mod state;
mod sync;
mod upkeep;

#[doc(hidden)]
pub mod internals;

pub use config::{Config, DurabilityRule};
pub use domain::*;
pub use engine::{
    Attendance, Claim, Content, Engine, Message, NewMessage, Page, QueueGlance, RecoveryReport,
    Rest,
};
pub use error::{Error, Result};
pub use fault::{Fault, FaultKind, Lost, LostKind, Severity};
pub use metrics::{
    BUCKET_COUNT, CompactionMetrics, EngineMetrics, HistogramSnapshot, SegmentMetrics,
};
pub use receipt::Receipt;
