//! Attacks in HTTP/1.1, each with what may come of it by RFC 9112: requests whose length can be read in two ways,
//! bodies that hold a request, heads that are huge, odd or half, chunks that are wrong, and good requests changed at
//! random. Knows no sockets.

use super::site::{BODY_SIZE_MAX, Doors, EMPTY, OPEN};
use super::stream::{Attack, End, Fate};
use crate::random::Random;
use marconi_fuzz::change::Seeds;
use marconi_tests::wire::{CLIENT_ID, MESSAGE};
use std::sync::OnceLock;

/// What a request is refused with whose head or framing is wrong.
const REFUSED: &[u16] = &[400, 404, 414, 431];
/// What may be answered where both lengths are there and the chunks count.
const ANY: &[u16] = &[200, 201, 204, 300, 400, 404, 405];
/// How many headers a head may have.
const HEADERS_MAX: usize = 100;
/// Random bytes in a row, at the most.
const GARBAGE_SIZE_MAX: u64 = 3_000;

/// A request that no proxy would have let through, and no server may execute.
pub(super) fn hidden_request(queue: &str) -> Vec<u8> {
    format!("PUT /v1/queues/{queue} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

/// One of the attacks.
pub(super) fn attack(random: &mut Random, doors: &Doors, hidden: &str) -> Attack {
    match random.below(16) {
        0 | 1 => two_framings(random, hidden),
        2 => wrong_length(random),
        3 => wrong_coding(random),
        4 | 5 => wrong_chunks(random),
        6 => odd_chunks(random),
        7 | 8 => request_in_a_body(random, hidden),
        9 => request_in_a_trailer(random, hidden),
        10 => odd_head(random),
        11 => large_head(random, doors),
        12 => text(random),
        13 => half(random),
        14 => garbage(random),
        _ => changed(random),
    }
}

fn waits(name: &'static str, bytes: Vec<u8>, fate: Fate) -> Attack {
    Attack { name, bytes, fate, end: End::Wait }
}

/// A post with these headers of its framing, each with its end.
fn post(queue: &str, framing: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST /v1/queues/{queue}/messages HTTP/1.1\r\nHost: x\r\nClient-ID: {CLIENT_ID}\r\n{framing}\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn one_of<'a>(random: &mut Random, list: &[&'a str]) -> &'a str {
    random.pick(list).copied().unwrap_or_default()
}

