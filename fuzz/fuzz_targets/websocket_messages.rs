//! The lowest bit of the first byte chooses the role, the second how much one read gives; the rest is what the peer
//! sends. Whatever it is: messages within the limits, at most one error, and the end.
#![no_main]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_transport::{Limits, TransportExt, transport::websocket::WebSocket};

const MESSAGE: usize = 64 * 1024;

/// Returns its bytes in reads of a fixed size, and discards writes.
struct Peer<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl AsyncRead for Peer<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (now, later) = self.bytes.split_at(self.bytes.len().min(self.piece).min(buf.remaining()));
        buf.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer<'_> {
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

fuzz_target!(|input: &[u8]| {
    let [role, piece, bytes @ ..] = input else { return };
    let peer = Peer { bytes, piece: usize::from(*piece).max(1).pow(2) };
    let limits = Limits::new().message(MESSAGE).frame(MESSAGE);
    let mut websocket =
        if role & 1 == 0 { WebSocket::server(peer, limits) } else { WebSocket::client(peer, limits) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let mut failed = false;
        while let Some(message) = websocket.receive_message().await {
            assert!(!failed, "an error of the stream is final");
            match message {
                Ok(message) => assert!(message.len() <= MESSAGE),
                Err(_) => failed = true,
            }
        }
        assert!(websocket.receive_message().await.is_none(), "the end is the end");
    });
});
