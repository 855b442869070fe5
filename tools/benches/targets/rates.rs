//! Posts, claims and lists of a server that runs on its own: in `group` beside the synced stubs, in `os`
//! beside the stub without disk and the bare server, and those of other servers.

use crate::conversation::Work;
use crate::figures::Round;
use crate::http::{self, List, Same, Take};
use crate::load::{Outcome, Plan};
use crate::peers::Peer;
use crate::process;
use crate::server::Server;
use crate::site::Site;
use crate::stub::Mode;
use crate::turns::{Contestant, in_turns};
use marconi_bench::limits;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Connections of the cells for posts.
const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// Bytes of a body.
const SIZE: usize = 1024;
/// Blocks of the file whose syncs are counted.
const SYNCED_BLOCKS: u64 = 4096;
/// More messages than any server here takes a second.
const TAKEN_A_SECOND: f64 = 200_000.0;
/// Messages of a post that fills.
const FILL_BATCH: u64 = 100;
/// A peer is filled piece by piece, until there is enough or this is over.
const FILL_MAX: Duration = Duration::from_secs(10);
const FILL_PIECE: Duration = Duration::from_millis(250);
/// Messages listed: enough that following them does not end within a cell.
const LISTED: u64 = 100_000;

fn stub(site: &Site, mode: Mode, folder: &Path) -> io::Result<Server> {
    let path = folder.join(mode.name());
    Server::own(&["stub".into(), mode.name().into(), path.into()], &site.server_cores)
}

/// A Marconi server with queue `q0`.
fn marconi(site: &Site, durability: &str, folder: &Path) -> io::Result<Server> {
    let server = Server::marconi(folder, &site.setting(durability))?;
    server.ask(http::make_queue(0).as_bytes(), &[201])?;
    Ok(server)
}

/// Posts so many messages.
fn fill(site: &Site, server: &Server, count: u64) -> io::Result<()> {
    let connections = 4;
    let each = (count / FILL_BATCH / connections).max(1);
    let talk = |_| Same::post(0, FILL_BATCH as usize, SIZE).times(each);
    site.load_with(server.address, connections as usize, Plan::all(), talk).map(|_| ())
}

/// Messages that a cell that takes needs.
fn needed(site: &Site) -> u64 {
    (site.time.as_secs_f64() * 1.2 * TAKEN_A_SECOND) as u64
}

/// One that is posted to.
fn poster<'a>(name: &str, server: &'a Server, connections: usize) -> Contestant<'a> {
    let figure = format!("{name} post c{connections}");
    Contestant::new(figure, server, Outcome::message_rate, |_| Same::post(0, 1, SIZE))
}

/// Claims of ten with ten deletes, of each server in turn.
fn takes(site: &Site, servers: &[(&str, &Server)], round: &mut Round) -> io::Result<()> {
    servers.iter().try_for_each(|(_, server)| fill(site, server, needed(site)))?;
    let takers = servers.iter().map(|(name, server)| {
        let figure = format!("{name} claim10 c16");
        Contestant::new(figure, server, Outcome::message_rate, |_| Take::new(0, 10))
    });
    in_turns(site, 16, &takers.collect::<Vec<_>>(), round)
}

/// Everything in `group`: the disk, the synced stubs, the server; batches; the tail of latency; what a
/// commit writes.
///
/// # Errors
/// When a server does not start or refuses.
pub(crate) fn group(site: &Site, round: &mut Round) -> io::Result<()> {
    let folder = site.folder()?;
    let syncs = site.server_cores.run(|| limits::syncs(folder.path(), SYNCED_BLOCKS, site.time))?;
    round.put("sync rate", syncs.rate);
    round.put("sync us", syncs.median_us);
    let hello = Server::own(&["hello".into()], &site.server_cores)?;
    let rate = site.load(&hello, 1, |_| Same::bare_post())?.request_rate();
    round.put("hello round trip us", 1e6 / rate);
    let inline = stub(site, Mode::Inline, folder.path())?;
    let thread = stub(site, Mode::Thread, folder.path())?;
    let ours = marconi(site, "group", folder.path())?;
    let servers = [("stub-inline", &inline), ("stub-thread", &thread), ("group", &ours)];
    for connections in CONNECTIONS {
        let posters = servers.iter().map(|(name, server)| poster(name, server, connections));
        in_turns(site, connections, &posters.collect::<Vec<_>>(), round)?;
    }
    // By themselves: what they leave to be done behind them would be done in the turns of others.
    let batches = site.load(&ours, 16, |_| Same::post(0, 20, SIZE))?.message_rate();
    round.put("group post20 c16", batches);
    takes(site, &servers, round)?;
    tail(site, &servers, round)?;
    commit_size(site, &ours, round)
}

