//! Whether a server answers: one conversation over a socket that blocks. Knows no protocol.

use crate::conversation::Conversation;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How long one attempt may take: a server that just started may first have to elect itself.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);

/// Waits this long or a little less.
pub(super) fn pause(time: Duration) {
    thread::park_timeout(time);
}

/// Whether somebody listens there.
///
/// # Errors
/// When nobody does.
pub(super) fn listens(address: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&address, ATTEMPT_TIMEOUT).map(|_| ())
}

/// Has the conversation until its first request is answered.
///
/// # Errors
/// When nobody listens, an answer refuses, or the server stays silent.
pub(super) fn speak(address: SocketAddr, mut talk: Box<dyn Conversation>) -> io::Result<()> {
    let deadline = Instant::now() + ATTEMPT_TIMEOUT;
    let mut stream = TcpStream::connect_timeout(&address, ATTEMPT_TIMEOUT)?;
    stream.set_read_timeout(Some(ATTEMPT_TIMEOUT))?;
    let (mut out, mut received, mut piece) = (Vec::new(), Vec::new(), [0; 4096]);
    loop {
        out.clear();
        talk.ask(&mut out);
        stream.write_all(&out)?;
        let answered = loop {
            if !received.is_empty()
                && let Some(answered) = talk.answer(&received)?
            {
                break answered;
            }
            match stream.read(&mut piece)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                size => received.extend_from_slice(&piece[..size]),
            }
            if Instant::now() >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
        };
        received.drain(..answered.used);
        if answered.is_request || answered.is_dry {
            return Ok(());
        }
    }
}
