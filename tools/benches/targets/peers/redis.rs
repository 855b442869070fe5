//! Redis: a stream with one group of consumers. Knows how it is started, and the protocol as far as these
//! commands need it.

use super::Server;
use super::process::{self, Processes, local};
use super::wire::{
    Fault, Received, body, decimal, finished, greeted, received, refused, text_of, whole,
};
use crate::conversation::{Answered, Conversation, Work};
use rustix::process::Signal;
use std::io;
use std::net::SocketAddr;
use std::process::Command;

const PROGRAM: &str = "redis-server";
const STREAM: &str = "messages";
const GROUP: &str = "takers";

/// One setting of it.
#[derive(Debug)]
pub(super) struct Redis {
    /// When the log of commands is flushed, in its own words.
    pub(super) appendfsync: &'static str,
}

impl Server for Redis {
    fn missing(&self) -> Option<String> {
        super::absent(PROGRAM, "redis-server")
    }

    fn launch(&self, processes: &mut Processes<'_>) -> io::Result<SocketAddr> {
        let port = process::free_port()?;
        let mut command = Command::new(super::found(PROGRAM)?);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no"]);
        command.arg("--dir").arg(processes.folder());
        command.args(["--save", "", "--appendonly", "yes", "--appendfsync", self.appendfsync]);
        processes.start(command, Signal::TERM)?;
        Ok(local(port))
    }

    fn conversation(&self, work: Work, connection: usize) -> Box<dyn Conversation> {
        let add = command(&["XADD", STREAM, "*", "body", &body()]);
        let consumer = format!("taker-{connection}");
        let (request, count) = match work {
            Work::Post => (add, 1),
            Work::Fill { batch } => (add.repeat(batch), batch),
            Work::Take { limit } => {
                let limit = limit.to_string();
                let words = ["XREADGROUP", "GROUP", GROUP, &consumer, "COUNT", &limit];
                (command(&[&words[..], &["STREAMS", STREAM, ">"]].concat()), 0)
            }
        };
        Box::new(Talk { step: Step::Greet, request, count, held: Vec::new() })
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Makes the group; it is there from the second connection on.
    Greet,
    /// Posts, or reads.
    Request,
    /// Finishes the last message held.
    Finish,
}

#[derive(Debug)]
struct Talk {
    step: Step,
    request: Vec<u8>,
    /// Messages posted by one request; 0 where it reads.
    count: usize,
    /// Ids that were read and not finished yet, the next one last.
    held: Vec<String>,
}

impl Conversation for Talk {
    fn ask(&mut self, out: &mut Vec<u8>) {
        match self.step {
            Step::Greet => {
                out.extend(command(&["XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM"]));
            }
            Step::Request => out.extend_from_slice(&self.request),
            Step::Finish => {
                let id = self.held.pop().expect("this step is for a message");
                out.extend(command(&["XACK", STREAM, GROUP, &id]));
                out.extend(command(&["XDEL", STREAM, &id]));
            }
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> io::Result<Option<Answered>> {
        whole(self.read(&mut Received::new(bytes)))
    }
}

impl Talk {
    fn read(&mut self, from: &mut Received<'_>) -> Result<Answered, Fault> {
        let answered = match self.step {
            Step::Greet => {
                let line = from.line()?;
                if line.starts_with(b"-") && !line.starts_with(b"-BUSYGROUP") {
                    return Err(refused(text_of(line)));
                }
                greeted(from.used())
            }
            Step::Request if self.count > 0 => {
                for _ in 0..self.count {
                    string(from)?;
                }
                finished(from.used(), self.count)
            }
            Step::Request => {
                self.held.clear();
                ids(from, &mut self.held)?;
                self.held.reverse();
                received(from.used(), self.held.len())
            }
            Step::Finish => {
                for _ in ["XACK", "XDEL"] {
                    let (kind, count) = head(from)?;
                    if (kind, count) != (b':', Some(1)) {
                        return Err(refused("a message was gone before it was acknowledged"));
                    }
                }
                finished(from.used(), 1)
            }
        };
        self.step = if self.held.is_empty() { Step::Request } else { Step::Finish };
        Ok(answered)
    }
}

/// A command and its arguments.
fn command(words: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    text.into_bytes()
}

/// The kind of the next value and its number: a count, a length, or the value itself. Nothing for nil.
fn head(from: &mut Received<'_>) -> Result<(u8, Option<usize>), Fault> {
    let line = from.line()?;
    match line {
        [b'-', text @ ..] => Err(refused(text_of(text))),
        [kind, b'-', ..] => Ok((*kind, None)),
        [kind, digits @ ..] => Ok((*kind, Some(decimal(digits)?))),
        [] => Err(refused("an empty line")),
    }
}

fn string<'a>(from: &mut Received<'a>) -> Result<&'a [u8], Fault> {
    match head(from)? {
        (b'$', Some(length)) => Ok(&from.take(length + 2)?[..length]),
        (kind, _) => Err(refused(format!("a {} where a string belongs", char::from(kind)))),
    }
}

fn array(from: &mut Received<'_>) -> Result<usize, Fault> {
    match head(from)? {
        (b'*', count) => Ok(count.unwrap_or(0)),
        (kind, _) => Err(refused(format!("a {} where a list belongs", char::from(kind)))),
    }
}

/// Of each stream its name and messages, of each message its id and fields.
fn ids(from: &mut Received<'_>, ids: &mut Vec<String>) -> Result<(), Fault> {
    for _ in 0..array(from)? {
        array(from)?;
        string(from)?;
        for _ in 0..array(from)? {
            array(from)?;
            ids.push(text_of(string(from)?));
            for _ in 0..array(from)? {
                string(from)?;
            }
        }
    }
    Ok(())
}
