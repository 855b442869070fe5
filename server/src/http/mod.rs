//! HTTP: sockets, routes, requests and answers.
mod echo;
#[cfg(feature = "tls")]
mod joined;
pub mod listen;
pub mod outbox;
pub mod patience;
#[cfg(feature = "tls")]
pub mod tls;
mod version;

pub mod route;

pub mod body;
pub mod reply;
pub mod service;

mod claims;
mod messages;
mod queues;

use crate::app::App;
use crate::store::Store;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::future::Future;
use std::sync::Arc;

impl<S: Store> listen::Handler for App<S> {
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send + 'static {
        service::handle(self, request)
    }
}
