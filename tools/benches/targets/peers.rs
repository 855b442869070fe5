//! The servers that people would run instead, each in the settings that are compared: what they are called,
//! how they are started and spoken to. Knows no protocol; each server's file does.

mod amqp;
mod beanstalkd;
mod nats;
mod postgresql;
mod process;
mod rabbitmq;
mod ready;
mod redis;
mod wire;

use crate::conversation::{Conversation, Work};
use process::{Processes, Started};
use std::ffi::OsStr;
use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// One server in one setting.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Name of server and setting, without spaces.
    pub(crate) name: &'static str,
    /// Whether what it answered survives a loss of power.
    pub(crate) durable: bool,
    /// The setting in words.
    pub(crate) setting: &'static str,
    /// Messages that keep 16 takers busy for about a second.
    pub(crate) prefill: usize,
    server: &'static dyn Server,
}

/// What each server's file says of it.
trait Server: Debug + Sync {
    /// Why it cannot be started here.
    fn missing(&self) -> Option<String>;

    /// Starts its processes, and tells where it is going to serve.
    fn launch(&self, processes: &mut Processes<'_>) -> io::Result<SocketAddr>;

    /// What a connection says. The greeting makes the queue where it is not there yet.
    fn conversation(&self, work: Work, connection: usize) -> Box<dyn Conversation>;
}

/// All of them, a server's durable setting before its weaker one.
pub(crate) fn all() -> Vec<Peer> {
    vec![
        Peer {
            name: "redis-always",
            durable: true,
            setting: "Redis Streams, appendfsync always",
            prefill: 40_000,
            server: &redis::Redis { appendfsync: "always" },
        },
        Peer {
            name: "redis-everysec",
            durable: false,
            setting: "Redis Streams, appendfsync everysec: up to 1 s lost",
            prefill: 80_000,
            server: &redis::Redis { appendfsync: "everysec" },
        },
        Peer {
            name: "beanstalkd-fsync",
            durable: true,
            setting: "beanstalkd with a log, a flush for each command (-f0)",
            prefill: 15_000,
            server: &beanstalkd::Beanstalkd { flush: "-f0" },
        },
        Peer {
            name: "beanstalkd-log",
            durable: false,
            setting: "beanstalkd with a log that is never flushed (-F)",
            prefill: 60_000,
            server: &beanstalkd::Beanstalkd { flush: "-F" },
        },
        Peer {
            name: "nats-always",
            durable: true,
            setting: "NATS JetStream, work queue in files, sync_interval always",
            prefill: 10_000,
            server: &nats::Nats { is_flushed: true },
        },
        Peer {
            name: "nats",
            durable: false,
            setting: "NATS JetStream, work queue in files, default sync_interval: up to 2 min lost",
            prefill: 40_000,
            server: &nats::Nats { is_flushed: false },
        },
        Peer {
            name: "rabbitmq-quorum",
            durable: true,
            setting: "RabbitMQ quorum queue on one node, publisher confirms, \
                      prefetch as large as a request, acknowledgements that nothing answers",
            prefill: 40_000,
            server: &rabbitmq::RabbitMq,
        },
        Peer {
            name: "postgresql",
            durable: true,
            setting: "PostgreSQL table, leases with SKIP LOCKED, synchronous_commit on",
            prefill: 12_000,
            server: &postgresql::PostgreSql,
        },
    ]
}

impl Peer {
    /// Why it cannot be measured here: what is absent, and which package has it.
    pub(crate) fn missing(&self) -> Option<String> {
        self.server.missing()
    }

    /// Starts it on the loopback with all its files in `folder`, its processes by `spawn`, and waits
    /// until a taker learns that its queue is empty. The folder is empty or not there yet.
    ///
    /// # Errors
    /// When it does not start, or does not answer within a minute; the error has the end of what it
    /// printed.
    pub(crate) fn start(
        &self,
        folder: &Path,
        spawn: &dyn Fn(&mut Command) -> io::Result<Child>,
    ) -> io::Result<Running> {
        let begun = || -> io::Result<Running> {
            let folder = std::path::absolute(folder)?;
            let mut processes = Processes::new(&folder, spawn)?;
            let address = self.server.launch(&mut processes)?;
            processes.wait(|| {
                ready::speak(address, self.server.conversation(Work::Take { limit: 1 }, 0))
            })?;
            Ok(Running { address, server: self.server, _started: processes.into_started() })
        };
        begun().map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.name)))
    }
}

/// A server that runs. Its processes end when this goes.
#[derive(Debug)]
pub(crate) struct Running {
    address: SocketAddr,
    server: &'static dyn Server,
    _started: Started,
}

impl Running {
    /// Where it serves.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What connection number `connection` says to it. Numbers differ among connections of the same work at
    /// the same time.
    pub(crate) fn conversation(&self, work: Work, connection: usize) -> Box<dyn Conversation> {
        self.server.conversation(work, connection)
    }
}

/// Says which package has a program that is not here.
fn absent(program: &str, package: &str) -> Option<String> {
    match process::program(program) {
        Some(_) => None,
        None => Some(format!("no {program}: the package {package} has it")),
    }
}

/// A program that `missing` has found already.
fn found(program: impl AsRef<OsStr>) -> io::Result<PathBuf> {
    let name = program.as_ref();
    process::program(name).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("no program {}", name.display()))
    })
}
