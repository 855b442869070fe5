//! A bare hyper server that reads a request and answers it: what any server on this stack can reach at best.
//! It runs in a process of its own, as the server that is measured does; where it is put is not its business.

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use std::io::{Read, Write};
use std::path::Path;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};

/// The hidden command that runs it.
pub const COMMAND: &str = "hello-server";

/// The runtime it is served on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// A thread alone: what one core can do.
    One,
    /// As many as there are cores, which share the work: what a server does that is given no place.
    Many,
}

/// Serves on a free port of the loopback, told in a line on `out`, until standard input ends. A POST is
/// answered with 201 and `{}`, anything else with the bytes of `file`, or none.
///
/// # Errors
/// When there is no port or no thread, or the file cannot be read.
pub fn serve(threads: Threads, file: Option<&Path>, out: &mut dyn Write) -> anyhow::Result<()> {
    let content = Bytes::from(file.map(std::fs::read).transpose()?.unwrap_or_default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let mut builder = match threads {
        Threads::One => Builder::new_current_thread(),
        Threads::Many => Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build()?;
    std::thread::Builder::new().spawn(move || match threads {
        Threads::One => LocalSet::new().block_on(
            &runtime,
            accept(listener, |stream| drop(spawn_local(converse(stream, content.clone())))),
        ),
        Threads::Many => runtime.block_on(async {
            let each = move |stream| drop(tokio::spawn(converse(stream, content.clone())));
            // It ends with its listener, which ends with the process.
            let _ = tokio::spawn(accept(listener, each)).await;
        }),
    })?;
    writeln!(out, "serves http://{address}")?;
    out.flush()?;
    // Whoever started this holds the other end; it goes with them.
    std::io::stdin().read_to_end(&mut Vec::new()).map(|_| ()).context("cannot read standard input")
}

async fn accept(listener: std::net::TcpListener, each: impl Fn(TcpStream)) {
    let listener = TcpListener::from_std(listener).expect("it does not block");
    while let Ok((stream, _)) = listener.accept().await {
        // Without it answers are late, not wrong.
        let _ = stream.set_nodelay(true);
        each(stream);
    }
}

async fn converse(stream: TcpStream, content: Bytes) {
    let answer = service_fn(|request| answer(request, content.clone()));
    // A client that goes away is no news.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
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
