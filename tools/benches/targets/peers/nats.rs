//! NATS: a JetStream stream as a work queue, with one consumer that is asked for messages. Knows how the
//! server is started, and the protocol as far as this needs it.

use super::Server;
use super::process::{self, Processes, local};
use super::wire::{
    Fault, LEASE_S, Received, body, decimal, finished, greeted, received, refused, text_of, whole,
};
use crate::conversation::{Answered, Conversation, Work};
use rustix::process::Signal;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

const PROGRAM: &str = "nats-server";
/// Names another program than the one on the search path.
const VARIABLE: &str = "MARCONI_BENCH_NATS";
const STREAM: &str = "messages";
const SUBJECT: &str = "posted";
const CONSUMER: &str = "takers";
/// The first version whose setting `sync_interval` knows the word `always`.
const ALWAYS_SINCE: (u32, u32) = (2, 10);

/// One setting of it.
#[derive(Debug)]
pub(super) struct Nats {
    /// Whether each message is flushed before it is answered. By default that is done every two minutes.
    pub(super) is_flushed: bool,
}

impl Server for Nats {
    fn missing(&self) -> Option<String> {
        let Ok(program) = nats_program() else {
            return Some(format!("no {PROGRAM}: the package nats-server has it"));
        };
        if !self.is_flushed {
            return None;
        }
        let version = version(&program);
        if version.is_some_and(|version| version >= ALWAYS_SINCE) {
            return None;
        }
        let found = version.map_or_else(
            || "of no version that can be read".to_owned(),
            |(major, minor)| format!("{major}.{minor}"),
        );
        Some(format!(
            "{} is {found}, and sync_interval always needs 2.10: name a newer one in {VARIABLE}",
            program.display()
        ))
    }

    fn launch(&self, processes: &mut Processes<'_>) -> io::Result<SocketAddr> {
        let port = process::free_port()?;
        // A Rust string is quoted as one of this format for all paths but the strangest.
        let store = processes.folder().join("store");
        let interval = if self.is_flushed { "sync_interval: always" } else { "" };
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{\n  store_dir: {store:?}\n  {interval}\n}}\n"
        );
        let mut command = Command::new(nats_program()?);
        command.arg("-c").arg(processes.write("nats.conf", &text)?);
        processes.start(command, Signal::TERM)?;
        Ok(local(port))
    }

    fn conversation(&self, work: Work, connection: usize) -> Box<dyn Conversation> {
        let (role, post) = match work {
            Work::Post => ("post", Some(1)),
            Work::Fill { batch } => ("fill", Some(batch)),
            Work::Take { .. } => ("take", None),
        };
        let inbox = format!("_INBOX.{role}.{connection}");
        let (request, limit) = match work {
            Work::Take { limit } => {
                let next = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}");
                let want = format!("{{\"batch\":{limit},\"no_wait\":true}}");
                (publish(&next, &inbox, &want), limit)
            }
            Work::Post | Work::Fill { .. } => {
                let one = publish(SUBJECT, &inbox, &body());
                (one.repeat(post.unwrap_or(1)), 0)
            }
        };
        let step = Step::Connect;
        Box::new(Talk { step, inbox, request, post, limit, is_pinged: false, held: Vec::new() })
    }
}

fn nats_program() -> io::Result<PathBuf> {
    match std::env::var_os(VARIABLE) {
        Some(path) => super::found(path),
        None => super::found(PROGRAM),
    }
}

/// The first two numbers of its version.
fn version(program: &PathBuf) -> Option<(u32, u32)> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.trim().rsplit('v').next()?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Waits for what the server says first; it speaks before it is asked.
    Connect,
    /// Makes the stream; made again alike it stays as it is.
    Stream,
    /// Makes the consumer, likewise.
    Consumer,
    /// Posts, or asks for messages.
    Request,
    /// Acknowledges the last message held.
    Finish,
}

#[derive(Debug)]
struct Talk {
    step: Step,
    /// Where all answers to this connection go.
    inbox: String,
    request: String,
    /// Messages posted by one request; none where it takes.
    post: Option<usize>,
    /// Most messages taken by one request.
    limit: usize,
    /// Whether the server wants a sign of life.
    is_pinged: bool,
    /// Where to acknowledge what was received, the next one last.
    held: Vec<String>,
}

