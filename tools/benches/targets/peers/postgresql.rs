//! PostgreSQL as a queue: a table from which takers lease rows that nobody else has locked. Knows how the
//! server is started, and the protocol as far as simple queries need it.

use super::Server;
use super::process::{self, Processes, local};
use super::wire::{
    Fault, LEASE_S, Received, body, decimal, finished, greeted, put_number, received, refused,
    text_of, whole,
};
use crate::conversation::{Answered, Conversation, Work};
use rustix::process::Signal;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = "postgres";
/// It refuses to run as root; packages make this account for it.
const ACCOUNT: &str = "postgres";
/// Here Debian has a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Version 3.0 of the protocol.
const PROTOCOL: u64 = 3 << 16;
const TABLE: &str = "CREATE TABLE IF NOT EXISTS messages (queue int NOT NULL, id bigserial, \
    lease timestamptz NOT NULL DEFAULT '-infinity', body text NOT NULL, PRIMARY KEY (queue, id));";

/// With durable commits.
#[derive(Debug)]
pub(super) struct PostgreSql;

impl Server for PostgreSql {
    fn missing(&self) -> Option<String> {
        if beside_postgres("initdb").is_none() {
            return Some(format!("no {PROGRAM}: the package postgresql has it"));
        }
        if is_root() { super::absent("setpriv", "util-linux") } else { None }
    }

