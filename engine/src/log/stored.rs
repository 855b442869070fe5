//! Messages as they lie in a segment: found in their frames, read, checked to be the ones that were asked for.
//! Knows neither queues nor which messages live.

use super::frame::{self, HEAD_SIZE, Head, Kind};
use super::record::{
    self, BadMessage, CLIENT_SIZE, Location, MESSAGE_HEAD_SIZE, POST_HEAD_SIZE, POST_ONE_HEAD_SIZE,
};
use super::segment::Segment;
use crate::domain::{ClientId, Lsn, MessageId};
use crate::error::{Error, Result};
use bytes::{Buf, Bytes};

/// What messages of one frame share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) lsn: Lsn,
    pub(crate) at_ms: u64,
    pub(crate) client: ClientId,
}

/// A message as it was posted.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Seconds to live.
    pub(crate) ttl_s: u32,
    /// By whom.
    pub(crate) client: ClientId,
    /// What it takes in the segment: its frame, where that is its own, else its record.
    pub(crate) size: u32,
    /// A slice of the map.
    pub(crate) body: Bytes,
}

impl Segment {
    /// Where the frame begins in which a message lies. One among others says how far back that is. None of it is
    /// checked.
    fn frame_of(&self, at: Location) -> Result<u32> {
        if at.is_frame() {
            return Ok(at.position());
        }
        self.frame_behind(at, &self.look(at.position(), MESSAGE_HEAD_SIZE as u32)?)
    }

    /// As [`Segment::frame_of`], of a message among others whose head this is.
    fn frame_behind(&self, at: Location, head: &[u8]) -> Result<u32> {
        let start = record::message_back(head).and_then(|back| at.position().checked_sub(back));
        start.ok_or_else(|| self.in_no_frame(at))
    }

    #[cold]
    fn in_no_frame(&self, at: Location) -> Error {
        self.damaged(at.position().into(), "a message lies in no frame".to_owned())
    }

    /// Where the frame begins in which a message lies, and what it says. None of it is checked: see
    /// [`Segment::check_frame`].
    pub(crate) fn origin(&self, at: Location) -> Result<(u32, Origin)> {
        let start = self.frame_of(at)?;
        let lost = || self.in_no_frame(at);
        let frame = self.look(start, (HEAD_SIZE + CLIENT_SIZE) as u32).map_err(|_| lost())?;
        let head = frame::unproved_head(&frame, |hint| self.lsn_of(start.into(), hint));
        let head = head.ok_or_else(lost)?;
        let client = record::client_at(&frame[HEAD_SIZE..]).expect("it was read");
        Ok((start, Origin { lsn: head.lsn, at_ms: head.at_ms, client }))
    }

    /// Who posted a message, as its frame says. It is not checked here, but with all else where the message is read:
    /// one's own that rotted into another's is shown as damage.
    pub(crate) fn client(&self, at: Location) -> Result<ClientId> {
        let client = self.look(self.frame_of(at)? + HEAD_SIZE as u32, CLIENT_SIZE as u32);
        let client = client.map_err(|_| self.in_no_frame(at))?;
        Ok(record::client_at(&client).expect("it was read"))
    }

    /// When a message was posted that dies at `expires_ms`, without reading its body: what the frame's time and the ttl
    /// say, if together they say `expires_ms`, which lies under the index's checksum.
    pub(crate) fn posted_ms(&self, at: Location, expires_ms: u64) -> Result<u64> {
        let start = self.frame_of(at)?;
        let frame = self.look(start, (HEAD_SIZE + POST_ONE_HEAD_SIZE) as u32)?;
        let ttl_s = if at.is_frame() {
            record::poster(&frame[HEAD_SIZE..]).map(|(_, ttl_s)| ttl_s)
        } else {
            record::message_ttl_s(&self.look(at.position(), MESSAGE_HEAD_SIZE as u32)?)
        };
        let head = frame::unproved_head(&frame, |hint| self.lsn_of(start.into(), hint));
        let posted_ms = head.zip(ttl_s).and_then(|(head, ttl_s)| {
            let dies_ms = head.at_ms + u64::from(ttl_s) * 1000;
            (dies_ms == expires_ms).then_some(head.at_ms)
        });
        posted_ms.ok_or_else(|| {
            let what = "its time and its ttl are not those that the index knows".to_owned();
            self.damaged(at.position().into(), what)
        })
    }

