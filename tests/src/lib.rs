//! What the suites share.
pub mod model;
pub mod model_store;
pub mod store_down;
