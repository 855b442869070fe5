//! Answers that are sent in a row. A thread that sends each answer as soon as it is written goes back and forth
//! between its own code and the system's, so that neither finds itself in the processor's first cache, and wakes its
//! clients one by one. Here answers are kept until none of the thread's tasks can go on ([`send_all`]), and
//! sent one behind the other. Knows nothing of what they say.
//!
//! Invariants:
//! - Bytes of one connection leave in the order they were written.
//! - What is kept is bounded: for each connection in bytes, for a thread in pieces, and in what is read and sent
//!   meanwhile.
//! - What was kept counts as flushed. What the system did not take does not, and nothing more is taken before it.
//! - A thread that never calls [`send_all`] keeps nothing.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes that are kept for one connection. Larger pieces are sent at once: copying them would cost more than
/// is gained.
const KEPT_SIZE_MAX: usize = 8 << 10;
/// So many pieces are sent even while tasks can go on: then clients have enough to do.
const KEPT_COUNT_MAX: usize = 32;
/// So many times at the most are sockets read, or written past the outbox, before what is kept is sent.
const OTHERS_MAX: u32 = 4 * KEPT_COUNT_MAX as u32;

thread_local! {
    static OUTBOX: RefCell<Outbox> = RefCell::default();
}

/// What the connections of one thread have to send.
#[derive(Debug, Default)]
struct Outbox {
    /// Somebody sends it when the thread has nothing else to do.
    is_attended: bool,
    bytes: Vec<u8>,
    /// Whose the bytes are, and where they end.
    kept: Vec<(Outlet, usize)>,
    /// What else sockets were used for since the last was sent.
    other_count: u32,
}

impl Outbox {
    fn keep(&mut self, outlet: &Outlet, pieces: &[IoSlice<'_>]) {
        pieces.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        self.kept.push((Arc::clone(outlet), self.bytes.len()));
        if self.kept.len() >= KEPT_COUNT_MAX {
            self.send();
        }
    }

    fn note_other(&mut self) {
        self.other_count += 1;
        if self.other_count >= OTHERS_MAX {
            self.send();
        }
    }

    fn send(&mut self) {
        // Taken out: whatever happens here, nobody is sent the bytes of another.
        let mut bytes = std::mem::take(&mut self.bytes);
        let mut start = 0;
        for (outlet, end) in self.kept.drain(..) {
            lock(&outlet).send(&bytes[start..end]);
            start = end;
        }
        bytes.clear();
        self.bytes = bytes;
        self.other_count = 0;
    }
}

/// Sends what the connections of this thread have kept. To be called whenever none of its tasks can go on, and
/// from its beginning: it is what makes them keep anything.
pub fn send_all() {
    OUTBOX.with_borrow_mut(|outbox| {
        outbox.is_attended = true;
        outbox.send();
    });
}

/// The sending half of a connection.
type Outlet = Arc<Mutex<Sender>>;

fn lock(outlet: &Outlet) -> MutexGuard<'_, Sender> {
    // No panic leaves it half-way between two states.
    outlet.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Sender {
    socket: OwnedWriteHalf,
    /// Bytes of it that are in the outbox.
    kept_size: usize,
    /// What the system did not take.
    left: Vec<u8>,
    /// How sending failed. Nothing is sent behind a gap.
    failure: Option<io::ErrorKind>,
    /// The connection's task.
    waker: Option<Waker>,
}

impl Sender {
    /// Sends as many bytes as the system takes. Where that is not all, the connection's task has to go on
    /// with it ([`Sender::poll_left`]), and is woken.
    fn send(&mut self, bytes: &[u8]) {
        self.kept_size -= bytes.len();
        let sent = if self.left.is_empty() && self.failure.is_none() {
            self.socket.try_write(bytes)
        } else {
            Ok(0)
        };
        match sent {
            Ok(count) if count == bytes.len() => return,
            Ok(count) => self.left.extend_from_slice(&bytes[count..]),
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                self.left.extend_from_slice(bytes);
            }
            Err(cause) => self.failure = Some(cause.kind()),
        }
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Sends what was left; ready when that is all.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.failure {
            return Poll::Ready(Err(kind.into()));
        }
        while !self.left.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &self.left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count if count == self.left.len() => self.left = Vec::new(),
                count => drop(self.left.drain(..count)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn note_waker(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }
}

/// A connection whose small pieces are kept in the outbox of the thread.
#[derive(Debug)]
pub(crate) struct OutboxIo {
    socket: OwnedReadHalf,
    outlet: Outlet,
}

impl OutboxIo {
    pub(crate) fn new(stream: TcpStream) -> OutboxIo {
        let (reader, socket) = stream.into_split();
        let sender = Sender { socket, kept_size: 0, left: Vec::new(), failure: None, waker: None };
        OutboxIo { socket: reader, outlet: Arc::new(Mutex::new(sender)) }
    }

    /// The sender, with nothing before what is written to it next.
    fn poll_sender(&self, cx: &mut Context<'_>) -> Poll<io::Result<MutexGuard<'_, Sender>>> {
        OUTBOX.with_borrow_mut(Outbox::note_other);
        let mut sender = lock(&self.outlet);
        if sender.kept_size > 0 {
            // The outbox locks it itself.
            drop(sender);
            OUTBOX.with_borrow_mut(Outbox::send);
            sender = lock(&self.outlet);
        }
        ready!(sender.poll_left(cx))?;
        Poll::Ready(Ok(sender))
    }
}

impl AsyncRead for OutboxIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        OUTBOX.with_borrow_mut(Outbox::note_other);
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for OutboxIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let size: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut sender = lock(&self.outlet);
        let has_room = sender.kept_size + size <= KEPT_SIZE_MAX;
        if !has_room || !OUTBOX.with_borrow(|outbox| outbox.is_attended) {
            drop(sender);
            let mut sender = ready!(self.poll_sender(cx))?;
            return Pin::new(&mut sender.socket).poll_write_vectored(cx, pieces);
        }
        ready!(sender.poll_left(cx))?;
        sender.note_waker(cx.waker());
        sender.kept_size += size;
        drop(sender);
        OUTBOX.with_borrow_mut(|outbox| outbox.keep(&self.outlet, pieces));
        Poll::Ready(Ok(size))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.outlet).poll_left(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sender = ready!(self.poll_sender(cx))?;
        Pin::new(&mut sender.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
