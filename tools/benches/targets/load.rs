//! Many connections from one thread: each has at most one request in flight. Closed loop: the next request
//! follows the answer. Open loop: requests are due at fixed times, and a late one counts from when it was
//! due. Knows no protocol; what is said is the conversations'.

use crate::conversation::{Answered, Conversation};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Bytes that are read at once. An answer may be longer.
const READ_SIZE: usize = 64 << 10;
/// How long what is in flight at the end may still take.
const PATIENCE: Duration = Duration::from_secs(20);
/// A poll waits whole milliseconds, so nearer moments are waited for awake.
const COARSE: Duration = Duration::from_millis(2);

/// How long, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Time before anything counts.
    pub(crate) warm: Duration,
    /// Time that counts. Without bound it ends when every connection has nothing more to do.
    pub(crate) time: Duration,
    /// Requests a second over all connections, each due at its time; `None` for a closed loop.
    pub(crate) rate: Option<f64>,
}

impl Plan {
    /// A closed loop over `time`, and a fifth of it before.
    pub(crate) fn closed(time: Duration) -> Plan {
        Plan { warm: time / 5, time, rate: None }
    }

    /// An open loop over `time`, and a fifth of it before.
    pub(crate) fn open(time: Duration, rate: f64) -> Plan {
        Plan { warm: time / 5, time, rate: Some(rate) }
    }

    /// Until the conversations have nothing more to do; all counts.
    pub(crate) fn all() -> Plan {
        Plan { warm: Duration::ZERO, time: Duration::from_secs(3600), rate: None }
    }
}

/// What was done in the time that counts.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Messages finished.
    pub(crate) messages: u64,
    /// Requests answered.
    pub(crate) requests: u64,
    /// Seconds that they took: less than planned where there was nothing more to do.
    pub(crate) seconds: f64,
    /// Nanoseconds of requests.
    pub(crate) latency: Histogram<u64>,
    /// Share of a core that this side took. Near 1 it is the load that is measured, not the server.
    pub(crate) busy: f64,
}

impl Outcome {
    /// Messages a second.
    pub(crate) fn message_rate(&self) -> f64 {
        self.messages as f64 / self.seconds.max(1e-9)
    }

    /// Requests a second.
    pub(crate) fn request_rate(&self) -> f64 {
        self.requests as f64 / self.seconds.max(1e-9)
    }

    /// Microseconds within which this share of the requests was answered.
    pub(crate) fn quantile_us(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1e3
    }
}

/// One connection.
struct Connection {
    stream: TcpStream,
    talk: Box<dyn Conversation>,
    out: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    /// Bytes of `received` that are filled.
    filled: usize,
    /// From when the request in flight counts.
    since: Instant,
    is_over: bool,
}

