//! Control frames, messages that are refused on the way out, and how much one poll takes.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tower_transport::{CloseCode, CloseFrame, Limits, Message, transport::websocket::WebSocket};

const SMALL: Limits = Limits::new().message(64);

fn pair(limits: Limits) -> (WebSocket<DuplexStream>, WebSocket<DuplexStream>) {
    let (a, b) = duplex(64 * 1024);
    (WebSocket::client(a, limits), WebSocket::server(b, limits))
}

#[tokio::test]
async fn the_limit_of_a_message_does_not_measure_pings_pongs_and_closes() {
    for limits in [SMALL, Limits::new().message(0), Limits::new().frame(1)] {
        let (mut a, mut b) = pair(limits);
        let (ping, pong) = (Message::Ping(vec![7; 125].into()), Message::Pong(vec![7; 125].into()));
        for _ in 0..2 {
            a.send(ping.clone()).await.unwrap();
            assert_eq!(b.next().await.unwrap().unwrap(), ping);
            assert_eq!(a.next().await.unwrap().unwrap(), pong, "the answer");
            std::mem::swap(&mut a, &mut b);
        }
        let close = CloseFrame::new(CloseCode::AWAY, "x".repeat(123));
        let (answer, seen) = tokio::join!(a.close(Some(close.clone())), b.next());
        assert_eq!((answer.unwrap(), seen.unwrap().unwrap()), (Some(close.clone()), Message::Close(Some(close))));
    }
}

#[tokio::test]
async fn a_data_message_over_a_small_limit_still_ends_the_connection() {
    // Of one frame, or of two that are within it.
    for bytes in
        [&[&[0x82, 65][..], &[1; 65]].concat()[..], &[&[0x02, 40][..], &[1; 40], &[0x80, 40], &[1; 40]].concat()]
    {
        let (near, mut far) = duplex(1024);
        let mut client = WebSocket::client(near, SMALL);
        far.write_all(bytes).await.unwrap();
        drop(far);
        let error = client.next().await.unwrap().unwrap_err();
        assert!(error.is_too_large() && !error.is_rejection(), "{error:?}");
        assert!(error.to_string().contains("64"), "{error}");
    }
}

#[tokio::test]
async fn an_outgoing_message_over_its_limit_is_rejected_and_the_connection_goes_on() {
    let (mut client, mut server) = pair(SMALL);
    for large in [
        Message::binary(vec![0; 65]),
        Message::text("x".repeat(65)),
        Message::Ping(vec![0; 126].into()),
        Message::Pong(vec![0; 126].into()),
    ] {
        let error = client.send(large).await.unwrap_err();
        assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
        client.send(Message::text("next")).await.unwrap();
        assert_eq!(server.next().await.unwrap().unwrap(), Message::text("next"));
        server.send(Message::text("and back")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("and back"));
    }
}

/// Gives the same bytes again and again, as fast as they are read.
struct Flood {
    bytes: &'static [u8],
    left: usize,
    position: usize,
}

