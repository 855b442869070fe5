//! Which HTTP a client speaks: one of HTTP/2 begins with a preface (RFC 9113, 3.4), all others speak HTTP/1. Knows
//! nothing of either but that.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What a client of HTTP/2 says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// 1.0 and 1.1.
    Http1,
    /// 2, whose client knows beforehand that it is spoken, or agreed on it under TLS.
    Http2,
}

/// What was read to tell the version.
#[derive(Debug)]
pub(crate) struct First {
    bytes: [u8; PREFACE.len()],
    size: usize,
}

/// Waits for as much of what is said first as it takes to tell the version. One who says nothing and goes speaks
/// HTTP/1.
///
/// # Errors
/// Those of the socket.
pub(crate) async fn tell<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<(Version, First)> {
    let mut first = First { bytes: [0; PREFACE.len()], size: 0 };
    loop {
        let count = io.read(&mut first.bytes[first.size..]).await?;
        first.size += count;
        if count == 0 || !PREFACE.starts_with(&first.bytes[..first.size]) {
            return Ok((Version::Http1, first));
        }
        if first.size == PREFACE.len() {
            return Ok((Version::Http2, first));
        }
    }
}

/// A socket whose first bytes were read, and are read once more.
#[derive(Debug)]
pub(crate) struct Rewound<T> {
    io: T,
    first: First,
    /// How many of them were read again.
    start: usize,
}

impl<T> Rewound<T> {
    pub(crate) fn new(io: T, first: First) -> Rewound<T> {
        Rewound { io, first, start: 0 }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewound<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.start == self.first.size {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let end = self.first.size.min(self.start + buffer.remaining());
        buffer.put_slice(&self.first.bytes[self.start..end]);
        self.start = end;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewound<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The version told of `said` when it comes in pieces of so many bytes, and what is read afterwards by so many.
    fn told(said: &[u8], sent_size: usize, read_size: usize) -> (Version, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut pieces = Pieces { said, sent_size };
            let (version, first) = tell(&mut pieces).await.expect("it can be read");
            let mut io = Rewound::new(pieces, first);
            let (mut all, mut some) = (Vec::new(), vec![0; read_size]);
            loop {
                match io.read(&mut some).await.expect("it can be read") {
                    0 => break,
                    count => all.extend_from_slice(&some[..count]),
                }
            }
            (version, all)
        })
    }

    /// What is said, of which one read brings so many bytes at the most.
    struct Pieces<'a> {
        said: &'a [u8],
        sent_size: usize,
    }

    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let size = self.sent_size.min(self.said.len()).min(buffer.remaining());
            let (piece, rest) = self.said.split_at(size);
            buffer.put_slice(piece);
            self.said = rest;
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn only_a_whole_preface_is_http2() {
        let whole = [PREFACE, &b"settings"[..]].concat();
        for size in [1, 7, 24, 100] {
            assert_eq!(told(&whole, size, 5), (Version::Http2, whole.clone()));
        }
        for end in 0..PREFACE.len() {
            let part = &PREFACE[..end];
            assert_eq!(told(part, 3, 5), (Version::Http1, part.to_vec()));
            let other = [part, b"?", &PREFACE[end + 1..]].concat();
            assert_eq!(told(&other, 3, 5), (Version::Http1, other));
        }
    }

    proptest! {
        #[test]
        fn what_was_looked_at_is_read_once_more(
            said in prop::collection::vec(any::<u8>(), 0..60),
            sent_size in 1..30_usize,
            read_size in 1..30_usize,
        ) {
            prop_assert_eq!(told(&said, sent_size, read_size), (Version::Http1, said));
        }
    }
}
