//! RabbitMQ: a quorum queue of one node, with publisher confirms. Knows how the server is started, and what
//! is said when; what it looks like on the wire is `amqp`'s.

use super::Server;
use super::amqp::{self, Arguments, CHANNEL, Method, Said, put_heartbeat, put_method};
use super::process::{self, Processes, local};
use super::ready;
use super::wire::{Fault, Received, body, finished, greeted, refused, whole};
use crate::conversation::{Answered, Conversation, Work};
use rustix::process::Signal;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

/// The one on the search path may be a script of the package that wants to be root.
const PROGRAMS: [&str; 2] = ["/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server"];
const EPMD: &str = "epmd";
const QUEUE: &str = "messages";
const FRAME_SIZE_MAX: u32 = 128 << 10;
/// For takers, who are not told that there is nothing left: heartbeats come after half of this without a
/// message. Only the first one comes whatever was sent.
const HEARTBEAT_S: u16 = 2;
/// Heartbeats without a message between them that mean that there is none.
const SILENCES: u32 = 2;

/// With a quorum queue.
#[derive(Debug)]
pub(super) struct RabbitMq;

impl Server for RabbitMq {
    fn missing(&self) -> Option<String> {
        if rabbitmq_program().is_none() {
            return Some("no rabbitmq-server: the package rabbitmq-server has it".into());
        }
        super::absent(EPMD, "erlang-base")
    }

