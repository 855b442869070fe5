//! Conversations with a server of the queue API, version 1, and with a bare HTTP server. They read the
//! status, the length and the links of an answer, and nothing else.

use crate::conversation::{Answered, Conversation};
use memchr::memmem;
use std::io::{self, Write};

/// Who posts and lists.
const CLIENT: &str = "3381af92-2b9e-11e3-b191-71861300734c";
/// Names of the queues of a cell: this and a number.
const QUEUE: &str = "q";

/// Where the answer at the beginning of `received` has its body and its end, and its status.
pub(crate) fn whole(received: &[u8]) -> io::Result<Option<(u16, usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 24];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(received).map_err(io::Error::other)?;
    let httparse::Status::Complete(body) = parsed else { return Ok(None) };
    let mut length = 0;
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let digits = std::str::from_utf8(header.value).ok();
            length = digits
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| io::Error::other("a length that is no number"))?;
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(io::Error::other("an answer without a length"));
        }
    }
    let end = body + length;
    Ok((received.len() >= end).then_some((head.code.unwrap_or(0), body, end)))
}

fn refused(what: &str, status: u16, answer: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(&answer[..answer.len().min(400)]);
    io::Error::other(format!("{what}: status {status}: {text}"))
}

fn answered(used: usize, messages: u32) -> Answered {
    Answered { used, messages, is_request: true, is_dry: false }
}

/// A post of `count` messages with a body of `size` bytes each to a queue, or to any path.
fn post_to(path: &str, count: usize, size: usize) -> Vec<u8> {
    // The quotes are part of the body.
    let message = format!("{{\"ttl\":3600,\"body\":\"{}\"}}", "x".repeat(size.saturating_sub(2)));
    let body = format!("[{}]", vec![message; count].join(","));
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nclient-id: {CLIENT}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The request that makes a queue, and one that asks whether the server serves.
pub(crate) fn make_queue(number: u64) -> String {
    format!("PUT /v1/queues/{QUEUE}{number} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
}

/// The request that removes a queue.
pub(crate) fn remove_queue(number: u64) -> String {
    format!("DELETE /v1/queues/{QUEUE}{number} HTTP/1.1\r\nhost: x\r\n\r\n")
}

/// The request for the first page of twenty.
pub(crate) fn first_page(number: u64) -> String {
    format!(
        "GET /v1/queues/{QUEUE}{number}/messages?limit=20&echo=true HTTP/1.1\r\nhost: x\r\nclient-id: {CLIENT}\r\n\r\n"
    )
}

/// The same request again and again; only the status is looked at.
pub(crate) struct Same {
    request: Vec<u8>,
    status: u16,
    messages: u32,
    /// How often; `None` without end.
    left: Option<u64>,
}

impl Same {
    /// Posts of `count` messages of `size` bytes to queue `number`.
    pub(crate) fn post(number: u64, count: usize, size: usize) -> Same {
        let request = post_to(&format!("/v1/queues/{QUEUE}{number}/messages"), count, size);
        Same { request, status: 201, messages: count as u32, left: None }
    }

    /// Posts of a message of 1 KiB to a server that looks at nothing.
    pub(crate) fn bare_post() -> Same {
        Same { request: post_to("/", 1, 1024), status: 201, messages: 1, left: None }
    }

    /// GETs of whatever a server that looks at nothing has.
    pub(crate) fn bare_get() -> Same {
        let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
        Same { request, status: 200, messages: 1, left: None }
    }

    /// Only so often.
    pub(crate) fn times(mut self, times: u64) -> Same {
        self.left = Some(times);
        self
    }
}

impl Conversation for Same {
    fn ask(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
    }

    fn answer(&mut self, received: &[u8]) -> io::Result<Option<Answered>> {
        let Some((status, _, end)) = whole(received)? else { return Ok(None) };
        if status != self.status {
            return Err(refused("post", status, received));
        }
        let mut answered = answered(end, self.messages);
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
            answered.is_dry = *left == 0;
        }
        Ok(Some(answered))
    }
}

/// Posts of one message, each to a queue chosen at random out of many.
pub(crate) struct Spread {
    queues: u64,
    rest: Vec<u8>,
    random: u64,
}

impl Spread {
    /// Over queues 0 to `queues`, with bodies of `size` bytes.
    pub(crate) fn new(queues: u64, size: usize, connection: usize) -> Spread {
        let request = post_to("", 1, size);
        let rest = request["POST ".len()..].to_vec();
        Spread { queues, rest, random: 0x9E37_79B9_7F4A_7C15 ^ (connection as u64 + 1) }
    }
}

impl Conversation for Spread {
    fn ask(&mut self, out: &mut Vec<u8>) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let number = self.random % self.queues;
        write!(out, "POST /v1/queues/{QUEUE}{number}/messages").expect("memory takes all");
        out.extend_from_slice(&self.rest);
    }

    fn answer(&mut self, received: &[u8]) -> io::Result<Option<Answered>> {
        match whole(received)? {
            None => Ok(None),
            Some((201, _, end)) => Ok(Some(answered(end, 1))),
            Some((status, ..)) => Err(refused("post", status, received)),
        }
    }
}

/// Makes queues, one after the other.
pub(crate) struct Make {
    next: u64,
    end: u64,
    step: u64,
}

impl Make {
    /// Every `step`th queue from `first` on, below `end`.
    pub(crate) fn new(first: u64, end: u64, step: u64) -> Make {
        Make { next: first, end, step }
    }
}

impl Conversation for Make {
    fn ask(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(make_queue(self.next).as_bytes());
        self.next += self.step;
    }

