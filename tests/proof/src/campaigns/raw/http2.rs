//! Attacks in HTTP/2, frame by frame, and the frames that come back. Headers are written without compression; those
//! that come back are not read, only counted. Knows no sockets.

use super::stream::End;
use crate::random::Random;
use anyhow::{Context, bail, ensure};
use bytes::{Buf, BufMut};

/// What a connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest frame a server may send to a client that asked for nothing else.
const FRAME_SIZE_MAX: usize = 16 << 10;
/// The stream of the good request.
const GOOD: u32 = 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What may come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The good request is answered, and so many pings are.
    Served { pings: usize },
    /// The server says that the connection is over, and why.
    Ended,
    /// One or the other.
    Unknown,
}

impl Fate {
    /// Whether the good request is answered for certain.
    pub(super) fn is_served(self) -> bool {
        matches!(self, Fate::Served { .. })
    }
}

/// An attack behind a good request that makes queue `made`: its name, all bytes, what may come of it, and how its
/// client ends.
pub(super) fn attack(
    random: &mut Random,
    made: &str,
    hidden: &str,
) -> (&'static str, Vec<u8>, Fate, End) {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(request(GOOD, made, &[]));
    let (name, attack, fate) = match random.below(13) {
        0 => ("frames of any kind", any_frames(random), Fate::Unknown),
        1 => ("a storm of resets", reset_storm(random), Fate::Unknown),
        2 => ("headers without end", endless_headers(random, hidden), Fate::Ended),
        3 => {
            let times = 1 + random.below(2_000) as usize;
            (
                "a flood of settings",
                frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]).repeat(times),
                Fate::Served { pings: 0 },
            )
        }
        4 => {
            let pings = 1 + random.below(2_000) as usize;
            (
                "a flood of pings",
                frame(PING, 0, 0, b"12345678").repeat(pings),
                Fate::Served { pings },
            )
        }
        5 => {
            ("a window that overflows", frame(WINDOW_UPDATE, 0, 0, &word(0x7fff_ffff)), Fate::Ended)
        }
        6 => ("windows that do not grow", frame(WINDOW_UPDATE, 0, GOOD, &[0; 4]), Fate::Unknown),
        7 => ("a frame that cannot be", impossible_frame(random), Fate::Ended),
        8 => ("a malformed request", malformed_request(random, hidden), Fate::Unknown),
        9 => ("a table that grows", table_bomb(random), Fate::Unknown),
        10 => ("many requests at once", many_requests(random), Fate::Unknown),
        11 => ("half a frame", half_frame(random), Fate::Unknown),
        _ => {
            let ping = frame(PING, 0, 0, b"abcdefgh");
            let nothing = [frame(0xbb, 0xff, 7, b"of a kind that nobody knows"), ping].concat();
            ("frames to be passed over", nothing, Fate::Served { pings: 1 })
        }
    };
    bytes.extend(attack);
    // The client wants nothing more, so that the server hangs up once it has answered.
    if fate != Fate::Ended {
        bytes.extend(frame(GOAWAY, 0, 0, &[0; 8]));
    }
    let end = match random.below(16) {
        0 => End::Close,
        1 => End::Reset,
        // Half a frame is waited for.
        _ if name == "half a frame" && !random.one_in(16) => End::Shut,
        2 if fate == Fate::Unknown => End::Shut,
        _ => End::Wait,
    };
    (name, bytes, fate, end)
}

/// Holds the frames that came against what may come.
pub(super) fn check(
    bytes: &[u8],
    fate: Fate,
    is_whole: bool,
    is_complete: bool,
) -> anyhow::Result<()> {
    let (mut is_answered, mut pings, mut error) = (false, 0, None);
    let mut rest = bytes;
    let mut is_first = true;
    while !rest.is_empty() {
        let Some(frame) = Frame::first(rest) else {
            ensure!(!is_whole, "the last frame is cut short");
            break;
        };
        ensure!(frame.payload.len() <= FRAME_SIZE_MAX, "a frame of {} bytes", frame.payload.len());
        ensure!(!is_first || frame.kind == SETTINGS, "the first frame is {frame:?}");
        is_first = false;
        rest = &rest[9 + frame.payload.len()..];
        match frame.kind {
            HEADERS => {
                ensure!(frame.stream % 2 == 1, "an answer to nobody: {frame:?}");
                is_answered |= frame.stream == GOOD && frame.flags & END_STREAM != 0;
            }
            DATA | RST_STREAM | CONTINUATION => {
                ensure!(frame.stream != 0, "of no stream: {frame:?}")
            }
            SETTINGS => ensure!(frame.stream == 0 && frame.payload.len() % 6 == 0, "{frame:?}"),
            PING => {
                ensure!(frame.flags == ACK && frame.payload.len() == 8, "{frame:?}");
                pings += 1;
            }
            GOAWAY => {
                let mut code = frame.payload.get(4..8).context("a farewell without a reason")?;
                let code = code.get_u32();
                error = error.or((code != 0).then_some(code));
            }
            WINDOW_UPDATE => ensure!(frame.payload.len() == 4, "{frame:?}"),
            kind => bail!("a server sends no frame of kind {kind}"),
        }
    }
    if !is_complete {
        return Ok(());
    }
    match fate {
        Fate::Served { pings: sent } => {
            ensure!(error.is_none(), "the connection was ended with error {error:?}");
            ensure!(is_answered, "the good request got no answer");
            ensure!(pings == sent, "{pings} of {sent} pings were answered");
        }
        Fate::Ended => ensure!(error.is_some(), "the server goes on as if it were right"),
        Fate::Unknown => {}
    }
    Ok(())
}

