//! The documents v1 answers with, and its paths. Pure; knows no store and no sockets.
//!
//! Queue names and ids need no escape in a path or a JSON string: both alphabets are checked when
//! they are read or made. Stored bodies and metadata are JSON already and are copied as they are.

use super::write::Json;
use crate::store::{Claim, Message, Page};
use marconi_engine::{ClaimId, IdText, MessageId, QueueEntry, QueueStats, StatMessage};

/// Room for a message document besides its body and its queue's name.
const MESSAGE_SIZE: usize = 144;

/// The path of a queue.
pub fn queue_path(queue: &str) -> String {
    format!("/v1/queues/{queue}")
}

/// The path of a queue's metadata.
pub fn metadata_path(queue: &str) -> String {
    format!("/v1/queues/{queue}/metadata")
}

/// The path of a claim.
pub fn claim_path(queue: &str, claim: ClaimId) -> String {
    format!("/v1/queues/{queue}/claims/{claim}")
}

/// The answer to a post, and the path under which all its messages are read back.
pub fn posted(queue: &str, ids: &[MessageId]) -> (Vec<u8>, Vec<u8>) {
    const FIRST: &str = "{\"resources\":[";
    const LAST: &str = "],\"partial\":false}";
    // The very size: what is larger than its text takes an allocation more where it is sent.
    let between = ids.len().saturating_sub(1);
    let ids_size: usize = ids.iter().map(|id| id.text_size()).sum();
    let hrefs_size = ids.len() * ("\"/v1/queues//messages/\"".len() + queue.len());
    let size = FIRST.len() + hrefs_size + ids_size + between + LAST.len();
    let path_size = "/v1/queues//messages?ids=".len() + queue.len() + ids_size + between;
    let mut out = Json::with_capacity(size);
    let mut path = Vec::with_capacity(path_size);
    for part in ["/v1/queues/", queue, "/messages?ids="] {
        path.extend_from_slice(part.as_bytes());
    }
    out.raw(FIRST);
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            out.raw(",");
            path.push(b',');
        }
        let id = id.text();
        out.raw("\"/v1/queues/").raw(queue).raw("/messages/").bytes(id.as_bytes()).raw("\"");
        path.extend_from_slice(id.as_bytes());
    }
    out.raw(LAST);
    (out.into_bytes(), path)
}

/// One message, by itself.
pub fn message(queue: &str, message: &Message) -> Vec<u8> {
    let mut out = Json::with_capacity(messages_size(queue, std::slice::from_ref(message)));
    write_message(&mut out, &message_start(queue), message, None);
    out.into_bytes()
}

/// Messages in a bare array; with a claim, their hrefs name it.
pub fn messages(queue: &str, messages: &[Message], claim: Option<ClaimId>) -> Vec<u8> {
    let mut out = Json::with_capacity(messages_size(queue, messages));
    let (start, claim) = (message_start(queue), claim.map(|claim| claim.text()));
    out.list(messages, |out, message| write_message(out, &start, message, claim.as_ref()));
    out.into_bytes()
}

/// What a request for a page of messages said, to be said again in the link to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageAsked {
    /// `limit`, if given.
    pub limit: Option<i64>,
    /// `echo`, if given.
    pub echo: Option<bool>,
    /// `include_claimed`, if given.
    pub include_claimed: Option<bool>,
}

/// A page of messages with the link to the next; `None` when it is empty.
pub fn page(queue: &str, page: &Page, asked: PageAsked) -> Option<Vec<u8>> {
    let marker = page.next.filter(|_| !page.messages.is_empty())?;
    let mut out = Json::with_capacity(160 + queue.len() + messages_size(queue, &page.messages));
    out.raw("{\"messages\":");
    let start = message_start(queue);
    out.list(&page.messages, |out, message| write_message(out, &start, message, None));
    out.raw(",\"links\":[{\"rel\":\"next\",\"href\":\"/v1/queues/").raw(queue).raw("/messages?");
    if let Some(limit) = asked.limit {
        out.raw("limit=").show(limit).raw("&");
    }
    if let Some(echo) = asked.echo {
        out.raw("echo=").show(echo).raw("&");
    }
    if let Some(include_claimed) = asked.include_claimed {
        out.raw("include_claimed=").show(include_claimed).raw("&");
    }
    out.raw("marker=").show(marker).raw("\"}]}");
    Some(out.into_bytes())
}

