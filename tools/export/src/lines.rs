//! The lines of an export, each a JSON document: a header, then each queue followed by its messages,
//! then an end that says how many there were. Knows no file and no folder.

use crate::body::Body;
use anyhow::{Context, bail};
use bytes::Bytes;
use marconi_engine::inspect::{ClaimImage, LifeImage, MessageImage, QueueImage};
use marconi_engine::{ClientId, Durability, QueueId, QueueKey, Seq};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use uuid::Uuid;

/// The version of these lines.
pub const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`]; also what tells such a file from others.
    pub marconi_export: u32,
    /// The folder's own number, as hex.
    pub engine_id: String,
    /// The moment of which all this is true.
    pub exported_ms: u64,
    /// Where the log ended: ids given out later lie behind it.
    pub end_lsn: u64,
    /// Size of the folder's log files.
    pub segment_size_bytes: u64,
}

/// Any other line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line<'a> {
    /// A queue; its messages follow.
    #[serde(borrow)]
    Queue(QueueLine<'a>),
    /// A message of the queue named last.
    #[serde(borrow)]
    Message(MessageLine<'a>),
    /// The last line.
    End(EndLine),
}

/// All of a queue but its messages.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueLine<'a> {
    #[serde(borrow)]
    project: Option<Cow<'a, str>>,
    #[serde(borrow)]
    queue: Cow<'a, str>,
    queue_id: u64,
    #[serde(borrow)]
    metadata: Body<'a>,
    #[serde(borrow)]
    floor: Option<Cow<'a, str>>,
    next_seq: u64,
    cursor: u64,
    claims: Vec<ClaimLine>,
    /// First and last number of each run of messages that came back.
    returned: Vec<(u64, u64)>,
    lives: Vec<LifeLine>,
}

/// A claim.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimLine {
    claim: String,
    renewed_ms: u64,
    ttl_s: u32,
    grace_s: u32,
    seqs: Vec<u64>,
}

/// A life that a claim extended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LifeLine {
    seq: u64,
    expires_ms: u64,
    ttl_s: u32,
}

/// A message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageLine<'a> {
    seq: u64,
    created_ms: u64,
    /// As posted.
    ttl_s: u32,
    client: Uuid,
    #[serde(borrow)]
    body: Body<'a>,
}

/// How much there was: a file without it was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndLine {
    /// Lines of queues.
    pub queues: u64,
    /// Lines of messages.
    pub messages: u64,
}

/// Reads the first line.
///
/// # Errors
/// When it is none of an export, or of one in a version that is not known.
pub fn header(line: &[u8]) -> anyhow::Result<Header> {
    let header: Header = serde_json::from_slice(line)
        .context("this is no export: the first line has to begin with {\"marconi_export\":1")?;
    if header.marconi_export != VERSION {
        bail!(
            "the export has version {}, and this program knows version {VERSION}; use the program \
             that wrote it, or a newer one",
            header.marconi_export
        );
    }
    Ok(header)
}

impl<'a> From<&'a QueueImage> for QueueLine<'a> {
    fn from(image: &'a QueueImage) -> QueueLine<'a> {
        let claims = image.claims.iter().map(|claim| ClaimLine {
            claim: claim.id.to_string(),
            renewed_ms: claim.renewed_ms,
            ttl_s: claim.ttl_s,
            grace_s: claim.grace_s,
            seqs: claim.seqs.iter().map(|seq| seq.0).collect(),
        });
        let lives = image.lives.iter().map(|life| LifeLine {
            seq: life.seq.0,
            expires_ms: life.expires_ms,
            ttl_s: life.ttl_s,
        });
        QueueLine {
            project: image.key.project().map(Cow::from),
            queue: image.key.name().into(),
            queue_id: image.id.0,
            metadata: Body::of(&image.metadata),
            floor: image.floor.map(|floor| floor.name().into()),
            next_seq: image.next_seq.0,
            cursor: image.cursor.0,
            claims: claims.collect(),
            returned: image.returned.iter().map(|(first, last)| (first.0, last.0)).collect(),
            lives: lives.collect(),
        }
    }
}

impl QueueLine<'_> {
    /// What the line says.
    ///
    /// # Errors
    /// When a name is too long, or an id, a durability or base64 is none.
    pub fn image(&self) -> anyhow::Result<QueueImage> {
        let longest = QueueKey::PART_SIZE_MAX;
        let key = QueueKey::new(self.project.as_deref(), &self.queue)
            .with_context(|| format!("project or queue has more than {longest} bytes"))?;
        let floor = self.floor.as_ref().map(|floor| floor.parse::<Durability>());
        let mut claims = Vec::with_capacity(self.claims.len());
        for claim in &self.claims {
            claims.push(ClaimImage {
                id: claim.claim.parse().with_context(|| format!("claim {:?}", claim.claim))?,
                renewed_ms: claim.renewed_ms,
                ttl_s: claim.ttl_s,
                grace_s: claim.grace_s,
                seqs: claim.seqs.iter().copied().map(Seq).collect(),
            });
        }
        let lives = self.lives.iter().map(|life| LifeImage {
            seq: Seq(life.seq),
            expires_ms: life.expires_ms,
            ttl_s: life.ttl_s,
        });
        Ok(QueueImage {
            key,
            id: QueueId(self.queue_id),
            metadata: Bytes::copy_from_slice(&self.metadata.bytes().context("metadata")?),
            floor: floor.transpose().context("floor")?,
            next_seq: Seq(self.next_seq),
            cursor: Seq(self.cursor),
            claims,
            returned: self.returned.iter().map(|(one, last)| (Seq(*one), Seq(*last))).collect(),
            lives: lives.collect(),
        })
    }
}

impl<'a> From<&MessageImage<'a>> for MessageLine<'a> {
    fn from(message: &MessageImage<'a>) -> MessageLine<'a> {
        MessageLine {
            seq: message.seq.0,
            created_ms: message.created_ms,
            ttl_s: message.ttl_s,
            client: Uuid::from_u128(message.client.0),
            body: Body::of(message.body),
        }
    }
}

impl MessageLine<'_> {
    /// What the line says besides the body.
    pub fn image<'b>(&self, body: &'b [u8]) -> MessageImage<'b> {
        MessageImage {
            seq: Seq(self.seq),
            created_ms: self.created_ms,
            ttl_s: self.ttl_s,
            client: ClientId(self.client.as_u128()),
            body,
        }
    }

    /// The body.
    ///
    /// # Errors
    /// When the base64 is none.
    pub fn body(&self) -> anyhow::Result<Cow<'_, [u8]>> {
        self.body.bytes().context("body")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use marconi_engine::{ClaimId, Lsn};

    fn image() -> QueueImage {
        QueueImage {
            key: QueueKey::new(Some("acme"), "jobs \"x\"").expect("short"),
            id: QueueId(4096),
            metadata: Bytes::from_static(b"{\"a\":1}"),
            floor: Some(Durability::Os),
            next_seq: Seq(10),
            cursor: Seq(7),
            claims: vec![ClaimImage {
                id: ClaimId(Lsn(8192)),
                renewed_ms: 5,
                ttl_s: 60,
                grace_s: 30,
                seqs: vec![Seq(3), Seq(1)],
            }],
            returned: vec![(Seq(4), Seq(5))],
            lives: vec![LifeImage { seq: Seq(3), expires_ms: 99, ttl_s: 90 }],
        }
    }

    #[test]
    fn a_queue_comes_back_from_its_line() {
        let plain = QueueImage {
            key: QueueKey::new(None, "q").expect("short"),
            metadata: Bytes::new(),
            floor: None,
            claims: Vec::new(),
            ..image()
        };
        for image in [image(), plain] {
            let text = serde_json::to_string(&Line::Queue(QueueLine::from(&image))).expect("text");
            let Ok(Line::Queue(line)) = serde_json::from_str(&text) else { panic!("{text}") };
            assert_eq!(line.image().expect("an image"), image, "{text}");
        }
    }

    #[test]
    fn a_message_comes_back_from_its_line() {
        let message = MessageImage {
            seq: Seq(1),
            created_ms: 1_700_000_000_000,
            ttl_s: 300,
            client: ClientId(0x3381_af92_2b9e_11e3_b191_7186_1300_734c),
            body: br#"{"n": 1}"#,
        };
        let text = serde_json::to_string(&Line::Message(MessageLine::from(&message)));
        let text = text.expect("text");
        let expected = r#"{"message":{"seq":1,"created_ms":1700000000000,"ttl_s":300,"client":"3381af92-2b9e-11e3-b191-71861300734c","body":{"json":{"n": 1}}}}"#;
        assert_eq!(text, expected);
        let Ok(Line::Message(line)) = serde_json::from_str(&text) else { panic!("{text}") };
        assert_eq!(line.image(&line.body().expect("a body")), message);
    }

    #[test]
    fn lines_that_are_wrong_are_refused() {
        for line in ["{}", "[]", r#"{"marconi_export":1}"#, "{\"messages\":[]}"] {
            let text = format!("{:#}", header(line.as_bytes()).expect_err(line));
            assert!(text.starts_with("this is no export: "), "{text}");
        }
        let newer = r#"{"marconi_export":2,"engine_id":"","exported_ms":0,"end_lsn":0,"segment_size_bytes":0,"more":1}"#;
        let text = header(newer.as_bytes()).expect_err("a newer version").to_string();
        assert!(text.starts_with("the export has version 2, "), "{text}");
        for line in [
            r#"{"message":{"seq":1}}"#,
            r#"{"end":{"queues":1,"messages":1,"more":1}}"#,
            r#"{"other":{}}"#,
        ] {
            assert!(serde_json::from_str::<Line<'_>>(line).is_err(), "{line}");
        }
    }
}
