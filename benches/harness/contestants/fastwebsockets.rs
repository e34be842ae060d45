//! fastwebsockets with its defaults. It is neither a `Sink` nor a `Stream`, and has no feed: each frame is one write.

use bytes::Bytes;
use fastwebsockets::{Frame, Payload, Role, WebSocket};
use tokio::net::TcpStream;

use crate::contestant::Contestant;

pub struct FastWebSockets(WebSocket<TcpStream>);

impl Contestant for FastWebSockets {
    fn client(io: TcpStream) -> Self {
        Self(WebSocket::after_handshake(io, Role::Client))
    }

    fn server(io: TcpStream) -> Self {
        Self(WebSocket::after_handshake(io, Role::Server))
    }

    async fn send(&mut self, payload: &Bytes) {
        // A borrowed payload is what a caller that keeps its bytes has; a client copies it to mask it.
        let frame = Frame::binary(Payload::Borrowed(payload));
        self.0.write_frame(frame).await.expect("the peer is there");
    }

    async fn receive(&mut self) -> Option<usize> {
        self.0.read_frame().await.ok().map(|frame| frame.payload.len())
    }

    async fn echo(&mut self) -> bool {
        match self.0.read_frame().await {
            Ok(frame) => self.0.write_frame(Frame::binary(frame.payload)).await.is_ok(),
            Err(_) => false,
        }
    }
}
