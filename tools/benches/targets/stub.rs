//! A server that does only what disk and protocol demand, as the limit for those that do more: takes posts,
//! claims and deletes of one queue, keeps the queue in memory and a log with checksums on the disk. It
//! checks nothing, leases nothing and recovers nothing. It is a child process of its own.

use crate::server;
use marconi_bench::limits::{BLOCK_SIZE, file_of_zeros};
use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

/// Bytes of the log, which then goes on at its beginning.
const LOG_SIZE: usize = 256 << 20;
/// Bytes in front of each entry: checksum, length, number.
const HEAD_SIZE: usize = 16;
const LISTENER: Token = Token(usize::MAX);
const SYNCED: Token = Token(usize::MAX - 1);
const READ_SIZE: usize = 64 << 10;

/// When it answers a post or a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// At once; there is no disk.
    NoDisk,
    /// After one sync for all that arrived in a round of its loop, made by the loop.
    Inline,
    /// After a sync that a second thread makes, while the loop goes on reading.
    Thread,
}

impl Mode {
    /// All of them.
    pub(crate) const ALL: [Mode; 3] = [Mode::NoDisk, Mode::Inline, Mode::Thread];

    /// Its word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::NoDisk => "no-disk",
            Mode::Inline => "inline",
            Mode::Thread => "thread",
        }
    }
}

/// The log: in memory as it is in the file.
struct Log {
    bytes: Vec<u8>,
    /// Where the next entry goes, counted over all turns.
    end: u64,
    /// What is in the file.
    written: u64,
}

impl Log {
    fn new() -> Log {
        // Not zeros, so that every page is there before anything is measured.
        Log { bytes: vec![1; LOG_SIZE], end: 0, written: 0 }
    }

    /// Where in `bytes` the content of the entry begins.
    fn append(&mut self, number: u64, content: &[u8]) -> usize {
        let size = HEAD_SIZE + content.len();
        let mut at = (self.end % LOG_SIZE as u64) as usize;
        if at + size > LOG_SIZE {
            self.end += (LOG_SIZE - at) as u64;
            at = 0;
        }
        let entry = &mut self.bytes[at..at + size];
        entry[4..8].copy_from_slice(&(content.len() as u32).to_le_bytes());
        entry[8..HEAD_SIZE].copy_from_slice(&number.to_le_bytes());
        entry[HEAD_SIZE..].copy_from_slice(content);
        let sum = crc32fast::hash(&entry[4..]);
        entry[..4].copy_from_slice(&sum.to_le_bytes());
        self.end += size as u64;
        at + HEAD_SIZE
    }

    fn write(&mut self, file: &File) -> io::Result<()> {
        while self.written < self.end {
            let at = (self.written % LOG_SIZE as u64) as usize;
            let size = ((self.end - self.written) as usize).min(LOG_SIZE - at);
            file.write_all_at(&self.bytes[at..at + size], at as u64)?;
            self.written += size as u64;
        }
        Ok(())
    }
}

struct Queue {
    /// Number, where its body is in the log, and how long that is.
    waiting: VecDeque<(u64, usize, usize)>,
    next: u64,
    /// Reused: the body of an answer, whose length goes before it.
    text: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// Bytes of `input` that are filled.
    filled: usize,
    output: Vec<u8>,
}

/// Serves until the process is ended; tells on standard output where.
///
/// # Errors
/// When it cannot listen, or the disk refuses.
pub(crate) fn serve(mode: Mode, path: &Path) -> anyhow::Result<()> {
    let file = Arc::new(match mode {
        Mode::NoDisk => File::open("/dev/null")?,
        _ => file_of_zeros(path, (LOG_SIZE / BLOCK_SIZE) as u64)?,
    });
    let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let synced = Arc::new(AtomicU64::new(0));
    let to_sync = sync_thread(&file, &synced, Waker::new(poll.registry(), SYNCED)?);
    let mut log = Log::new();
    let mut queue = Queue { waiting: VecDeque::new(), next: 1, text: Vec::new() };
    let mut connections: Vec<Option<Connection>> = Vec::new();
    // Answers that wait for a sync: up to where it has to reach, and whose.
    let mut waiting: VecDeque<(u64, usize)> = VecDeque::new();
    let mut events = Events::with_capacity(1024);
    server::announce(listener.local_addr()?)?;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => accept(&listener, &poll, &mut connections)?,
                SYNCED => {}
                Token(number) => {
                    let Some(connection) = &mut connections[number] else { continue };
                    if !read(connection) {
                        connections[number] = None;
                        continue;
                    }
                    let before = log.end;
                    answer_all(connection, &mut log, &mut queue);
                    if log.end > before && mode != Mode::NoDisk {
                        waiting.push_back((log.end, number));
                    } else if !connection.output.is_empty() {
                        write(connection)?;
                    }
                }
            }
        }
        if mode == Mode::NoDisk {
            continue;
        }
        if log.written < log.end {
            log.write(&file)?;
            if mode == Mode::Inline {
                file.sync_data()?;
                synced.store(log.end, Ordering::Release);
            } else {
                to_sync.send(log.end)?;
            }
        }
        let reached = synced.load(Ordering::Acquire);
        while let Some((end, number)) = waiting.front().copied()
            && end <= reached
        {
            waiting.pop_front();
            if let Some(connection) = &mut connections[number] {
                write(connection)?;
            }
        }
    }
}

