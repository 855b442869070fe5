//! Bytes at the real socket: streams that no client would send, hundreds to a server, many at a time. Each begins
//! with good requests, whose answers are known; then comes an attack of HTTP/1.1 (`http1.rs`) or HTTP/2 (`http2.rs`),
//! or kept good requests that were changed at random; behind it lies a request that must not be executed, or one that
//! has to be. They come whole, in pieces or byte by byte, and the client waits, leaves or resets.
//!
//! Every answer has to be whole, in order and one that the API documents; no hidden request may be executed and no
//! message stored whose framing was wrong; a good request afterwards is answered right. At the end of a trial no
//! connection, no byte of a body and no descriptor is left, and nothing panicked.
//!
//! Cannot see what the threads of `workers.rs` and TLS make of the bytes, nor a proxy in front that frames them in
//! another way: what is hidden is what RFC 9112 says must not be taken for a request. The pieces are what the client
//! sends; the server may find several of them at once.

mod http1;
mod http2;
mod site;
mod stream;
mod talk;

use crate::campaign::{Campaign, Width, none};
use crate::random::Random;
use anyhow::{Context, bail};
use site::{Doors, LATE, Site, TRIES};
use std::sync::Arc;
use stream::Stream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "raw",
    promise: "no bytes at the socket are taken for a request that they are not, disturb others, or leave anything behind",
    fault: "smuggled requests, wrong framing, huge and half heads, garbage, floods and resets in HTTP/1.1 and HTTP/2, \
            in any pieces",
    unit: "streams",
    in_tests: 3_000,
    in_ledger: 1_000_000,
    once_failed: &[0, 1, 369, 373, 10041],
    // Descriptors are those of the whole process.
    width: Width::One,
    trial,
    obstacle: none,
};

/// Streams of one trial.
const STREAMS: u64 = 1_000;
/// How many of them there are at a time.
const AT_A_TIME: u64 = 50;

fn trial(seed: u64) -> anyhow::Result<u64> {
    let mut random = Random::new(seed);
    let site = Site::start(&mut random)?;
    let clients = Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let doors = Arc::new(site.doors());
    clients.block_on(async {
        let mut lanes = JoinSet::new();
        for lane in 0..AT_A_TIME {
            let (doors, mut random) = (Arc::clone(&doors), Random::new(random.word()));
            lanes.spawn(async move {
                for number in 0..STREAMS / AT_A_TIME {
                    let name = format!("{lane}-{number}");
                    one(&doors, &mut random, &name).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(lane) = lanes.join_next().await {
            lane.context("a client panicked")??;
        }
        site::look_at_what_is_stored(&doors).await
    })?;
    drop(clients);
    site.end()?;
    Ok(STREAMS)
}

/// Sends one stream and checks what came of it. Streams before it whose client was late are looked at only for what
/// they may never do.
async fn one(doors: &Doors, random: &mut Random, name: &str) -> anyhow::Result<()> {
    for number in 0..TRIES {
        let name = format!("{name}-{number}");
        if !one_in_time(doors, random, &name).await? {
            continue;
        }
        return Ok(());
    }
    bail!("the machine is too busy for a client that has to be in time")
}

/// Whether the client was in time.
async fn one_in_time(doors: &Doors, random: &mut Random, name: &str) -> anyhow::Result<bool> {
    let stream = Stream::at_random(random, doors, name);
    let heard = talk::talk(doors.address, &stream, random).await;
    let outcome = async {
        let heard = heard?;
        if heard.sent_in >= LATE {
            return site::look_at_hidden(doors, &stream).await.map(|()| false);
        }
        stream.check(&heard).with_context(|| {
            format!(
                "ended by {:?} after {:?}, with\n{}",
                heard.end,
                heard.took,
                shown(&heard.bytes)
            )
        })?;
        site::look_at_queues(doors, &stream, &heard).await.map(|()| true)
    };
    outcome.await.with_context(|| format!("{stream:?}"))
}

/// How much of a stream is shown.
const SHOWN_SIZE_MAX: usize = 1_500;

/// Bytes, as far as they are worth showing.
fn shown(bytes: &[u8]) -> String {
    let most = bytes.len().min(SHOWN_SIZE_MAX);
    let more = if most < bytes.len() { " and more" } else { "" };
    let text = bytes[..most].escape_ascii().to_string().replace("\\n", "\\n\n");
    format!("{text}\n({} bytes{more})", bytes.len())
}
