//! Runs one case: a new server over a new store, then its steps in order. Knows no case by number.

use crate::cases::{Case, Deed, Exchange, Fact, Options, Step};
use crate::text::{self, Names, expand};
use crate::{check, deeds};
use anyhow::{Context, bail, ensure};
use marconi_engine::env::{Clock, ManualClock};
use marconi_server::api::limits::Limits;
use marconi_server::store::Store;
use marconi_tests::client::{Reply, Request};
use marconi_tests::server::TestServer;
use marconi_tests::store_down::{Breakable, Breaker};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Handle;

/// 2026-01-01T00:00:00Z: when every case begins.
const START_MS: u64 = 1_767_225_600_000;
const PROJECT: &str = "p1";
const CLIENT_1: &str = "a1b2c3d4-0000-4000-8000-0000000000c1";
const CLIENT_2: &str = "a1b2c3d4-0000-4000-8000-0000000000c2";
const CHUNK_SIZE: usize = 7;

/// Makes an empty store that lives by a clock.
pub(crate) type Make<'a, S> = &'a dyn Fn(Arc<dyn Clock>) -> anyhow::Result<S>;

/// What a case has to do with: a server, its clock and storage, and what was kept so far.
pub(crate) struct World {
    server: TestServer,
    clock: Arc<ManualClock>,
    breaker: Breaker,
    names: Names,
    message_count: u32,
    claim_count: u32,
}

/// Runs a case on a store of its own. `cases` are all there are.
pub(crate) fn run<S: Store>(
    case: &Case,
    cases: &[Case],
    runtime: &Handle,
    make: Make<'_, S>,
) -> anyhow::Result<()> {
    let clock = Arc::new(ManualClock::new(START_MS));
    let breaker = Breaker::default();
    let store = Breakable::new(make(Arc::<ManualClock>::clone(&clock))?, breaker.clone());
    let server = TestServer::start(runtime, store, limits(case)?)?;
    let names = [("c1", CLIENT_1), ("c2", CLIENT_2)];
    let names = names.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let mut world = World { server, clock, breaker, names, message_count: 0, claim_count: 0 };
    for step in steps(case, cases)? {
        world.take(step).with_context(|| format!("line {}", step.line))?;
    }
    Ok(())
}

/// A case's steps, after those of the case it continues.
fn steps<'a>(case: &'a Case, cases: &'a [Case]) -> anyhow::Result<Vec<&'a Step>> {
    let mut all = match case.continues {
        None => Vec::new(),
        Some(number) => {
            let earlier = cases.iter().find(|other| other.number == number);
            let earlier = earlier.filter(|earlier| earlier.number < case.number);
            steps(earlier.context("it continues no earlier case")?, cases)?
        }
    };
    all.extend(&case.steps);
    Ok(all)
}

fn limits(case: &Case) -> anyhow::Result<Limits> {
    let changes: serde_json::Map<String, Value> =
        case.limits.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    serde_json::from_value(Value::Object(changes)).context("limits")
}

impl World {
    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    fn take(&mut self, step: &Step) -> anyhow::Result<()> {
        match &step.deed {
            Deed::Queues { names, options } => {
                for name in names {
                    self.make_queue(name, options)?;
                }
                Ok(())
            }
            Deed::Messages { queue, count, options } => self.post(queue, *count, options),
            Deed::Claim { queue, options } => self.claim(queue, options),
            Deed::Clock(seconds) => {
                self.clock.advance_ms(seconds * 1000);
                Ok(())
            }
            Deed::Down => {
                self.breaker.take_down();
                Ok(())
            }
            Deed::Run(name) => deeds::run(name, self),
            Deed::Send(exchange) => self.exchange(exchange),
        }
    }

    /// A request with the headers that every request has unless told otherwise.
    pub(crate) fn request(&self, method: &str, target: &str) -> Request {
        Request::new(method, target).header("X-Project-Id", PROJECT).header("Client-ID", CLIENT_1)
    }

    fn request_with(
        &self,
        method: &str,
        target: &str,
        options: &Options,
    ) -> anyhow::Result<Request> {
        let mut request = Request::new(method, target);
        match options.get("project").map(String::as_str) {
            None => request = request.header("X-Project-Id", PROJECT),
            Some("none") => {}
            Some(project) => request = request.header("X-Project-Id", project),
        }
        let client = match options.get("by") {
            None => CLIENT_1,
            Some(name) => self.names.get(name).context("no such client")?,
        };
        Ok(request.header("Client-ID", client))
    }

