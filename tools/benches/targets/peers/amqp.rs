//! AMQP 0.9.1: frames, and the few methods that a queue needs. Knows nothing of a server, and not what is
//! said when.

use super::wire::{Fault, Received, put_number, refused, text_of};

/// A method: its class, and its number there.
pub(super) type Method = (u16, u16);

pub(super) const START: Method = (10, 10);
pub(super) const START_OK: Method = (10, 11);
pub(super) const TUNE: Method = (10, 30);
pub(super) const TUNE_OK: Method = (10, 31);
pub(super) const OPEN: Method = (10, 40);
pub(super) const OPEN_OK: Method = (10, 41);
const CONNECTION_CLOSE: Method = (10, 50);
pub(super) const CHANNEL_OPEN: Method = (20, 10);
pub(super) const CHANNEL_OPEN_OK: Method = (20, 11);
const CHANNEL_CLOSE: Method = (20, 40);
pub(super) const DECLARE: Method = (50, 10);
pub(super) const DECLARE_OK: Method = (50, 11);
pub(super) const QOS: Method = (60, 10);
pub(super) const QOS_OK: Method = (60, 11);
pub(super) const CONSUME: Method = (60, 20);
pub(super) const CONSUME_OK: Method = (60, 21);
pub(super) const PUBLISH: Method = (60, 40);
pub(super) const DELIVER: Method = (60, 60);
pub(super) const ACK: Method = (60, 80);
pub(super) const SELECT: Method = (85, 10);
pub(super) const SELECT_OK: Method = (85, 11);

/// What opens a connection: the protocol's name and version.
pub(super) const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// The channel that all but the connection's own methods use.
pub(super) const CHANNEL: u16 = 1;
/// The class of messages, in the head of their content.
const BASIC: u64 = 60;
/// The bit of the property `delivery-mode`, and its value for messages that survive the server.
const HAS_DELIVERY_MODE: u64 = 1 << 12;
const PERSISTENT: u8 = 2;

const METHOD_FRAME: u8 = 1;
const HEAD_FRAME: u8 = 2;
const BODY_FRAME: u8 = 3;
const HEARTBEAT_FRAME: u8 = 8;
const FRAME_END: u8 = 0xCE;

/// Arguments, put together in their order.
#[derive(Debug, Default)]
pub(super) struct Arguments(Vec<u8>);

impl Arguments {
    pub(super) fn new() -> Arguments {
        Arguments::default()
    }

    pub(super) fn u8(mut self, number: u8) -> Arguments {
        self.0.push(number);
        self
    }

    pub(super) fn u16(mut self, number: u16) -> Arguments {
        put_number(&mut self.0, number.into(), 2);
        self
    }

    pub(super) fn u32(mut self, number: u32) -> Arguments {
        put_number(&mut self.0, number.into(), 4);
        self
    }

    pub(super) fn u64(mut self, number: u64) -> Arguments {
        put_number(&mut self.0, number, 8);
        self
    }

    /// A string of at most 255 bytes.
    pub(super) fn short(mut self, text: &str) -> Arguments {
        self.0.push(u8::try_from(text.len()).expect("names here are short"));
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(super) fn long(self, text: &str) -> Arguments {
        let mut longer = self.u32(u32::try_from(text.len()).expect("texts here are short"));
        longer.0.extend_from_slice(text.as_bytes());
        longer
    }

    /// A table of strings.
    pub(super) fn table(mut self, pairs: &[(&str, &str)]) -> Arguments {
        let table = pairs
            .iter()
            .fold(Arguments::new(), |table, (name, value)| table.short(name).u8(b'S').long(value));
        put_number(&mut self.0, table.0.len() as u64, 4);
        self.0.extend(table.0);
        self
    }
}

/// Appends the call of a method.
pub(super) fn put_method(out: &mut Vec<u8>, channel: u16, method: Method, arguments: &Arguments) {
    let head = Arguments::new().u16(method.0).u16(method.1);
    put_frame(out, METHOD_FRAME, channel, &[head.0.as_slice(), arguments.0.as_slice()].concat());
}

/// Appends a message for a queue, which the server has to keep.
pub(super) fn put_message(out: &mut Vec<u8>, queue: &str, body: &str) {
    let to = Arguments::new().u16(0).short("").short(queue).u8(0);
    put_method(out, CHANNEL, PUBLISH, &to);
    let mut head = Vec::new();
    put_number(&mut head, BASIC, 2);
    put_number(&mut head, 0, 2);
    put_number(&mut head, body.len() as u64, 8);
    put_number(&mut head, HAS_DELIVERY_MODE, 2);
    head.push(PERSISTENT);
    put_frame(out, HEAD_FRAME, CHANNEL, &head);
    put_frame(out, BODY_FRAME, CHANNEL, body.as_bytes());
}

/// Appends a sign of life.
pub(super) fn put_heartbeat(out: &mut Vec<u8>) {
    put_frame(out, HEARTBEAT_FRAME, 0, &[]);
}

fn put_frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    out.push(kind);
    put_number(out, channel.into(), 2);
    put_number(out, payload.len() as u64, 4);
    out.extend_from_slice(payload);
    out.push(FRAME_END);
}

/// What a server says.
#[derive(Debug)]
pub(super) enum Said<'a> {
    /// It is alive, and had nothing else to say for a while.
    Heartbeat,
    /// It calls a method, with the content that belongs to it read and dropped.
    Method(Method, Received<'a>),
}

/// The next thing that is said.
pub(super) fn next<'a>(from: &mut Received<'a>) -> Result<Said<'a>, Fault> {
    let (kind, payload) = frame(from)?;
    if kind == HEARTBEAT_FRAME {
        return Ok(Said::Heartbeat);
    }
    if kind != METHOD_FRAME {
        return Err(refused("content without a method"));
    }
    let mut payload = Received::new(payload);
    let method = (payload.u16()?, payload.u16()?);
    if method == CONNECTION_CLOSE || method == CHANNEL_CLOSE {
        payload.u16()?;
        let size = payload.u8()?.into();
        return Err(refused(text_of(payload.take(size)?)));
    }
    if method == DELIVER {
        skip_content(from)?;
    }
    Ok(Said::Method(method, payload))
}

fn skip_content(from: &mut Received<'_>) -> Result<(), Fault> {
    let (_, head) = frame(from)?;
    let mut head = Received::new(head);
    head.u32()?;
    let mut left = head.u64()? as usize;
    while left > 0 {
        let (_, piece) = frame(from)?;
        left = left.checked_sub(piece.len()).ok_or_else(|| refused("too long a body"))?;
    }
    Ok(())
}

fn frame<'a>(from: &mut Received<'a>) -> Result<(u8, &'a [u8]), Fault> {
    let kind = from.u8()?;
    from.u16()?;
    let size = from.u32()? as usize;
    let payload = from.take(size)?;
    if from.u8()? != FRAME_END {
        return Err(refused("a frame without its end"));
    }
    Ok((kind, payload))
}
