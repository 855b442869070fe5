//! A socket that sends what comes in several pieces as one where copying them together is cheaper, and as
//! they lie where it is not. Knows nothing of what the pieces are.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Pieces of so many bytes together are copied into one: the system takes longer for two than the copy does.
const JOINED_MAX: usize = 8 << 10;

thread_local! {
    /// What pieces are joined in, by all connections of a thread: it is empty again when a write returns.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Another socket, to which small pieces are written as one.
#[derive(Debug)]
pub(crate) struct JoinedIo<T>(pub(crate) T);

impl<T: AsyncRead + Unpin> AsyncRead for JoinedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for JoinedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [piece] = pieces {
            return Pin::new(&mut self.0).poll_write(cx, piece);
        }
        if pieces.iter().map(|piece| piece.len()).sum::<usize>() > JOINED_MAX {
            return Pin::new(&mut self.0).poll_write_vectored(cx, pieces);
        }
        let mut joined = BUFFER.take();
        pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
        let result = Pin::new(&mut self.0).poll_write(cx, &joined);
        joined.clear();
        BUFFER.set(joined);
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes the pieces of each write, and takes at most so many bytes of one.
    struct Socket {
        writes: Vec<Vec<usize>>,
        taken_max: usize,
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes.push(vec![bytes.len()]);
            Poll::Ready(Ok(bytes.len().min(self.taken_max)))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let sizes: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
            let size = sizes.iter().sum::<usize>();
            self.writes.push(sizes);
            Poll::Ready(Ok(size.min(self.taken_max)))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Socket {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    fn written(io: &mut JoinedIo<Socket>, sizes: &[usize]) -> usize {
        let bytes = [7; JOINED_MAX + 1];
        let pieces: Vec<IoSlice<'_>> = sizes.iter().map(|&n| IoSlice::new(&bytes[..n])).collect();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match Pin::new(io).poll_write_vectored(&mut cx, &pieces) {
            Poll::Ready(Ok(count)) => count,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn small_pieces_leave_as_one_and_large_ones_as_they_are() {
        let mut io = JoinedIo(Socket { writes: Vec::new(), taken_max: usize::MAX });
        assert_eq!(written(&mut io, &[100, JOINED_MAX - 100]), JOINED_MAX);
        assert_eq!(written(&mut io, &[100, JOINED_MAX - 99]), JOINED_MAX + 1);
        io.0.taken_max = 30;
        assert_eq!(written(&mut io, &[20, 40]), 30);
        // What the socket left is not in the buffer any more.
        assert_eq!(written(&mut io, &[5, 5]), 10);
        let expected = [vec![JOINED_MAX], vec![100, JOINED_MAX - 99], vec![60], vec![10]];
        assert_eq!(io.0.writes, expected);
    }
}
