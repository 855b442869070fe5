//! One stream: good requests, an attack, and what lies behind it; and whether what was heard is what may come of that.
//! Knows no kind of attack.

use super::site::{Doors, OPEN, PATIENCE};
use super::talk::{Ended, Heard};
use super::{http1, http2, shown};
use crate::random::Random;
use anyhow::{Context, bail, ensure};
use marconi_tests::client::Reply;
use marconi_tests::wire::CLIENT_ID;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// Statuses that the API documents; the first is said on the way to an answer.
const DOCUMENTED: [u16; 13] = [100, 200, 201, 204, 300, 400, 403, 404, 405, 406, 414, 431, 503];
/// Good requests before an attack, at the most.
const GOOD_MAX: u64 = 5;

/// See the file's first line.
pub(super) struct Stream {
    pub(super) bytes: Vec<u8>,
    pub(super) end: End,
    /// Queues that its good requests make, in their order.
    pub(super) made: Vec<String>,
    /// A queue that a hidden request would make.
    pub(super) hidden: String,
    /// Which attack it is, for those who read of it.
    attack: &'static str,
    good: Vec<Expected>,
    fate: Fate,
    tail: Vec<Expected>,
}

/// How a client ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It waits until the server hangs up.
    Wait,
    /// It says that nothing more will come, and waits.
    Shut,
    /// It goes, with answers unread.
    Close,
    /// It resets the connection.
    Reset,
}

/// What an answer has to be.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) statuses: &'static [u16],
    /// A header by which it is known whose answer it is.
    pub(super) header: Option<(&'static str, String)>,
    pub(super) is_to_head: bool,
}

/// What may come of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// One answer, of these statuses; then what follows is answered.
    Served(&'static [u16]),
    /// One answer at the most, of these statuses; nothing that follows is answered.
    Ended(&'static [u16]),
    /// One answer at the most; what follows may be answered.
    Contained,
    /// It was changed at random.
    Unknown,
    /// It is HTTP/2.
    Http2(http2::Fate),
}

/// What an attack is made of.
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) fate: Fate,
    /// How its client may end.
    pub(super) end: End,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stream { attack, fate, end, good, tail, .. } = self;
        writeln!(
            f,
            "{attack} behind {} good requests and before {}, to be {fate:?}; the client ends by {end:?}. Sent:",
            good.len(),
            tail.len()
        )?;
        f.write_str(&shown(&self.bytes))
    }
}

