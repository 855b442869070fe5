//! What answers show, and a look at all a server has. Judges only whether a body is one that somebody posted.

use super::client::body;
use super::connection::{Answer, Connection};
use super::{Key, Plan, Seen};
use anyhow::{Context, ensure};
use marconi_engine::Durability;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Who looks: none of the clients, so that it is shown what all of them posted.
const ME: (&str, &str) = ("Client-ID", "00000000-0000-4000-8000-999999999999");

/// All a server has.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) queues: Vec<QueueSeen>,
    /// The claims asked for: the ids of what each holds, `None` where there is no such claim.
    pub(super) claims: BTreeMap<String, Option<Vec<String>>>,
}

/// A queue, looked at from all sides.
#[derive(Debug)]
pub(super) struct QueueSeen {
    /// All messages, in the order they came.
    pub(super) all: Vec<Seen>,
    /// The ids of the free ones.
    pub(super) free: BTreeSet<String>,
    /// Free, claimed and total, as the queue's stats have them.
    pub(super) stats: (u64, u64, u64),
}

/// Makes the queues that are not there, then looks at everything; `None` when the server was killed meanwhile.
pub(super) fn observe(
    server: SocketAddr,
    plan: &Plan,
    claims: &[(usize, String)],
) -> anyhow::Result<Option<Observed>> {
    let Some(mut connection) = Connection::open(server) else { return Ok(None) };
    let mut observed = Observed { queues: Vec::new(), claims: BTreeMap::new() };
    for queue in &plan.queues {
        let path = format!("/v1/queues/{}", queue.name);
        let level = queue.by_header.then_some(("Marconi-Durability", queue.level.name()));
        let headers: Vec<(&str, &str)> = level.into_iter().collect();
        // A server whose disk is gone answers 503 to all writes: it is about to be killed.
        let Some(made) = connection.ask("PUT", &path, &headers, "")? else { return Ok(None) };
        if made.status == 503 {
            return Ok(None);
        }
        ensure!(matches!(made.status, 201 | 204), "PUT {path} is answered {}", made.status);
        let mut list = |include_claimed: bool| -> anyhow::Result<Option<Vec<Seen>>> {
            let target =
                format!("{path}/messages?echo=true&limit=100000&include_claimed={include_claimed}");
            let Some(answer) = connection.ask("GET", &target, &[ME], "")? else { return Ok(None) };
            match answer.status {
                204 => Ok(Some(Vec::new())),
                200 => page(&answer.body).map(Some),
                503 => Ok(None),
                status => anyhow::bail!("GET {target} is answered {status}: {}", answer.body),
            }
        };
        let (Some(all), Some(free)) = (list(true)?, list(false)?) else { return Ok(None) };
        let free = free.into_iter().map(|seen| seen.id).collect();
        let Some(answer) = connection.ask("GET", &format!("{path}/stats"), &[], "")? else {
            return Ok(None);
        };
        if answer.status == 503 {
            return Ok(None);
        }
        let stats = stats(&answer.body)?;
        observed.queues.push(QueueSeen { all, free, stats });
    }
    for (queue, claim) in claims {
        let path = format!("/v1/queues/{}/claims/{claim}", plan.queues[*queue].name);
        let Some(answer) = connection.ask("GET", &path, &[], "")? else { return Ok(None) };
        let held = match answer.status {
            404 => None,
            200 => Some(page(&answer.body)?.into_iter().map(|seen| seen.id).collect()),
            503 => return Ok(None),
            status => anyhow::bail!("GET {path} is answered {status}: {}", answer.body),
        };
        observed.claims.insert(claim.clone(), held);
    }
    Ok(Some(observed))
}

