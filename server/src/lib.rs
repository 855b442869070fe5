//! The Marconi API over a [`store::Store`]: what `marconi-server` and the tests start.
pub mod api;
pub mod app;
pub mod config;
pub mod http;
pub mod shutdown;
pub mod store;