/// A claim with what it holds.
pub fn claim(queue: &str, claim: &Claim) -> Vec<u8> {
    let mut out = Json::with_capacity(160 + messages_size(queue, &claim.messages));
    out.raw("{\"age\":").show(claim.age_s).raw(",\"ttl\":").show(claim.ttl_s);
    out.raw(",\"href\":\"/v1/queues/").raw(queue).raw("/claims/").show(claim.id);
    out.raw("\",\"messages\":");
    let (start, id) = (message_start(queue), claim.id.text());
    out.list(&claim.messages, |out, message| write_message(out, &start, message, Some(&id)));
    out.raw("}");
    out.into_bytes()
}

/// A queue's counts.
pub fn stats(queue: &str, stats: &QueueStats) -> Vec<u8> {
    let mut out = Json::with_capacity(320);
    out.raw("{\"messages\":{\"free\":").show(stats.free);
    out.raw(",\"claimed\":").show(stats.claimed);
    out.raw(",\"total\":").show(stats.free + stats.claimed);
    if let Some((oldest, newest)) = &stats.ends {
        for (name, end) in [("oldest", oldest), ("newest", newest)] {
            out.raw(",\"").raw(name).raw("\":");
            write_end(&mut out, queue, end);
        }
    }
    out.raw("}}");
    out.into_bytes()
}

fn write_end(out: &mut Json, queue: &str, end: &StatMessage) {
    // A time beyond what a calendar holds is shown as the epoch.
    let seconds = i64::try_from(end.created_ms / 1000).unwrap_or(0);
    let created = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    out.raw("{\"age\":").show(end.age_s).raw(",\"created\":\"").show(created);
    out.raw("\",\"href\":\"/v1/queues/").raw(queue).raw("/messages/").show(end.id).raw("\"}");
}

/// A queue's metadata.
pub fn metadata(stored: &[u8]) -> &[u8] {
    if stored.is_empty() { b"{}" } else { stored }
}

/// A page of queues with the link to the next; `None` when it is empty.
pub fn queues(
    entries: &[QueueEntry],
    limit: Option<i64>,
    detailed: Option<bool>,
) -> Option<Vec<u8>> {
    let last = entries.last()?;
    let with_metadata = detailed == Some(true);
    let bodies = entries.iter().map(|entry| if with_metadata { entry.metadata.len() } else { 0 });
    let mut out = Json::with_capacity(192 + entries.len() * 192 + bodies.sum::<usize>());
    out.raw("{\"queues\":").list(entries, |out, entry| {
        let name = entry.key.name();
        out.raw("{\"name\":\"").raw(name).raw("\",\"href\":\"/v1/queues/").raw(name).raw("\"");
        if with_metadata {
            out.raw(",\"metadata\":").bytes(metadata(&entry.metadata));
        }
        out.raw("}");
    });
    out.raw(",\"links\":[{\"rel\":\"next\",\"href\":\"/v1/queues?");
    if let Some(limit) = limit {
        out.raw("limit=").show(limit).raw("&");
    }
    if let Some(detailed) = detailed {
        out.raw("detailed=").show(detailed).raw("&");
    }
    out.raw("marker=").raw(last.key.name()).raw("\"}]}");
    Some(out.into_bytes())
}

fn messages_size(queue: &str, messages: &[Message]) -> usize {
    let bodies: usize = messages.iter().map(|message| message.body.len()).sum();
    2 + bodies + messages.len() * (MESSAGE_SIZE + queue.len())
}

/// What all messages of a queue begin with, up to their id.
fn message_start(queue: &str) -> String {
    ["{\"href\":\"/v1/queues/", queue, "/messages/"].concat()
}

