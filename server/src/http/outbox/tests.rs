//! Over real sockets: what is kept, when it leaves, and what becomes of what a socket does not take.

use super::*;
use std::future::poll_fn;
use std::task::Wake;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// Longest that a client waits for what has to come.
const DEADLINE: Duration = Duration::from_secs(20);

/// A connection, and the client at its other end.
async fn connection() -> (OutboxIo, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("accepted");
    let (stream, _) = listener.accept().await.expect("a client");
    stream.writable().await.expect("it is new");
    (OutboxIo::new(stream), client)
}

async fn read_exactly(client: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let read = timeout(DEADLINE, client.read_exact(&mut bytes)).await;
    read.expect("it comes in time").expect("it is whole");
    bytes
}

/// Whether anything lies there to be read: over the loopback, what was sent has arrived.
fn has_some(client: &TcpStream) -> bool {
    match client.try_read(&mut [0]) {
        Ok(_) => true,
        Err(cause) => {
            assert_eq!(cause.kind(), io::ErrorKind::WouldBlock);
            false
        }
    }
}

/// Lets the runtime see what happened to its sockets.
async fn look() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_thread_that_sends_nothing_keeps_nothing() {
    let (mut io, mut client) = connection().await;
    io.write_all(b"at once").await.expect("there is room");
    assert_eq!(read_exactly(&mut client, 7).await, b"at once");
}

#[tokio::test]
async fn small_pieces_are_kept_until_all_are_sent() {
    send_all();
    let (mut one, mut its_client) = connection().await;
    let (mut other, mut other_client) = connection().await;
    one.write_all(b"first, ").await.expect("kept");
    other.write_all(b"of another").await.expect("kept");
    let pieces = [IoSlice::new(b"sec"), IoSlice::new(b"ond")];
    assert_eq!(one.write_vectored(&pieces).await.expect("kept"), 6);
    one.flush().await.expect("kept is flushed");
    look().await;
    assert!(!has_some(&its_client) && !has_some(&other_client));

    send_all();
    assert_eq!(read_exactly(&mut its_client, 13).await, b"first, second");
    assert_eq!(read_exactly(&mut other_client, 10).await, b"of another");
}

#[tokio::test]
async fn a_large_piece_leaves_at_once_and_behind_what_was_kept() {
    send_all();
    let (mut io, mut client) = connection().await;
    io.write_all(b"small").await.expect("kept");
    io.write_all(&[7; KEPT_SIZE_MAX + 1]).await.expect("there is room");
    let expected = [b"small".as_slice(), &[7; KEPT_SIZE_MAX + 1]].concat();
    assert_eq!(read_exactly(&mut client, expected.len()).await, expected);

    io.write_all(b"again").await.expect("kept");
    let pieces = [IoSlice::new(&[1; 20]), IoSlice::new(&[2; KEPT_SIZE_MAX])];
    assert_eq!(io.write_vectored(&pieces).await.expect("there is room"), 20 + KEPT_SIZE_MAX);
    let expected = [b"again".as_slice(), &[1; 20], &[2; KEPT_SIZE_MAX]].concat();
    assert_eq!(read_exactly(&mut client, expected.len()).await, expected);
}

#[tokio::test]
async fn what_is_kept_is_bounded_by_its_count_and_by_what_is_read_meanwhile() {
    send_all();
    let (mut io, mut client) = connection().await;
    for _ in 1..KEPT_COUNT_MAX {
        io.write_all(b".").await.expect("kept");
    }
    look().await;
    assert!(!has_some(&client));
    io.write_all(b".").await.expect("kept");
    assert_eq!(read_exactly(&mut client, KEPT_COUNT_MAX).await, [b'.'; KEPT_COUNT_MAX]);

    io.write_all(b"!").await.expect("kept");
    let (mut busy, _its_client) = connection().await;
    let mut byte = [0];
    let mut read = ReadBuf::new(&mut byte);
    for _ in 0..OTHERS_MAX {
        let read = poll_fn(|cx| Poll::Ready(Pin::new(&mut busy).poll_read(cx, &mut read))).await;
        assert!(read.is_pending(), "its client says nothing");
    }
    assert_eq!(read_exactly(&mut client, 1).await, b"!");
}

