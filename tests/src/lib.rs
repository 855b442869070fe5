//! What the suites share.
pub mod binary;
pub mod client;
pub mod model;
pub mod model_store;
pub mod program;
pub mod server;
pub mod small_disk;
pub mod store_down;
pub mod wire;
