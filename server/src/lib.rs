//! The Marconi API over a [`store::Store`]: what `marconi-server` and the tests start.
pub mod program;
pub mod run;

pub mod config;
pub mod telemetry;

pub mod app;
pub mod http;
pub mod in_flight;

pub mod api;

pub mod store;

pub mod admin;
pub mod metrics;
pub mod reload;
pub mod shutdown;
pub mod signals;
mod timely;
pub mod workers;