    fn make_queue(&mut self, name: &str, options: &Options) -> anyhow::Result<()> {
        let request = self.request_with("PUT", &format!("/v1/queues/{name}"), options)?;
        let reply = request.send(self.address())?;
        ensure!(matches!(reply.status, 201 | 204), "making queue {name}: {reply}");
        if let Some(metadata) = options.get("metadata") {
            let target = format!("/v1/queues/{name}/metadata");
            let request = self.request_with("PUT", &target, options)?.body(metadata.as_bytes());
            let reply = request.send(self.address())?;
            ensure!(reply.status == 204, "setting metadata: {reply}");
        }
        Ok(())
    }

    fn post(&mut self, queue: &str, count: u32, options: &Options) -> anyhow::Result<()> {
        self.make_queue(queue, options)?;
        let ttl_s: u32 = option(options, "ttl", 300)?;
        for n in 1..=count {
            let body = json!([{"ttl": ttl_s, "body": {"n": n}}]).to_string();
            let target = format!("/v1/queues/{queue}/messages");
            let request = self.request_with("POST", &target, options)?.body(body);
            let reply = request.send(self.address())?;
            ensure!(reply.status == 201, "posting: {reply}");
            let resource =
                check::texts(&reply, "/resources/0")?.pop().context("no resource in the answer")?;
            let id = resource.rsplit('/').next().unwrap_or_default().to_owned();
            self.message_count += 1;
            self.names.insert(format!("m{}", self.message_count), id);
        }
        Ok(())
    }

    fn claim(&mut self, queue: &str, options: &Options) -> anyhow::Result<()> {
        let ttl_s: u32 = option(options, "ttl", 100)?;
        let grace_s: u32 = option(options, "grace", 60)?;
        let limit: u32 = option(options, "limit", 10)?;
        let body = json!({"ttl": ttl_s, "grace": grace_s}).to_string();
        let target = format!("/v1/queues/{queue}/claims?limit={limit}");
        let reply = self.request_with("POST", &target, options)?.body(body).send(self.address())?;
        ensure!(reply.status == 201, "claiming: {reply}");
        let location = reply.header("Location").context("no Location")?;
        let id = location.rsplit('/').next().unwrap_or_default().to_owned();
        self.claim_count += 1;
        self.names.insert(format!("k{}", self.claim_count), id);
        Ok(())
    }

    fn exchange(&mut self, exchange: &Exchange) -> anyhow::Result<()> {
        let request = self.written(exchange)?;
        let reply =
            request.send(self.address()).with_context(|| format!("no answer to\n{request}"))?;
        self.judge(exchange, &reply)
            .with_context(|| format!("---- sent\n{request}\n---- got\n{reply}\n----"))
    }

    /// The request as it goes out.
    fn written(&self, exchange: &Exchange) -> anyhow::Result<Request> {
        let mut request = self.request(&exchange.method, &expand(&exchange.target, &self.names)?);
        for (name, value) in &exchange.headers {
            request.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            if let Some(value) = value {
                request.headers.push((name.clone(), expand(value, &self.names)?));
            }
        }
        let Some(body) = &exchange.body else { return Ok(request) };
        let body = text::body(&expand(body, &self.names)?)?;
        let is_named = |wanted: &str| {
            exchange.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted))
        };
        if is_named("Transfer-Encoding") {
            request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Transfer-Encoding"));
            return Ok(request.chunked_body(&body, CHUNK_SIZE));
        }
        if is_named("Content-Length") {
            request.body = body;
            return Ok(request);
        }
        Ok(request.body(body))
    }

    fn judge(&mut self, exchange: &Exchange, reply: &Reply) -> anyhow::Result<()> {
        check::status(exchange, reply)?;
        for (line, fact) in &exchange.facts {
            check::fact(fact, reply, &self.names).with_context(|| format!("line {line}"))?;
            match fact {
                Fact::Let { name, source } => {
                    let value =
                        check::kept(source, reply).with_context(|| format!("line {line}"))?;
                    self.names.insert(name.clone(), value);
                }
                Fact::Follow { pointer, status } => self.follow(reply, pointer, *status)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn follow(&self, reply: &Reply, pointer: &str, status: u16) -> anyhow::Result<()> {
        let links = check::texts(reply, pointer)?;
        if links.is_empty() {
            bail!("no link at {pointer}");
        }
        for link in links {
            let followed = self.request("GET", &link).send(self.address())?;
            ensure!(followed.status == status, "GET {link}: {followed}");
        }
        Ok(())
    }
}

fn option(options: &Options, name: &str, default: u32) -> anyhow::Result<u32> {
    options.get(name).map_or(Ok(default), |value| value.parse()).with_context(|| name.to_owned())
}