    fn launch(&self, processes: &mut Processes<'_>) -> io::Result<SocketAddr> {
        let absent = || io::Error::new(io::ErrorKind::NotFound, "no PostgreSQL");
        let initdb = beside_postgres("initdb").ok_or_else(absent)?;
        let postgres = beside_postgres(PROGRAM).ok_or_else(absent)?;
        let data = processes.folder().join("table");
        if is_root() {
            let mut command = Command::new("install");
            command.args(["-d", "-m", "700", "-o", ACCOUNT, "-g", ACCOUNT]).arg(&data);
            processes.finish(command)?;
        }
        let mut command = unprivileged(&initdb, &data);
        command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]);
        processes.finish(command)?;
        let port = process::free_port()?;
        let mut command = unprivileged(&postgres, &data);
        command.args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "synchronous_commit=on",
            "shared_buffers=1GB",
            "max_wal_size=4GB",
            "max_connections=200",
        ] {
            command.args(["-c", setting]);
        }
        // Ends without waiting for clients.
        processes.start(command, Signal::INT)?;
        Ok(local(port))
    }

    fn conversation(&self, work: Work, _connection: usize) -> Box<dyn Conversation> {
        let body = body();
        let (prepare, request) = match work {
            Work::Post => (
                "PREPARE post(text) AS INSERT INTO messages (queue, body) VALUES (0, $1)".into(),
                format!("EXECUTE post('{body}')"),
            ),
            Work::Fill { batch } => (
                format!(
                    "PREPARE fill(text) AS INSERT INTO messages (queue, body) \
                     SELECT 0, $1 FROM generate_series(1, {batch})"
                ),
                format!("EXECUTE fill('{body}')"),
            ),
            // The inner query is an array, so that it is evaluated once whatever the plan.
            Work::Take { limit } => (
                format!(
                    "PREPARE take AS UPDATE messages SET lease = now() + interval '{LEASE_S} s' \
                     WHERE queue = 0 AND id = ANY (ARRAY(SELECT id FROM messages \
                     WHERE queue = 0 AND lease < now() ORDER BY id LIMIT {limit} \
                     FOR UPDATE SKIP LOCKED)) RETURNING id, body; \
                     PREPARE done(bigint) AS DELETE FROM messages WHERE queue = 0 AND id = $1"
                ),
                "EXECUTE take".into(),
            ),
        };
        let takes = matches!(work, Work::Take { .. });
        let step = Step::Login;
        Box::new(Talk { step, prepare, request, takes, held: Vec::new() })
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program of the newest PostgreSQL: beside the server on the search path, or else where Debian has
/// those that belong on none.
fn beside_postgres(name: &str) -> Option<PathBuf> {
    let on_path = process::program(PROGRAM).and_then(|path| fs::canonicalize(path).ok());
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let mut folders: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    folders.sort();
    let folders = folders.into_iter().rev().map(|(_, folder)| folder);
    let first = on_path.and_then(|path| path.parent().map(Path::to_path_buf));
    first
        .into_iter()
        .chain(folders)
        .filter(|folder| folder.join(PROGRAM).is_file())
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// One of its programs, with its folder of data, as an account that it accepts.
fn unprivileged(program: &Path, data: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups"]);
        // The way to the data may lead through folders that are closed to others.
        command.args(["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]);
        command.arg(program);
        command
    } else {
        Command::new(program)
    };
    command.arg("-D").arg(data).current_dir("/");
    command
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Login,
    /// Makes the table, which is there from the second connection on, and has the statements planned.
    Prepare,
    /// Posts, or leases.
    Request,
    /// Deletes the last message held.
    Finish,
}

#[derive(Debug)]
struct Talk {
    step: Step,
    prepare: String,
    request: String,
    takes: bool,
    /// Ids that are leased and not deleted yet, the next one last.
    held: Vec<String>,
}

impl Conversation for Talk {
    fn ask(&mut self, out: &mut Vec<u8>) {
        match self.step {
            Step::Login => {
                let names = b"user\0postgres\0database\0postgres\0\0";
                put_number(out, (8 + names.len()) as u64, 4);
                put_number(out, PROTOCOL, 4);
                out.extend_from_slice(names);
            }
            Step::Prepare => query(out, &format!("{TABLE} {}", self.prepare)),
            Step::Request => query(out, &self.request),
            Step::Finish => {
                let id = self.held.pop().expect("this step is for a message");
                query(out, &format!("EXECUTE done({id})"));
            }
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> io::Result<Option<Answered>> {
        whole(self.read(&mut Received::new(bytes)))
    }
}

impl Talk {
    fn read(&mut self, from: &mut Received<'_>) -> Result<Answered, Fault> {
        let result = result(from)?;
        let (answered, next) = match self.step {
            Step::Login => (greeted(from.used()), Step::Prepare),
            Step::Prepare => (greeted(from.used()), Step::Request),
            Step::Request if self.takes => {
                self.held = result.ids;
                self.held.reverse();
                (received(from.used(), self.held.len()), Step::Finish)
            }
            Step::Request => (finished(from.used(), result.rows), Step::Request),
            Step::Finish if result.rows == 1 => (finished(from.used(), 1), Step::Finish),
            Step::Finish => return Err(refused("a message was gone before it was acknowledged")),
        };
        let is_over = matches!(next, Step::Finish) && self.held.is_empty();
        self.step = if is_over { Step::Request } else { next };
        Ok(answered)
    }
}

fn query(out: &mut Vec<u8>, text: &str) {
    out.push(b'Q');
    put_number(out, text.len() as u64 + 5, 4);
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

#[derive(Debug, Default)]
struct QueryResult {
    /// The first columns of the rows that were returned.
    ids: Vec<String>,
    /// Rows that the last statement concerned.
    rows: usize,
}

/// All that is said until the server is ready for the next query.
fn result(from: &mut Received<'_>) -> Result<QueryResult, Fault> {
    let mut result = QueryResult::default();
    loop {
        let kind = from.u8()?;
        let size = (from.u32()? as usize).checked_sub(4).ok_or_else(|| refused("a bad length"))?;
        let mut message = Received::new(from.take(size)?);
        match kind {
            b'Z' => return Ok(result),
            b'E' => return Err(refused(reason(message.take(size)?))),
            b'D' => {
                message.u16()?;
                let size = message.u32()? as usize;
                result.ids.push(text_of(message.take(size)?));
            }
            b'C' => {
                let tag = message.take(size.saturating_sub(1))?;
                let last = tag.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
                // Statements that concern no rows have no number there.
                result.rows = decimal(last).unwrap_or(0);
            }
            b'R' if message.u32()? != 0 => return Err(refused("it wants a password")),
            _ => {}
        }
    }
}

/// The field of an error that is meant for people.
fn reason(fields: &[u8]) -> String {
    let mut fields = fields.split(|byte| *byte == 0);
    text_of(fields.find_map(|field| field.strip_prefix(b"M")).unwrap_or_default())
}
