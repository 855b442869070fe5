//! Messages and claims as people and programs read them. Knows no server.

use crate::output::{Output, Tone, duration};
use marconi_client::{Claim, Message, RawValue};
use serde::Serialize;
use std::borrow::Cow;
use std::io;
use std::time::Duration;

/// A message as a document. Times are seconds.
#[derive(Serialize)]
struct MessageDocument<'a> {
    id: &'a str,
    href: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim_id: Option<&'a str>,
    ttl: u64,
    age: u64,
    body: Cow<'a, RawValue>,
}

impl<'a> MessageDocument<'a> {
    fn new(message: &'a Message) -> MessageDocument<'a> {
        MessageDocument {
            id: &message.id,
            href: &message.href,
            claim_id: message.claim_id.as_deref(),
            ttl: message.ttl.as_secs(),
            age: message.age.as_secs(),
            body: one_line(&message.body),
        }
    }
}

/// A claim as a document. Times are seconds.
#[derive(Serialize)]
struct ClaimDocument<'a> {
    id: &'a str,
    href: &'a str,
    ttl: u64,
    age: u64,
    messages: Vec<MessageDocument<'a>>,
}

/// A message on a line of its own.
pub(super) fn message(output: &mut Output, message: &Message) -> io::Result<()> {
    if output.json {
        return output.document(&MessageDocument::new(message));
    }
    let id = output.tone(Tone::Heading, &message.id);
    let times = format!("{} of {}", text(message.age), text(message.ttl));
    let times = output.tone(Tone::Dim, times);
    let body = one_line(&message.body);
    output.line(format_args!("{id}  {times}  {}", body.get()))
}

/// A message's body on a line of its own.
pub(super) fn body(output: &mut Output, message: &Message) -> io::Result<()> {
    output.line(one_line(&message.body).get())
}

/// A claim, and below it what it holds.
pub(super) fn claim(output: &mut Output, claim: &Claim) -> io::Result<()> {
    if output.json {
        return output.document(&ClaimDocument {
            id: &claim.id,
            href: &claim.href,
            ttl: claim.ttl.as_secs(),
            age: claim.age.as_secs(),
            messages: claim.messages.iter().map(MessageDocument::new).collect(),
        });
    }
    let id = output.tone(Tone::Heading, &claim.id);
    let count = claim.messages.len();
    let noun = if count == 1 { "message" } else { "messages" };
    let left = text(claim.ttl.saturating_sub(claim.age));
    output.line(format_args!("claim {id} holds {count} {noun} for {left}"))?;
    claim.messages.iter().try_for_each(|held| message(output, held))
}

fn text(time: Duration) -> String {
    duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// JSON without line ends. Inside a text they are escaped, so those that stand there are blanks.
pub(super) fn one_line(json: &RawValue) -> Cow<'_, RawValue> {
    if !json.get().contains(['\n', '\r']) {
        return Cow::Borrowed(json);
    }
    let line = RawValue::from_string(json.get().replace(['\n', '\r'], " "));
    Cow::Owned(line.expect("a blank for another is the same document"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_take_one_line() {
        for (body, expected) in
            [(r#"{"a" : "x\ny"}"#, r#"{"a" : "x\ny"}"#), ("{\r\n \"a\":\n1}", "{   \"a\": 1}")]
        {
            let body = RawValue::from_string(body.to_owned()).expect("JSON");
            assert_eq!(one_line(&body).get(), expected);
        }
    }
}
