//! What a server's answer says, by the call it answers: status and document in, [`Answer`] out; and the bodies that
//! messages carry. Knows no sockets and no history.

use super::operation::{Answer, Call, Key, Position, Shown};
use anyhow::{Context, bail, ensure};
use marconi_engine::{ClaimId, MessageId};
use serde::Deserialize;

/// Each so many messages one is large.
const LARGE_EACH: u64 = 197;
const LARGE_SIZE: usize = 9_000;
const SMALL_SIZE_MAX: u64 = 90;

/// The body of a message: its key, and letters that follow from it.
pub(crate) fn body(key: Key) -> String {
    let size = if key.0.is_multiple_of(LARGE_EACH) {
        LARGE_SIZE
    } else {
        (key.0 % SMALL_SIZE_MAX) as usize
    };
    let letter = char::from(b'a' + (key.0 % 26) as u8);
    format!("[{},\"{}\"]", key.0, String::from(letter).repeat(size))
}

#[derive(Deserialize)]
struct Document<'a> {
    href: &'a str,
    #[serde(borrow)]
    body: &'a serde_json::value::RawValue,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    messages: Vec<Document<'a>>,
}

#[derive(Deserialize)]
struct Held<'a> {
    href: &'a str,
    #[serde(borrow)]
    messages: Vec<Document<'a>>,
}

#[derive(Deserialize)]
struct Posted<'a> {
    #[serde(borrow)]
    resources: Vec<&'a str>,
}

#[derive(Deserialize)]
struct Stats<'a> {
    #[serde(borrow)]
    messages: Counts<'a>,
}

#[derive(Deserialize)]
struct Counts<'a> {
    free: u64,
    claimed: u64,
    total: u64,
    #[serde(borrow)]
    oldest: Option<End<'a>>,
    #[serde(borrow)]
    newest: Option<End<'a>>,
}

#[derive(Deserialize)]
struct End<'a> {
    href: &'a str,
}

#[derive(Deserialize)]
struct Metadata {
    value: Option<u64>,
}

/// Reads an answer; one that no server in order gives is [`Answer::Nonsense`]. `location` is the header's value.
pub(crate) fn read(call: &Call, status: u16, location: Option<&str>, body: &[u8]) -> Answer {
    understand(call, status, location, body).unwrap_or_else(|cause| {
        let text: String = String::from_utf8_lossy(body).chars().take(300).collect();
        Answer::Nonsense(format!("status {status}: {cause:#}; it says {text}"))
    })
}

