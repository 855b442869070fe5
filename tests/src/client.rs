//! A bare HTTP/1.1 client: it sends exactly the bytes it is told to, waits for the answer on a
//! connection of its own, and can show both. It adds no header but `Host` and `Connection`, so that
//! a test decides about every other one. Knows nothing of queues.

use anyhow::{Context, bail};
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take before the server counts as stuck.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// How much of a body is shown.
const SHOWN_BODY_SIZE_MAX: usize = 600;

/// A request, as it will stand on the wire.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method, in the letters to be sent.
    pub method: String,
    /// The target, as it is to be sent: nothing is encoded here.
    pub target: String,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
    /// The bytes after the head.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: &str, target: &str) -> Request {
        Request {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a body and its length.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        let size = self.body.len().to_string();
        self.header("Content-Length", &size)
    }

    /// Adds a body in chunks of `chunk_size` bytes, whose length only its end tells.
    pub fn chunked_body(mut self, body: &[u8], chunk_size: usize) -> Request {
        self.body.clear();
        for chunk in body.chunks(chunk_size) {
            self.body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            self.body.extend_from_slice(chunk);
            self.body.extend_from_slice(b"\r\n");
        }
        self.body.extend_from_slice(b"0\r\n\r\n");
        self.header("Transfer-Encoding", "chunked")
    }

    fn to_bytes(&self, host: SocketAddr) -> Vec<u8> {
        let mut bytes =
            format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"Connection: close\r\n\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Sends it to `server` and waits for the answer.
    pub fn send(&self, server: SocketAddr) -> anyhow::Result<Reply> {
        let mut stream = TcpStream::connect(server).context("connect")?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE)).context("set the deadline")?;
        stream.set_nodelay(true).context("set no delay")?;
        // A server may answer and hang up before it has read everything; its answer is what counts.
        let sent = stream.write_all(&self.to_bytes(server));
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Err(cause) if bytes.is_empty() => return Err(cause).context("read the answer"),
            _ => {}
        }
        if bytes.is_empty() {
            sent.context("send the request")?;
            bail!("the server hung up without an answer");
        }
        Reply::parse(&bytes, self.method == "HEAD")
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.method, Shown(self.target.as_bytes()))?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", Shown(value.as_bytes()))?;
        }
        write!(f, "{}", Shown(&self.body))
    }
}

/// An answer, as it stood on the wire, its transfer coding undone.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    fn parse(bytes: &[u8], is_to_head: bool) -> anyhow::Result<Reply> {
        match Reply::first(bytes, is_to_head)? {
            Some((reply, size)) if size == bytes.len() => Ok(reply),
            Some((_, size)) => bail!("{} bytes behind the answer", bytes.len() - size),
            None => bail!("the answer is cut short: {}", Shown(bytes)),
        }
    }

    /// The first of the answers that these bytes hold, and its size; `None` where it is not whole.
    ///
    /// # Errors
    /// When it is no HTTP.
    pub fn first(bytes: &[u8], is_to_head: bool) -> anyhow::Result<Option<(Reply, usize)>> {
        let Some(head_size) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&bytes[..head_size]).context("the head is not text")?;
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            // Who asks in the older version is answered in it.
            .or_else(|| status_line.strip_prefix("HTTP/1.0 "))
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .with_context(|| format!("not a status line: {status_line}"))?;
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').context("a header has no colon")?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut reply = Reply { status, headers, body: Vec::new() };
        let rest = &bytes[head_size + 4..];
        let has_body = !is_to_head && !matches!(status, 100..200 | 204 | 304);
        let body_size = if !has_body {
            0
        } else if reply.header("Transfer-Encoding") == Some("chunked") {
            let Some((body, size)) = join_chunks(rest)? else { return Ok(None) };
            reply.body = body;
            size
        } else {
            let size = reply.header("Content-Length").unwrap_or("0");
            let size: usize = size.parse().context("Content-Length is no number")?;
            let Some(body) = rest.get(..size) else { return Ok(None) };
            reply.body = body.to_vec();
            size
        };
        Ok(Some((reply, head_size + 4 + body_size)))
    }

    /// The value of a header, if it was sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", Shown(value.as_bytes()))?;
        }
        write!(f, "{}", Shown(&self.body))
    }
}

/// Bytes, as far as they are worth showing.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN_BODY_SIZE_MAX)];
        f.write_str(&String::from_utf8_lossy(shown))?;
        if shown.len() < self.0.len() {
            write!(f, "... ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The body that lies there in chunks, and what it takes with them; `None` where it is not whole.
fn join_chunks(bytes: &[u8]) -> anyhow::Result<Option<(Vec<u8>, usize)>> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line_size) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = &bytes[at..at + line_size];
        let line = std::str::from_utf8(line).context("a chunk size is not text")?;
        let size = usize::from_str_radix(line.trim(), 16).context("a chunk size is no number")?;
        let start = at + line_size + 2;
        let Some(chunk) = bytes.get(start..).and_then(|rest| rest.get(..size + 2)) else {
            return Ok(None);
        };
        if !chunk.ends_with(b"\r\n") {
            bail!("a chunk has no end");
        }
        at = start + size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_and_half_ones_noticed() {
        let bytes =
            b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                      2\r\nab\r\n0\r\n\r\nHTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nxyz";
        let mut rest = &bytes[..];
        for (status, body) in [(204, ""), (200, "ab"), (404, "xyz")] {
            let (reply, size) = Reply::first(rest, false).expect("HTTP").expect("whole");
            assert_eq!((reply.status, reply.body), (status, body.as_bytes().to_vec()));
            for cut in 0..size {
                assert!(Reply::first(&rest[..cut], false).expect("HTTP").is_none(), "{cut}");
            }
            rest = &rest[size..];
        }
        assert!(rest.is_empty());
        for wrong in ["HTTP/2 200\r\n\r\n", "HTTP/1.1 200 OK\r\nno header\r\n\r\n"] {
            Reply::first(wrong.as_bytes(), false).expect_err(wrong);
        }
    }
}