    fn answer(&mut self, received: &[u8]) -> io::Result<Option<Answered>> {
        let Some((status, _, end)) = whole(received)? else { return Ok(None) };
        if status != 201 && status != 204 {
            return Err(refused("make a queue", status, received));
        }
        Ok(Some(Answered { is_dry: self.next >= self.end, ..answered(end, 1) }))
    }
}

/// Claims, and deletes each claimed message by its link. What counts are the deleted ones.
pub(crate) struct Take {
    claim: Vec<u8>,
    links: Links,
    /// Posts as many before each claim, so that the queue stays as deep as it was.
    refill: Option<Vec<u8>>,
    is_refilled: bool,
}

impl Take {
    /// Claims up to `limit` of queue `number`.
    pub(crate) fn new(number: u64, limit: usize) -> Take {
        let body = "{\"ttl\":300,\"grace\":60}";
        let claim = format!(
            "POST /v1/queues/{QUEUE}{number}/claims?limit={limit} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Take {
            claim: claim.into_bytes(),
            links: Links::default(),
            refill: None,
            is_refilled: false,
        }
    }

    /// With a post of as many messages of `size` bytes before each claim.
    pub(crate) fn with_refill(number: u64, limit: usize, size: usize) -> Take {
        let post = post_to(&format!("/v1/queues/{QUEUE}{number}/messages"), limit, size);
        Take { refill: Some(post), ..Take::new(number, limit) }
    }
}

impl Conversation for Take {
    fn ask(&mut self, out: &mut Vec<u8>) {
        if let Some(link) = self.links.next() {
            out.extend_from_slice(b"DELETE ");
            out.extend_from_slice(link);
            out.extend_from_slice(b" HTTP/1.1\r\nhost: x\r\n\r\n");
        } else if let (Some(post), false) = (&self.refill, self.is_refilled) {
            out.extend_from_slice(post);
        } else {
            out.extend_from_slice(&self.claim);
        }
    }

    fn answer(&mut self, received: &[u8]) -> io::Result<Option<Answered>> {
        let Some((status, body, end)) = whole(received)? else { return Ok(None) };
        if self.links.is_busy {
            self.links.is_busy = false;
            return match status {
                204 => Ok(Some(answered(end, 1))),
                _ => Err(refused("delete", status, received)),
            };
        }
        if self.refill.is_some() && !self.is_refilled {
            self.is_refilled = true;
            return match status {
                201 => Ok(Some(answered(end, 0))),
                _ => Err(refused("post", status, received)),
            };
        }
        self.is_refilled = false;
        match status {
            201 => {
                let is_empty = self.links.fill(&received[body..end]) == 0;
                Ok(Some(Answered { is_dry: is_empty, ..answered(end, 0) }))
            }
            204 => Ok(Some(Answered { is_dry: self.refill.is_none(), ..answered(end, 0) })),
            _ => Err(refused("claim", status, received)),
        }
    }
}

/// Links out of an answer, kept in one buffer.
#[derive(Default)]
struct Links {
    text: Vec<u8>,
    ends: Vec<usize>,
    at: usize,
    /// One was handed out and not answered yet.
    is_busy: bool,
}

impl Links {
    /// How many there are.
    fn fill(&mut self, body: &[u8]) -> usize {
        self.text.clear();
        self.ends.clear();
        self.at = 0;
        let mut rest = body;
        while let Some(link) = next_link(&mut rest) {
            self.text.extend_from_slice(link);
            self.ends.push(self.text.len());
        }
        self.ends.len()
    }

    fn next(&mut self) -> Option<&[u8]> {
        let end = *self.ends.get(self.at)?;
        let start = self.at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.at += 1;
        self.is_busy = true;
        Some(&self.text[start..end])
    }
}

/// The next value of `"href"`; `rest` goes on behind it.
fn next_link<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let behind = &rest[memmem::find(rest, b"\"href\"")? + 6..];
    let value = &behind[memchr::memchr(b'"', behind)? + 1..];
    let size = memchr::memchr(b'"', value)?;
    *rest = &value[size..];
    Some(&value[..size])
}

/// Reads a queue page by page, and from the beginning again after the last. What counts are pages.
pub(crate) struct List {
    first: Vec<u8>,
    next: Vec<u8>,
}

impl List {
    /// Of queue `number`, twenty a page.
    pub(crate) fn new(number: u64) -> List {
        List { first: first_page(number).into_bytes(), next: Vec::new() }
    }
}

impl Conversation for List {
    fn ask(&mut self, out: &mut Vec<u8>) {
        if self.next.is_empty() {
            out.extend_from_slice(&self.first);
        } else {
            out.extend_from_slice(b"GET ");
            out.extend_from_slice(&self.next);
            write!(out, " HTTP/1.1\r\nhost: x\r\nclient-id: {CLIENT}\r\n\r\n")
                .expect("memory takes all");
        }
    }

    fn answer(&mut self, received: &[u8]) -> io::Result<Option<Answered>> {
        let Some((status, body, end)) = whole(received)? else { return Ok(None) };
        self.next.clear();
        match status {
            200 => {
                // The link to the next page is the last one.
                let page = &received[body..end];
                if let Some(at) = memmem::rfind(page, b"\"href\"")
                    && let Some(link) = next_link(&mut &page[at..])
                    && memmem::find(link, b"marker=").is_some()
                {
                    self.next.extend_from_slice(link);
                }
                Ok(Some(answered(end, 1)))
            }
            // Behind the last page; that is no page.
            204 => Ok(Some(Answered { is_request: false, ..answered(end, 0) })),
            _ => Err(refused("list", status, received)),
        }
    }
}
