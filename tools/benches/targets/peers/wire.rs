//! What the protocols share: reading an answer piece by piece, numbers in network order, the body of a
//! message. Knows none of the protocols.

use crate::conversation::Answered;
use std::fmt::Display;
use std::io;

/// Bytes of a message's body.
pub(super) const BODY_SIZE: usize = 1024;
/// Seconds for which a taken message is its taker's. No pause of a busy machine is as long, and a longer
/// lease costs nothing.
pub(super) const LEASE_S: u64 = 600;

/// Letters that no server compresses to nothing, and that no protocol has to escape.
pub(super) fn body() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut state = 1_u64;
    let letter = |_| {
        // Knuth's multiplier; the upper bits are the random ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(LETTERS[(state >> 59) as usize])
    };
    (0..BODY_SIZE).map(letter).collect()
}

/// Why an answer cannot be used.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is more to come.
    Short,
    /// It refuses, or makes no sense.
    Refused(io::Error),
}

/// What a server says instead of what was expected.
pub(super) fn refused(what: impl Display) -> Fault {
    Fault::Refused(io::Error::other(format!("the server says: {what}")))
}

/// The form in which a conversation gives an answer.
pub(super) fn whole(answer: Result<Answered, Fault>) -> io::Result<Option<Answered>> {
    match answer {
        Ok(answered) => Ok(Some(answered)),
        Err(Fault::Short) => Ok(None),
        Err(Fault::Refused(error)) => Err(error),
    }
}

/// A step before the first request is done.
pub(super) fn greeted(used: usize) -> Answered {
    Answered { used, messages: 0, is_request: false, is_dry: false }
}

/// A request is done, with so many messages.
pub(super) fn finished(used: usize, messages: usize) -> Answered {
    let messages = u32::try_from(messages).expect("no batch is that large");
    Answered { used, messages, is_request: true, is_dry: false }
}

/// Messages were received, and are still to be acknowledged; without any the queue is dry.
pub(super) fn received(used: usize, messages: usize) -> Answered {
    Answered { used, messages: 0, is_request: true, is_dry: messages == 0 }
}

/// The bytes that arrived, read from their start.
#[derive(Debug)]
pub(super) struct Received<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl<'a> Received<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Received<'a> {
        Received { bytes, used: 0 }
    }

    /// Bytes that were read.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Whether all that arrived was read.
    pub(super) fn is_empty(&self) -> bool {
        self.used == self.bytes.len()
    }

    /// The next bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let left = &self.bytes[self.used..];
        let taken = left.get(..count).ok_or(Fault::Short)?;
        self.used += count;
        Ok(taken)
    }

    /// The next line, without its CR LF.
    pub(super) fn line(&mut self) -> Result<&'a [u8], Fault> {
        let left = &self.bytes[self.used..];
        let end = left.windows(2).position(|pair| pair == b"\r\n").ok_or(Fault::Short)?;
        self.used += end + 2;
        Ok(&left[..end])
    }

    pub(super) fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        Ok(self.number(2)? as u16)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        Ok(self.number(4)? as u32)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.number(8)
    }

    fn number(&mut self, size: usize) -> Result<u64, Fault> {
        let bytes = self.take(size)?;
        Ok(bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }
}

/// Appends the lower `size` bytes of a number in network order.
pub(super) fn put_number(out: &mut Vec<u8>, number: u64, size: u32) {
    out.extend((0..size).rev().map(|place| (number >> (8 * place)) as u8));
}

/// A number in digits.
pub(super) fn decimal(digits: &[u8]) -> Result<usize, Fault> {
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| refused(text_of(digits)))
}

/// What was received, for an error.
pub(super) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}
