//! Requests as bytes, and connections that send several at once, or slowly, and read the answers. Knows the paths of
//! the API; knows neither what is asked next nor what an answer means.

use super::answer;
use super::operation::{Call, Key, Position};
use anyhow::{Context, bail};
use marconi_engine::{ClaimId, Lsn, Marker, MessageId, QueueId, Seq};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// How long an answer may take before the server counts as stuck.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// Between two pieces of what is sent or read slowly.
const SLOW_PAUSE: Duration = Duration::from_micros(30);
/// Bytes in such a piece, at most.
const SLOW_PIECE_SIZE: usize = 24;

/// How a client treats its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Usual,
    /// Sends its requests in pieces.
    Drips,
    /// Reads the answers in pieces.
    Sips,
}

/// Adds a request to what is to be sent. `ask` is a durability to ask for.
pub(crate) fn write(
    out: &mut Vec<u8>,
    client: usize,
    queue: usize,
    call: &Call,
    ask: Option<&str>,
) {
    let mut body = String::new();
    let (method, path) = match call {
        Call::Post { first, count, ttl_s } => {
            for place in 0..*count {
                let sign = if place == 0 { '[' } else { ',' };
                let text = answer::body(Key(first.0 + place));
                let _ = write!(body, "{sign}{{\"ttl\":{ttl_s},\"body\":{text}}}");
            }
            body.push(']');
            ("POST", "/messages".to_owned())
        }
        Call::List { after, limit, echo, with_claimed } => {
            let mut path =
                format!("/messages?limit={limit}&echo={echo}&include_claimed={with_claimed}");
            if let Some(Position { queue, seq }) = after {
                let marker = Marker { queue: QueueId(*queue), seq: Seq(*seq) };
                let _ = write!(path, "&marker={marker}");
            }
            ("GET", path)
        }
        Call::Get { message } => ("GET", format!("/messages/{}", id(*message))),
        Call::Delete { message, claim: None } => ("DELETE", format!("/messages/{}", id(*message))),
        Call::Delete { message, claim: Some(claim) } => {
            let claim = ClaimId(Lsn(*claim));
            ("DELETE", format!("/messages/{}?claim_id={claim}", id(*message)))
        }
        Call::DeleteMany { messages } => {
            let ids: Vec<String> = messages.iter().map(|message| id(*message)).collect();
            ("DELETE", format!("/messages?ids={}", ids.join(",")))
        }
        Call::Claim { ttl_s, grace_s, limit } => {
            body = format!("{{\"ttl\":{ttl_s},\"grace\":{grace_s}}}");
            ("POST", format!("/claims?limit={limit}"))
        }
        Call::ClaimGet { claim } => ("GET", claim_path(*claim)),
        Call::Renew { claim, ttl_s, grace_s } => {
            body = format!("{{\"ttl\":{ttl_s},\"grace\":{grace_s}}}");
            ("PATCH", claim_path(*claim))
        }
        Call::Release { claim } => ("DELETE", claim_path(*claim)),
        Call::Stats => ("GET", "/stats".to_owned()),
        Call::Create => ("PUT", String::new()),
        Call::Remove => ("DELETE", String::new()),
        Call::SetMetadata { value } => {
            body = format!("{{\"value\":{value}}}");
            ("PUT", "/metadata".to_owned())
        }
        Call::GetMetadata => ("GET", "/metadata".to_owned()),
    };
    let mut head = format!(
        "{method} /v1/queues/q{queue}{path} HTTP/1.1\r\nHost: h\r\n\
         Client-ID: 00000000-0000-0000-0000-{client:012}\r\n"
    );
    if let Some(ask) = ask {
        let _ = write!(head, "Marconi-Durability: {ask}\r\n");
    }
    if !body.is_empty() {
        let _ = write!(head, "Content-Length: {}\r\n", body.len());
    }
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body.as_bytes());
}

fn id(Position { queue, seq }: Position) -> String {
    MessageId { queue: QueueId(queue), seq: Seq(seq) }.to_string()
}

fn claim_path(claim: u64) -> String {
    format!("/claims/{}", ClaimId(Lsn(claim)))
}

/// An answer, as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    manner: Manner,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr, manner: Manner) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(address).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        Ok(Connection { stream, buffer: Vec::new(), manner })
    }

    /// Sends requests.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.manner != Manner::Drips {
            return self.stream.write_all(bytes).context("send");
        }
        for piece in bytes.chunks(SLOW_PIECE_SIZE) {
            self.stream.write_all(piece).context("send a piece")?;
            thread::park_timeout(SLOW_PAUSE);
        }
        Ok(())
    }

    /// Waits for the next answer.
    pub(crate) fn receive(&mut self) -> anyhow::Result<Reply> {
        loop {
            if let Some((reply, size)) = parse(&self.buffer)? {
                self.buffer.drain(..size);
                return Ok(reply);
            }
            let mut piece = [0; 32 << 10];
            let mut size_max = piece.len();
            if self.manner == Manner::Sips {
                thread::park_timeout(SLOW_PAUSE);
                size_max = SLOW_PIECE_SIZE;
            }
            match self.stream.read(&mut piece[..size_max]).context("read an answer")? {
                0 => bail!("the server hung up"),
                size => self.buffer.extend_from_slice(&piece[..size]),
            }
        }
    }
}

/// The first answer of these bytes and its size; `None` while it is not whole.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<(Reply, usize)>> {
    let Some(head_size) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..head_size]).context("a head that is no text")?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.with_context(|| format!("not a status line: {first}"))?;
    let (mut location, mut body_size) = (None, 0);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            body_size = value.trim().parse().context("Content-Length")?;
        } else if name.eq_ignore_ascii_case("location") {
            location = Some(value.trim().to_owned());
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("an answer in chunks, where a length was promised");
        }
    }
    let body_start = head_size + 4;
    let Some(body) = bytes.get(body_start..body_start + body_size) else { return Ok(None) };
    let reply = Reply { status, location, body: body.to_vec() };
    Ok(Some((reply, body_start + body_size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_in_one_piece_and_waited_for_in_two() {
        let bytes = b"HTTP/1.1 201 Created\r\nlocation: /x\r\ncontent-length: 2\r\n\r\n[]HTTP/1.1 204 N\r\n\r\n";
        let (reply, size) = parse(bytes).expect("an answer").expect("whole");
        let expected = Reply { status: 201, location: Some("/x".into()), body: b"[]".to_vec() };
        assert_eq!(reply, expected);
        let (reply, _) = parse(&bytes[size..]).expect("an answer").expect("whole");
        assert_eq!((reply.status, reply.body.len()), (204, 0));
        assert_eq!(parse(&bytes[..size - 1]).expect("may go on"), None);
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }
}