/// Syncs the file up to each position sent, as many at once as there are.
fn sync_thread(file: &Arc<File>, synced: &Arc<AtomicU64>, waker: Waker) -> mpsc::Sender<u64> {
    let (sender, positions) = mpsc::channel();
    let (file, synced) = (file.clone(), synced.clone());
    std::thread::spawn(move || {
        while let Ok(mut position) = positions.recv() {
            while let Ok(later) = positions.try_recv() {
                position = later;
            }
            file.sync_data().expect("the disk takes what was written");
            synced.store(position, Ordering::Release);
            waker.wake().expect("the loop runs as long as the process");
        }
    });
    sender
}

fn accept(
    listener: &TcpListener,
    poll: &Poll,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        poll.registry().register(&mut stream, Token(connections.len()), Interest::READABLE)?;
        let input = vec![0; READ_SIZE];
        connections.push(Some(Connection { stream, input, filled: 0, output: Vec::new() }));
    }
}

/// Reads all that is there. Whether the connection is still open.
fn read(connection: &mut Connection) -> bool {
    loop {
        if connection.filled == connection.input.len() {
            connection.input.resize(connection.filled * 2, 0);
        }
        let room = connection.input.len() - connection.filled;
        match connection.stream.read(&mut connection.input[connection.filled..]) {
            Ok(0) => return false,
            Ok(size) => {
                connection.filled += size;
                if size < room {
                    return true;
                }
            }
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// Writes what there is to be written. An answer always fits the buffer of the socket.
fn write(connection: &mut Connection) -> io::Result<()> {
    match connection.stream.write_all(&connection.output) {
        Err(error)
            if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
        {
            return Err(error);
        }
        _ => connection.output.clear(),
    }
    Ok(())
}

/// Answers the requests that are whole, into the connection's output.
fn answer_all(connection: &mut Connection, log: &mut Log, queue: &mut Queue) {
    let mut used = 0;
    loop {
        let input = &connection.input[used..connection.filled];
        let mut headers = [httparse::EMPTY_HEADER; 24];
        let mut head = httparse::Request::new(&mut headers);
        let Ok(httparse::Status::Complete(head_size)) = head.parse(input) else { break };
        let length =
            head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
        let end = head_size + length.unwrap_or(0);
        if input.len() < end {
            break;
        }
        let (method, path) = (head.method.unwrap_or_default(), head.path.unwrap_or_default());
        queue.answer(method, path, &input[head_size..end], log, &mut connection.output);
        used += end;
    }
    connection.input.copy_within(used..connection.filled, 0);
    connection.filled -= used;
}

impl Queue {
    fn answer(&mut self, method: &str, path: &str, body: &[u8], log: &mut Log, out: &mut Vec<u8>) {
        match method {
            "POST" if path.contains("/messages") => self.post(body, log, out),
            "POST" => {
                let limit = path.rsplit_once("limit=").and_then(|(_, limit)| limit.parse().ok());
                self.claim(limit.unwrap_or(10), log, out);
            }
            "DELETE" => {
                log.append(u64::MAX, path.as_bytes());
                out.extend_from_slice(b"HTTP/1.1 204 No Content\r\nmarconi-durability: group\r\nx-request-id: req-0deeba7b-0000\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n");
            }
            _ => out.extend_from_slice(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"),
        }
    }

    fn post(&mut self, body: &[u8], log: &mut Log, out: &mut Vec<u8>) {
        let first = self.next;
        let mut rest = body;
        self.text.clear();
        self.text.extend_from_slice(b"{\"resources\":[");
        while let Some(at) = memmem::find(rest, b"\"body\":\"") {
            let content = &rest[at + b"\"body\":".len()..];
            let size = memchr::memchr(b'"', &content[1..]).map_or(content.len(), |size| size + 2);
            self.waiting.push_back((self.next, log.append(self.next, &content[..size]), size));
            let comma = if self.next > first { "," } else { "" };
            write!(self.text, "{comma}\"/v1/queues/q0/messages/{:08x}\"", self.next)
                .expect("memory takes all");
            self.next += 1;
            rest = &content[size..];
        }
        self.text.extend_from_slice(b"],\"partial\":false}");
        let length = self.text.len();
        write!(
            out,
            "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nlocation: /v1/queues/q0/messages?ids={first:08x}\r\nmarconi-durability: group\r\nx-request-id: req-0deeba7b-0000\r\ncontent-length: {length}\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
        )
        .expect("memory takes all");
        out.extend_from_slice(&self.text);
    }

    fn claim(&mut self, limit: usize, log: &Log, out: &mut Vec<u8>) {
        self.text.clear();
        self.text.push(b'[');
        for number in 0..limit {
            let Some((id, at, size)) = self.waiting.pop_front() else { break };
            let comma = if number > 0 { "," } else { "" };
            write!(
                self.text,
                "{comma}{{\"href\":\"/v1/queues/q0/messages/{id:08x}?claim_id=mCEnvCE\",\"ttl\":3600,\"age\":1,\"body\":"
            )
            .expect("memory takes all");
            self.text.extend_from_slice(&log.bytes[at..at + size]);
            self.text.push(b'}');
        }
        self.text.push(b']');
        let length = self.text.len();
        write!(
            out,
            "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nlocation: /v1/queues/q0/claims/mCEnvCE\r\nmarconi-durability: group\r\nx-request-id: req-0deeba7b-0000\r\ncontent-length: {length}\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
        )
        .expect("memory takes all");
        out.extend_from_slice(&self.text);
    }
}
