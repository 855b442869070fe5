//! A client of bytes: sends them in the pieces it is told, hears what comes at the same time, and ends as it is told.
//! Knows no HTTP.

use super::stream::{End, Stream};
use crate::random::Random;
use anyhow::Context;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the server may take to hang up: several times what it grants a client.
const DEADLINE: Duration = Duration::from_secs(30);
/// Streams larger than this are not sent byte by byte.
const BYTEWISE_SIZE_MAX: usize = 600;

/// What came of a stream.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) bytes: Vec<u8>,
    pub(super) end: Ended,
    /// Until all was sent that was.
    pub(super) sent_in: Duration,
    pub(super) took: Duration,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The server hung up in good order: all it had said came.
    Whole,
    /// The connection was reset, so that some may be missing.
    Broken,
    /// The client left first.
    Left,
}

/// Sends a stream and hears what comes.
///
/// # Errors
/// When the server does not hang up.
pub(super) async fn talk(
    address: SocketAddr,
    stream: &Stream,
    random: &mut Random,
) -> anyhow::Result<Heard> {
    let started = Instant::now();
    let mut socket = TcpStream::connect(address).await.context("connect")?;
    socket.set_nodelay(true).context("no delay")?;
    let pieces = pieces(&stream.bytes, random);
    let mut bytes = Vec::new();
    let sent_in = Mutex::new(Duration::ZERO);
    let (mut reader, mut writer) = socket.split();
    let send = async {
        for piece in pieces {
            let is_sent = writer.write_all(piece).await.is_ok();
            *sent_in.lock().expect("nobody panics with it") = started.elapsed();
            if !is_sent {
                break;
            }
            // So that the server, which is another thread, may find it alone.
            tokio::task::yield_now().await;
        }
        if stream.end == End::Shut {
            // It may be gone already.
            let _ = writer.shutdown().await;
        }
    };
    let listen = async {
        loop {
            match reader.read_buf(&mut bytes).await {
                Ok(0) => break Ended::Whole,
                Ok(_) => {}
                Err(_) => break Ended::Broken,
            }
        }
    };
    let ending = async {
        match stream.end {
            End::Shut | End::Wait => tokio::join!(send, listen).1,
            // What the server says while it is sent to is heard, the rest is not.
            End::Close | End::Reset => {
                tokio::select! {
                    biased;
                    () = send => Ended::Left,
                    end = listen => end,
                }
            }
        }
    };
    let end = timeout(DEADLINE, ending).await.context("the server does not hang up")?;
    if stream.end == End::Reset {
        // It may be gone already.
        let _ = socket.set_zero_linger();
    }
    let sent_in = sent_in.into_inner().expect("nobody panics with it");
    Ok(Heard { bytes, end, sent_in, took: started.elapsed() })
}

/// Sends all at once and hears all there is; also how long it took until all was sent.
pub(super) async fn ask(
    address: SocketAddr,
    request: &[u8],
) -> anyhow::Result<(Vec<u8>, Duration)> {
    let answer = async {
        let started = Instant::now();
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(request).await?;
        let sent_in = started.elapsed();
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).await?;
        Ok::<_, io::Error>((bytes, sent_in))
    };
    let answered = timeout(DEADLINE, answer).await;
    answered.context("no answer")?.context("the connection broke")
}

/// The stream in the pieces that are sent: whole, byte by byte, or cut at random.
fn pieces<'a>(bytes: &'a [u8], random: &mut Random) -> Vec<&'a [u8]> {
    let size_max = match random.below(4) {
        0 if bytes.len() <= BYTEWISE_SIZE_MAX => 1,
        0 | 1 => 1 + bytes.len() as u64 / 3,
        _ => return vec![bytes],
    };
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = rest.len().min(1 + random.below(size_max) as usize);
        let (piece, more) = rest.split_at(size);
        pieces.push(piece);
        rest = more;
    }
    pieces
}
