//! A bare hyper server that reads a request and answers 201: what any server on this stack can reach
//! at best. It runs in a process of its own, as the server that is measured does.

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io::{Read, Write};
use tokio::net::TcpListener;

/// The hidden command that runs it.
pub(crate) const COMMAND: &str = "hello-server";

/// Serves on a free port of the loopback, told in a line on `out`, until standard input ends.
///
/// # Errors
/// When there is no port or no thread.
pub(crate) fn serve(out: &mut dyn Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    writeln!(out, "serves http://{}", listener.local_addr()?)?;
    out.flush()?;
    runtime.spawn(accept(listener));
    // Whoever started this holds the other end; it goes with them.
    let read = std::io::stdin().read_to_end(&mut Vec::new());
    runtime.shutdown_background();
    read.map(|_| ()).context("cannot read standard input")
}

async fn accept(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        // Without it answers are late, not wrong.
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            // A client that goes away is no news.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    request.into_body().collect().await?;
    let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
    *response.status_mut() = hyper::StatusCode::CREATED;
    Ok(response)
}