impl Stream {
    /// A stream whose queues have `name` in theirs.
    pub(super) fn at_random(random: &mut Random, doors: &Doors, name: &str) -> Stream {
        let hidden = format!("hidden-{name}");
        if random.one_in(4) {
            let made = format!("made-{name}");
            let (attack, bytes, fate, end) = http2::attack(random, &made, &hidden);
            let (good, tail) = (Vec::new(), Vec::new());
            let fate = Fate::Http2(fate);
            return Stream { bytes, end, made: vec![made], hidden, attack, good, fate, tail };
        }
        let (mut bytes, mut good, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for place in 0..random.below(GOOD_MAX + 1) {
            let (request, expected) = good_request(random, &format!("{name}-{place}"), &mut made);
            bytes.extend_from_slice(&request);
            good.push(expected);
        }
        let attack = http1::attack(random, doors, &hidden);
        bytes.extend_from_slice(&attack.bytes);
        let mut tail = Vec::new();
        match attack.fate {
            Fate::Ended(_) => bytes.extend_from_slice(&http1::hidden_request(&hidden)),
            Fate::Served(_) | Fate::Contained => {
                for place in 0..random.below(3) {
                    let mut unused = Vec::new();
                    let name = format!("{name}-tail-{place}");
                    let (request, expected) = good_request(random, &name, &mut unused);
                    bytes.extend_from_slice(&request);
                    tail.push(expected);
                }
                bytes.extend_from_slice(
                    b"GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                );
                tail.push(Expected { statuses: &[204], header: None, is_to_head: false });
            }
            Fate::Unknown | Fate::Http2(_) => {}
        }
        let Attack { name: attack, fate, end, .. } = attack;
        // Some leave whatever it is that they sent.
        let end = match random.below(16) {
            0 => End::Close,
            1 => End::Reset,
            _ => end,
        };
        Stream { bytes, end, made, hidden, attack, good, fate, tail }
    }

    /// How many of its queues have to be there, after what was heard.
    pub(super) fn made_for_certain(&self, heard: &Heard) -> usize {
        match self.fate {
            Fate::Http2(fate) => usize::from(fate.is_served() && is_complete(heard)),
            _ if is_complete(heard) => self.made.len(),
            _ => 0,
        }
    }

    /// Holds what was heard against what may come of it.
    pub(super) fn check(&self, heard: &Heard) -> anyhow::Result<()> {
        if let Fate::Http2(fate) = self.fate {
            return http2::check(&heard.bytes, fate, heard.end == Ended::Whole, is_complete(heard));
        }
        let answers = self.answers(heard)?;
        for (place, answer) in answers.iter().enumerate() {
            check_answer(answer).with_context(|| format!("answer {place}: {answer}"))?;
        }
        let ids: Vec<&str> =
            answers.iter().filter_map(|answer| answer.header("x-request-id")).collect();
        ensure!(
            ids.iter().collect::<HashSet<_>>().len() == ids.len(),
            "a request is answered twice"
        );
        for (place, (answer, expected)) in answers.iter().zip(&self.good).enumerate() {
            expected.check(answer).with_context(|| format!("answer {place} to a good request"))?;
        }
        let good_count = self.good.len();
        let behind = answers.get(good_count..).unwrap_or_default();
        let count = match self.fate {
            Fate::Served(statuses) => {
                if let [attack, tail @ ..] = behind {
                    ensure!(statuses.contains(&attack.status), "the attack got {attack}");
                    self.check_tail(tail)?;
                }
                let all = good_count + 1 + self.tail.len();
                all..all + 1
            }
            Fate::Ended(statuses) => {
                if let [attack, ..] = behind {
                    ensure!(statuses.contains(&attack.status), "the attack got {attack}");
                }
                good_count..good_count + 2
            }
            Fate::Contained => {
                // The tail is answered in order, with the attack's answer before it or without one.
                if self.check_tail(behind).is_err() {
                    self.check_tail(behind.get(1..).unwrap_or_default())?;
                }
                good_count..good_count + 2 + self.tail.len()
            }
            Fate::Unknown | Fate::Http2(_) => good_count..usize::MAX,
        };
        let (found, Range { start, end }) = (answers.len(), count);
        ensure!(found < end, "{found} answers, which is more than {}", end - 1);
        ensure!(
            found >= start || !is_complete(heard),
            "{found} answers, which is less than {start}"
        );
        Ok(())
    }

    /// The answers, but for those on the way to one.
    fn answers(&self, heard: &Heard) -> anyhow::Result<Vec<Reply>> {
        let may_ask_for_heads = self.bytes.windows(5).any(|window| window == b"HEAD ");
        let mut answers: Vec<Reply> = Vec::new();
        let mut rest = heard.bytes.as_slice();
        while !rest.is_empty() {
            let is_to_head = self.good.get(answers.len()).is_some_and(|good| good.is_to_head);
            let mut first = Reply::first(rest, is_to_head)?;
            if may_ask_for_heads
                && let Some((bare, size)) = Reply::first(rest, true)?
                && matches!(&rest[size..], [] | [b'H', b'T', b'T', b'P', b'/', ..])
            {
                first = Some((bare, size));
            }
            let Some((reply, size)) = first else {
                ensure!(heard.end != Ended::Whole, "the last answer is cut short");
                break;
            };
            rest = &rest[size..];
            if reply.status >= 200 {
                answers.push(reply);
            } else {
                ensure!(reply.status == 100, "nobody asked for {reply}");
            }
        }
        Ok(answers)
    }

    fn check_tail(&self, answers: &[Reply]) -> anyhow::Result<()> {
        for (place, (answer, expected)) in answers.iter().zip(&self.tail).enumerate() {
            expected.check(answer).with_context(|| format!("answer {place} to what follows"))?;
        }
        Ok(())
    }
}

/// Whether all that the server had to say has to be there: it hung up, and not for a client that took too long.
fn is_complete(heard: &Heard) -> bool {
    heard.end == Ended::Whole && heard.took < PATIENCE
}

impl Expected {
    fn check(&self, answer: &Reply) -> anyhow::Result<()> {
        ensure!(self.statuses.contains(&answer.status), "not of {:?}: {answer}", self.statuses);
        if let Some((name, value)) = &self.header {
            let found = answer.header(name);
            ensure!(found == Some(value), "{name} has to be {value}: {answer}");
        }
        Ok(())
    }
}

/// What is true of every answer.
fn check_answer(answer: &Reply) -> anyhow::Result<()> {
    ensure!(DOCUMENTED.contains(&answer.status), "the API knows no such status");
    ensure!(
        answer.status != 503 || answer.header("Retry-After").is_some(),
        "503 does not say when to come back"
    );
    let is_json = answer.header("Content-Type").is_some_and(|kind| kind.contains("json"));
    if answer.body.is_empty() {
        return Ok(());
    }
    ensure!(is_json, "a body that is not JSON");
    match serde_json::from_slice::<serde_json::Value>(&answer.body) {
        Ok(document) if answer.status >= 400 => {
            ensure!(document["title"].is_string(), "a refusal without a title");
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(cause) => bail!("a body that is not JSON: {cause}"),
    }
}

/// A good request and its answer. A queue that it makes is added to `made`.
fn good_request(random: &mut Random, name: &str, made: &mut Vec<String>) -> (Vec<u8>, Expected) {
    let client = format!("Client-ID: {CLIENT_ID}\r\n");
    let (request, statuses, header, is_to_head): (String, &[u16], _, bool) = match random.below(7) {
        0 => {
            let queue = format!("made-{name}");
            let request = format!("PUT /v1/queues/{queue} HTTP/1.1\r\nHost: x\r\n\r\n");
            let location = ("location", format!("/v1/queues/{queue}"));
            made.push(queue);
            (request, &[201], Some(location), false)
        }
        1 => {
            let target = format!("/v1/queues/{OPEN}/messages?limit=1&marker=&of={name}");
            let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n{client}\r\n");
            // Others may post what was changed at random.
            (request, &[200, 204], Some(("content-location", target)), false)
        }
        2 => {
            let request = format!("GET /v1/nowhere/{name} HTTP/1.1\r\nHost: x\r\n\r\n");
            (request, &[404], Some(("content-type", "application/json".to_owned())), false)
        }
        3 => ("HEAD /v1/health HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), &[204], None, true),
        4 => {
            let body = format!(r#"[{{"ttl": 300, "body": "{name}: PUT /v1/queues/q HTTP/1.1"}}]"#);
            let size = body.len();
            let request = format!(
                "POST /v1/queues/{OPEN}/messages HTTP/1.1\r\nHost: x\r\n{client}Content-Length: {size}\r\n\r\n{body}"
            );
            (request, &[201], Some(("marconi-durability", "os".to_owned())), false)
        }
        5 => {
            let request = format!("OPTIONS /v1/queues/{name}/stats HTTP/1.1\r\nHost: x\r\n\r\n");
            (request, &[200], Some(("allow", "GET, OPTIONS".to_owned())), false)
        }
        _ => {
            let request = format!("DELETE /v1/queues/{name}/stats HTTP/1.1\r\nHost: x\r\n\r\n");
            (request, &[405], Some(("allow", "GET, OPTIONS".to_owned())), false)
        }
    };
    (request.into_bytes(), Expected { statuses, header, is_to_head })
}
