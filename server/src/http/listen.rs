//! Sockets: accepting, TLS, limits on connections and on memory, timeouts, graceful drain.
//! Speaks HTTP/1.1 with keep-alive and pipelining and HTTP/2, both on one port. Knows no route and
//! no domain; what answers is a [`Handler`].
//!
//! Invariants:
//! - Only the word to stop ends the accept loop; no error and no panic of a connection does.
//! - Connections and refusals are bounded. (So are bodies, by their reader.)
//! - Over the limit of connections a client is told so: 503 with `Retry-After`, then the connection
//!   is closed. (Not accepting would leave it waiting in the system's queue without a word.) Under
//!   TLS the connection is just closed, since a handshake would cost more than what is refused.

use super::echo::Hearing;
#[cfg(feature = "tls")]
use super::joined::JoinedIo;
use super::outbox::OutboxIo;
use super::patience::{PatientIo, Pulse};
use super::version::{self, Rewound, Version};
use crate::shutdown::Shutdown;
use crate::workers::Workers;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Dropped half-way when the connection ends: a client of HTTP/1 that goes away is
    /// noticed when it is answered, so that this must not wait for ever.
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send + 'static;
}

/// How to listen. The defaults are those of the configuration.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Most connections at a time.
    pub connections_max: usize,
    /// Longest time from a request's first byte, or from the start of the connection, to the end of
    /// its head; also for the TLS handshake.
    pub header_timeout: Duration,
    /// How long a connection stays open between requests, or while its client reads nothing.
    pub idle_timeout: Duration,
    /// Largest head of a request, in bytes.
    pub header_size_max_bytes: usize,
    /// Most requests at a time on one connection of HTTP/2.
    pub http2_streams_max: u32,
    /// How long requests in flight may take once the word to stop was given.
    pub drain_timeout: Duration,
    /// The certificate to show, when connections are to be encrypted.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<super::tls::Tls>>,
    /// Where the listener counts.
    pub stats: Arc<ListenStats>,
    /// Who serves the connections; without any the runtime that accepts them does.
    pub workers: Option<Arc<Workers>>,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            connections_max: 10_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            header_size_max_bytes: 64 << 10,
            http2_streams_max: 256,
            drain_timeout: Duration::from_secs(30),
            #[cfg(feature = "tls")]
            tls: None,
            stats: Arc::default(),
            workers: None,
        }
    }
}

/// What a listener counts, readable at any time.
#[derive(Debug, Default)]
pub struct ListenStats {
    /// Connections open now.
    pub connections_open: AtomicU64,
    /// Connections accepted, ever.
    pub connections_accepted_count: AtomicU64,
    /// Connections turned away because there were too many, ever.
    pub connections_refused_count: AtomicU64,
    /// Connections whose task panicked, ever.
    pub connections_panicked_count: AtomicU64,
    /// Attempts to accept that failed, ever.
    pub accept_errors_count: AtomicU64,
}

/// How a listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request in flight was answered.
    Whole,
    /// This many connections were still busy when the time for draining was over, and were cut.
    Cut(usize),
}

/// Connections that may wait to be accepted: as many as Linux allows unless told otherwise
/// (`net.core.somaxconn`, which also caps it). With tokio's 128 a crowd that comes at once waits for
/// its calls to be repeated, seconds apart.
const BACKLOG: u32 = 4096;
/// Refusals being written at a time. Beyond it connections are closed without a word.
const REFUSALS_MAX: usize = 64;
/// How long one refusal may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after an accept that failed for lack of a resource, which trying at once would not cure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long one and the same complaint about accepting stays unrepeated.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// What is told to those who come when there are too many, in seconds.
const RETRY_AFTER_S: &str = "1";

/// A listener on `address`, a host or IP address and a port, for a crowd that comes at once. Of the
/// addresses of a host, the first that can be listened on.
///
/// # Errors
/// When the host is unknown, or none of its addresses can be listened on.
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    let listen = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A server that starts again is not kept waiting by connections of the one before.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for address in lookup_host(address).await? {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(cause) => failure = cause,
        }
    }
    Err(failure)
}

