//! The real program under one abuse at a time, while a polite client posts, claims and deletes at a moderate rate: many
//! times the load it can serve, thousands of idle connections, readers of a byte a second, bodies that never end, deep
//! and wide documents, made-up names and ids, a client that claims all and never deletes. The seed picks which
//! (`abuse.rs`), how much of it, and whether the server's limits are its own or low; the first seven seeds are each one
//! once, and small.
//!
//! Memory stays below a bound that follows from the server's configuration (`Plan::memory_max`). What the polite client
//! asks is answered nearly as fast as before. Every refusal is one that the API knows. Nothing that was acknowledged is
//! lost. At the end the server works, has no connections and no bodies, and stops in good order.
//!
//! Cannot see how fast a server would be whose machine has nothing to do: clients and server share this one, and the
//! abusers give way to both. Times count as broken only when they are far off, and again and again.

mod abuse;
mod plan;
mod polite;

use crate::campaign::{Campaign, Width, none};
use crate::load::connection::Connection;
use abuse::Abused;
use anyhow::{Context, ensure};
use marconi_tests::binary::{Binary, wait_for};
use marconi_tests::wire::{CLIENT_ID, assert_well, make_queue};
use plan::Plan;
use polite::Polite;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "overload",
    promise: "a server that is asked too much says so, keeps its memory bounded, loses nothing that was acknowledged and \
              goes on serving others",
    fault: "many times the load, 10,000 idle connections, bytes that trickle, bodies without end, deep and wide documents, \
            made-up names, claims that nobody ends",
    unit: "abuses",
    in_tests: 7,
    in_ledger: 500,
    once_failed: &[22, 59, 339],
    width: Width::One,
    trial,
    obstacle: none,
};

/// A call may take so many times as long as before, or this, if that is longer: where hundreds of connections have
/// posts waiting, each has its turn before it.
const TIMES_MAX: u32 = 3;
const TIME_NOTED: Duration = Duration::from_millis(250);
/// How often that has to be found in a row.
const ATTEMPTS: usize = 5;
/// The same for the seeds that run with the tests, everywhere and beside anything.
const GROSS_TIMES_MAX: u32 = 30;
const GROSS_TIME_NOTED: Duration = Duration::from_secs(2);
/// A message's name is shorter.
const NAME_SIZE_MAX: usize = 100;
/// How often memory is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

fn trial(seed: u64) -> anyhow::Result<u64> {
    let plan = Plan::new(seed, files_max());
    let is_gross = plan.is_small || CAMPAIGN.once_failed.contains(&seed);
    under(&plan, is_gross).with_context(|| format!("{plan:?}"))?;
    Ok(1)
}

fn under(plan: &Plan, is_gross: bool) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let options = plan.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let server = Binary::start(folder.path(), &options);
    for queue in [polite::BUSY, polite::KEPT, abuse::QUEUE] {
        make_queue(&server, queue);
    }
    let abused = Arc::new(Abused::new(server.address, plan.clone()));
    abuse::prepare(&abused)?;
    let mut polite = Polite::new(server.address)?;
    polite.work(plan.calls)?;
    let before = polite.work(plan.calls)?;
    let memory_before = server.memory_bytes();

    let (told, during, peak) = thread::scope(|scope| {
        let abuser = scope.spawn(|| {
            // The server and its polite client come first.
            let _ = rustix::process::nice(10);
            abuse::run(&abused)
        });
        let watcher = scope.spawn(|| {
            let mut peak = 0;
            while !abused.is_over() {
                peak = peak.max(server.memory_bytes());
                thread::park_timeout(LOOK_INTERVAL);
            }
            peak
        });
        let measured = measure(plan, is_gross, &mut polite, &abused, before);
        abused.end();
        let told = abuser.join().map_err(|_| anyhow::anyhow!("the abuser panicked"))?;
        let peak = watcher.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))?;
        anyhow::Ok((told?, measured?, peak))
    })?;

    let most = memory_before + plan.memory_max(&told);
    ensure!(
        peak <= most,
        "{peak} bytes of memory, {memory_before} before; the bound is {most}; {told:?}"
    );
    let (times_max, noted) =
        if is_gross { (GROSS_TIMES_MAX, GROSS_TIME_NOTED) } else { (TIMES_MAX, TIME_NOTED) };
    ensure!(
        during <= (before * times_max).max(noted),
        "99 in 100 calls of the polite client took up to {during:?}, and {before:?} before; {told:?}"
    );
    polite.leave();
    let is_quiet = |metric: &str| (server.metric(metric) == 0).then_some(());
    wait_for("the connections being gone", || is_quiet("marconi_connections_open"));
    wait_for("the bodies being gone", || is_quiet("marconi_in_flight_bytes"));
    nothing_is_lost(server.address, polite::KEPT, &polite.kept)?;
    let count = nothing_is_lost(server.address, abuse::QUEUE, &told.acknowledged)?;
    ensure!(count >= told.stored_count, "{count} messages of {} are there", told.stored_count);
    assert_well(&server);
    server.stop();
    Ok(())
}