fn write_message(out: &mut Json, start: &str, message: &Message, claim: Option<&IdText>) {
    out.raw(start).bytes(message.id.text().as_bytes());
    if let Some(claim) = claim {
        out.raw("?claim_id=").bytes(claim.as_bytes());
    }
    out.raw("\",\"ttl\":").number(u64::from(message.ttl_s));
    out.raw(",\"age\":").number(message.age_s);
    out.raw(",\"body\":").bytes(&message.body).raw("}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use marconi_engine::{Lsn, Marker, QueueId, QueueKey, Seq};
    use serde_json::{Value, json};

    fn id(seq: u64) -> MessageId {
        MessageId { queue: QueueId(7), seq: Seq(seq) }
    }

    fn one(seq: u64) -> Message {
        let body = Bytes::from_static(b"{\"z\": 1}");
        Message { id: id(seq), ttl_s: 60, age_s: 3, body, claim: None }
    }

    fn json(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).expect("what is written is JSON")
    }

    #[test]
    fn messages_have_four_keys_and_claims_show_in_hrefs() {
        let path = format!("/v1/queues/q/messages/{}", id(1));
        let document = json!({"href": path, "ttl": 60, "age": 3, "body": {"z": 1}});
        assert_eq!(json(&message("q", &one(1))), document);
        let claim_id = ClaimId(Lsn(9));
        let claimed = json(&messages("q", &[one(1), one(2)], Some(claim_id)));
        assert_eq!(claimed[0]["href"], format!("{path}?claim_id={claim_id}"));
        let held = Claim { id: claim_id, ttl_s: 100, age_s: 1, messages: vec![] };
        let href = claim_path("q", claim_id);
        let document = json!({"age": 1, "ttl": 100, "href": href, "messages": []});
        assert_eq!(json(&claim("q", &held)), document);
    }

    #[test]
    fn links_repeat_what_was_asked_and_no_more() {
        let next = Marker { queue: QueueId(7), seq: Seq(1) };
        let full = Page { messages: vec![one(1)], next: Some(next) };
        let asked = PageAsked { limit: Some(1), echo: Some(true), include_claimed: None };
        let document = json(&page("q", &full, asked).expect("a page"));
        let href = format!("/v1/queues/q/messages?limit=1&echo=true&marker={next}");
        assert_eq!(document["links"], json!([{"rel": "next", "href": href}]));
        assert_eq!(page("q", &Page { messages: vec![], next: None }, asked), None);
    }

    #[test]
    fn queues_show_metadata_only_when_asked() {
        let key = QueueKey::new(None, "a").expect("short");
        let entries = [QueueEntry { key, metadata: Bytes::new() }];
        let plain = json(&queues(&entries, None, Some(false)).expect("a page"));
        assert_eq!(plain["queues"], json!([{"name": "a", "href": "/v1/queues/a"}]));
        assert_eq!(plain["links"][0]["href"], "/v1/queues?detailed=false&marker=a");
        let detailed = json(&queues(&entries, Some(2), Some(true)).expect("a page"));
        assert_eq!(detailed["queues"][0]["metadata"], json!({}));
        assert_eq!(queues(&[], None, None), None);
    }

    #[test]
    fn stats_name_the_ends_when_there_are_any() {
        let empty = json(&stats("q", &QueueStats::default()));
        assert_eq!(empty, json!({"messages": {"free": 0, "claimed": 0, "total": 0}}));
        let end = StatMessage { id: id(1), created_ms: 1_392_919_907_999, age_s: 17 };
        let counts = QueueStats { free: 3, claimed: 2, ends: Some((end.clone(), end)) };
        let document = json(&stats("q", &counts));
        assert_eq!(document["messages"]["total"], 5);
        let path = format!("/v1/queues/q/messages/{}", id(1));
        let oldest = json!({"age": 17, "created": "2014-02-20T18:11:47Z", "href": path});
        assert_eq!(document["messages"]["oldest"], oldest);
    }

    #[test]
    fn posts_are_answered_in_order() {
        let (document, location) = posted("q", &[id(1), id(2)]);
        let document = json(&document);
        let paths = [id(1), id(2)].map(|id| format!("/v1/queues/q/messages/{id}"));
        assert_eq!(document, json!({"resources": paths, "partial": false}));
        let path = format!("/v1/queues/q/messages?ids={},{}", id(1), id(2));
        assert_eq!(location, path.into_bytes());
    }

    #[test]
    fn the_answer_to_a_post_is_as_large_as_its_text() {
        for ids in [&[id(1)][..], &[id(127), id(128)], &[id(1 << 14), id(1 << 21), id(u64::MAX)]] {
            let (document, location) = posted("queue", ids);
            assert_eq!(document.len(), document.capacity());
            assert_eq!(location.len(), location.capacity());
        }
    }
}