/// Serves `handler` on `listener` until the word to stop is given; then accepts nothing more, lets
/// requests in flight finish within [`ListenOptions::drain_timeout`], and says how that went.
pub async fn serve<H: Handler>(
    handler: Arc<H>,
    listener: TcpListener,
    options: ListenOptions,
    mut shutdown: Shutdown,
) -> Drained {
    let server = Arc::new(Server::new(handler, options));
    let stats = Arc::clone(&server.options.stats);
    let mut connections = JoinSet::new();
    let mut refusals = JoinSet::new();
    let mut complaint: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.requested() => break,
            Some(ended) = connections.join_next() => {
                note_end(ended, &stats);
                stats.connections_open.store(connections.len() as u64, Relaxed);
                continue;
            }
            Some(_) = refusals.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if connections.len() < server.options.connections_max => {
                stats.connections_accepted_count.fetch_add(1, Relaxed);
                begin(&mut connections, &server, stream, &shutdown);
                stats.connections_open.store(connections.len() as u64, Relaxed);
            }
            Ok((stream, _)) => {
                stats.connections_refused_count.fetch_add(1, Relaxed);
                if !server.options.is_encrypted() && refusals.len() < REFUSALS_MAX {
                    refusals.spawn(timeout(REFUSAL_TIMEOUT, refuse(stream)));
                }
            }
            Err(cause) => {
                stats.accept_errors_count.fetch_add(1, Relaxed);
                if is_of_one_connection(&cause) {
                    continue;
                }
                if complaint.is_none_or(|last| last.elapsed() > COMPLAINT_INTERVAL) {
                    complaint = Some(Instant::now());
                    tracing::error!(%cause, "cannot accept connections; trying on");
                }
                // The word to stop is heard after the pause, which is short.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    drain(connections, &server.options).await
}

/// Serves a connection on the worker that has the fewest, or here.
fn begin<H: Handler>(
    connections: &mut JoinSet<()>,
    server: &Arc<Server<H>>,
    stream: TcpStream,
    shutdown: &Shutdown,
) {
    let (server, shutdown) = (Arc::clone(server), shutdown.clone());
    let Some(workers) = &server.options.workers else {
        connections.spawn(server.connection(prepare(stream), shutdown));
        return;
    };
    let (worker, seat) = workers.seat();
    // The socket leaves this thread's poll for the worker's. Where that fails it is closed.
    let Ok(stream) = stream.into_std() else { return };
    let serve = seat.run(async move {
        let Some(stream) = adopt(stream) else { return };
        server.connection(stream, shutdown).await;
    });
    connections.spawn_on(serve, &worker);
}

/// Brings a socket into the poll of this thread.
fn adopt(stream: std::net::TcpStream) -> Option<OutboxIo> {
    match TcpStream::from_std(stream) {
        Ok(stream) => Some(prepare(stream)),
        Err(cause) => {
            tracing::error!(%cause, "cannot serve a connection");
            None
        }
    }
}

fn prepare(stream: TcpStream) -> OutboxIo {
    // Small answers are to leave at once; where this fails the connection is dead anyway.
    let _ = stream.set_nodelay(true);
    OutboxIo::new(stream)
}

/// Waits for the connections to end, each of which has heard the word itself, or cuts them.
async fn drain(mut connections: JoinSet<()>, options: &ListenOptions) -> Drained {
    let stats = &options.stats;
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            note_end(ended, stats);
            stats.connections_open.store(connections.len() as u64, Relaxed);
        }
    };
    if timeout(options.drain_timeout, all_ended).await.is_ok() {
        return Drained::Whole;
    }
    let cut_count = connections.len();
    connections.shutdown().await;
    stats.connections_open.store(0, Relaxed);
    Drained::Cut(cut_count)
}

fn note_end(ended: Result<(), JoinError>, stats: &ListenStats) {
    if let Err(cause) = ended
        && cause.is_panic()
    {
        stats.connections_panicked_count.fetch_add(1, Relaxed);
        tracing::error!("a panic ended a connection; the server goes on");
    }
}