impl Connection {
    fn open(address: SocketAddr, talk: Box<dyn Conversation>) -> io::Result<Connection> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream: TcpStream::from_std(stream),
            talk,
            out: Vec::with_capacity(4 << 10),
            sent: 0,
            received: vec![0; READ_SIZE],
            filled: 0,
            since: Instant::now(),
            is_over: false,
        })
    }

    fn ask(&mut self, since: Instant) -> io::Result<()> {
        self.since = since;
        self.out.clear();
        self.sent = 0;
        self.talk.ask(&mut self.out);
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(size) => self.sent += size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads once. Whether there may be more.
    fn receive(&mut self) -> io::Result<bool> {
        if self.filled == self.received.len() {
            self.received.resize(self.filled * 2, 0);
        }
        let room = self.received.len() - self.filled;
        match self.stream.read(&mut self.received[self.filled..]) {
            Ok(0) => {
                Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed a connection"))
            }
            Ok(size) => {
                self.filled += size;
                Ok(size == room)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next whole answer among what was received.
    fn answer(&mut self) -> io::Result<Option<Answered>> {
        if self.filled == 0 {
            return Ok(None);
        }
        let answered = self.talk.answer(&self.received[..self.filled])?;
        if let Some(answered) = answered {
            self.received.copy_within(answered.used..self.filled, 0);
            self.filled -= answered.used;
        }
        Ok(answered)
    }
}

/// Counts what falls into the time.
struct Tally {
    from: Instant,
    end: Instant,
    last: Instant,
    outcome: Outcome,
}

impl Tally {
    fn count(&mut self, answered: &Answered, since: Instant, now: Instant, is_open: bool) {
        // In an open loop the moment it was due decides, so that late ones are not left out.
        let moment = if is_open { since } else { now };
        if !answered.is_request || moment < self.from || moment >= self.end {
            return;
        }
        self.last = now;
        self.outcome.messages += u64::from(answered.messages);
        self.outcome.requests += 1;
        self.record(now - since);
    }

    fn record(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.outcome.latency.saturating_record(nanoseconds);
    }
}

/// When requests are due, in an open loop.
struct Schedule {
    start: Instant,
    gap_s: f64,
    next: u64,
}

impl Schedule {
    fn due(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.gap_s * self.next as f64)
    }
}

/// Lets the conversations speak to the server at `address`, a connection for each.
///
/// # Errors
/// When a connection fails, an answer refuses, or an answer does not come.
pub(crate) fn run(
    address: SocketAddr,
    talks: Vec<Box<dyn Conversation>>,
    plan: Plan,
) -> io::Result<Outcome> {
    let mut poll = Poll::new()?;
    let mut connections = Vec::with_capacity(talks.len());
    for (number, talk) in talks.into_iter().enumerate() {
        let mut connection = Connection::open(address, talk)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut connection.stream, Token(number), interest)?;
        connections.push(connection);
    }
    let (start, cpu) = (Instant::now(), thread_cpu());
    let from = start + plan.warm;
    let mut tally = Tally {
        from,
        end: from + plan.time,
        last: from,
        outcome: Outcome {
            messages: 0,
            requests: 0,
            seconds: plan.time.as_secs_f64(),
            latency: Histogram::new_with_bounds(1000, 600_000_000_000, 3)
                .expect("the bounds are in order"),
            busy: 0.0,
        },
    };
    let mut schedule = plan.rate.map(|rate| Schedule { start, gap_s: 1.0 / rate, next: 0 });
    let mut idle: VecDeque<usize> = VecDeque::with_capacity(connections.len());
    let mut in_flight = 0;
    for (number, connection) in connections.iter_mut().enumerate() {
        if schedule.is_some() {
            idle.push_back(number);
        } else {
            connection.ask(Instant::now())?;
            in_flight += 1;
        }
    }
    let mut events = Events::with_capacity(1024);
    let mut now = start;
    loop {
        if let Some(schedule) = &mut schedule {
            while schedule.due() <= now && schedule.due() < tally.end {
                let Some(number) = idle.pop_front() else { break };
                connections[number].ask(schedule.due())?;
                schedule.next += 1;
                in_flight += 1;
            }
        }
        let is_done = match &schedule {
            Some(schedule) => schedule.due() >= tally.end && in_flight == 0,
            None => in_flight == 0,
        };
        if is_done || now >= tally.end + PATIENCE {
            break;
        }
        let left = match &schedule {
            Some(schedule) if !idle.is_empty() && schedule.due() < tally.end => {
                let left = schedule.due().saturating_duration_since(now);
                if left < COARSE { Duration::ZERO } else { left - COARSE }
            }
            _ => PATIENCE,
        };
        if let Err(error) = poll.poll(&mut events, Some(left))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error);
        }
        now = Instant::now();
        if events.is_empty() && left == PATIENCE {
            break;
        }
        for event in &events {
            let number = event.token().0;
            let connection = &mut connections[number];
            if connection.sent < connection.out.len() {
                connection.send()?;
            }
            if !event.is_readable() || connection.is_over {
                continue;
            }
            loop {
                let is_more = connection.receive()?;
                while let Some(answered) = connection.answer()? {
                    now = Instant::now();
                    tally.count(&answered, connection.since, now, schedule.is_some());
                    if answered.is_dry || (schedule.is_none() && now >= tally.end) {
                        connection.is_over = true;
                        in_flight -= 1;
                    } else if !answered.is_request {
                        let since = if schedule.is_some() { connection.since } else { now };
                        connection.ask(since)?;
                    } else if schedule.is_some() {
                        idle.push_back(number);
                        in_flight -= 1;
                    } else {
                        connection.ask(now)?;
                    }
                }
                if !is_more || connection.is_over {
                    break;
                }
            }
        }
    }
    if schedule.is_none() && in_flight > 0 {
        return Err(io::Error::new(ErrorKind::TimedOut, "the server does not answer"));
    }
    let is_closed = schedule.is_none();
    if let Some(mut schedule) = schedule {
        // What was due and never done took this long at the least.
        for connection in connections.iter().enumerate().filter(|(at, _)| !idle.contains(at)) {
            tally.record(now.saturating_duration_since(connection.1.since));
        }
        while schedule.due() < tally.end {
            tally.record(now.saturating_duration_since(schedule.due()));
            schedule.next += 1;
        }
    }
    if is_closed && now < tally.end {
        // There was nothing more to do before the time was over.
        tally.outcome.seconds = (tally.last - from).as_secs_f64();
    }
    tally.outcome.busy =
        (thread_cpu() - cpu).as_secs_f64() / start.elapsed().as_secs_f64().max(1e-9);
    Ok(tally.outcome)
}

/// CPU time that this thread used.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
