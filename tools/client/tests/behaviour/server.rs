//! A server of one script: it answers the requests it gets, one after the other over all its
//! connections, as it was told to, and remembers what it was asked. Knows no queues.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What is done with a request.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// It is answered: status, further headers (each with its line's end), body.
    Reply(u16, &'static str, String),
    /// The connection is closed once it was read.
    HangUp,
    /// The answer breaks off in its body.
    Break,
    /// No answer ever comes.
    Silence,
}

/// A reply without further headers.
pub(crate) fn reply(status: u16, body: &str) -> Step {
    Step::Reply(status, "", body.to_owned())
}

/// What the server was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

#[derive(Debug, Default)]
struct Seen {
    steps: std::collections::VecDeque<Step>,
    asked: Vec<Asked>,
    connection_count: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    /// A server that does these steps, and after them answers 500.
    pub(crate) async fn start(steps: impl IntoIterator<Item = Step>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let seen = Seen { steps: steps.into_iter().collect(), ..Seen::default() };
        let server = Server { address, seen: Arc::new(Mutex::new(seen)) };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.seen.lock().expect("no test panicked").connection_count += 1;
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        server
    }

    pub(crate) fn builder(&self) -> marconi_client::Builder {
        marconi_client::Client::builder(format!("http://{}", self.address))
    }

    pub(crate) fn client(&self) -> marconi_client::Client {
        self.builder().build().expect("the address is good")
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.seen.lock().expect("no test panicked").asked.clone()
    }

    /// The request lines, without the protocol.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.seen.lock().expect("no test panicked").connection_count
    }

    /// Until the peer is gone.
    async fn serve(self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let asked = read(&mut stream).await?;
            let step = {
                let mut seen = self.seen.lock().expect("no test panicked");
                seen.asked.push(asked);
                seen.steps.pop_front().unwrap_or_else(|| reply(500, "the script is over"))
            };
            let answer = match step {
                Step::HangUp => return None,
                Step::Break => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"a".to_owned(),
                Step::Silence => return std::future::pending().await,
                Step::Reply(204, headers, _) => {
                    format!("HTTP/1.1 204 No Content\r\n{headers}\r\n")
                }
                Step::Reply(status, headers, body) => {
                    let size = body.len();
                    format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {size}\r\n\r\n{body}")
                }
            };
            stream.write_all(answer.as_bytes()).await.ok()?;
            if answer.ends_with("{\"a") {
                return None;
            }
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let head = head.to_lowercase_names();
    let size = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; size.map_or(0, |size| size.parse().expect("a size"))];
    stream.read_exact(&mut body).await.ok()?;
    let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    Some(Asked { line, head, body: String::from_utf8(body).expect("JSON is text") })
}

trait Names {
    fn to_lowercase_names(&self) -> String;
}

impl Names for String {
    /// A head whose header names are in small letters.
    fn to_lowercase_names(&self) -> String {
        let lines = self.lines().enumerate().map(|(index, line)| match line.split_once(':') {
            Some((name, value)) if index > 0 => format!("{}:{value}\n", name.to_lowercase()),
            _ => format!("{line}\n"),
        });
        lines.collect()
    }
}
