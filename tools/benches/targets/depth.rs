//! Ten million waiting messages against a thousand: rates, memory, and the start after a kill.

use crate::conversation::Conversation;
use crate::figures::Round;
use crate::http::{List, Same, Take};
use crate::load::{Outcome, Plan};
use crate::server::{self, Server, Setting};
use crate::site::{Site, memory_at_rest};
use crate::turns::{Contestant, in_turns};
use std::io;
use std::time::Duration;
use tempfile::TempDir;

/// Messages of the deep queue.
const DEEP: u64 = 10_000_000;
/// Messages of the shallow one.
const SHALLOW: u64 = 1000;
/// Bytes of a body.
const SIZE: usize = 100;
/// What both servers do before they are killed: requests a second, for so long. Less than the log between
/// two checkpoints.
const USE_RATE: f64 = 10_000.0;
const USE_TIME: Duration = Duration::from_secs(1);

/// The folder with the deep queue, which takes long to fill and serves all rounds.
#[derive(Debug)]
pub(crate) struct Deep(TempDir);

impl Deep {
    /// Fills it.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn new(site: &Site) -> io::Result<Deep> {
        let folder = site.folder()?;
        site.fill(folder.path(), "small", DEEP)?;
        Ok(Deep(folder))
    }

    /// Starts servers on both folders and loads them in turn. Claims go with a post of as many before each, so
    /// that either queue stays as deep as it is; lists come first and posts last, behind the starts.
    ///
    /// # Errors
    /// When a server does not start or refuses.
    pub(crate) fn measure(&self, site: &Site, round: &mut Round) -> io::Result<()> {
        let folder = site.folder()?;
        site.fill(folder.path(), "small", SHALLOW)?;
        let start = |folder: &TempDir| {
            let setting = Setting { with_admin: true, ..site.setting("os") };
            Server::marconi(folder.path(), &setting)
        };
        let servers = [("shallow", start(&folder)?), ("deep", start(&self.0)?)];
        let memory = memory_at_rest(&servers[1].1)? - memory_at_rest(&servers[0].1)?;
        round.put("bytes of memory a message", memory / (DEEP - SHALLOW) as f64);
        compare(site, &servers, round, "list c16", Outcome::request_rate, |_| List::new(0))?;
        let take = |_| Take::with_refill(0, 10, SIZE);
        compare(site, &servers, round, "claim10 c16", Outcome::message_rate, take)?;

        for (_, server) in &servers {
            use_alike(site, server)?;
        }
        drop(servers);
        let servers = [("shallow", start(&folder)?), ("deep", start(&self.0)?)];
        for (name, server) in &servers {
            round.put(&format!("{name} start s"), server.started_in.as_secs_f64());
        }
        let post = |_| Same::post(0, 1, SIZE);
        compare(site, &servers, round, "post c16", Outcome::message_rate, post)
    }
}

/// The rates of one kind of load.
fn compare<C: Conversation + 'static>(
    site: &Site,
    servers: &[(&str, Server); 2],
    round: &mut Round,
    what: &str,
    rate: fn(&Outcome) -> f64,
    talk: impl Fn(usize) -> C,
) -> io::Result<()> {
    let contestants = servers
        .each_ref()
        .map(|(name, server)| Contestant::new(format!("{name} {what}"), server, rate, &talk));
    in_turns(site, 16, &contestants, round)
}

/// Leaves so much work behind a new checkpoint as the next start has to read again, the same for every server.
fn use_alike(site: &Site, server: &Server) -> io::Result<()> {
    let admin = server.admin.ok_or_else(|| io::Error::other("no administration"))?;
    let request = b"POST /checkpoint HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    server::ask(admin, request, &[200])?;
    let plan = Plan { warm: Duration::ZERO, time: USE_TIME, rate: Some(USE_RATE) };
    let take = |_| Take::with_refill(0, 10, SIZE);
    site.load_with(server.address, 16, plan, take).map(drop)
}
