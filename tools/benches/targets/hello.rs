//! The bare HTTP server, hyper on one thread, that others are held against: answers a POST with 201 and
//! `{}`, a GET with the bytes of a file. It is a child process of its own.

use crate::server;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use std::path::Path;

/// Serves until the process is ended; tells on standard output where.
///
/// # Errors
/// When it cannot listen, or the file is not there.
pub(crate) fn serve(file: Option<&Path>) -> anyhow::Result<()> {
    let content = Bytes::from(file.map(std::fs::read).transpose()?.unwrap_or_default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        server::announce(listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let content = content.clone();
            tokio::task::spawn_local(async move {
                let answer = service_fn(|request| answer(request, content.clone()));
                // A client that goes away is no news.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
    })
}

async fn answer(
    request: Request<Incoming>,
    content: Bytes,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (status, body) = match *request.method() {
        Method::POST => (201, Bytes::from_static(b"{}")),
        _ => (200, content),
    };
    request.into_body().collect().await?;
    let answer = Response::builder().status(status).header("content-type", "application/json");
    Ok(answer.body(Full::new(body)).expect("a plain answer"))
}