impl Conversation for Talk {
    fn ask(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.is_pinged) {
            out.extend_from_slice(b"PONG\r\n");
        }
        match self.step {
            Step::Connect => {
                let options = "{\"verbose\":false,\"pedantic\":false,\"headers\":true,\
                               \"no_responders\":true,\"lang\":\"rust\",\"version\":\"1\"}";
                let text = format!("CONNECT {options}\r\nSUB {} 1\r\nPING\r\n", self.inbox);
                out.extend_from_slice(text.as_bytes());
            }
            Step::Stream => {
                let config = format!(
                    "{{\"name\":\"{STREAM}\",\"subjects\":[\"{SUBJECT}\"],\"storage\":\"file\",\
                     \"retention\":\"workqueue\",\"num_replicas\":1}}"
                );
                let subject = format!("$JS.API.STREAM.CREATE.{STREAM}");
                out.extend_from_slice(publish(&subject, &self.inbox, &config).as_bytes());
            }
            Step::Consumer => {
                // Without bounds, so that no number of connections has to wait for another's.
                let lease_ns = LEASE_S * 1_000_000_000;
                let config = format!(
                    "{{\"stream_name\":\"{STREAM}\",\"config\":{{\"durable_name\":\"{CONSUMER}\",\
                     \"ack_policy\":\"explicit\",\"ack_wait\":{lease_ns},\
                     \"max_ack_pending\":-1,\"max_waiting\":1024}}}}"
                );
                let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.{CONSUMER}");
                out.extend_from_slice(publish(&subject, &self.inbox, &config).as_bytes());
            }
            Step::Request => out.extend_from_slice(self.request.as_bytes()),
            Step::Finish => {
                let reply = self.held.pop().expect("this step is for a message");
                out.extend_from_slice(publish(&reply, &self.inbox, "+ACK").as_bytes());
            }
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> io::Result<Option<Answered>> {
        whole(self.read(&mut Received::new(bytes)))
    }
}

impl Talk {
    fn read(&mut self, from: &mut Received<'_>) -> Result<Answered, Fault> {
        let (answered, next) = match self.step {
            Step::Connect => {
                while from.line()? != b"PONG" {}
                (greeted(from.used()), Step::Stream)
            }
            Step::Stream | Step::Consumer => {
                let message = self.message(from)?;
                if holds(message.data, b"\"error\"") {
                    return Err(refused(text_of(message.data)));
                }
                let is_stream = matches!(self.step, Step::Stream);
                let next = if is_stream { Step::Consumer } else { Step::Request };
                (greeted(from.used()), next)
            }
            Step::Request => match self.post {
                Some(count) => {
                    for _ in 0..count {
                        let message = self.message(from)?;
                        if message.status.is_some() || !message.data.starts_with(b"{\"stream\"") {
                            return Err(refused(message.text()));
                        }
                    }
                    (finished(from.used(), count), Step::Request)
                }
                None => {
                    self.receive(from)?;
                    let next = if self.held.is_empty() { Step::Request } else { Step::Finish };
                    (received(from.used(), self.held.len()), next)
                }
            },
            Step::Finish => {
                let message = self.message(from)?;
                if message.status.is_some() || !message.data.is_empty() {
                    return Err(refused(message.text()));
                }
                let next = if self.held.is_empty() { Step::Request } else { Step::Finish };
                (finished(from.used(), 1), next)
            }
        };
        self.step = next;
        Ok(answered)
    }

    /// Messages up to the limit, or up to the word that there are no more.
    fn receive(&mut self, from: &mut Received<'_>) -> Result<(), Fault> {
        self.held.clear();
        while self.held.len() < self.limit {
            let message = self.message(from)?;
            match (message.status, message.reply) {
                (None, Some(reply)) => self.held.push(text_of(reply)),
                (Some(b"404" | b"408"), _) => break,
                _ => return Err(refused(message.text())),
            }
        }
        self.held.reverse();
        Ok(())
    }

    /// The next message to the inbox.
    fn message<'a>(&mut self, from: &mut Received<'a>) -> Result<Message<'a>, Fault> {
        loop {
            let line = from.line()?;
            let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
            let kind = words.next().unwrap_or_default();
            let rest: Vec<&[u8]> = words.collect();
            match (kind, rest.as_slice()) {
                (b"MSG", [_, _, reply @ .., size]) => {
                    let data = content(from, size)?;
                    return Ok(Message { reply: reply.first().copied(), status: None, data });
                }
                (b"HMSG", [_, _, reply @ .., head_size, size]) => {
                    let head_size = decimal(head_size)?;
                    let content = content(from, size)?;
                    let (head, data) =
                        content.split_at_checked(head_size).ok_or_else(|| refused("a bad head"))?;
                    return Ok(Message {
                        reply: reply.first().copied(),
                        status: status(head),
                        data,
                    });
                }
                (b"PING", _) => self.is_pinged = true,
                (b"PONG" | b"+OK" | b"INFO", _) => {}
                _ => return Err(refused(text_of(line))),
            }
        }
    }
}

#[derive(Debug)]
struct Message<'a> {
    reply: Option<&'a [u8]>,
    /// Three digits, where the server says something itself.
    status: Option<&'a [u8]>,
    data: &'a [u8],
}

impl Message<'_> {
    fn text(&self) -> String {
        format!("{} {}", text_of(self.status.unwrap_or_default()), text_of(self.data))
    }
}

fn content<'a>(from: &mut Received<'a>, size: &[u8]) -> Result<&'a [u8], Fault> {
    let size = decimal(size)?;
    Ok(&from.take(size + 2)?[..size])
}

fn status(head: &[u8]) -> Option<&[u8]> {
    head.strip_prefix(b"NATS/1.0 ")?.get(..3)
}

fn holds(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|piece| piece == word)
}

fn publish(subject: &str, reply: &str, data: &str) -> String {
    format!("PUB {subject} {reply} {}\r\n{data}\r\n", data.len())
}
