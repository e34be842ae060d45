//! The first line is what a client offers in `Sec-WebSocket-Extensions`; the rest are frames after the handshake, of which
//! the first byte says how much one read gives. Whatever it is: a refusal, or messages within the limits, at most one error,
//! and the end.
#![no_main]

mod runtime;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_transport::{
    Limits, TransportExt,
    transport::websocket::{PerMessageDeflate, WebSocketAcceptor},
};

const MESSAGE: usize = 64 * 1024;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

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
    let Some(at) = input.iter().position(|&byte| byte == b'\n') else { return };
    let (offer, frames) = (&input[..at], &input[at + 1..]);
    let [piece, frames @ ..] = frames else { return };
    let bytes = [REQUEST.as_bytes(), b"Sec-WebSocket-Extensions: ", offer, b"\r\n\r\n", frames].concat();
    let peer = Peer { bytes: &bytes, piece: usize::from(*piece).max(1).pow(2) };
    let limits = Limits::new().message(MESSAGE).frame(MESSAGE);
    let deflate = PerMessageDeflate::new().context_takeover(true).peer_context_takeover(true).min_size(0);
    let acceptor = WebSocketAcceptor::new().limits(limits).per_message_deflate(deflate);
    runtime::block_on(async {
        let Ok((_, mut websocket)) = acceptor.accept(peer).await else { return };
        let mut failed = false;
        while let Some(message) = websocket.receive_message().await {
            assert!(!failed, "an error of the stream is final");
            match message {
                Ok(message) => {
                    assert!(message.len() <= MESSAGE);
                    if message.is_data() {
                        // Compressed again, by the other half of the codec.
                        let _ = websocket.send_message(message).await;
                    }
                }
                Err(_) => failed = true,
            }
        }
    });
});
