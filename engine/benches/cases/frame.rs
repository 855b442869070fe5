//! Frames as the log writes them. Knows no engine.

use super::Work;
use marconi_engine::Lsn;
use marconi_engine::internals::encode_frame;
use marconi_engine::log::frame::{Head, Kind};
use marconi_engine::log::record::{MESSAGE_HEAD_SIZE, POST_HEAD_SIZE, POST_ONE_HEAD_SIZE};
use std::hint::black_box;

/// Head and checksum of a post of `count` messages of 1 KiB, and the copy of its payload.
pub(super) fn encode(count: u16) -> Box<dyn Work> {
    let size = match count {
        1 => POST_ONE_HEAD_SIZE + 1024,
        _ => POST_HEAD_SIZE + usize::from(count) * (MESSAGE_HEAD_SIZE + 1024),
    };
    let payload = vec![b'x'; size];
    let head = Head {
        length: 0,
        lsn: Lsn(1 << 30),
        at_ms: 1_700_000_000_000,
        queue: 64,
        seq: 1000,
        behind: 4096,
        kind: if count == 1 { Kind::PostedOne } else { Kind::Posted },
    };
    Box::new(move || {
        black_box(encode_frame(black_box(head), black_box(&payload)));
    })
}
