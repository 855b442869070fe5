//! HTTP: sockets, routes, requests and answers.
pub mod listen;
pub mod patience;
#[cfg(feature = "tls")]
pub mod tls;
