//! What messages take on the disk, and what giving disk space back costs those that post.

use crate::figures::Round;
use crate::http::{self, Same};
use crate::load::{Outcome, Plan};
use crate::process;
use crate::server::{self, Server, Setting};
use crate::site::Site;
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

/// Messages whose bytes are counted.
const COUNTED: u64 = 200_000;
/// Bytes of their bodies.
const SMALL: usize = 100;
/// Segments so small that nearly all of the messages lie in full ones, which have an index.
const SEGMENT_SIZE: u64 = 1 << 20;
/// Bytes that compaction may rewrite a second, by default.
const COMPACTED_A_SECOND: f64 = 256.0 * 1024.0 * 1024.0;
/// What is measured beside compaction: more would need too much to be rewritten.
const BESIDE_COMPACTION_MAX: Duration = Duration::from_secs(3);
/// Share of the highest load at 16 connections that posts go at while compaction runs.
const MODERATE: f64 = 0.3;

/// Bytes of log and index for each message, posted one by one and in batches of twenty.
///
/// # Errors
/// When a server does not start or refuses, or the folder cannot be read.
pub(crate) fn bytes_a_message(site: &Site, round: &mut Round) -> io::Result<()> {
    for (name, batch) in [("alone", 1), ("in 20s", 20)] {
        let folder = site.folder()?;
        let setting = Setting { segment_size: Some(SEGMENT_SIZE), ..site.setting("os") };
        let server = Server::marconi(folder.path(), &setting)?;
        server.ask(http::make_queue(0).as_bytes(), &[201])?;
        let each = COUNTED / 16 / batch;
        let talk = |_| Same::post(0, batch as usize, SMALL).times(each);
        let posted = site.load_with(server.address, 16, Plan::all(), talk)?.messages;
        // Full segments have their indexes then.
        process::wait_idle(server.pid())?;
        server.stop()?;
        let bytes = used_bytes(folder.path())?;
        round.put(&format!("bytes on disk a message {name}"), bytes as f64 / posted as f64);
    }
    Ok(())
}

/// Bytes of the frames of a folder, and of the index files of its segments. The segments themselves are
/// longer: what is not used yet is zeros.
fn used_bytes(folder: &Path) -> io::Result<u64> {
    let output = Command::new(env!("CARGO_BIN_EXE_marconi"))
        .args(["log", "stat", "--json"])
        .arg(folder.join("data"))
        .output()?;
    let stat: Value = serde_json::from_slice(&output.stdout)?;
    let number = |segment: &Value, name: &str| segment[name].as_u64().unwrap_or(0);
    let segments = stat["segments"].as_array().map_or(&[][..], Vec::as_slice);
    let first = segments.iter().map(|segment| number(segment, "base_lsn")).min().unwrap_or(0);
    let index: u64 = segments.iter().map(|segment| number(segment, "index_size_bytes")).sum();
    Ok(number(&stat, "end_lsn") - first + index)
}

/// The tail of latency of posts in `group` at a moderate rate, before and while compaction rewrites segments
/// of which two thirds of the messages are gone.
///
/// # Errors
/// When a server does not start or refuses.
pub(crate) fn compaction(site: &Site, round: &mut Round) -> io::Result<()> {
    let folder = site.folder()?;
    // Enough that compaction does not end before the load does.
    let time = site.time.min(BESIDE_COMPACTION_MAX);
    let kept = time.as_secs_f64() * 1.5 * COMPACTED_A_SECOND / 1024.0;
    site.fill(folder.path(), "thirds", 3 * kept as u64)?;
    let setting = Setting { with_admin: true, ..site.setting("group") };
    let server = Server::marconi(folder.path(), &setting)?;
    let admin = server.admin.ok_or_else(|| io::Error::other("no administration"))?;
    server.ask(http::make_queue(2).as_bytes(), &[201])?;
    let highest = site.load(&server, 16, |_| Same::post(2, 1, 1024))?.message_rate();
    let plan = Plan::open(time, highest * MODERATE);
    let load = || site.load_with(server.address, 16, plan, |_| Same::post(2, 1, 1024));
    keep(round, "quiet", &load()?);
    server.ask(http::remove_queue(1).as_bytes(), &[204])?;
    let before = rewritten(admin)?;
    let (done, is_done) = mpsc::channel();
    let asked = std::thread::spawn(move || {
        let request = b"POST /compact HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
        let answer = server::ask(admin, request, &[200]);
        // Nobody waits any more where the measurement failed.
        let _ = done.send(());
        answer
    });
    let outcome = load();
    let ran_all_along = is_done.try_recv().is_err();
    let after = rewritten(admin)?;
    drop(server);
    // It was cut off where it ran on.
    let _ = asked.join();
    keep(round, "compacting", &outcome?);
    round.put("compacting MiB", (after - before) / f64::from(1 << 20));
    round.put("compacting all along", f64::from(u8::from(ran_all_along)));
    Ok(())
}

fn keep(round: &mut Round, name: &str, outcome: &Outcome) {
    round.put(&format!("{name} p50 us"), outcome.quantile_us(0.5));
    round.put(&format!("{name} p99 us"), outcome.quantile_us(0.99));
}

/// Bytes that compaction wrote since the server started.
fn rewritten(admin: SocketAddr) -> io::Result<f64> {
    let answer = server::ask(admin, b"GET /compact HTTP/1.1\r\nhost: x\r\n\r\n", &[200])?;
    let body = http::whole(&answer)?.map_or(0, |(_, body, _)| body);
    let document: Value = serde_json::from_slice(&answer[body..])?;
    document["rewritten_bytes"].as_f64().ok_or_else(|| io::Error::other("no rewritten_bytes"))
}
