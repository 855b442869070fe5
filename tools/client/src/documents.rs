//! The documents of the API as a program sees them, and their links taken apart. Pure; knows no
//! sockets.

use crate::builder::Durability;
use crate::error::Error;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;

/// A message to be posted.
#[derive(Debug, Clone)]
pub struct NewMessage {
    ttl_s: u64,
    body: Box<RawValue>,
}

impl NewMessage {
    /// A message with this body that lives for `ttl`, in whole seconds: a part of one counts as one.
    /// By default servers take 60 s to 14 days.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the body cannot be written as JSON.
    pub fn new(ttl: Duration, body: &(impl Serialize + ?Sized)) -> Result<NewMessage, Error> {
        let text = serde_json::value::to_raw_value(body);
        let text = text.map_err(|cause| Error::invalid(format!("the body is no JSON: {cause}")))?;
        Ok(NewMessage::raw(ttl, text))
    }

    /// The same with a body that is JSON already; it is sent as it is.
    pub fn raw(ttl: Duration, body: Box<RawValue>) -> NewMessage {
        NewMessage { ttl_s: seconds(ttl), body }
    }

    /// What it adds to the size of a request in bytes. A post of several takes the sum of theirs and
    /// two; servers take 256 KiB by default.
    pub fn size(&self) -> usize {
        let digits = self.ttl_s.checked_ilog10().unwrap_or(0) as usize + 1;
        br#"{"ttl":,"body":},"#.len() + digits + self.body.get().len()
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"ttl\":");
        out.extend_from_slice(self.ttl_s.to_string().as_bytes());
        out.extend_from_slice(b",\"body\":");
        out.extend_from_slice(self.body.get().as_bytes());
        out.push(b'}');
    }
}

/// Whole seconds; a part of one counts as one.
pub(crate) fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// A message as the server keeps it.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// The claim the answer gave it under; only answers about claims say so.
    pub claim_id: Option<String>,
    /// Its link as the server gave it. In an answer about a claim it names the claim.
    pub href: String,
    /// How long it lives from its post on. A claim may have lengthened it, and then it counts from
    /// the claim on.
    pub ttl: Duration,
    /// The time since its post.
    pub age: Duration,
    /// Its body, byte for byte as it was posted.
    pub body: Box<RawValue>,
}

impl Message {
    /// The body as a value.
    ///
    /// # Errors
    /// [`Error::Body`] where it is not of this type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(self.body.get())
            .map_err(|source| Error::Body { message: self.id.clone(), source })
    }
}

/// A message as it stands on the wire.
#[derive(Deserialize)]
struct WireMessage {
    href: String,
    ttl: u64,
    age: u64,
    body: Box<RawValue>,
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Message, D::Error> {
        let wire = WireMessage::deserialize(deserializer)?;
        let link = Link::read(&wire.href).map_err(serde::de::Error::custom)?;
        Ok(Message {
            id: link.id.to_owned(),
            claim_id: link.claim_id.map(str::to_owned),
            ttl: Duration::from_secs(wire.ttl),
            age: Duration::from_secs(wire.age),
            body: wire.body,
            href: wire.href,
        })
    }
}

/// A message just posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostedMessage {
    /// Its id.
    pub id: String,
    /// Its link as the server gave it.
    pub href: String,
}

impl PostedMessage {
    pub(crate) fn new(href: String) -> Result<PostedMessage, String> {
        let id = Link::read(&href)?.id.to_owned();
        Ok(PostedMessage { id, href })
    }
}

/// A claim with the messages it holds.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its id.
    pub id: String,
    /// Its link as the server gave it.
    pub href: String,
    /// How long it holds its messages, from its making or last renewal on.
    pub ttl: Duration,
    /// The time since its making or last renewal.
    pub age: Duration,
    /// What it holds, oldest first.
    pub messages: Vec<Message>,
}

/// A claim as it stands on the wire.
#[derive(Deserialize)]
struct WireClaim {
    href: String,
    ttl: u64,
    age: u64,
    messages: Vec<Message>,
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Claim, D::Error> {
        let wire = WireClaim::deserialize(deserializer)?;
        let link = Link::read(&wire.href).map_err(serde::de::Error::custom)?;
        Ok(Claim {
            id: link.id.to_owned(),
            ttl: Duration::from_secs(wire.ttl),
            age: Duration::from_secs(wire.age),
            messages: wire.messages,
            href: wire.href,
        })
    }
}

/// A link to one thing, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link<'a> {
    /// What the path ends with.
    pub(crate) id: &'a str,
    pub(crate) claim_id: Option<&'a str>,
}

