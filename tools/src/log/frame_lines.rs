//! What one frame says, as text and as a document for programs. Knows no byte layouts.

use super::kind::KindName;
use super::queue_name::Name;
use super::runs::{Runs, shown as runs_shown};
use marconi_engine::inspect::FrameView;
use marconi_engine::log::frame::{Head, Kind};
use marconi_engine::log::record::Record;
use marconi_engine::{ClaimId, QueueId, QueueKey, Seq};
use marconi_export::body::Body;
use serde::Serialize;
use std::path::Path;
use uuid::Uuid;

/// What a frame says, in few words.
pub(crate) fn detail(head: &Head, record: &Record<'_>) -> String {
    match record {
        Record::QueueCreated { floor, metadata, .. } => {
            let floor = floor.map(|floor| format!("floor {floor}, ")).unwrap_or_default();
            format!("{floor}{} B of metadata", metadata.len())
        }
        Record::QueueChanged { floor, metadata, .. } => {
            let floor = floor.map(|floor| format!("floor {floor}"));
            let metadata = metadata.map(|bytes| format!("{} B of metadata", bytes.len()));
            floor.into_iter().chain(metadata).collect::<Vec<_>>().join(", ")
        }
        Record::QueueRemoved { .. } => String::new(),
        Record::SegmentEnd => format!("the log goes on at {}", head.seq),
        Record::Posted { first, messages, .. } => runs_shown(posted(*first, messages.declared())),
        Record::Claimed { ttl_s, seqs, .. } => {
            format!("{} for {ttl_s} s: {}", ClaimId(head.lsn), runs_shown(seqs.iter()))
        }
        Record::Renewed { claim, ttl_s, .. } => format!("{claim} for {ttl_s} s"),
        Record::Released { claim, .. } => claim.to_string(),
        Record::Deleted { claim: Some(claim), seqs, .. } => {
            format!("{} under {claim}", runs_shown(seqs.iter()))
        }
        Record::Deleted { claim: None, seqs, .. } => runs_shown(seqs.iter()),
        Record::Resumed { skipped } => format!("{skipped} numbers skipped in every queue"),
        Record::SegmentRetired { number } => format!("segment {number}, in which nothing lives"),
    }
}

fn posted(first: Seq, count: u32) -> impl Iterator<Item = Seq> {
    (0..u64::from(count)).map(move |more| Seq(first.0.saturating_add(more)))
}

/// The queue that a frame is about, by id.
pub(crate) fn queue_of(head: &Head) -> Option<QueueId> {
    match head.kind {
        Kind::QueueCreated => Some(QueueId(head.lsn.0)),
        _ => (head.queue != 0).then_some(QueueId(head.queue)),
    }
}

/// A frame in `inspect --json`.
#[derive(Debug, Serialize)]
pub(crate) struct FrameDocument<'a> {
    segment: u64,
    generation: u64,
    position: u64,
    lsn: u64,
    kind: &'static str,
    #[serde(flatten)]
    name: Option<Name>,
    queue_id: Option<u64>,
    at_ms: u64,
    size_bytes: u32,
    checksum: &'static str,
    #[serde(flatten)]
    what: What<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hex: Option<String>,
}

/// What only some kinds have.
#[derive(Debug, Default, Serialize)]
struct What<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    seqs: Option<Runs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Body<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_lsn: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retired_segment: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<MessageDocument<'a>>>,
}

impl<'a> FrameDocument<'a> {
    /// `bodies`: whether the messages of a `post` frame are to be there.
    pub(crate) fn new(
        frame: &'a FrameView<'_>,
        key: Option<&QueueKey>,
        bodies: bool,
    ) -> FrameDocument<'a> {
        let head = &frame.head;
        FrameDocument {
            segment: frame.segment,
            generation: frame.generation,
            position: frame.position,
            lsn: head.lsn.0,
            kind: KindName::from(head.kind).word(),
            name: key.map(Name::from),
            queue_id: queue_of(head).map(|id| id.0),
            at_ms: head.at_ms,
            size_bytes: head.length,
            checksum: "good",
            what: What::new(head, &frame.record, bodies),
            hex: None,
        }
    }
}

