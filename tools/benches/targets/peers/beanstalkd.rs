//! beanstalkd: its default tube. Knows how it is started, and its protocol.

use super::Server;
use super::process::{self, Processes, local};
use super::wire::{
    BODY_SIZE, Fault, LEASE_S, Received, body, decimal, finished, received, refused, text_of, whole,
};
use crate::conversation::{Answered, Conversation, Work};
use rustix::process::Signal;
use std::io;
use std::net::SocketAddr;
use std::process::Command;

const PROGRAM: &str = "beanstalkd";

/// One setting of it.
#[derive(Debug)]
pub(super) struct Beanstalkd {
    /// The argument that says when its log is flushed.
    pub(super) flush: &'static str,
}

impl Server for Beanstalkd {
    fn missing(&self) -> Option<String> {
        super::absent(PROGRAM, "beanstalkd")
    }

    fn launch(&self, processes: &mut Processes<'_>) -> io::Result<SocketAddr> {
        let port = process::free_port()?;
        let mut command = Command::new(super::found(PROGRAM)?);
        command.args(["-l", "127.0.0.1", "-p", &port.to_string(), self.flush]);
        command.arg("-b").arg(processes.folder());
        processes.start(command, Signal::TERM)?;
        Ok(local(port))
    }

    fn conversation(&self, work: Work, _connection: usize) -> Box<dyn Conversation> {
        let put = format!("put 0 0 {LEASE_S} {BODY_SIZE}\r\n{}\r\n", body());
        let (request, count, takes) = match work {
            Work::Post => (put, 1, false),
            Work::Fill { batch } => (put.repeat(batch), batch, false),
            // There is no request for several messages; one write of several requests comes nearest.
            Work::Take { limit } => ("reserve-with-timeout 0\r\n".repeat(limit), limit, true),
        };
        Box::new(Talk { request: request.into_bytes(), count, takes, deletes: None, held: vec![] })
    }
}

#[derive(Debug)]
struct Talk {
    request: Vec<u8>,
    /// Commands in one request.
    count: usize,
    takes: bool,
    /// The message whose deletion is in flight.
    deletes: Option<String>,
    /// Ids that are reserved and not deleted yet, the next one last.
    held: Vec<String>,
}

impl Conversation for Talk {
    fn ask(&mut self, out: &mut Vec<u8>) {
        self.deletes = self.held.pop();
        match &self.deletes {
            Some(id) => out.extend_from_slice(format!("delete {id}\r\n").as_bytes()),
            None => out.extend_from_slice(&self.request),
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> io::Result<Option<Answered>> {
        whole(self.read(&mut Received::new(bytes)))
    }
}

impl Talk {
    fn read(&mut self, from: &mut Received<'_>) -> Result<Answered, Fault> {
        if self.deletes.is_some() {
            return match from.line()? {
                b"DELETED" => Ok(finished(from.used(), 1)),
                other => Err(refused(text_of(other))),
            };
        }
        if self.takes {
            self.held.clear();
            for _ in 0..self.count {
                self.held.extend(reserved(from)?);
            }
            self.held.reverse();
            return Ok(received(from.used(), self.held.len()));
        }
        for _ in 0..self.count {
            let line = from.line()?;
            if !line.starts_with(b"INSERTED ") {
                return Err(refused(text_of(line)));
            }
        }
        Ok(finished(from.used(), self.count))
    }
}

/// The id of a reserved message, if there was one.
fn reserved(from: &mut Received<'_>) -> Result<Option<String>, Fault> {
    let line = from.line()?;
    if line == b"TIMED_OUT" {
        return Ok(None);
    }
    let mut words = line.split(|byte| *byte == b' ');
    match (words.next(), words.next(), words.next()) {
        (Some(b"RESERVED"), Some(id), Some(size)) => {
            from.take(decimal(size)? + 2)?;
            Ok(Some(text_of(id)))
        }
        _ => Err(refused(text_of(line))),
    }
}
