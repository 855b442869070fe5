//! What cases do that no line of text can say: workers that claim, one after another or all at
//! once, and what they get between them.

use crate::check;
use crate::run::World;
use anyhow::{Context, bail, ensure};
use marconi_tests::client::Request;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Calls the deed of this name.
pub(crate) fn run(name: &str, world: &World) -> anyhow::Result<()> {
    match name {
        "five claims share 51 messages" => five_claims_in_turn(world),
        "ten workers claim at once" => ten_claims_at_once(world),
        _ => bail!("no such deed"),
    }
}

fn five_claims_in_turn(world: &World) -> anyhow::Result<()> {
    let request = claim_request(world, 10);
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        let taken = take(&request, world.address())?;
        ensure!(taken.len() == 10, "a claim took {}, expected 10", taken.len());
        for id in taken {
            ensure!(seen.insert(id), "a message is under two claims");
        }
    }
    Ok(())
}

fn ten_claims_at_once(world: &World) -> anyhow::Result<()> {
    let request = claim_request(world, 20);
    let address = world.address();
    let taken: anyhow::Result<Vec<Vec<String>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..10).map(|_| scope.spawn(|| take(&request, address))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker returns")).collect()
    });
    let taken: Vec<String> = taken?.into_iter().flatten().collect();
    let distinct: BTreeSet<&String> = taken.iter().collect();
    ensure!(distinct.len() == taken.len(), "a message is under two claims");
    ensure!(taken.len() == 100, "{} of 100 messages were claimed", taken.len());
    Ok(())
}

fn claim_request(world: &World, limit: u32) -> Request {
    world
        .request("POST", &format!("/v1/queues/q/claims?limit={limit}"))
        .body(r#"{"ttl":100,"grace":60}"#)
}

/// The ids of what a claim took.
fn take(request: &Request, server: SocketAddr) -> anyhow::Result<Vec<String>> {
    let reply = request.send(server)?;
    if reply.status == 204 {
        return Ok(Vec::new());
    }
    ensure!(reply.status == 201, "claiming: {reply}");
    check::texts(&reply, "/*/href")?
        .iter()
        .map(|href| Ok(href.split('?').next().context("a path")?.to_owned()))
        .collect()
}