impl AsyncRead for Flood {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        while out.remaining() > 0 && self.left > 0 {
            out.put_slice(&self.bytes[self.position..=self.position]);
            self.position = (self.position + 1) % self.bytes.len();
            self.left -= 1;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn one_poll_takes_a_thousand_frames_at_most_and_then_others_have_their_turn() {
    const FRAMES: usize = 1_000_000;
    let fragments = Flood { bytes: &[0x00, 0], left: FRAMES * 2, position: 0 };
    let incoming = std::io::Cursor::new([0x02, 0]).chain(fragments);
    let limits = Limits::new().fragments(usize::MAX);
    let mut client = WebSocket::client(tokio::io::join(incoming, tokio::io::sink()), limits);
    let mut polls = 0;
    let error = poll_fn(|cx| {
        polls += 1; // each `Pending` has woken the task: the socket never makes it wait
        client.poll_next_unpin(cx)
    })
    .await;
    assert!(error.unwrap().unwrap_err().is_closed());
    println!("{FRAMES} empty fragments: {polls} polls, {} frames each", FRAMES / polls);
    assert!(polls >= FRAMES / 1024, "{polls}");
    // And no more than are needed.
    assert!(polls <= FRAMES / 512 + 2, "{polls}");
}

#[tokio::test]
async fn a_message_in_more_fragments_than_the_limit_ends_the_connection() {
    for (limit, fragments) in
        [(Limits::new(), 131_072), (Limits::new().fragments(2), 2), (Limits::new().fragments(0), 1)]
    {
        // As many as the limit are a message.
        for (frames, is_whole) in [(fragments, true), (fragments + 1, false)] {
            let (near, mut far) = duplex(1 << 20);
            let mut client = WebSocket::client(near, limit);
            let mut bytes = [0, 1, b'x'].repeat(frames);
            bytes[0] = 0x02;
            bytes[3 * (frames - 1)] |= 0x80;
            far.write_all(&bytes).await.unwrap();
            match client.next().await.unwrap() {
                Ok(message) => assert_eq!((message.len(), is_whole), (frames, true)),
                Err(error) => {
                    assert!(!is_whole && error.is_too_large(), "{error}");
                    assert!(error.to_string().contains("Limits::fragments"), "{error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_ping_ends_the_poll() {
    let io = Flood { bytes: &[0x89, 0], left: 2000, position: 0 };
    let mut client = WebSocket::client(io, Limits::default());
    for _ in 0..1000 {
        assert_eq!(client.next().now_or_never().unwrap().unwrap().unwrap(), Message::Ping(vec![].into()));
    }
    assert!(client.next().now_or_never().unwrap().unwrap().unwrap_err().is_closed());
}

#[tokio::test]
async fn a_close_that_waits_behind_a_flood_of_messages_lets_other_tasks_run() {
    const MESSAGES: usize = 100_000;
    let messages = Flood { bytes: &[0x82, 0], left: MESSAGES * 2, position: 0 };
    let mut client = WebSocket::client(messages, Limits::default());
    let mut closing = Box::pin(client.close(None));
    let mut polls = 0;
    let error = poll_fn(|cx| {
        polls += 1; // each `Pending` has woken the task
        closing.as_mut().poll(cx)
    })
    .await;
    assert!(error.unwrap_err().is_closed());
    println!("{MESSAGES} empty messages behind a close: {polls} polls");
    assert!(polls >= MESSAGES / 1024, "{polls}");
    assert!(polls <= MESSAGES / 512 + 2, "{polls}");
}

#[tokio::test]
async fn a_text_in_parts_is_whole_wherever_it_is_cut_and_fails_at_its_first_bad_byte() {
    const TEXT: &str = "a\u{e9}\u{2713}\u{1f600}z";
    for cut in 0..=TEXT.len() {
        for is_fragmented in [false, true] {
            let (near, mut far) = duplex(64);
            let mut client = WebSocket::client(near, Limits::new());
            let (head, tail) = TEXT.as_bytes().split_at(cut);
            let first = if is_fragmented {
                [&[0x01, head.len() as u8], head].concat()
            } else {
                [&[0x81, TEXT.len() as u8], head].concat()
            };
            let second = if is_fragmented { [&[0x80, tail.len() as u8], tail].concat() } else { tail.to_vec() };
            far.write_all(&first).await.unwrap();
            if is_fragmented || !tail.is_empty() {
                assert!(client.next().now_or_never().is_none());
            }
            far.write_all(&second).await.unwrap();
            assert_eq!(client.next().await.unwrap().unwrap(), Message::text(TEXT));
        }
    }
    // 90 cannot follow f4, and no more of the frame comes.
    let (near, mut far) = duplex(64);
    let mut client = WebSocket::client(near, Limits::new());
    far.write_all(&[0x81, 20, b'a', 0xf4]).await.unwrap();
    assert!(client.next().now_or_never().is_none());
    far.write_all(&[0x90]).await.unwrap();
    let mut answer = [0; 4];
    let closing = async { client.next().await.unwrap().unwrap_err() };
    let peer = async {
        far.read_exact(&mut answer).await.unwrap();
        drop(far);
    };
    let (error, ()) = tokio::join!(closing, peer);
    assert!(error.is_protocol() && error.to_string().contains("UTF-8"), "{error}");
    assert_eq!(answer[0], 0x88, "a close frame");
}
