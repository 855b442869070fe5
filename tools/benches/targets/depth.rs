//! Ten million waiting messages against a thousand: rates, memory, and the start after a kill.

use crate::figures::Round;
use crate::http::{List, Same, Take};
use crate::server::Server;
use crate::site::{Site, memory_at_rest};
use std::io;
use tempfile::TempDir;

/// Messages of the deep queue.
const DEEP: u64 = 10_000_000;
/// Messages of the shallow one.
const SHALLOW: u64 = 1000;
/// Bytes of a body.
const SIZE: usize = 100;

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

    /// Starts servers on both folders, each after a kill, and loads them in turn. Claims go with a post of
    /// as many before each, so that either queue stays as deep as it is; lists come first and posts last.
    ///
    /// # Errors
    /// When a server does not start or refuses.
    pub(crate) fn measure(&self, site: &Site, round: &mut Round) -> io::Result<()> {
        let folder = site.folder()?;
        site.fill(folder.path(), "small", SHALLOW)?;
        let shallow = Server::marconi(folder.path(), &site.setting("os"))?;
        round.put("shallow start s", shallow.started_in.as_secs_f64());
        let deep = Server::marconi(self.0.path(), &site.setting("os"))?;
        round.put("deep start s", deep.started_in.as_secs_f64());
        let memory = memory_at_rest(&deep)? - memory_at_rest(&shallow)?;
        round.put("bytes of memory a message", memory / (DEEP - SHALLOW) as f64);
        let servers = [("shallow", &shallow), ("deep", &deep)];
        for (name, server) in servers {
            let rate = site.load(server, 16, |_| List::new(0))?.request_rate();
            round.put(&format!("{name} list c16"), rate);
        }
        for (name, server) in servers {
            let rate = site.load(server, 16, |_| Take::with_refill(0, 10, SIZE))?.message_rate();
            round.put(&format!("{name} claim10 c16"), rate);
        }
        for (name, server) in servers {
            let rate = site.load(server, 16, |_| Same::post(0, 1, SIZE))?.message_rate();
            round.put(&format!("{name} post c16"), rate);
        }
        Ok(())
    }
}