/// What 99 in 100 calls of the polite client take at the most, during the abuse: of several attempts the best, since
/// the machine has other things to do.
fn measure(
    plan: &Plan,
    is_gross: bool,
    polite: &mut Polite,
    abused: &Abused,
    before: Duration,
) -> anyhow::Result<Duration> {
    // It works all the time, for whatever is lost meanwhile.
    while !abused.is_under_way() && !abused.has_ended() {
        polite.work(10)?;
    }
    let mut best = Duration::MAX;
    for _ in 0..ATTEMPTS {
        best = best.min(polite.work(plan.calls)?);
        if best <= (before * TIMES_MAX).max(TIME_NOTED) || is_gross {
            break;
        }
    }
    while !abused.is_enough() && !abused.has_ended() {
        polite.work(10)?;
    }
    Ok(best)
}

/// A page of messages. Their bodies are whatever somebody posted, as deep as the API takes it.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    messages: Vec<Listed<'a>>,
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Deserialize)]
struct Link {
    href: String,
}

/// Each of these messages is there, once; returns how many there are, with all others.
fn nothing_is_lost(
    server: SocketAddr,
    queue: &str,
    acknowledged: &[String],
) -> anyhow::Result<u64> {
    let mut client = Connection::open(server).context("connect")?;
    let headers = [("Client-ID", CLIENT_ID), ("X-Project-Id", "p1")];
    let limit = plan::PAGE_SIZE_MAX;
    let mut target =
        format!("/v1/queues/{queue}/messages?limit={limit}&echo=true&include_claimed=true");
    let (mut found, mut count) = (HashSet::new(), 0);
    loop {
        let page = client.ask("GET", &target, &headers, "")?.context("no answer to a listing")?;
        if page.status == 204 {
            break;
        }
        ensure!(page.status == 200, "a listing is answered {}: {}", page.status, page.body);
        let mut page: Page<'_> = serde_json::from_str(&page.body).context("a page")?;
        for message in &page.messages {
            count += 1;
            // What is no short text is not a name.
            let text = message.body.get();
            if text.len() < NAME_SIZE_MAX && text.starts_with('"') {
                let name: String = serde_json::from_str(text)?;
                ensure!(found.insert(name.clone()), "{queue} has {name} twice");
            }
        }
        target = page.links.pop().context("a page has a next one")?.href;
    }
    let lost: Vec<&String> = acknowledged.iter().filter(|name| !found.contains(*name)).collect();
    ensure!(
        lost.is_empty(),
        "{} of {} messages that were acknowledged are not in {queue}, such as {:?}",
        lost.len(),
        acknowledged.len(),
        lost[0]
    );
    Ok(count)
}

/// How many files a process may have open, once that is as much as we are allowed.
fn files_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, fewer connections do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| most as usize)
}
