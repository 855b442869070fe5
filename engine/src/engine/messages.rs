//! The verbs of messages: post, list, get, delete. Knows how a write is decided, not how it is
//! appended.

use super::{Decision, Engine, PAYLOAD};
use crate::domain::{
    ClaimId, ClientId, Durability, ListFilter, Marker, MessageId, QueueId, QueueKey, Seq,
};
use crate::error::{Error, Result};
use crate::log::frame::Kind;
use crate::log::record::{MESSAGE_HEAD_SIZE, Payload};
use crate::metrics::add;
use crate::receipt::Receipt;
use crate::state::queue::{Located, Queue};
use crate::state::ranges::Walk;
use bytes::Bytes;

/// A page that lacks messages, since those found were left out, goes on with so many together.
const LIST_MORE: usize = 1024;
/// So many looks a listing takes at a queue before it lets others go on: a few thousand messages of which the frame is
/// asked who posted them, or a quarter of a million that are passed over by their entries.
const LIST_LOOKS: usize = 8;
/// So many messages of a page have room before it is known how many there are.
const LIST_ROOM: usize = 64;

/// A message to be posted.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    /// Seconds to live.
    pub ttl_s: u32,
    /// Its body.
    pub body: &'a [u8],
}

/// A message that was found. What it says is still in the log until [`Message::read`] is called.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The live claim that holds it.
    pub claim: Option<ClaimId>,
    located: Located,
    now_ms: u64,
}

/// What a message says.
#[derive(Debug, Clone)]
pub struct Content {
    /// Seconds to live: as posted, or as a claim extended it.
    pub ttl_s: u32,
    /// Whole seconds since it was posted, at the time it was looked for; never negative.
    pub age_s: u64,
    /// The bytes posted: a slice of the mapped log, not a copy.
    pub body: Bytes,
}

impl Message {
    pub(super) fn new(queue: QueueId, located: Located, now_ms: u64) -> Message {
        let id = MessageId { queue, seq: located.seq };
        Message { id, claim: located.claim, located, now_ms }
    }

    /// Reads it, and checks its checksum. May read from disk, when the pages are not in memory. Once the receipt that
    /// it came with is answered.
    ///
    /// # Errors
    /// `Damaged` when the bytes are not those that were posted.
    pub fn read(&self) -> Result<Content> {
        let read = self.located.read(self.id.queue)?;
        let age_ms = self.now_ms.saturating_sub(read.created_ms);
        Ok(Content { ttl_s: read.ttl_s, age_s: age_ms / 1000, body: read.stored.body })
    }

    /// Its body alone.
    ///
    /// # Errors
    /// As [`Message::read`].
    pub fn body(&self) -> Result<Bytes> {
        Ok(self.read()?.body)
    }
}

/// Writes the payload of a post, and says the kind of its frame.
fn write_messages(payload: &mut Payload, client: ClientId, messages: &[NewMessage<'_>]) -> Kind {
    if let [only] = messages {
        payload.posted_one(client, only.ttl_s, only.body);
        return Kind::PostedOne;
    }
    payload.posted(client);
    for message in messages {
        payload.message(message.ttl_s, message.body);
    }
    Kind::Posted
}

/// A page of a listing.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Where the next page begins; `None` when nothing was found.
    pub next: Option<Marker>,
    /// The page is not full, and more may be there from `next` on: what was passed over is so much that others are
    /// to have their turn first.
    pub has_more: bool,
}