/// A body in chunks of random sizes.
fn chunked(random: &mut Random, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, more) = rest.split_at(rest.len().min(1 + random.below(40) as usize));
        let upper = if random.one_in(2) {
            format!("{:X}", chunk.len())
        } else {
            format!("{:x}", chunk.len())
        };
        bytes.extend_from_slice(format!("{upper}\r\n").as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        rest = more;
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Both `Content-Length` and `Transfer-Encoding`: the chunks count, and the connection ends, so that nobody who
/// counted the bytes has let a request through.
fn two_framings(random: &mut Random, hidden: &str) -> Attack {
    let inner = hidden_request(hidden);
    let body =
        if random.one_in(2) { chunked(random, MESSAGE.as_bytes()) } else { b"0\r\n\r\n".to_vec() };
    let length = match random.below(4) {
        0 => 0,
        1 => 5,
        2 => body.len(),
        _ => body.len() + inner.len(),
    };
    let coding = one_of(
        random,
        &[
            "Transfer-Encoding: chunked\r\n",
            "transfer-encoding:chunked\r\n",
            "Transfer-Encoding: Chunked\r\n",
            "Transfer-Encoding: \t chunked \t\r\n",
            "X: y\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        ],
    );
    let again = format!("Content-Length: {length}\r\n");
    let length = one_of(
        random,
        &[&again, &format!("{again}{again}"), &format!("content-length:{length}\r\n")],
    )
    .to_owned();
    let alive = one_of(
        random,
        &["", "Connection: keep-alive\r\n", "Connection: close\r\nConnection: keep-alive\r\n"],
    );
    let framing = match random.below(3) {
        0 => format!("{coding}{alive}{length}"),
        1 => format!("{alive}{length}{coding}"),
        _ => format!("{length}{coding}{alive}"),
    };
    let bytes = match random.below(3) {
        0 => post(OPEN, &framing, &body),
        1 => post("nowhere", &framing, &body),
        _ => [format!("GET /v1/nowhere HTTP/1.1\r\nHost: x\r\n{framing}\r\n").into_bytes(), body]
            .concat(),
    };
    waits("both Content-Length and Transfer-Encoding", bytes, Fate::Ended(ANY))
}

/// A length that is no number, or two that differ.
fn wrong_length(random: &mut Random) -> Attack {
    let size = MESSAGE.len();
    let length = match random.below(15) {
        0 => format!("Content-Length: {size}\r\nContent-Length: {}\r\n", size + 1),
        1 => format!("Content-Length: 0\r\nX: y\r\ncontent-length: {size}\r\n"),
        2 => format!("Content-Length: {size}, {}\r\n", size + 1),
        3 => format!("Content-Length: +{size}\r\n"),
        4 => format!("Content-Length: -{size}\r\n"),
        5 => format!("Content-Length: 0x{size:x}\r\n"),
        6 => format!("Content-Length: {size} {size}\r\n"),
        7 => "Content-Length: \r\n".to_owned(),
        8 => format!("Content-Length: {size};\r\n"),
        9 => format!("Content-Length : {size}\r\n"),
        10 => format!("Content-Length:\r\n {size}\r\n"),
        11 => "Content-Length: 18446744073709551616\r\n".to_owned(),
        12 => "Content-Length: 18446744073709551615\r\n".to_owned(),
        13 => format!("Content-Length: {size}\0\r\n"),
        _ => format!("Content-Length: {size}.0\r\n"),
    };
    waits("a wrong Content-Length", post(EMPTY, &length, MESSAGE.as_bytes()), Fate::Ended(REFUSED))
}

/// A transfer coding that does not end with chunks, or is hidden from some.
fn wrong_coding(random: &mut Random) -> Attack {
    let coding = one_of(
        random,
        &[
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunkedx\r\n",
            "Transfer-Encoding: chunked,\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding: \x0bchunked\r\n",
            "Transfer-Encoding: chunked\x0c\r\n",
            "Transfer-Encoding: chunked;q=1\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding:\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Transfer-Encoding\t: chunked\r\n",
            "Transfer-Encoding:\r\n chunked\r\n",
            "X: y\r\n\tz\r\nTransfer-Encoding: chunked\r\n",
            "X: y\rTransfer-Encoding: chunked\r\n",
            "X: \0\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            " Transfer-Encoding: chunked\r\n",
        ],
    );
    let coding =
        if random.one_in(3) { format!("Content-Length: 5\r\n{coding}") } else { coding.to_owned() };
    let mut bytes = post(EMPTY, &coding, &chunked(random, MESSAGE.as_bytes()));
    if random.one_in(8) {
        // The older version knows no transfer codings.
        bytes = post(EMPTY, "Transfer-Encoding: chunked\r\n", &chunked(random, MESSAGE.as_bytes()));
        let at = bytes.windows(8).position(|window| window == b"HTTP/1.1").unwrap_or_default();
        bytes[at + 7] = b'0';
    }
    waits("a wrong Transfer-Encoding", bytes, Fate::Ended(REFUSED))
}

/// Chunks that are none.
fn wrong_chunks(random: &mut Random) -> Attack {
    let size = MESSAGE.len();
    let whole = |line: &str| format!("{line}\r\n{MESSAGE}\r\n0\r\n\r\n");
    let body = match random.below(22) {
        0 => whole(&format!("+{size:x}")),
        1 => whole(&format!("-{size:x}")),
        2 => whole(&format!("0x{size:x}")),
        3 => whole(&format!(" {size:x}")),
        4 => whole(""),
        5 => whole(";a=b"),
        6 => whole("g"),
        7 => whole(&format!("{size:x} 0")),
        8 => whole("ffffffffffffffff0"),
        9 => whole(&format!("1000000000000000{size:x}")),
        10 => whole("ffffffffffffffff"),
        11 => format!("{size:x}\n{MESSAGE}\r\n0\r\n\r\n"),
        12 => format!("{size:x};a\nb\r\n{MESSAGE}\r\n0\r\n\r\n"),
        13 => format!("{size:x}\r{MESSAGE}\r\n0\r\n\r\n"),
        14 => format!("{size:x}\r\n{MESSAGE}0\r\n\r\n"),
        15 => format!("{size:x}\r\n{MESSAGE}\n0\r\n\r\n"),
        16 => format!("{size:x}\r\n{MESSAGE}xx0\r\n\r\n"),
        17 => whole(&format!("{:x}", size - 1)),
        18 => whole(&format!("{:x}", size + 1)),
        19 => whole(&format!("{size:x}{}", ";a=b".repeat(6_000))),
        20 => format!("{size:x}\r\n{MESSAGE}\r\n0\r\n{}\r\n", "X: y\r\n".repeat(2_000)),
        _ => format!("{size:x}\r\n{MESSAGE}\r\n0\r\nX: {}\r\n\r\n", "y".repeat(70_000)),
    };
    let queue = if random.one_in(4) { "nowhere" } else { EMPTY };
    let bytes = post(queue, "Transfer-Encoding: chunked\r\n", body.as_bytes());
    waits("wrong chunks", bytes, Fate::Ended(REFUSED))
}

/// Chunks that look odd and are right.
fn odd_chunks(random: &mut Random) -> Attack {
    let size = MESSAGE.len();
    let body = match random.below(7) {
        0 => format!("{size:x};a=b\r\n{MESSAGE}\r\n0\r\n\r\n"),
        1 => format!("{size:x} \t;a=\"\\\"; b\"\r\n{MESSAGE}\r\n0;c\r\n\r\n"),
        2 => format!("000000000{size:x}\r\n{MESSAGE}\r\n000\r\n\r\n"),
        3 => format!("{size:x}\r\n{MESSAGE}\r\n0\r\nX: y\r\nContent-Length: 5\r\n\r\n"),
        4 => format!("{size:x}\r\n{MESSAGE}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        5 => format!("{size:X}\r\n{MESSAGE}\r\n0\r\n\r\n"),
        _ => String::from_utf8_lossy(&chunked(random, MESSAGE.as_bytes())).into_owned(),
    };
    let bytes = post(OPEN, "Transfer-Encoding: chunked\r\n", body.as_bytes());
    waits("odd chunks", bytes, Fate::Served(&[201]))
}

/// A request in the body of another one, which most routes do not read.
fn request_in_a_body(random: &mut Random, hidden: &str) -> Attack {
    let mut body = hidden_request(hidden).repeat(1 + random.below(3) as usize);
    if random.one_in(4) {
        // Too large to be read, small enough to be thrown away.
        let padding = vec![b' '; BODY_SIZE_MAX * (1 + random.below(4) as usize)];
        body = [padding, body].concat();
    }
    let (line, statuses): (String, &'static [u16]) = match random.below(9) {
        0 => ("GET /v1/nowhere".to_owned(), &[404]),
        1 => ("GET /v1/health".to_owned(), &[204]),
        2 => (format!("PUT /v1/queues/{OPEN}"), &[204]),
        3 => (format!("DELETE /v1/queues/{OPEN}-{hidden}"), &[204]),
        // Without a client, with one, and of a queue that is not there.
        4 => (format!("POST /v1/queues/{EMPTY}/messages"), &[400]),
        5 => (format!("POST /v1/queues/{EMPTY}/claims"), &[400]),
        6 => (format!("PUT /v1/queues/{EMPTY}/metadata"), &[400]),
        7 => (format!("OPTIONS /v1/queues/{EMPTY}"), &[200]),
        _ => ("TRACE /v1/".to_owned(), &[405]),
    };
    let is_chunked = random.one_in(2);
    let framing = if is_chunked {
        "Transfer-Encoding: chunked\r\n".to_owned()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let sent = if is_chunked { chunked(random, &body) } else { body };
    // Whoever asks before sending, and sends, may find the connection closed.
    let (expect, fate) = if random.one_in(4) {
        ("Expect: 100-continue\r\n", Fate::Contained)
    } else {
        ("", Fate::Served(statuses))
    };
    let head = format!("{line} HTTP/1.1\r\nHost: x\r\n{expect}{framing}\r\n");
    waits("a request in the body of another", [head.into_bytes(), sent].concat(), fate)
}

/// A request where trailers belong.
fn request_in_a_trailer(random: &mut Random, hidden: &str) -> Attack {
    let inner = String::from_utf8_lossy(&hidden_request(hidden)).into_owned();
    let size = MESSAGE.len();
    let body = match random.below(3) {
        0 => format!("{size:x}\r\n{MESSAGE}\r\n0\r\n{inner}"),
        1 => format!("{size:x}\r\n{MESSAGE}\r\n0\r\nX: y\r\n{inner}"),
        _ => format!("0\r\n{inner}"),
    };
    let bytes = post(OPEN, "Transfer-Encoding: chunked\r\n", body.as_bytes());
    waits("a request where trailers belong", bytes, Fate::Contained)
}

/// Heads that are not as they should be.
fn odd_head(random: &mut Random) -> Attack {
    const WRONG: [&[u8]; 16] = [
        b"GET /v1/health HTTP/1.2\r\nHost: x\r\n\r\n",
        b"GET /v1/health HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /v1/health HTTP/11\r\nHost: x\r\n\r\n",
        b"GET /v1/health http/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/health\r\n\r\n",
        b"GET\r\n\r\n",
        b" GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"G\xc3\x84T /v1/health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/\x7f HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\n: no name\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nX Y: blank\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nX\xff: y\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nX: y\x01\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nX: y\rZ: z\r\n\r\n",
    ];
    const RIGHT: [(&[u8], &[u16]); 10] = [
        (b"GET health HTTP/1.1\r\nHost: x\r\n\r\n", &[404]),
        (b"\r\n\r\n\nGET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n", &[204]),
        (b"GET /v1/health HTTP/1.1\nHost: x\n\n", &[204]),
        (b"GET http://elsewhere/v1/health HTTP/1.1\r\nHost: x\r\n\r\n", &[204]),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", &[404]),
        (b"BREW /v1/health HTTP/1.1\r\nHost: x\r\n\r\n", &[405]),
        (b"GET /v1/health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", &[204, 400]),
        (b"GET /v1/queues/q%00%ff%2f..%2f/stats HTTP/1.1\r\nHost: x\r\n\r\n", &[400, 404]),
        (b"GET /v1/health HTTP/1.1\r\nHost: x\r\nX: \xff\xfe\x80\r\n\r\n", &[204]),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
              HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
            &[300],
        ),
    ];
    if random.one_in(2) {
        let bytes = random.pick(&WRONG).copied().unwrap_or_default();
        return waits("a wrong head", bytes.to_vec(), Fate::Ended(REFUSED));
    }
    let (bytes, statuses) = random.pick(&RIGHT).copied().unwrap_or_default();
    waits("an odd head", bytes.to_vec(), Fate::Served(statuses))
}

/// Heads at and beyond their limits.
fn large_head(random: &mut Random, doors: &Doors) -> Attack {
    let most = doors.header_size_max;
    // What has arrived at once is read at once: up to twice the limit that may be taken.
    let beyond = most * (2 + random.below(3) as usize) + 4_096;
    let head =
        |lines: &str| format!("GET /v1/health HTTP/1.1\r\nHost: x\r\n{lines}\r\n").into_bytes();
    let large: &[u16] = &[431];
    let (bytes, fate) = match random.below(6) {
        0 => (head(&format!("X: {}\r\n", "y".repeat(beyond))), Fate::Ended(large)),
        1 => (head(&format!("{}: y\r\n", "X".repeat(beyond))), Fate::Ended(REFUSED)),
        2 => (head(&"X-A: b\r\n".repeat(beyond / 8)), Fate::Ended(large)),
        3 => (head(&"X: y\r\n".repeat(HEADERS_MAX + 1)), Fate::Ended(large)),
        4 => {
            let request =
                format!("GET /v1/queues/{} HTTP/1.1\r\nHost: x\r\n\r\n", "q".repeat(beyond));
            (request.into_bytes(), Fate::Ended(REFUSED))
        }
        _ => (head(&format!("X: {}\r\n", "y".repeat(most / 2))), Fate::Served(&[204])),
    };
    waits("a large head", bytes, fate)
}

/// Text that is split, wrong, deep or wide.
fn text(random: &mut Random) -> Attack {
    let message = |body: &str| format!(r#"[{{"ttl": 300, "body": {body}}}]"#).into_bytes();
    let (body, statuses): (Vec<u8>, &'static [u16]) = match random.below(8) {
        0 => (message("\"\u{1f600}\u{e9}\u{4e2d}\u{ffff}\""), &[201]),
        1 => (message(r#""\ud83d\ude00""#), &[201]),
        2 => (message(r#""\ud83d""#), &[400]),
        3 => (
            [b"[{\"ttl\": 300, \"body\": \"\xf0\x9f\x98".to_vec(), b"\"}]".to_vec()].concat(),
            &[400],
        ),
        4 => ([b"\xff\xfe".to_vec(), message("1")].concat(), &[400]),
        5 => (message(&format!("{}{}", "[".repeat(2_000), "]".repeat(2_000))), &[400]),
        6 => (message(&format!("[{}0]", "0,".repeat(4_000))), &[201]),
        _ => (message("1")[..9].to_vec(), &[400]),
    };
    let queue = if statuses.contains(&201) { OPEN } else { EMPTY };
    let bytes = if random.one_in(2) {
        post(queue, "Transfer-Encoding: chunked\r\n", &chunked(random, &body))
    } else {
        post(queue, &format!("Content-Length: {}\r\n", body.len()), &body)
    };
    waits("text in a post", bytes, Fate::Served(statuses))
}

/// Half a request; then the client ends in any way.
fn half(random: &mut Random) -> Attack {
    let whole = if random.one_in(2) {
        post(EMPTY, "Transfer-Encoding: chunked\r\n", &chunked(random, MESSAGE.as_bytes()))
    } else {
        post(EMPTY, &format!("Content-Length: {}\r\n", MESSAGE.len()), MESSAGE.as_bytes())
    };
    let cut = 1 + random.below(whole.len() as u64 - 1) as usize;
    let end = match random.below(20) {
        0 => End::Wait,
        1..8 => End::Shut,
        8..14 => End::Close,
        _ => End::Reset,
    };
    Attack { name: "half a request", bytes: whole[..cut].to_vec(), fate: Fate::Unknown, end }
}

/// Bytes without a meaning.
fn garbage(random: &mut Random) -> Attack {
    let start: &[u8] = match random.below(5) {
        0 => b"GET ",
        1 => b"GET / HTTP/1.1\r\n",
        2 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        3 => b"PRI * HTTP/2.0\r\n",
        _ => b"",
    };
    let size = random.below(GARBAGE_SIZE_MAX);
    let mut bytes = start.to_vec();
    bytes.extend((0..size).map(|_| random.word() as u8));
    bytes.extend_from_slice(b"\r\n\r\n");
    Attack { name: "garbage", bytes, fate: Fate::Unknown, end: End::Shut }
}

/// Good requests, or requests with what the parsers' kept inputs hold, changed at random.
fn changed(random: &mut Random) -> Attack {
    static REQUESTS: OnceLock<Seeds> = OnceLock::new();
    static DOCUMENTS: OnceLock<Seeds> = OnceLock::new();
    let mut bytes = Vec::new();
    if random.one_in(3) {
        let documents = DOCUMENTS.get_or_init(|| Seeds::of("document").expect("it has seeds"));
        let mut body = Vec::new();
        documents.fill(&mut body, &mut || random.word());
        bytes = post(OPEN, &format!("Content-Length: {}\r\n", body.len()), &body);
    } else {
        let requests = REQUESTS.get_or_init(|| Seeds::given(good_requests()));
        for _ in 0..=random.below(3) {
            let mut request = Vec::new();
            requests.fill(&mut request, &mut || random.word());
            bytes.extend_from_slice(&request);
        }
    }
    Attack { name: "good requests, changed", bytes, fate: Fate::Unknown, end: End::Shut }
}

/// Requests of each kind, none of which touches the queue that has to stay empty.
fn good_requests() -> Vec<Vec<u8>> {
    let client = format!("Host: x\r\nClient-ID: {CLIENT_ID}\r\nX-Project-Id: p1\r\n");
    let with = |line: &str, body: &str| {
        let size = body.len();
        format!("{line} HTTP/1.1\r\n{client}Content-Length: {size}\r\n\r\n{body}").into_bytes()
    };
    let without =
        |line: &str| format!("{line} HTTP/1.1\r\n{client}Accept: */*\r\n\r\n").into_bytes();
    vec![
        with("POST /v1/queues/changed/messages", MESSAGE),
        with("POST /v1/queues/changed/claims?limit=3", r#"{"ttl": 60, "grace": 60}"#),
        with("PUT /v1/queues/changed/metadata", r#"{"a": [1, null, "b"]}"#),
        with("PATCH /v1/queues/changed/claims/gEDiyiQ", r#"{"ttl": 60}"#),
        without("PUT /v1/queues/changed"),
        without("GET /v1/queues?limit=2&detailed=true&marker=a"),
        without("GET /v1/queues/changed/messages?echo=true&include_claimed=true&limit=5"),
        without("GET /v1/queues/changed/messages?ids=gCABHZeG,gCACY9MD"),
        without("DELETE /v1/queues/changed/messages/gCABHZeG?claim_id=gEDiyiQ"),
        without("GET /v1/queues/changed/stats"),
        without("DELETE /v1/queues/changed"),
        without("HEAD /v1/queues/changed"),
        without("GET /v1/"),
        post("changed", "Transfer-Encoding: chunked\r\n", b"3\r\n[1]\r\n0\r\nX: y\r\n\r\n"),
    ]
}