/// Claims all that is free, and nothing else is what was listed as free, oldest first.
pub(super) fn claim_all(server: SocketAddr, plan: &Plan) -> anyhow::Result<()> {
    let mut connection = Connection::open(server).context("the server hung up")?;
    for queue in &plan.queues {
        let path = format!("/v1/queues/{}", queue.name);
        let mut ask = |method: &str, target: &str, body: &str| {
            connection.ask(method, target, &[ME], body)?.context("the server hung up")
        };
        let target = format!("{path}/messages?echo=true&limit=100000");
        let listed = ask("GET", &target, "")?;
        let listed = if listed.status == 204 { Vec::new() } else { page(&listed.body)? };
        let mut given = Vec::new();
        loop {
            let target = format!("{path}/claims?limit=20");
            let answer = ask("POST", &target, r#"{"ttl":43000,"grace":60}"#)?;
            if answer.status == 204 {
                break;
            }
            let Answer { status, body, .. } = &answer;
            ensure!(*status == 201, "a claim is answered {status}: {body}");
            given.extend(messages(body)?);
        }
        let keys = |seen: &[Seen]| -> Vec<Key> { seen.iter().map(|seen| seen.key).collect() };
        let (listed, given) = (keys(&listed), keys(&given));
        let place = listed.iter().zip(&given).take_while(|(listed, given)| listed == given).count();
        ensure!(
            listed == given,
            "{} of {} free messages are given to claims; at place {place} {:?} is free, {:?} is given",
            given.len(),
            listed.len(),
            listed.get(place),
            given.get(place),
        );
    }
    Ok(())
}

#[derive(Deserialize)]
struct Message<'a> {
    href: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Deserialize)]
struct Body {
    from: u32,
    post: u32,
    part: u32,
    fill: String,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
}

impl Message<'_> {
    /// Where it is from, if it is what was posted, byte for byte.
    fn seen(&self) -> anyhow::Result<Seen> {
        let text = self.body.get();
        let shown = || format!("a body that nobody posted: {:.200}", text);
        let Body { from, post, part, fill } = serde_json::from_str(text).with_context(shown)?;
        let key = Key { from, post, part };
        ensure!(body(key, fill.len()) == text, "the body of {key} came back changed: {text:.200}");
        Ok(Seen { id: id_of(&self.href)?, key })
    }
}

/// The messages of an answer to a claim: a bare array.
pub(crate) fn messages(document: &str) -> anyhow::Result<Vec<Seen>> {
    let messages: Vec<Message<'_>> =
        serde_json::from_str(document).context("an array of messages")?;
    messages.iter().map(Message::seen).collect()
}

/// The messages of a page, or of a claim that was asked for.
pub(crate) fn page(document: &str) -> anyhow::Result<Vec<Seen>> {
    let page: Page<'_> = serde_json::from_str(document).context("a page of messages")?;
    page.messages.iter().map(Message::seen).collect()
}

/// The ids in the answer to a post.
pub(crate) fn ids_of_post(document: &str) -> anyhow::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Posted {
        resources: Vec<String>,
    }
    let posted: Posted = serde_json::from_str(document).context("the answer to a post")?;
    posted.resources.iter().map(|href| id_of(href)).collect()
}

/// What an answer to a write says was reached.
pub(super) fn level_of(answer: &Answer) -> anyhow::Result<Durability> {
    let name = answer.header("Marconi-Durability").context("an answer that names no level")?;
    let level = Durability::ALL.into_iter().find(|level| level.name() == name);
    level.with_context(|| format!("there is no level {name}"))
}

fn stats(document: &str) -> anyhow::Result<(u64, u64, u64)> {
    #[derive(Deserialize)]
    struct Stats {
        messages: Counts,
    }
    #[derive(Deserialize)]
    struct Counts {
        free: u64,
        claimed: u64,
        total: u64,
    }
    let Stats { messages } = serde_json::from_str(document).context("stats")?;
    Ok((messages.free, messages.claimed, messages.total))
}

fn id_of(href: &str) -> anyhow::Result<String> {
    let path = href.split('?').next().unwrap_or_default();
    let (_, id) = path.rsplit_once('/').with_context(|| format!("no link: {href}"))?;
    Ok(id.to_owned())
}
