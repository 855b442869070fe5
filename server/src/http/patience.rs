//! How long a connection may keep the server waiting: for a request's head, for the next request,
//! for its client to read an answer. (Bodies are timed where they are read.) Knows nothing of HTTP
//! but that its requests have heads, and whether those are frames.
//!
//! Invariants:
//! - While a request is being worked on, the connection is never cut for being silent.
//! - A timer is only touched when the connection has nothing to read or cannot write, so a busy one
//!   pays nothing.
//! - Reading and writing are both watched: HTTP/1 reads nothing while answers wait to be taken and
//!   more requests lie ready.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What the requests of one connection tell its socket.
#[derive(Debug)]
pub(crate) struct Pulse {
    opened: Instant,
    /// Requests whose head was complete, ever.
    started_count: AtomicU64,
    /// Requests answered, ever.
    done_count: AtomicU64,
    /// One was answered since the socket saw to it.
    has_answered: AtomicBool,
    /// Heads are frames, among others: what comes in does not tell where one begins.
    is_framed: AtomicBool,
}

impl Pulse {
    /// The pulse of a connection opened now.
    pub(crate) fn new() -> Arc<Pulse> {
        Arc::new(Pulse {
            opened: Instant::now(),
            started_count: AtomicU64::new(0),
            done_count: AtomicU64::new(0),
            has_answered: AtomicBool::new(false),
            is_framed: AtomicBool::new(false),
        })
    }

    /// From now on heads are frames, as in HTTP/2, so that only silence counts.
    pub(crate) fn be_framed(&self) {
        self.is_framed.store(true, Relaxed);
    }

    /// A request's head is complete. The request is over when the guard is dropped.
    pub(crate) fn beat(self: &Arc<Pulse>) -> Beat {
        self.started_count.fetch_add(1, Relaxed);
        Beat(Arc::clone(self))
    }

    fn is_working(&self) -> bool {
        self.started_count.load(Relaxed) != self.done_count.load(Relaxed)
    }
}

/// One request being worked on.
#[derive(Debug)]
pub(crate) struct Beat(Arc<Pulse>);

impl Drop for Beat {
    fn drop(&mut self) {
        self.0.has_answered.store(true, Relaxed);
        self.0.done_count.fetch_add(1, Relaxed);
    }
}

/// A socket that fails its reads with `TimedOut` when the other side takes too long.
#[derive(Debug)]
pub(crate) struct PatientIo<T> {
    io: T,
    pulse: Arc<Pulse>,
    header_timeout: Duration,
    idle_timeout: Duration,
    /// When the first byte of a head not yet complete came in, and how many requests had been started then.
    /// Most heads are complete at once: the time is noted when there is nothing more to read.
    head: Option<(Option<Instant>, u64)>,
    /// When bytes last moved out, or an answer was there that could not.
    last_write: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<T> PatientIo<T> {
    /// Watches over `io`, whose requests report to `pulse`.
    pub(crate) fn new(
        io: T,
        pulse: Arc<Pulse>,
        header_timeout: Duration,
        idle_timeout: Duration,
    ) -> PatientIo<T> {
        let last_write = pulse.opened;
        PatientIo { io, pulse, header_timeout, idle_timeout, head: None, last_write, alarm: None }
    }

    fn note_read(&mut self) {
        let started_count = self.pulse.started_count.load(Relaxed);
        let is_new = self.head.is_none_or(|(_, at_count)| at_count != started_count);
        if is_new && !self.pulse.is_working() {
            self.head = Some((None, started_count));
        }
    }

    /// When to give up, as things stand; `None` while a request is being worked on.
    fn deadline(&mut self) -> Option<Instant> {
        if self.pulse.is_working() {
            return None;
        }
        let is_framed = self.pulse.is_framed.load(Relaxed);
        let started_count = self.pulse.started_count.load(Relaxed);
        match &mut self.head {
            Some((since, at_count)) if *at_count == started_count && !is_framed => {
                Some(*since.get_or_insert_with(Instant::now) + self.header_timeout)
            }
            _ if started_count == 0 && !is_framed => Some(self.pulse.opened + self.header_timeout),
            _ => Some(self.idle_since() + self.idle_timeout),
        }
    }

    /// When to give up on a client that takes nothing of what is written to it.
    fn write_deadline(&mut self) -> Option<Instant> {
        (!self.pulse.is_working()).then(|| self.idle_since() + self.idle_timeout)
    }

    /// Since when nothing moved but what a client may be waited for.
    fn idle_since(&mut self) -> Instant {
        if self.pulse.has_answered.load(Relaxed) {
            self.pulse.has_answered.store(false, Relaxed);
            self.last_write = Instant::now();
        }
        self.last_write
    }

    /// Ready once the other side has taken too long. Called when there is nothing to read, or no
    /// room to write.
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<io::Error> {
        // An alarm that rings before anything can be due is good enough, and costs no look at the clock:
        // this task was its last to poll it.
        if let Some(alarm) = &self.alarm
            && !alarm.is_elapsed()
            && deadline.is_none_or(|deadline| alarm.deadline() <= deadline)
        {
            return Poll::Pending;
        }
        let alarm =
            self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(self.pulse.opened)));
        loop {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(io::Error::from(io::ErrorKind::TimedOut));
            }
            // HTTP/1 may not come back here between the end of a request and the next one's first
            // byte. Hence an alarm is always set, and never later than a connection that falls
            // idle this moment has to be looked at. One that rings too early is set anew.
            let latest = now + self.idle_timeout;
            let next = deadline.map_or(latest, |deadline| deadline.min(latest));
            if alarm.is_elapsed() || alarm.deadline() > next {
                alarm.as_mut().reset(next);
            }
            ready!(alarm.as_mut().poll(cx));
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for PatientIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size_before = buffer.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buffer) {
            Poll::Pending => {
                let deadline = self.deadline();
                self.poll_until(cx, deadline).map(Err)
            }
            Poll::Ready(Ok(())) => {
                if buffer.filled().len() > size_before {
                    self.note_read();
                }
                Poll::Ready(Ok(()))
            }
            failed => failed,
        }
    }
}

