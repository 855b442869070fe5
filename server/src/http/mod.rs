//! HTTP: sockets, routes, requests and answers.
pub mod listen;
pub mod patience;
#[cfg(feature = "tls")]
pub mod tls;

pub mod route;

pub mod body;
pub mod reply;
pub mod service;

mod claims;
mod messages;
mod queues;