/// A frame that came.
#[derive(Debug)]
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl Frame<'_> {
    /// The first one; `None` where it is not whole.
    fn first(bytes: &[u8]) -> Option<Frame<'_>> {
        let mut head = bytes.get(..9)?;
        let size = head.get_uint(3) as usize;
        let (kind, flags, stream) = (head.get_u8(), head.get_u8(), head.get_u32() & 0x7fff_ffff);
        Some(Frame { kind, flags, stream, payload: bytes.get(9..9 + size)? })
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + payload.len());
    bytes.put_uint(payload.len() as u64, 3);
    bytes.put_u8(kind);
    bytes.put_u8(flags);
    bytes.put_u32(stream);
    bytes.put_slice(payload);
    bytes
}

/// A number as frames hold it.
fn word(number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_u32(number);
    bytes
}

/// A header, spelled out.
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        // An integer with a prefix of 7 bits, of RFC 7541.
        match text.len().checked_sub(127) {
            None => bytes.push(text.len() as u8),
            Some(mut rest) => {
                bytes.push(127);
                while rest >= 128 {
                    bytes.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                bytes.push(rest as u8);
            }
        }
        bytes.extend(text);
    }
    bytes
}

/// The headers of a request that makes a queue.
fn fields(queue: &str) -> Vec<u8> {
    let path = format!("/v1/queues/{queue}");
    [(":method", "PUT"), (":scheme", "http"), (":authority", "x"), (":path", &path)]
        .iter()
        .flat_map(|(name, value)| field(name.as_bytes(), value.as_bytes()))
        .collect()
}

/// A request that makes a queue, with more headers.
fn request(stream: u32, queue: &str, more: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = fields(queue);
    block.extend(more.iter().flat_map(|(name, value)| field(name, value)));
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

fn any_frames(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(12) {
        let size_max = if random.one_in(4) { 2_000 } else { 24 };
        let size = random.below(size_max);
        let payload: Vec<u8> = (0..size).map(|_| random.word() as u8).collect();
        let kind = if random.one_in(4) { random.word() } else { random.below(10) } as u8;
        let (flags, stream) = (random.word() as u8, random.below(8) as u32);
        let mut one = frame(kind, flags, stream, &payload);
        if random.one_in(8) {
            one[2] ^= 1 << random.below(8);
        }
        bytes.extend(one);
    }
    bytes
}

/// Requests that are taken back as soon as they are made.
fn reset_storm(random: &mut Random) -> Vec<u8> {
    let count = 1 + random.below(600) as u32;
    let stream = |place| GOOD + 2 + 2 * place;
    (0..count)
        .flat_map(|place| {
            let reset = frame(RST_STREAM, 0, stream(place), &word(8));
            [request(stream(place), "storm", &[]), reset].concat()
        })
        .collect()
}

/// A head that goes on and on, and would make a queue if it ended.
fn endless_headers(random: &mut Random, hidden: &str) -> Vec<u8> {
    let mut bytes = frame(HEADERS, END_STREAM, GOOD + 2, &fields(hidden));
    let is_empty = random.one_in(2);
    let piece = if is_empty { Vec::new() } else { field(b"x", &[b'y'; 4_000]) };
    let count = if is_empty { 100_000 } else { 200 };
    bytes.extend(frame(CONTINUATION, 0, GOOD + 2, &piece).repeat(count));
    // By then nobody listens.
    bytes.extend(frame(CONTINUATION, END_HEADERS, GOOD + 2, &[]));
    bytes
}

fn impossible_frame(random: &mut Random) -> Vec<u8> {
    match random.below(13) {
        0 => frame(DATA, 0, 0, b"of no stream"),
        1 => frame(DATA, 0, GOOD + 8, b"of a stream that nobody opened"),
        2 => request(2, "even", &[]),
        3 => [request(GOOD + 6, "later", &[]), request(GOOD + 4, "earlier", &[])].concat(),
        4 => frame(RST_STREAM, 0, GOOD + 8, &[0; 4]),
        5 => frame(RST_STREAM, 0, GOOD, &[0; 3]),
        6 => frame(PUSH_PROMISE, END_HEADERS, GOOD, &[0, 0, 0, 2]),
        7 => frame(PING, 0, 0, b"short"),
        8 => frame(SETTINGS, 0, 0, &[0; 5]),
        9 => frame(SETTINGS, ACK, 0, &[0; 6]),
        10 => frame(CONTINUATION, END_HEADERS, GOOD, &[]),
        // An initial window beyond the largest, then a frame beyond the largest.
        11 => frame(SETTINGS, 0, 0, &[0, 4, 255, 255, 255, 255]),
        _ => {
            let mut bytes = frame(PRIORITY, 0, GOOD, &[0; 5]);
            bytes.extend(frame(HEADERS, END_HEADERS, GOOD + 2, &vec![0; FRAME_SIZE_MAX + 1]));
            bytes
        }
    }
}

/// A request that HTTP/2 forbids, since a proxy may make two of it.
fn malformed_request(random: &mut Random, hidden: &str) -> Vec<u8> {
    let bad: [(&[u8], &[u8]); 11] = [
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"keep-alive"),
        (b"upgrade", b"h2c"),
        (b"X-Upper", b"y"),
        (b"x", b"y\r\ntransfer-encoding: chunked"),
        (b"x\r\ny", b"z"),
        (b"x", b"\0"),
        (b"", b"no name"),
        (b"content-length", b"5"),
        (b"te", b"gzip"),
        (b":path", b"/v1/queues/late"),
    ];
    let bad = random.pick(&bad).copied().unwrap_or_default();
    request(GOOD + 2, hidden, &[bad])
}

