//! Peers that end badly, or never.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, duplex},
    time::sleep,
};
use tower_transport::{Error, Limits, Message, TransportExt, transport::websocket::WebSocket};

use crate::{
    attack::Victim,
    responses::reset,
    wire::{BINARY, FIN, From, TEXT, frame},
    within,
};

#[tokio::test]
async fn a_reset_within_a_message_is_a_closed_connection() {
    for victim in [Victim::Server, Victim::Client] {
        let (mut attacker, mut socket) = victim.meet(Limits::new()).await;
        attacker.write_all(&frame(BINARY, [0; 100]).bytes(victim.attacker())).await.unwrap();
        reset(attacker);
        let error = within(socket.next()).await.unwrap().unwrap_err();
        assert!(error.is_closed() && error.close_frame().is_none(), "{error:?}");
        assert!(socket.next().await.is_none());
        assert!(socket.send_message(Message::text("a")).await.unwrap_err().is_closed());
    }
}

#[tokio::test]
async fn an_end_within_a_frame_is_a_closed_connection() {
    for victim in [Victim::Server, Victim::Client] {
        let bytes = frame(FIN | BINARY, [0; 1000]).bytes(victim.attacker());
        for cut in [1, 3, 7, 500] {
            let (mut attacker, mut socket) = victim.meet(Limits::new()).await;
            attacker.write_all(&bytes[..cut]).await.unwrap();
            drop(attacker);
            let error = within(socket.next()).await.unwrap().unwrap_err();
            assert!(error.is_closed(), "cut at {cut}: {error:?}");
            assert!(socket.next().await.is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_may_trickle_a_byte_a_second() {
    let (mut attacker, io) = duplex(1024);
    let mut socket = WebSocket::server(io, Limits::new());
    tokio::spawn(async move {
        for byte in frame(FIN | TEXT, "slow, but sure").bytes(From::Client) {
            attacker.write_all(&[byte]).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    });
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("slow, but sure"));
}

fn is_close_limit(error: &Error) -> bool {
    error.is_timeout() && error.to_string().contains("10s") && error.to_string().contains("Limits::close")
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_the_close_is_cut_at_the_close_limit() {
    let (_attacker, io) = duplex(1024);
    let mut socket = WebSocket::server(io, Limits::new());
    let error = socket.close(None).await.unwrap_err();
    assert!(is_close_limit(&error), "{error:?}");
    assert!(socket.next().await.is_none());
}

/// A peer that always has more to say, and takes whatever it is told.
struct Flood {
    bytes: Vec<u8>,
    next: usize,
}

impl AsyncRead for Flood {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while buf.remaining() > 0 {
            let part = &self.bytes[self.next..];
            let part = &part[..part.len().min(buf.remaining())];
            buf.put_slice(part);
            self.next = (self.next + part.len()) % self.bytes.len();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn flooded(first: u8) -> WebSocket<Flood> {
    WebSocket::server(Flood { bytes: frame(first, "more").bytes(From::Client), next: 0 }, Limits::new())
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_talks_on_after_our_close_is_cut_at_the_close_limit() {
    let mut socket = flooded(FIN | TEXT);
    socket.send(Message::Close(None)).await.unwrap();
    for _ in 0..1000 {
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("more"));
    }
    tokio::time::advance(Duration::from_secs(11)).await;
    let error = socket.next().await.unwrap().unwrap_err();
    assert!(is_close_limit(&error), "{error:?}");
    assert!(socket.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_talks_on_after_it_broke_the_protocol_is_cut_at_the_close_limit() {
    let mut socket = flooded(FIN | 3);
    for _ in 0..1000 {
        assert!(socket.next().now_or_never().is_none());
    }
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(socket.next().await.unwrap().unwrap_err().is_protocol());
    assert!(socket.next().await.is_none());
}
