//! One HTTP/1.1 connection, one request at a time, as cheap as it goes: the client must not be what
//! is measured. Knows heads and lengths; knows nothing of queues.

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the head of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status.
    pub(crate) status: u16,
    /// Bytes of the head, its empty line included.
    pub(crate) head_size: usize,
    /// Bytes of the body.
    pub(crate) body_size: usize,
    /// Whether the server closes the connection behind it.
    pub(crate) closes: bool,
}

/// An answer. Its bytes lie in the connection's buffer until the next request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    /// The status.
    pub(crate) status: u16,
    /// The head as it came.
    pub(crate) head: &'a [u8],
    /// The body.
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// The value of a header; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        lines(self.head).skip(1).find_map(|line| value(line, name))
    }

    /// The answer in a line, for people.
    pub(crate) fn summary(&self) -> String {
        let text = String::from_utf8_lossy(self.body);
        let short: String = text.chars().take(200).collect();
        format!("status {} {short}", self.status)
    }
}

fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn value<'a>(line: &'a [u8], name: &str) -> Option<&'a str> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let is_it = found.eq_ignore_ascii_case(name.as_bytes()) && rest.first() == Some(&b':');
    let text = std::str::from_utf8(rest.get(1..)?).ok()?;
    is_it.then(|| text.trim())
}

/// The largest head that is read.
const HEAD_SIZE_MAX: usize = 64 << 10;

/// Reads a head at the beginning of `bytes`; `None` while it is not whole.
///
/// # Errors
/// When this is no answer of HTTP/1.1, or one whose end cannot be told from its length.
pub(crate) fn parse_head(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        if bytes.len() > HEAD_SIZE_MAX {
            bail!("the head of an answer is longer than {HEAD_SIZE_MAX} bytes");
        }
        return Ok(None);
    };
    let head_size = end + 4;
    let status = bytes
        .strip_prefix(b"HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .context("the answer does not begin with `HTTP/1.1` and a status")?;
    let (mut body_size, mut closes) = (None, bytes.starts_with(b"HTTP/1.0"));
    for line in lines(&bytes[..head_size]).skip(1) {
        if let Some(length) = value(line, "content-length") {
            body_size = Some(length.parse().context("the answer's Content-Length is no number")?);
        } else if value(line, "transfer-encoding").is_some() {
            bail!("the answer comes in chunks; only answers with a Content-Length are read");
        } else if value(line, "connection").is_some_and(|says| says.eq_ignore_ascii_case("close")) {
            closes = true;
        }
    }
    if body_size.is_none() && status != 204 && status != 304 && status >= 200 {
        bail!("the answer (status {status}) has no Content-Length");
    }
    Ok(Some(Head { status, head_size, body_size: body_size.unwrap_or(0), closes }))
}

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub(crate) async fn open(address: &str) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::with_capacity(16 << 10) })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks, or the answer cannot be read.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.stream.write_all(request).await.context("cannot send a request")?;
        self.buffer.clear();
        let head = loop {
            self.read().await?;
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
        };
        let size = head.head_size + head.body_size;
        self.buffer.reserve(size.saturating_sub(self.buffer.len()));
        while self.buffer.len() < size {
            self.read().await?;
        }
        if self.buffer.len() > size {
            bail!("the server sent more than its Content-Length says");
        }
        if head.closes {
            bail!("the server closes connections (answer of status {})", head.status);
        }
        let (head_bytes, body) = self.buffer.split_at(head.head_size);
        Ok(Answer { status: head.status, head: head_bytes, body })
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let count =
            self.stream.read_buf(&mut self.buffer).await.context("cannot read an answer")?;
        if count == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> anyhow::Result<Option<Head>> {
        parse_head(text.as_bytes())
    }

    #[test]
    fn heads_say_where_an_answer_ends() {
        let text = "HTTP/1.1 201 Created\r\nContent-LENGTH:  12\r\nlocation: /x\r\n\r\n{\"res";
        let expected =
            Head { status: 201, head_size: text.len() - 5, body_size: 12, closes: false };
        assert_eq!(head(text).expect("is one"), Some(expected));
        let none = head("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").expect("is one");
        let none = none.expect("is whole");
        assert_eq!((none.status, none.body_size, none.closes), (204, 0, true));
        for end in 0..40 {
            assert_eq!(head(&text[..end]).expect("may go on"), None, "{end}");
        }
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        for (text, word) in [
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "chunks"),
            ("HTTP/1.1 200 OK\r\n\r\n", "no Content-Length"),
            ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "no number"),
            ("SSH-2.0-x\r\n\r\n", "HTTP/1.1"),
        ] {
            let error = head(text).expect_err(text).to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn headers_are_found_in_any_spelling() {
        let head = b"HTTP/1.1 201 Created\r\nMarconi-Durability: os\r\nx: y\r\n\r\n";
        let answer = Answer { status: 201, head, body: b"" };
        assert_eq!(answer.header("marconi-durability"), Some("os"));
        assert_eq!(answer.header("marconi"), None);
    }
}