fn understand(
    call: &Call,
    status: u16,
    location: Option<&str>,
    body: &[u8],
) -> anyhow::Result<Answer> {
    Ok(match (call, status) {
        // It may have happened all the same; whether it could be refused is judged by who sent it.
        (_, 503) => Answer::None,
        (Call::Post { .. }, 201) => {
            let Posted { resources } = serde_json::from_slice(body)?;
            Answer::Posted(resources.into_iter().map(position).collect::<Result<_, _>>()?)
        }
        (Call::List { .. }, 200) => {
            let Page { messages } = serde_json::from_slice(body)?;
            ensure!(!messages.is_empty(), "an empty page is 204");
            Answer::Shown(shown(&messages, None)?)
        }
        (Call::List { .. }, 204) => Answer::Shown(Vec::new()),
        (Call::Get { .. }, 200) => Answer::Shown(shown(&[serde_json::from_slice(body)?], None)?),
        (Call::Claim { .. }, 201) => {
            let messages: Vec<Document<'_>> = serde_json::from_slice(body)?;
            ensure!(!messages.is_empty(), "a claim of nothing is 204");
            let claim = claim(location.context("no Location")?)?;
            Answer::Claimed { claim, messages: shown(&messages, Some(claim))? }
        }
        (Call::ClaimGet { claim: asked }, 200) => {
            let Held { href, messages } = serde_json::from_slice(body)?;
            let claim = claim(href)?;
            ensure!(claim == *asked, "claim {asked} was asked for");
            Answer::Claimed { claim, messages: shown(&messages, Some(claim))? }
        }
        (Call::Stats, 200) => {
            let Stats { messages } = serde_json::from_slice(body)?;
            ensure!(messages.total == messages.free + messages.claimed, "the sum is wrong");
            let end = |end: Option<End<'_>>| end.map(|end| position(end.href)).transpose();
            let ends = end(messages.oldest)?.zip(end(messages.newest)?);
            Answer::Counts { free: messages.free, claimed: messages.claimed, ends }
        }
        (Call::GetMetadata, 200) => {
            let Metadata { value } = serde_json::from_slice(body)?;
            Answer::Value(value)
        }
        (Call::Create, 201) => Answer::Made,
        (
            Call::Delete { .. }
            | Call::DeleteMany { .. }
            | Call::Claim { .. }
            | Call::Renew { .. }
            | Call::Release { .. }
            | Call::Create
            | Call::Remove
            | Call::SetMetadata { .. },
            204,
        ) => Answer::Done,
        (Call::Delete { .. }, 400 | 403)
        | (
            Call::Post { .. }
            | Call::Get { .. }
            | Call::ClaimGet { .. }
            | Call::Renew { .. }
            | Call::Stats
            | Call::SetMetadata { .. }
            | Call::GetMetadata,
            404,
        ) => Answer::Refused(status),
        _ => bail!("not an answer to this"),
    })
}

/// The messages of an answer, whose bodies have to be those that were posted, and whose links name `claim`.
fn shown(messages: &[Document<'_>], claim: Option<u64>) -> anyhow::Result<Vec<Shown>> {
    let read = |message: &Document<'_>| {
        let (key, _): (u64, &str) =
            serde_json::from_str(message.body.get()).context("a body that nobody posted")?;
        let key = Key(key);
        ensure!(message.body.get() == body(key), "the body of {key} is not what was posted");
        let (path, query) = message.href.split_once('?').unwrap_or((message.href, ""));
        let named = query.strip_prefix("claim_id=").map(claim_of).transpose()?;
        ensure!(named == claim, "a link names the claim {named:?}");
        Ok(Shown { position: position(path)?, key })
    };
    messages.iter().map(read).collect()
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn position(path: &str) -> anyhow::Result<Position> {
    let id: MessageId = last_part(path).parse().with_context(|| format!("the id of {path}"))?;
    Ok(Position { queue: id.queue.0, seq: id.seq.0 })
}

fn claim(path: &str) -> anyhow::Result<u64> {
    claim_of(last_part(path))
}

fn claim_of(text: &str) -> anyhow::Result<u64> {
    let id: ClaimId = text.parse().with_context(|| format!("the claim id {text}"))?;
    Ok(id.0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_and_a_changed_body_is_nonsense() {
        let call = Call::List { after: None, limit: 5, echo: true, with_claimed: true };
        let id = MessageId { queue: marconi_engine::QueueId(7), seq: marconi_engine::Seq(3) };
        let page = |body: &str| {
            format!(
                r#"{{"messages":[{{"href":"/v1/queues/q0/messages/{id}","ttl":60,"age":1,"body":{body}}}],"links":[]}}"#
            )
        };
        let key = Key(2_000_003);
        let answer = read(&call, 200, None, page(&body(key)).as_bytes());
        let position = Position { queue: 7, seq: 3 };
        assert_eq!(answer, Answer::Shown(vec![Shown { position, key }]));
        let changed = body(key).replacen('f', "e", 1);
        assert_ne!(changed, body(key));
        for body in [changed.as_str(), "[1]", "{}"] {
            let answer = read(&call, 200, None, page(body).as_bytes());
            assert!(matches!(answer, Answer::Nonsense(_)), "{body}: {answer}");
        }
        assert!(matches!(read(&call, 404, None, b""), Answer::Nonsense(_)));
    }
}