/// Whether accepting failed because of the connection accepted, and not of the system's state.
fn is_of_one_connection(cause: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(cause.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Tells a client, in HTTP/1.1, that there are too many connections, and waits for it to hang up:
/// closing with its request unread would take the answer away from it.
async fn refuse(mut stream: TcpStream) {
    let body = OVERLOADED;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: {RETRY_AFTER_S}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    if stream.write_all(answer.as_bytes()).await.is_err() || stream.shutdown().await.is_err() {
        return;
    }
    let mut waste = [0; 4096];
    while let Ok(1..) = stream.read(&mut waste).await {}
}

const OVERLOADED: &str = r#"{"title": "Service temporarily unavailable", "description": "Too many connections are open; try again soon."}"#;

/// What the connections of one listener share.
struct Server<H> {
    handler: Arc<H>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    options: ListenOptions,
}

impl<H: Handler> Server<H> {
    fn new(handler: Arc<H>, options: ListenOptions) -> Server<H> {
        // Heads are timed by `patience`, which also covers the bytes that tell the two protocols
        // apart, and tells a slow head from an idle connection. No `pipeline_flush`: with it a
        // refused head is never answered, since the bytes left unread hold back the answer.
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            // Requests are short. Watching for the end of their clients meanwhile would take a new buffer for
            // each, and leave unanswered who says at once that he has nothing more to ask.
            .half_close(true)
            // Head and body as they are: the socket joins what is small.
            .writev(true)
            .keep_alive(true)
            .max_buf_size(options.header_size_max_bytes);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(options.http2_streams_max)
            .max_header_list_size(u32::try_from(options.header_size_max_bytes).unwrap_or(u32::MAX));
        Server { handler, http1, http2, options }
    }

    async fn connection(self: Arc<Self>, stream: OutboxIo, shutdown: Shutdown) {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.options.tls.clone() {
            // In a box of its own: a connection without TLS has no room for one with it.
            return Box::pin(self.encrypted(tls, stream, shutdown)).await;
        }
        self.speak(stream, shutdown).await;
    }

    #[cfg(feature = "tls")]
    async fn encrypted(
        self: Arc<Self>,
        tls: Arc<super::tls::Tls>,
        stream: OutboxIo,
        shutdown: Shutdown,
    ) {
        let shaken = timeout(self.options.header_timeout, tls.acceptor().accept(stream));
        match shaken.await {
            Ok(Ok(stream)) => self.speak(JoinedIo(stream), shutdown).await,
            Ok(Err(cause)) => tracing::debug!(%cause, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    /// Finds out which HTTP is spoken, and speaks it. No `async fn`, which would keep its socket twice.
    fn speak<T>(&self, stream: T, mut shutdown: Shutdown) -> impl Future<Output = ()> + Send
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pulse = Pulse::new();
        let mut io = PatientIo::new(
            stream,
            Arc::clone(&pulse),
            self.options.header_timeout,
            self.options.idle_timeout,
        );
        async move {
            let told = tokio::select! {
                biased;
                // Whoever has asked nothing yet is not waited for.
                () = shutdown.requested() => return,
                told = version::tell(&mut io) => told,
            };
            let (version, io) = match told {
                Ok((version, first)) => (version, TokioIo::new(Rewound::new(io, first))),
                Err(cause) => {
                    tracing::trace!(%cause, "a connection ended before it was known what it speaks");
                    return;
                }
            };
            let service = service_fn(|request| {
                let beat = pulse.beat();
                Arc::clone(&self.handler).handle(request).map(move |response| {
                    drop(beat);
                    Ok::<_, Infallible>(response)
                })
            });
            let ended = match version {
                Version::Http1 => {
                    converse(pin!(self.http1.serve_connection(io, service)), shutdown).await
                }
                Version::Http2 => {
                    pulse.be_framed();
                    // In a box: a connection of HTTP/1 takes half the room.
                    let mut connection = Box::pin(self.http2.serve_connection(io, service));
                    converse(connection.as_mut(), shutdown).await
                }
            };
            if let Err(cause) = ended {
                tracing::trace!(%cause, "a connection ended early");
            }
        }
    }
}

/// Answers what is asked on a connection until it ends. Once the word to stop is given it asks no more.
async fn converse<C>(mut connection: Pin<&mut C>, mut shutdown: Shutdown) -> Result<(), C::Error>
where
    C: GracefulConnection,
{
    let heard = shutdown.clone();
    let mut requested = pin!(shutdown.requested());
    let mut is_listening = false;
    let mut hearing = Hearing::default();
    let ended = poll_fn(|context| {
        let context = &mut Context::from_waker(hearing.of(context.waker()));
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(Some(ended));
        }
        // Asked once, and then when there is something to hear: the task's waker stays the same.
        if is_listening && !heard.is_requested() {
            return Poll::Pending;
        }
        is_listening = true;
        requested.as_mut().poll(context).map(|()| None)
    });
    match ended.await {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

impl ListenOptions {
    fn is_encrypted(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }
}

#[cfg(test)]
mod tests;
