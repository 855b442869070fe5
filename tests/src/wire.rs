//! What those share who are hard on the real program: a connection of bytes, an ordinary client, and the
//! look at a server's health after each ordeal. All panic where the server does not do its part.

use crate::binary::{Binary, DEADLINE};
use crate::client::{Reply, Request};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Who asks.
pub const CLIENT_ID: &str = "8d3a6d1e-4c5f-4f7e-9c57-0f5b2f0d2a11";
/// A post of one message.
pub const MESSAGE: &str = r#"[{"ttl": 300, "body": {"n": 1}}]"#;

/// A connection on which a test sends what it likes.
#[derive(Debug)]
pub struct Wire(pub TcpStream);

impl Wire {
    /// Connects.
    pub fn to(address: SocketAddr) -> Wire {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.set_nodelay(true).expect("no delay");
        Wire(stream)
    }

    /// Sends all of it; whether the server still took it.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// What the server says until it hangs up. A reset is an end as well.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        if let Err(cause) = self.0.read_to_end(&mut bytes) {
            let is_late = matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!is_late, "the server does not hang up; so far {}", shown(&bytes));
        }
        shown(&bytes)
    }

    /// What the server says up to `end`.
    pub fn read_to(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(end.as_bytes()) {
            let read = self.0.read_exact(&mut byte);
            read.unwrap_or_else(|cause| panic!("{cause} after {}", shown(&bytes)));
            bytes.push(byte[0]);
        }
        shown(&bytes)
    }

    /// Whether the server has hung up, without waiting.
    pub fn is_closed(&mut self) -> bool {
        self.0.set_nonblocking(true).expect("a socket");
        let mut waste = [0; 1024];
        let closed = loop {
            match self.0.read(&mut waste) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(cause) => break cause.kind() != ErrorKind::WouldBlock,
            }
        };
        self.0.set_nonblocking(false).expect("a socket");
        closed
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A request of a well-behaved client.
pub fn request(method: &str, target: &str) -> Request {
    Request::new(method, target).header("Client-ID", CLIENT_ID).header("X-Project-Id", "p1")
}

/// Sends it, and expects an answer.
pub fn ask(server: &Binary, request: Request) -> Reply {
    request.send(server.address).unwrap_or_else(|cause| panic!("{cause:#}\n{request}"))
}

/// The head and the beginning of a post of `size` bytes.
pub fn head_of_post(queue: &str, size: usize) -> String {
    format!(
        "POST /v1/queues/{queue}/messages HTTP/1.1\r\nHost: x\r\nClient-ID: {CLIENT_ID}\r\n\
         X-Project-Id: p1\r\nContent-Length: {size}\r\n\r\n"
    )
}

/// Makes a queue, unless it is there.
pub fn make_queue(server: &Binary, queue: &str) {
    let reply = ask(server, request("PUT", &format!("/v1/queues/{queue}")));
    assert!(matches!(reply.status, 201 | 204), "{reply}");
}

/// Posts a document.
pub fn post(server: &Binary, queue: &str, body: &str) -> Reply {
    ask(server, request("POST", &format!("/v1/queues/{queue}/messages")).body(body))
}

/// Claims up to `limit` messages and deletes them under the claim; how many there were.
pub fn claim_and_delete(server: &Binary, queue: &str, limit: usize) -> usize {
    let target = format!("/v1/queues/{queue}/claims?limit={limit}");
    let claim = ask(server, request("POST", &target).body(r#"{"ttl": 60, "grace": 60}"#));
    if claim.status == 204 {
        return 0;
    }
    assert_eq!(claim.status, 201, "{claim}");
    let messages: serde_json::Value = serde_json::from_slice(&claim.body).expect("JSON");
    let messages = messages.as_array().expect("an array");
    for message in messages {
        let reply = ask(server, request("DELETE", message["href"].as_str().expect("a link")));
        assert_eq!(reply.status, 204, "{reply}");
    }
    messages.len()
}

/// A post, a claim and a delete, which take their course.
pub fn work(server: &Binary, queue: &str) {
    let posted = post(server, queue, MESSAGE);
    assert_eq!(posted.status, 201, "{posted}");
    assert_eq!(claim_and_delete(server, queue, 1), 1);
}

/// The server is as well as it was: it works, and nothing in it panicked.
pub fn assert_well(server: &Binary) {
    make_queue(server, "well");
    work(server, "well");
    assert_eq!(server.metric("marconi_connections_panicked_total"), 0);
    assert!(!server.log().contains("panicked"), "{}", server.log());
    let health = server.admin("GET", "/health");
    assert!(health.to_string().contains(r#""state":"up""#), "{health}");
}