#[tokio::test]
async fn what_is_kept_waits_for_so_many_larger_pieces_and_no_more() {
    send_all();
    let (mut io, client) = connection().await;
    io.write_all(b"!").await.expect("kept");
    let (mut busy, mut its_client) = connection().await;
    tokio::spawn(async move { tokio::io::copy(&mut its_client, &mut tokio::io::sink()).await });
    for _ in 0..OTHERS_MAX {
        assert!(!has_some(&client));
        busy.write_all(&[0; KEPT_SIZE_MAX + 1]).await.expect("it is read");
    }
    look().await;
    assert!(has_some(&client));
}

#[tokio::test]
async fn the_end_of_a_connection_takes_nothing_away() {
    send_all();
    for has_said_so in [true, false] {
        let (mut io, mut client) = connection().await;
        io.write_all(b"the last").await.expect("kept");
        if has_said_so {
            io.shutdown().await.expect("open");
            let mut all = Vec::new();
            let read = timeout(DEADLINE, client.read_to_end(&mut all)).await;
            read.expect("it ends in time").expect("in good order");
            assert_eq!(all, b"the last");
        } else {
            drop(io);
            send_all();
            assert_eq!(read_exactly(&mut client, 8).await, b"the last");
        }
    }
}

#[derive(Default)]
struct Calls(Mutex<u32>);

impl Wake for Calls {
    fn wake(self: Arc<Calls>) {
        *self.0.lock().expect("whole") += 1;
    }
}

/// However many answers are asked for at once, and whether or not anybody reads them.
#[tokio::test]
async fn no_connection_keeps_more_than_its_share() {
    send_all();
    let (mut io, mut client) = connection().await;
    let piece = [3; KEPT_SIZE_MAX / 2];
    for _ in 0..3 {
        io.write_all(&piece).await.expect("there is room");
        assert!(lock(&io.outlet).kept_size <= KEPT_SIZE_MAX);
    }
    // Two were sent for the third to have room, which was sent with them.
    assert_eq!(read_exactly(&mut client, 3 * piece.len()).await, [3; 3 * KEPT_SIZE_MAX / 2]);
}

/// What a socket does not take waits with its connection, in its order, and is not flushed before it is gone.
#[tokio::test]
async fn a_client_that_reads_nothing_holds_up_itself_alone() {
    send_all();
    let (mut io, mut client) = connection().await;
    let calls = Arc::new(Calls::default());
    let waker = Waker::from(Arc::clone(&calls));
    let mut cx = Context::from_waker(&waker);
    let mut written = Vec::new();
    // Letters that tell their place, until the system takes no more of them.
    while *calls.0.lock().expect("whole") == 0 {
        let piece = vec![b'a' + (written.len() / 4096 % 26) as u8; 4096];
        match Pin::new(&mut io).poll_write(&mut cx, &piece) {
            Poll::Ready(count) => written.extend_from_slice(&piece[..count.expect("open")]),
            Poll::Pending => break,
        }
        assert!(written.len() < 64 << 20, "a socket has no end");
        send_all();
    }
    assert!(Pin::new(&mut io).poll_flush(&mut cx).is_pending());
    assert!(Pin::new(&mut io).poll_write(&mut cx, b"more").is_pending());

    let (mut other, mut other_client) = connection().await;
    other.write_all(b"served").await.expect("kept");
    send_all();
    assert_eq!(read_exactly(&mut other_client, 6).await, b"served");

    let size = written.len();
    let reading = tokio::spawn(async move { read_exactly(&mut client, size).await });
    timeout(DEADLINE, io.flush()).await.expect("it is read").expect("open");
    assert!(reading.await.expect("it read") == written, "something came at another place");
}

/// A connection whose client is gone hears of it where it writes next, and others are sent to all the same.
#[tokio::test]
async fn what_fails_is_told_to_its_own_connection() {
    send_all();
    let (mut io, client) = connection().await;
    let (mut other, mut other_client) = connection().await;
    // Closed with bytes unread, it answers what comes with a reset.
    io.write_all(b"unread").await.expect("kept");
    send_all();
    client.readable().await.expect("something is there");
    drop(client);
    let failed = async {
        loop {
            other.write_all(b".").await.expect("kept");
            if let Err(cause) = io.write_all(b"in vain").await {
                return cause;
            }
            send_all();
            tokio::task::yield_now().await;
        }
    };
    let cause = timeout(DEADLINE, failed).await.expect("it fails in time");
    assert!(
        matches!(cause.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
        "{cause}"
    );
    send_all();
    assert_eq!(read_exactly(&mut other_client, 2).await, b"..");
}
