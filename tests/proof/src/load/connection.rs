//! A connection that stays open over many requests, as clients under load have it. Tells an answer from a
//! connection that broke before it was whole. Knows nothing of queues.

use anyhow::{Context, bail};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take before the server counts as stuck.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

/// An answer that came whole.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// Names and values, in order.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, as text: ours are JSON.
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header, if it was sent.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl Connection {
    /// Connects; `None` when nobody listens any more.
    pub(crate) fn open(server: SocketAddr) -> Option<Connection> {
        let stream = TcpStream::connect(server).ok()?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Connection { stream: BufReader::new(stream), host: server })
    }

    /// Sends a request and waits for its answer; `None` when the connection broke before that was whole.
    ///
    /// # Errors
    /// When no answer comes for half a minute, and when what comes is not HTTP.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> anyhow::Result<Option<Answer>> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        if self.stream.get_mut().write_all(request.as_bytes()).is_err() {
            return Ok(None);
        }
        let shown = || format!("the answer to {method} {target}");
        match self.read_answer() {
            Ok(answer) => Ok(answer),
            Err(cause) => match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    Err(cause.context("nothing came for 30 s")).with_context(shown)
                }
                Some(_) => Ok(None),
                None => Err(cause).with_context(shown),
            },
        }
    }

    /// Reads one; `None` where the stream ends within it, or before.
    fn read_answer(&mut self) -> anyhow::Result<Option<Answer>> {
        let Some(status_line) = self.read_line()? else { return Ok(None) };
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .with_context(|| format!("not a status line: {status_line:?}"))?;
        let mut headers = Vec::new();
        loop {
            let Some(line) = self.read_line()? else { return Ok(None) };
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header has no colon")?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: String::new() };
        let size = match answer.header("Content-Length") {
            Some(size) => size.parse().context("Content-Length is no number")?,
            None if matches!(status, 204 | 304) => 0,
            None => bail!("an answer {status} without a length"),
        };
        let mut body = vec![0; size];
        self.stream.read_exact(&mut body)?;
        answer.body = String::from_utf8(body).context("the body is not text")?;
        Ok(Some(answer))
    }

    /// A line without its end; `None` where the stream ends within it.
    fn read_line(&mut self) -> anyhow::Result<Option<String>> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.strip_suffix("\r\n").map(str::to_owned))
    }
}