impl Link<'_> {
    pub(crate) fn read(href: &str) -> Result<Link<'_>, String> {
        let wrong = || format!("{href:?} is no link to a message or claim");
        check_link(href)?;
        let (path, query) = href.split_once('?').unwrap_or((href, ""));
        let id = path.rsplit('/').next().filter(|id| !id.is_empty()).ok_or_else(wrong)?;
        let claim_id = query.split('&').find_map(|pair| pair.strip_prefix("claim_id="));
        Ok(Link { id, claim_id })
    }
}

/// Links lead nowhere but to the server they came from.
pub(crate) fn check_link(href: &str) -> Result<(), String> {
    if href.starts_with('/') && !href.starts_with("//") {
        return Ok(());
    }
    Err(format!("the link {href:?} does not begin at the root of the server"))
}

/// The page behind the next link of an answer.
#[derive(Deserialize)]
pub(crate) struct WireLink {
    pub(crate) rel: String,
    pub(crate) href: String,
}

impl WireLink {
    /// The link to the next page among those of an answer.
    pub(crate) fn next(links: Vec<WireLink>) -> Result<String, String> {
        let next = links.into_iter().find(|link| link.rel == "next");
        let next = next.ok_or("a page has no link to the next one")?;
        check_link(&next.href)?;
        Ok(next.href)
    }
}

/// A page of messages as it stands on the wire.
#[derive(Deserialize)]
pub(crate) struct WireMessages {
    pub(crate) messages: Vec<Message>,
    pub(crate) links: Vec<WireLink>,
}

/// A page of queues as it stands on the wire.
#[derive(Deserialize)]
pub(crate) struct WireQueues {
    pub(crate) queues: Vec<QueueEntry>,
    pub(crate) links: Vec<WireLink>,
}

/// The answer to a post as it stands on the wire.
#[derive(Deserialize)]
pub(crate) struct WirePosted {
    pub(crate) resources: Vec<String>,
}

/// A queue in a list.
#[derive(Debug, Clone, Deserialize)]
pub struct QueueEntry {
    /// Its name.
    pub name: String,
    /// Its link as the server gave it.
    pub href: String,
    /// Its metadata, where they were asked for.
    pub metadata: Option<Box<RawValue>>,
}

/// What is known of a queue that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    /// The level of its writes, where the server says so.
    pub durability: Option<Durability>,
}

/// The counts of a queue. As JSON they look as they do on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStats {
    /// Messages that may be claimed.
    pub free: u64,
    /// Messages under a live claim.
    pub claimed: u64,
    /// Both.
    pub total: u64,
    /// The oldest message, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<StatMessage>,
    /// The newest message, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<StatMessage>,
}

/// The counts of a queue as they stand on the wire.
#[derive(Deserialize)]
pub(crate) struct WireStats {
    pub(crate) messages: QueueStats,
}

/// A message in the counts of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatMessage {
    /// Its link as the server gave it.
    pub href: String,
    /// The seconds since its post.
    #[serde(rename = "age")]
    pub age_s: u64,
    /// The time of its post, as RFC 3339.
    pub created: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_taken_apart() {
        for (href, expected) in [
            ("/v1/queues/q/messages/gCAB", Some(("gCAB", None))),
            ("/v1/queues/q/messages/gCAB?claim_id=gEAD", Some(("gCAB", Some("gEAD")))),
            ("/v1/queues/q/messages/a?x=1&claim_id=b", Some(("a", Some("b")))),
            ("/v1/queues/q/messages/", None),
            ("http://elsewhere/v1/queues/q/messages/a", None),
            ("//elsewhere/a", None),
            ("", None),
        ] {
            let found = Link::read(href).ok().map(|link| (link.id, link.claim_id));
            assert_eq!(found, expected, "{href}");
        }
    }

    #[test]
    fn bodies_stay_as_they_are() {
        let text =
            r#"{"href":"/v1/queues/q/messages/a?claim_id=c","ttl":60,"age":1,"body": {"z" : 1.0}}"#;
        let message: Message = serde_json::from_str(text).expect("a message");
        assert_eq!(message.body.get(), r#"{"z" : 1.0}"#);
        assert_eq!((&*message.id, message.claim_id.as_deref()), ("a", Some("c")));
        let new = NewMessage::raw(Duration::from_millis(59_001), message.body);
        let mut out = Vec::new();
        new.write(&mut out);
        assert_eq!(out, br#"{"ttl":60,"body":{"z" : 1.0}}"#);
        assert_eq!(new.size(), out.len() + 1);
        assert_eq!(NewMessage::new(Duration::ZERO, &7).expect("a number").size(), 19);
    }

    #[test]
    fn a_body_of_another_type_is_an_error_that_names_the_message() {
        let text = r#"{"href":"/v1/queues/q/messages/a","ttl":60,"age":1,"body":"x"}"#;
        let message: Message = serde_json::from_str(text).expect("a message");
        assert_eq!(message.read::<String>().expect("a text"), "x");
        let error = message.read::<u32>().expect_err("no number");
        assert!(error.to_string().contains("message a"), "{error}");
    }
}
