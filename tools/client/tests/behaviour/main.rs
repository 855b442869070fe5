//! The client against a server in this process that does what a test tells it to.

mod retries;
mod server;
mod verbs;