    /// Checks the frame at `position`, all of it.
    pub(crate) fn check_frame(&self, position: u32) -> Result<()> {
        self.frame(position).map(drop)
    }

    /// The frame at `position`, checked: its head, and its bytes, to be kept.
    fn frame(&self, position: u32) -> Result<(Head, Bytes)> {
        let wrong = |why: frame::Invalid| self.damaged(position.into(), why.to_string());
        let length = frame::length(&self.look(position, HEAD_SIZE as u32)?).map_err(wrong)?;
        let bytes = self.slice(position, length)?;
        let (head, _) =
            frame::decode(&bytes, |hint| self.lsn_of(position.into(), hint)).map_err(wrong)?;
        Ok((head, bytes))
    }

    /// Reads message `id`, all of which lies below the `written` watermark, and checks it. One that is whole but
    /// another one, as a write that went astray leaves it, is damage.
    pub(crate) fn message(&self, at: Location, id: MessageId) -> Result<Stored> {
        let read =
            if at.is_frame() { self.message_alone(at, id) } else { self.message_among(at, id) };
        read?.ok_or_else(|| self.is_anothers(at))
    }

    #[cold]
    fn is_anothers(&self, at: Location) -> Error {
        let what = "the frame is not the one of this message".to_owned();
        self.damaged(at.position().into(), what)
    }

    /// One in a frame of its own; `None` where that is another's.
    fn message_alone(&self, at: Location, id: MessageId) -> Result<Option<Stored>> {
        let (head, mut frame) = self.frame(at.position())?;
        let is_its = head.kind == Kind::PostedOne && is_of(&head, id, 1);
        let poster = record::poster(&frame[HEAD_SIZE..]).filter(|_| is_its);
        Ok(poster.map(|(client, ttl_s)| {
            frame.advance(HEAD_SIZE + POST_ONE_HEAD_SIZE);
            Stored { ttl_s, client, size: head.length, body: frame }
        }))
    }

    /// One among others; `None` where its frame is another's.
    fn message_among(&self, at: Location, id: MessageId) -> Result<Option<Stored>> {
        let wrong = |why: BadMessage| self.damaged(at.position().into(), why.to_string());
        let head = self.look(at.position(), MESSAGE_HEAD_SIZE as u32)?;
        let size = record::message_size(&head).ok_or_else(|| wrong(BadMessage::Length))?;
        let start = self.frame_behind(at, &head)?;
        let mut record = self.slice(at.position(), size)?;
        let frame = self.look(start, (HEAD_SIZE + POST_HEAD_SIZE) as u32)?;
        let (client, count) = record::poster(&frame[HEAD_SIZE..]).expect("it was read");
        let (ttl_s, body) = record::check_message(&record, client).map_err(wrong)?;
        let head = frame::unproved_head(&frame, |hint| self.lsn_of(start.into(), hint));
        if !head.is_some_and(|head| head.kind == Kind::Posted && is_of(&head, id, count)) {
            return Ok(None);
        }
        // In place: another slice of it would be counted, and this one no more.
        record.truncate(body.end);
        record.advance(body.start);
        Ok(Some(Stored { ttl_s, client, size, body: record }))
    }
}

/// Whether message `id` is one of the `count` that a frame with this head holds.
fn is_of(head: &Head, id: MessageId, count: u32) -> bool {
    let place = id.seq.0.checked_sub(head.seq);
    head.queue == id.queue.0 && place.is_some_and(|place| place < u64::from(count))
}