/// Latency at 70 % of the highest load.
fn tail(site: &Site, servers: &[(&str, &Server)], round: &mut Round) -> io::Result<()> {
    let Some(highest) = round.get("group post c64") else { return Ok(()) };
    let plan = Plan::open(site.time, highest * 0.7);
    for (name, server) in servers {
        let outcome = site.load_with(server.address, 64, plan, |_| Same::post(0, 1, SIZE))?;
        round.put(&format!("{name} p50 us at 70 %"), outcome.quantile_us(0.5));
        round.put(&format!("{name} p99 us at 70 %"), outcome.quantile_us(0.99));
    }
    Ok(())
}

/// KiB that the process writes for a commit of one small message. Also what it writes besides counts, such
/// as segments made ready for later; the middle of many short times leaves bursts of that out.
fn commit_size(site: &Site, server: &Server, round: &mut Round) -> io::Result<()> {
    let mut sizes = Vec::new();
    let plan = Plan { warm: Duration::ZERO, time: site.time / 10, rate: None };
    for _ in 0..10 {
        let before = process::written_bytes(server.pid())?;
        let outcome = site.load_with(server.address, 1, plan, |_| Same::post(0, 1, 100))?;
        let written = process::written_bytes(server.pid())? - before;
        sizes.push(written as f64 / 1024.0 / outcome.requests.max(1) as f64);
    }
    sizes.sort_by(f64::total_cmp);
    round.put("group KiB a commit", sizes[sizes.len() / 2]);
    Ok(())
}

/// Everything in `os`, and lists.
///
/// # Errors
/// When a server does not start or refuses.
pub(crate) fn os(site: &Site, round: &mut Round) -> io::Result<()> {
    let folder = site.folder()?;
    let plain = stub(site, Mode::NoDisk, folder.path())?;
    let ours = marconi(site, "os", folder.path())?;
    fill(site, &ours, LISTED)?;
    let page = ours.ask(http::first_page(0).as_bytes(), &[200])?;
    let page_path = folder.path().join("page");
    let body = http::whole(&page)?.map_or(0, |(_, body, _)| body);
    std::fs::write(&page_path, &page[body..])?;
    let hello = Server::own(&["hello".into(), page_path.into()], &site.server_cores)?;
    for connections in CONNECTIONS {
        let figure = format!("hello post c{connections}");
        let bare = |_| Same::bare_post();
        let posters = [
            Contestant::new(figure, &hello, Outcome::request_rate, bare),
            poster("stub-no-disk", &plain, connections),
            poster("os", &ours, connections),
        ];
        in_turns(site, connections, &posters, round)?;
    }
    let (bare, rate) = (|_| Same::bare_get(), Outcome::request_rate);
    let readers = [
        Contestant::new("hello list c16".to_owned(), &hello, rate, bare),
        Contestant::new("os list c16".to_owned(), &ours, rate, |_| List::new(0)),
    ];
    in_turns(site, 16, &readers, round)?;
    takes(site, &[("stub-no-disk", &plain), ("os", &ours)], round)
}

/// A peer's posts, and takes of ten. Durable ones are told from weaker ones by the names of the figures.
///
/// # Errors
/// When it does not start, or refuses.
pub(crate) fn peer(site: &Site, peer: &Peer, round: &mut Round) -> io::Result<()> {
    if let Some(missing) = peer.missing() {
        return Err(io::Error::other(missing));
    }
    let folder = site.folder()?;
    let spawn = |command: &mut Command| site.server_cores.run(|| command.spawn());
    let running = peer.start(&folder.path().join("data"), &spawn)?;
    let cell = |work: Work, connections: usize, plan: Plan| {
        let talks = (0..connections).map(|number| running.conversation(work, number)).collect();
        site.load_talks(running.address(), talks, plan)
    };
    let kind = kind_of(peer.durable);
    let plan = Plan::closed(site.time);
    let mut waiting = 0;
    for connections in CONNECTIONS {
        let outcome = cell(Work::Post, connections, plan)?;
        waiting += outcome.messages;
        round.put(&format!("{kind} {} post c{connections}", peer.name), outcome.message_rate());
    }
    // Where it is too little all the same, the rate is over the time until there was no more.
    let needed = (peer.prefill as f64 * site.time.as_secs_f64() * 1.5) as u64;
    let filled = Instant::now();
    while waiting < needed && filled.elapsed() < FILL_MAX {
        let piece = Plan { warm: Duration::ZERO, time: FILL_PIECE, rate: None };
        waiting += cell(Work::Fill { batch: 20 }, 16, piece)?.messages;
    }
    let rate = cell(Work::Take { limit: 10 }, 16, plan)?.message_rate();
    round.put(&format!("{kind} {} claim10 c16", peer.name), rate);
    Ok(())
}

/// The first word of the names of a peer's figures.
pub(crate) fn kind_of(is_durable: bool) -> &'static str {
    if is_durable { "durable" } else { "weak" }
}