impl Engine {
    /// Posts all messages or none; their ids in the order given.
    ///
    /// # Errors
    /// `NoSuchQueue`, `TooLarge`, and those of every write.
    pub fn post(
        &self,
        key: &QueueKey,
        client: ClientId,
        messages: &[NewMessage<'_>],
        ask: Option<Durability>,
    ) -> Result<Receipt<Vec<MessageId>>> {
        self.check_count("messages in one batch", messages.len())?;
        let size: u64 =
            messages.iter().map(|message| (MESSAGE_HEAD_SIZE + message.body.len()) as u64).sum();
        self.check_size(size)?;
        let at_ms = self.core.now_ms();
        PAYLOAD.with_borrow_mut(|payload| {
            let kind = write_messages(payload, client, messages);
            let crc = payload.crc();
            let decide = |queue: &mut Queue, _: &mut Payload| {
                let first = queue.next_seq.0;
                let ids = (first..first + messages.len() as u64)
                    .map(|seq| MessageId { queue: queue.id, seq: Seq(seq) })
                    .collect();
                Ok(Decision::Write { kind, seq: first, draft: ids })
            };
            let receipt = self.write(key, ask, at_ms, payload, Some(crc), decide, |ids, _| ids)?;
            add(&self.core.counters.posted, messages.len() as u64);
            Ok(receipt)
        })
    }

    /// Up to `limit` messages behind `after` that pass the filter, oldest first; see [`Page::has_more`]. An absent
    /// queue, and a marker of another queue, give an empty page.
    ///
    /// # Errors
    /// `Damaged`, `Closed`.
    pub fn list(
        &self,
        key: &QueueKey,
        after: Option<Marker>,
        limit: usize,
        filter: ListFilter,
    ) -> Result<Receipt<Page>> {
        let mut page = Page::default();
        page.messages.reserve(limit.min(LIST_ROOM));
        let view = self.view();
        let mut from = after.map_or(Seq(0), |marker| marker.seq);
        let mut wanted = limit;
        let mut of = after.map(|marker| marker.queue);
        let mut looks = 0;
        loop {
            let known = page.messages.len();
            let mut is_by_unknown = false;
            let mut more = None;
            let receipt = self.read(key, view, |queue, now_ms| {
                let (id, durability) = (queue.id, queue.durability);
                // Of the one the listing began with: it may have been made again meanwhile.
                if *of.get_or_insert(id) != id {
                    return Ok(());
                }
                more = queue.list(from, wanted, filter, now_ms, |located| {
                    if !self.shows(view, durability, &located) {
                        // Nothing behind it is to be shown yet either.
                        return Walk::Stop;
                    }
                    is_by_unknown |= located.is_by_unknown;
                    page.messages.push(Message::new(id, located, now_ms));
                    Walk::On
                })?;
                Ok(())
            });
            let receipt = match receipt {
                Ok(receipt) => receipt,
                Err(Error::NoSuchQueue) => {
                    return Ok(self.absent(key, None, Page::default()));
                }
                Err(error) => return Err(error),
            };
            if is_by_unknown {
                // Without the queue's lock: it may take reading from disk.
                for message in page.messages.split_off(known) {
                    if page.messages.len() == limit {
                        break;
                    }
                    if !message.located.is_left_out(filter)? {
                        page.messages.push(message);
                    }
                }
            }
            page.messages.truncate(limit);
            let more = more.filter(|_| page.messages.len() < limit);
            page.has_more = more.is_some();
            looks += 1;
            match more {
                Some(more) if looks < LIST_LOOKS => (from, wanted) = (more, LIST_MORE),
                more => {
                    let last = page.messages.last().map(|message| message.id.seq);
                    let next = of.zip(more.or(last));
                    page.next = next.map(|(queue, seq)| Marker { queue, seq });
                    return Ok(receipt.map(|()| page));
                }
            }
        }
    }

    /// The messages with these ids that exist, in the order asked, each once. An absent queue has
    /// none.
    ///
    /// # Errors
    /// `Damaged`, `Closed`.
    pub fn get(&self, key: &QueueKey, ids: &[MessageId]) -> Result<Receipt<Vec<Message>>> {
        let view = self.view();
        let found = self.read(key, view, |queue, now_ms| {
            let mut found: Vec<Message> = Vec::with_capacity(ids.len().min(64));
            let durability = queue.durability;
            for id in ids {
                if id.queue != queue.id || found.iter().any(|message| message.id == *id) {
                    continue;
                }
                let shown = |located: &Located| self.shows(view, durability, located);
                if let Some(located) = queue.get(id.seq, now_ms)?.filter(shown) {
                    found.push(Message::new(queue.id, located, now_ms));
                }
            }
            Ok(found)
        });
        self.or_absent(key, None, found)
    }

    /// Deletes one message. `claim` is `None` when no claim is named, `Some(None)` when what was
    /// named is no claim id. Succeeds also where there is no such message.
    ///
    /// # Errors
    /// `Claimed` when a live claim holds the message and none or another live one was named;
    /// `ClaimMismatch` when the claim named does not live or the message is not claimed; and those
    /// of every write.
    pub fn delete(
        &self,
        key: &QueueKey,
        id: MessageId,
        claim: Option<Option<ClaimId>>,
        ask: Option<Durability>,
    ) -> Result<Receipt<()>> {
        let at_ms = self.core.now_ms();
        let deleted = self.change_at(key, ask, at_ms, |queue, payload| {
            if id.queue != queue.id {
                return Ok(Decision::Nothing(()));
            }
            let Some(seq) = queue.decide_delete(id.seq, claim, at_ms)? else {
                return Ok(Decision::Nothing(()));
            };
            payload.deleted(&[seq]);
            let claim = claim.flatten().map_or(0, |claim| claim.0.0);
            Ok(Decision::Write { kind: Kind::Deleted, seq: claim, draft: () })
        });
        self.or_absent(key, ask, deleted)
    }

    /// Deletes all of these that exist, claimed or not.
    ///
    /// # Errors
    /// `TooLarge` for more ids than a frame takes, and those of every write.
    pub fn delete_many(
        &self,
        key: &QueueKey,
        ids: &[MessageId],
        ask: Option<Durability>,
    ) -> Result<Receipt<()>> {
        self.check_count("ids in one request", ids.len())?;
        self.check_size(ids.len() as u64 * 8)?;
        let at_ms = self.core.now_ms();
        let deleted = self.change_at(key, ask, at_ms, |queue, payload| {
            let here = ids.iter().filter(|id| id.queue == queue.id);
            let seqs: Vec<Seq> = here.map(|id| id.seq).collect();
            let living = queue.decide_delete_many(&seqs, at_ms)?;
            if living.is_empty() {
                return Ok(Decision::Nothing(()));
            }
            payload.deleted(&living);
            Ok(Decision::Write { kind: Kind::Deleted, seq: 0, draft: () })
        });
        self.or_absent(key, ask, deleted)
    }
}