impl<T: AsyncWrite + Unpin> PatientIo<T> {
    fn note_write(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(_)) => {
                self.pulse.has_answered.store(false, Relaxed);
                self.last_write = Instant::now();
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let deadline = self.write_deadline();
                return self.poll_until(cx, deadline).map(Err);
            }
        }
        result
    }

    /// Waits no longer for what is left to be taken than for what is written.
    fn note_rest(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if result.is_pending() {
            let deadline = self.write_deadline();
            return self.poll_until(cx, deadline).map(Err);
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for PatientIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.note_write(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.note_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Where more was kept than the socket takes, this is where it waits.
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.note_rest(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.note_rest(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    const IDLE: Duration = Duration::from_secs(60);

    /// A connection with room for one byte, and the client, who takes and says nothing.
    fn connection() -> (PatientIo<DuplexStream>, Arc<Pulse>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1);
        let pulse = Pulse::new();
        (PatientIo::new(ours, Arc::clone(&pulse), IDLE, IDLE), pulse, theirs)
    }

    /// A client has the whole idle time to take an answer, however long that was worked on.
    #[tokio::test(start_paused = true)]
    async fn the_time_to_take_an_answer_begins_when_it_is_there() {
        let (mut io, pulse, _client) = connection();
        io.write_all(b"1").await.expect("there is room for one byte");
        let beat = pulse.beat();
        tokio::time::advance(3 * IDLE).await;

        let answered = Instant::now();
        drop(beat);
        let error = io.write_all(b"2").await.expect_err("nobody takes it");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(answered.elapsed(), IDLE);
    }

    /// Frames do not tell where a head begins.
    #[tokio::test(start_paused = true)]
    async fn where_heads_are_frames_only_silence_counts() {
        for (is_framed, most) in [(false, IDLE / 10), (true, IDLE)] {
            let (ours, _theirs) = tokio::io::duplex(1);
            let pulse = Pulse::new();
            let mut io = PatientIo::new(ours, Arc::clone(&pulse), IDLE / 10, IDLE);
            if is_framed {
                pulse.be_framed();
            }
            let opened = Instant::now();
            let error = io.read_u8().await.expect_err("nothing is said");
            assert_eq!((error.kind(), opened.elapsed()), (io::ErrorKind::TimedOut, most));
        }
    }

    /// Who is worked for is not cut for being silent, and not for what was written before either.
    #[tokio::test(start_paused = true)]
    async fn nobody_is_cut_while_a_request_is_worked_on() {
        let (mut io, pulse, _client) = connection();
        let beat = pulse.beat();
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        for _ in 0..3 {
            let read = poll_fn(|cx| Poll::Ready(pin!(&mut io).poll_read(cx, &mut buffer))).await;
            assert!(read.is_pending());
            tokio::time::advance(2 * IDLE).await;
        }
        drop(beat);
    }

    /// A socket that keeps what is written, and gets rid of none of it.
    struct Stuck;

    impl AsyncWrite for Stuck {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// Who takes nothing is cut as well where that shows only when what was written is to be gone.
    #[tokio::test(start_paused = true)]
    async fn a_flush_or_an_end_is_not_waited_for_longer_than_a_write() {
        for is_end in [false, true] {
            let mut io = PatientIo::new(Stuck, Pulse::new(), IDLE, IDLE);
            io.write_all(b"1").await.expect("it takes all");
            let written = Instant::now();
            let waited = async { if is_end { io.shutdown().await } else { io.flush().await } };
            let waited = tokio::time::timeout(10 * IDLE, waited).await.expect("not for ever");
            let error = waited.expect_err("nothing is sent");
            assert_eq!((error.kind(), written.elapsed()), (io::ErrorKind::TimedOut, IDLE));
        }
    }
}