/// A large header is put into the table, and named again and again.
fn table_bomb(random: &mut Random) -> Vec<u8> {
    // With indexing, a new name.
    let mut block = field(b"x", &vec![b'y'; 3_900]);
    block[0] = 0x40;
    let mut all = fields("table");
    all.extend(block);
    all.extend(vec![0x80 | 62; 1 + random.below(8_000) as usize]);
    frame(HEADERS, END_HEADERS | END_STREAM, GOOD + 2, &all)
}

/// More requests than the server takes at a time.
fn many_requests(random: &mut Random) -> Vec<u8> {
    let count = 1 + random.below(300) as u32;
    (0..count).flat_map(|place| request(GOOD + 2 + 2 * place, "many", &[])).collect()
}

fn half_frame(random: &mut Random) -> Vec<u8> {
    let whole = frame(DATA, 0, GOOD, &[b'x'; 200]);
    let mut bytes = whole[..1 + random.below(whole.len() as u64 - 1) as usize].to_vec();
    if random.one_in(2) {
        bytes = request(GOOD + 2, "half", &[])[..20].to_vec();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_are_written_and_half_ones_are_none() {
        let bytes = frame(PING, ACK, 0, b"12345678");
        let read = Frame::first(&bytes).expect("it is whole");
        assert_eq!(
            (read.kind, read.flags, read.stream, read.payload),
            (PING, ACK, 0, &b"12345678"[..])
        );
        assert!((0..bytes.len()).all(|cut| Frame::first(&bytes[..cut]).is_none()));
    }

    #[test]
    fn a_server_that_goes_on_where_it_has_to_end_is_noticed() {
        let settings = frame(SETTINGS, 0, 0, &[]);
        let answer = frame(HEADERS, END_HEADERS | END_STREAM, GOOD, &[0x89]);
        let farewell = |code: u32| frame(GOAWAY, 0, 0, &[word(0), word(code)].concat());
        let well = [settings.clone(), answer.clone(), farewell(0)].concat();
        let ill = [settings.clone(), farewell(1)].concat();
        let served = Fate::Served { pings: 0 };
        check(&well, served, true, true).expect("served");
        check(&ill, Fate::Ended, true, true).expect("ended");
        check(&well, Fate::Ended, true, true).expect_err("not ended");
        check(&ill, served, true, true).expect_err("not served");
        check(&well, Fate::Served { pings: 1 }, true, true).expect_err("no ping");
        check(&well[..well.len() - 1], served, true, true).expect_err("cut short");
        check(&well[..well.len() - 1], served, false, false).expect("broken by the client");
        check(&answer, served, true, true).expect_err("no settings first");
    }
}
