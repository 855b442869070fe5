//! A durable multi-queue store over one checksummed log.
pub mod config;
pub mod domain;
pub mod env;
pub mod error;

pub use config::{Config, DurabilityRule};
pub use domain::*;
pub use error::{Error, Result};
