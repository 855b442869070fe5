//! HTTP: sockets, routes, requests and answers.
mod echo;
mod joined;
pub mod listen;
pub mod outbox;
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

use crate::app::App;
use crate::store::Store;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};

impl<S: Store> listen::Handler for App<S> {
    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        service::handle(self, request).await
    }
}