    fn launch(&self, processes: &mut Processes<'_>) -> io::Result<SocketAddr> {
        let program = rabbitmq_program()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no rabbitmq-server"))?;
        let (names, between, port) =
            (process::free_port()?, process::free_port()?, process::free_port()?);
        // Names of Erlang nodes are kept by a process that stays, so it has to be one of this server alone.
        let mut command = Command::new(super::found(EPMD)?);
        command.args(["-address", "127.0.0.1", "-port", &names.to_string()]);
        processes.start(command, Signal::TERM)?;
        processes.wait(|| ready::listens(local(names)))?;

        let folder = processes.folder();
        let listen = format!("listeners.tcp.1 = 127.0.0.1:{port}\n");
        let mut command = Command::new(program);
        command
            .env("HOME", folder)
            .env("RABBITMQ_NODENAME", "bench@localhost")
            .env("RABBITMQ_CONF_ENV_FILE", processes.write("env.conf", "")?)
            .env("RABBITMQ_CONFIG_FILE", processes.write("rabbitmq.conf", &listen)?)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", processes.write("plugins", "[].\n")?)
            .env("RABBITMQ_MNESIA_BASE", folder.join("nodes"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_DIST_PORT", between.to_string())
            .env("ERL_EPMD_PORT", names.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // The script then becomes the server instead of waiting for it, so that signals reach it.
            .env("RABBITMQ_ALLOW_INPUT", "yes")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-noinput -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            );
        processes.start(command, Signal::TERM)?;
        Ok(local(port))
    }

    fn conversation(&self, work: Work, _connection: usize) -> Box<dyn Conversation> {
        let mut message = Vec::new();
        amqp::put_message(&mut message, QUEUE, &body());
        Box::new(match work {
            Work::Post => Talk::new(message, 1, 0),
            Work::Fill { batch } => Talk::new(message.repeat(batch), batch, 0),
            Work::Take { limit } => {
                Talk::new(Vec::new(), 0, u16::try_from(limit).unwrap_or(u16::MAX))
            }
        })
    }
}

fn rabbitmq_program() -> Option<PathBuf> {
    PROGRAMS.into_iter().find_map(process::program)
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Hello,
    Login,
    Open,
    /// Makes the queue; made again alike it stays as it is.
    Declare,
    /// Asks for messages, which then come by themselves.
    Consume,
    /// Posts, or acknowledges what came.
    Request,
}

#[derive(Debug)]
struct Talk {
    step: Step,
    request: Vec<u8>,
    /// Messages posted by one request; 0 where it takes.
    count: usize,
    /// The number of the last message posted, and of the last of the request before.
    posted: u64,
    confirmed: u64,
    /// Most messages that come before they are acknowledged.
    limit: u16,
    /// Numbers of messages that came and are not acknowledged yet.
    held: Vec<u64>,
    /// Heartbeats since the last message.
    silences: u32,
}

impl Talk {
    fn new(request: Vec<u8>, count: usize, limit: u16) -> Talk {
        let (step, held) = (Step::Hello, Vec::new());
        Talk { step, request, count, posted: 0, confirmed: 0, limit, held, silences: 0 }
    }
}

impl Conversation for Talk {
    fn ask(&mut self, out: &mut Vec<u8>) {
        let none = Arguments::new();
        let takes = self.count == 0;
        match self.step {
            Step::Hello => out.extend_from_slice(amqp::HEADER),
            Step::Login => {
                let who = none.table(&[]).short("PLAIN").long("\0guest\0guest").short("en_US");
                put_method(out, 0, amqp::START_OK, &who);
            }
            Step::Open => {
                let heartbeat = if takes { HEARTBEAT_S } else { 0 };
                let tuned = none.u16(CHANNEL).u32(FRAME_SIZE_MAX).u16(heartbeat);
                put_method(out, 0, amqp::TUNE_OK, &tuned);
                put_method(out, 0, amqp::OPEN, &Arguments::new().short("/").short("").u8(0));
                put_method(out, CHANNEL, amqp::CHANNEL_OPEN, &Arguments::new().short(""));
            }
            Step::Declare => {
                const DURABLE: u8 = 1 << 1;
                let queue = none.u16(0).short(QUEUE).u8(DURABLE);
                let queue = queue.table(&[("x-queue-type", "quorum")]);
                put_method(out, CHANNEL, amqp::DECLARE, &queue);
                if takes {
                    let most = Arguments::new().u32(0).u16(self.limit).u8(0);
                    put_method(out, CHANNEL, amqp::QOS, &most);
                } else {
                    put_method(out, CHANNEL, amqp::SELECT, &Arguments::new().u8(0));
                }
            }
            Step::Consume => {
                let queue = none.u16(0).short(QUEUE).short("").u8(0).table(&[]);
                put_method(out, CHANNEL, amqp::CONSUME, &queue);
            }
            Step::Request if !takes => {
                self.posted += self.count as u64;
                out.extend_from_slice(&self.request);
            }
            Step::Request => {
                for number in self.held.drain(..) {
                    put_method(out, CHANNEL, amqp::ACK, &Arguments::new().u64(number).u8(0));
                }
                if out.is_empty() {
                    put_heartbeat(out);
                }
            }
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> io::Result<Option<Answered>> {
        whole(self.read(&mut Received::new(bytes)))
    }
}

impl Talk {
    fn read(&mut self, from: &mut Received<'_>) -> Result<Answered, Fault> {
        let takes = self.count == 0;
        let (expected, next): (&[Method], Step) = match self.step {
            Step::Hello => (&[amqp::START], Step::Login),
            Step::Login => (&[amqp::TUNE], Step::Open),
            Step::Open => (&[amqp::OPEN_OK, amqp::CHANNEL_OPEN_OK], Step::Declare),
            Step::Declare if takes => (&[amqp::DECLARE_OK, amqp::QOS_OK], Step::Consume),
            Step::Declare => (&[amqp::DECLARE_OK, amqp::SELECT_OK], Step::Request),
            Step::Consume | Step::Request if takes => return self.receive(from),
            Step::Consume | Step::Request => return self.confirm(from),
        };
        for method in expected {
            while said(from)?.is_none_or(|(said, _)| said != *method) {}
        }
        self.step = next;
        Ok(greeted(from.used()))
    }

    /// Waits until all that was posted is confirmed: one by one, or up to a number.
    fn confirm(&mut self, from: &mut Received<'_>) -> Result<Answered, Fault> {
        let mut left: Vec<u64> = (self.confirmed + 1..=self.posted).collect();
        while !left.is_empty() {
            match said(from)? {
                None => {}
                Some((amqp::ACK, mut arguments)) => {
                    let number = arguments.u64()?;
                    let is_up_to = arguments.u8()? & 1 == 1;
                    left.retain(|one| *one > number || (*one < number && !is_up_to));
                }
                Some((method, _)) => return Err(refused(format!("{method:?}, no confirm"))),
            }
        }
        self.confirmed = self.posted;
        Ok(finished(from.used(), self.count))
    }

    /// What came, up to the limit. It counts now: its acknowledgements go out with the next request, and
    /// nothing answers them.
    fn receive(&mut self, from: &mut Received<'_>) -> Result<Answered, Fault> {
        self.held.clear();
        let mut used = 0;
        let mut is_silent = false;
        while self.held.len() < usize::from(self.limit) && !from.is_empty() {
            match said(from) {
                Ok(None) => is_silent = true,
                Ok(Some((amqp::CONSUME_OK, _))) => {}
                Ok(Some((amqp::DELIVER, mut arguments))) => {
                    let size = arguments.u8()?.into();
                    arguments.take(size)?;
                    self.held.push(arguments.u64()?);
                }
                Ok(Some((method, _))) => {
                    return Err(refused(format!("{method:?} where messages belong")));
                }
                Err(Fault::Short) => break,
                Err(refused) => return Err(refused),
            }
            used = from.used();
        }
        if self.held.is_empty() && !is_silent {
            return Err(Fault::Short);
        }
        self.step = Step::Request;
        if !self.held.is_empty() {
            self.silences = 0;
            return Ok(finished(used, self.held.len()));
        }
        // No request was answered, and how long that took was up to the server's clock.
        self.silences += 1;
        Ok(Answered { is_dry: self.silences >= SILENCES, ..greeted(used) })
    }
}

/// The next method that is called; nothing for a heartbeat.
fn said<'a>(from: &mut Received<'a>) -> Result<Option<(Method, Received<'a>)>, Fault> {
    match amqp::next(from)? {
        Said::Heartbeat => Ok(None),
        Said::Method(method, arguments) => Ok(Some((method, arguments))),
    }
}
