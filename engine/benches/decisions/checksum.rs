//! A checksum a frame, or also one a message? Frames here are: head, a head a message, bodies.
use crate::disk::KIB;
use crate::measure::{Effort, Study};
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

const MESSAGE_HEAD_SIZE: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cover {
    /// One sum over everything.
    Frame,
    /// That, and one over each body: two passes over the bytes.
    FrameAndMessages,
    /// One over each body, and the frame's over the heads, which hold those: one pass.
    HeadsAndMessages,
}

pub(crate) fn ask(effort: Effort) -> io::Result<()> {
    for size in [100, KIB, 16 * KIB] {
        for count in [1, 10, 100] {
            let title = format!("Batches of {count} messages of {size} bytes");
            let mut study = Study::new(title, &["write ns a message", "read ns one message"]);
            for (name, cover) in [
                ("frame", Cover::Frame),
                ("frame and each message", Cover::FrameAndMessages),
                ("heads and each message", Cover::HeadsAndMessages),
            ] {
                let (body, mut frame) = (vec![0x5a; size], Vec::new());
                study.variant(name, move || {
                    let half = effort.turn() / 2;
                    let write = nanos_each(half, || write(&mut frame, &body, count, cover));
                    let read = nanos_each(half, || read_one(&frame, size, cover));
                    Ok(vec![write / count as f64, read])
                });
            }
            study.run(effort)?;
        }
    }
    Ok(())
}

/// Copies the bodies into the frame, as a post does into the log's buffer, and sums them up.
fn write(frame: &mut Vec<u8>, body: &[u8], count: usize, cover: Cover) -> u32 {
    frame.clear();
    frame.resize(count * MESSAGE_HEAD_SIZE, 0);
    for index in 0..count {
        let start = frame.len();
        frame.extend_from_slice(body);
        if cover != Cover::Frame {
            let sum = crc32fast::hash(&frame[start..]);
            let at = index * MESSAGE_HEAD_SIZE;
            frame[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        }
    }
    match cover {
        Cover::Frame | Cover::FrameAndMessages => crc32fast::hash(frame),
        Cover::HeadsAndMessages => crc32fast::hash(&frame[..count * MESSAGE_HEAD_SIZE]),
    }
}

/// Checks what has to be checked before the last message of a frame may be trusted.
fn read_one(frame: &[u8], size: usize, cover: Cover) -> u32 {
    match cover {
        Cover::Frame => crc32fast::hash(frame),
        Cover::FrameAndMessages | Cover::HeadsAndMessages => {
            crc32fast::hash(&frame[frame.len() - size..])
        }
    }
}

/// Nanoseconds an operation takes on average; the clock is read every 16th time.
fn nanos_each(turn: Duration, mut op: impl FnMut() -> u32) -> f64 {
    let (mut count, start) = (0, Instant::now());
    while start.elapsed() < turn {
        for _ in 0..16 {
            black_box(op());
        }
        count += 16;
    }
    start.elapsed().as_nanos() as f64 / f64::from(count)
}