impl<'a> What<'a> {
    fn new(head: &Head, record: &'a Record<'_>, bodies: bool) -> What<'a> {
        let mut what = What::default();
        match record {
            Record::QueueCreated { floor, metadata, .. } => {
                what.floor = floor.map(|floor| floor.name());
                what.metadata = Some(Body::of(metadata));
            }
            Record::QueueChanged { floor, metadata, .. } => {
                what.floor = floor.map(|floor| floor.name());
                what.metadata = metadata.map(Body::of);
            }
            Record::QueueRemoved { .. } => {}
            Record::Posted { first, client, messages, .. } => {
                what.seqs = Some(Runs::of(posted(*first, messages.declared())));
                what.client = Some(Uuid::from_u128(client.0).to_string());
                let messages = (first.0..).zip(messages.clone()).map_while(|(seq, message)| {
                    let message = message.ok()?;
                    Some(MessageDocument {
                        seq,
                        ttl_s: message.ttl_s,
                        size_bytes: message.body.len(),
                        body: Body::of(message.body),
                    })
                });
                what.messages = bodies.then(|| messages.collect());
            }
            Record::Claimed { ttl_s, grace_s, seqs, .. } => {
                what.claim = Some(ClaimId(head.lsn).to_string());
                (what.ttl_s, what.grace_s) = (Some(*ttl_s), Some(*grace_s));
                what.seqs = Some(Runs::of(seqs.iter()));
            }
            Record::Renewed { claim, ttl_s, grace_s, .. } => {
                what.claim = Some(claim.to_string());
                (what.ttl_s, what.grace_s) = (Some(*ttl_s), Some(*grace_s));
            }
            Record::Released { claim, .. } => what.claim = Some(claim.to_string()),
            Record::Deleted { claim, seqs, .. } => {
                what.claim = claim.map(|claim| claim.to_string());
                what.seqs = Some(Runs::of(seqs.iter()));
            }
            Record::Resumed { skipped } => what.skipped = Some(*skipped),
            Record::SegmentEnd => what.next_lsn = Some(head.seq),
            Record::SegmentRetired { number } => what.retired_segment = Some(*number),
        }
        what
    }
}

/// A message of a `post` frame, with `--bodies`.
#[derive(Debug, Serialize)]
struct MessageDocument<'a> {
    seq: u64,
    ttl_s: u32,
    size_bytes: usize,
    body: Body<'a>,
}

/// Bytes that are no frame, in `inspect --json`.
#[derive(Debug, Serialize)]
pub(crate) struct BadDocument<'a> {
    file: String,
    position: u64,
    size_bytes: u64,
    why: &'a str,
    claims_to_be: Option<Claimed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

/// What the head of a frame says whose checksum does not match.
#[derive(Debug, Serialize)]
struct Claimed {
    kind: &'static str,
    lsn: u64,
    queue_id: Option<u64>,
    at_ms: u64,
    size_bytes: u32,
}

impl<'a> BadDocument<'a> {
    pub(crate) fn new(
        file: &Path,
        position: u64,
        size_bytes: u64,
        why: &'a str,
        head: Option<&Head>,
        hex: Option<String>,
    ) -> BadDocument<'a> {
        let claims_to_be = head.map(|head| Claimed {
            kind: KindName::from(head.kind).word(),
            lsn: head.lsn.0,
            queue_id: queue_of(head).map(|id| id.0),
            at_ms: head.at_ms,
            size_bytes: head.length,
        });
        BadDocument {
            file: file.display().to_string(),
            position,
            size_bytes,
            why,
            claims_to_be,
            hex,
        }
    }
}
