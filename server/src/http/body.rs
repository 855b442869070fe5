//! The body of a request: read within its limit and within the memory all bodies share, or thrown
//! away. Knows no JSON and no routes.

use super::echo;
use crate::api::fault::{Fault, Kind};
use crate::api::limits::Limits;
use crate::in_flight::{BytesInFlight, InFlight};
use crate::timely;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Frame};
use hyper::header::EXPECT;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Context;
use std::time::Duration;

/// How much of a body that nobody reads is taken off the wire, so that the client hears the answer.
const DISCARD_SIZE_MAX: u64 = 16 << 20;

/// A body and the room it takes. Keep it until the request is answered.
#[derive(Debug)]
pub struct Held<'a> {
    /// The body.
    pub bytes: Bytes,
    _room: InFlight<'a>,
}

/// Reads the body when it has at most `size_max` bytes. One that says it is longer is refused
/// unread.
pub async fn read<'a, B>(
    body: &mut B,
    size_max: usize,
    limits: &Limits,
    in_flight: &'a BytesInFlight,
) -> Result<Held<'a>, Fault>
where
    B: Body<Data = Bytes> + Unpin,
{
    let hint = body.size_hint();
    if hint.lower() > size_max as u64 {
        return Err(too_long(size_max));
    }
    // A body that does not say how long it is may be as long as it is allowed to be.
    let size = hint.upper().unwrap_or(u64::MAX).min(size_max as u64);
    let room = in_flight.take(size, limits.bytes_in_flight_max).ok_or_else(|| {
        Fault::new(Kind::Busy, "Too many requests with bodies are under way; try again.")
    })?;
    let timeout = Duration::from_millis(limits.body_read_timeout_ms);
    let bytes = timely::within(timeout, pin!(collect(body, size_max)))
        .await
        .map_err(|_| Fault::new(Kind::BadBody, "The body did not arrive in time."))??;
    Ok(Held { bytes, _room: room })
}

async fn collect<B>(body: &mut B, size_max: usize) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes> + Unpin,
{
    // Most bodies come as one piece, which is kept as it is.
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    while let Some(frame) = next_frame(body).await {
        let frame = frame.map_err(|_| Fault::new(Kind::BadBody, "The body ended too early."))?;
        let Ok(piece) = frame.into_data() else { continue };
        if whole.len() + pieces.len() + piece.len() > size_max {
            return Err(too_long(size_max));
        }
        if whole.is_empty() && pieces.is_empty() && body.is_end_stream() {
            return Ok(piece);
        }
        if whole.is_empty() && pieces.is_empty() {
            whole = piece;
            continue;
        }
        if pieces.is_empty() {
            let rest = usize::try_from(body.size_hint().lower()).unwrap_or(0).min(size_max);
            pieces.reserve(whole.len() + piece.len() + rest);
            pieces.extend_from_slice(&std::mem::take(&mut whole));
        }
        pieces.extend_from_slice(&piece);
    }
    Ok(if pieces.is_empty() { whole } else { pieces.freeze() })
}

/// The next piece of a body, whose sender is only told of it where more is to come: in HTTP/1 that is the
/// connection's own task.
async fn next_frame<B: Body + Unpin>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>> {
    poll_fn(|context| {
        let poll = |context: &mut Context<'_>| Pin::new(&mut *body).poll_frame(context);
        let (frame, was_told) = echo::deafly(context, poll);
        if was_told && !(frame.is_ready() && body.is_end_stream()) {
            context.waker().wake_by_ref();
        }
        frame
    })
    .await
}

fn too_long(size_max: usize) -> Fault {
    let text = format!("The body is longer than the {size_max} bytes it may have.");
    Fault::new(Kind::Refused, text)
}

/// Throws away what was not read, so that the connection can go on and the client, still sending,
/// hears the answer. One who asked before sending is spared the sending.
pub async fn discard<B>(body: &mut B, headers: &HeaderMap, timeout: Duration)
where
    B: Body<Data = Bytes> + Unpin,
{
    let size = body.size_hint().lower();
    if body.is_end_stream() || size > DISCARD_SIZE_MAX || headers.contains_key(EXPECT) {
        return;
    }
    let drain = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, |piece| piece.len() as u64);
            if seen > DISCARD_SIZE_MAX {
                break;
            }
        }
    };
    // Whoever is too slow meets a closed connection; the answer is the same.
    let _ = tokio::time::timeout(timeout, drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Channel, Full};

    async fn read_one(size: usize, size_max: usize, most: u64) -> Result<usize, Kind> {
        let in_flight = BytesInFlight::default();
        let limits = Limits { bytes_in_flight_max: most, ..Limits::default() };
        let mut body = Full::new(Bytes::from(vec![b'x'; size]));
        let read = read(&mut body, size_max, &limits, &in_flight).await;
        let outcome = read.as_ref().map(|held| held.bytes.len()).map_err(|fault| fault.kind);
        drop(read);
        assert_eq!(in_flight.get(), 0);
        outcome
    }

    #[tokio::test]
    async fn a_body_fits_its_limit_and_the_memory_there_is() {
        assert_eq!(read_one(10, 10, 10).await, Ok(10));
        assert_eq!(read_one(11, 10, 100).await, Err(Kind::Refused));
        assert_eq!(read_one(10, 10, 9).await, Err(Kind::Busy));
        assert_eq!(read_one(0, 10, 9).await, Ok(0));
    }

    #[tokio::test]
    async fn pieces_are_joined_and_counted() {
        for (count, outcome) in [(3, Ok(9)), (4, Err(Kind::Refused))] {
            let (mut sender, mut body) = Channel::<Bytes>::new(8);
            for _ in 0..count {
                sender.send_data(Bytes::from_static(b"abc")).await.expect("room");
            }
            drop(sender);
            let in_flight = BytesInFlight::default();
            let read = read(&mut body, 10, &Limits::default(), &in_flight).await;
            assert_eq!(read.map(|held| held.bytes.len()).map_err(|fault| fault.kind), outcome);
        }
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_refused() {
        let (_sender, mut body) = Channel::<Bytes>::new(1);
        let limits = Limits { body_read_timeout_ms: 10, ..Limits::default() };
        let read = read(&mut body, 10, &limits, &BytesInFlight::default()).await.map(|_| ());
        assert_eq!(read.map_err(|fault| fault.kind), Err(Kind::BadBody));
    }
}
