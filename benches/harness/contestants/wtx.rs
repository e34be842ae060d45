//! wtx with its defaults. It is neither a `Sink` nor a `Stream`, and has no feed: each frame is one write.

use bytes::Bytes;
use tokio::net::TcpStream;
use wtx::{
    collection::Vector,
    rng::{Xorshift64, simple_seed},
    web_socket::{Frame, OpCode, WebSocketBuffer, WebSocketOwned, WebSocketPayloadOrigin},
};

use crate::contestant::Contestant;

type Socket<const IS_CLIENT: bool> = WebSocketOwned<(), Xorshift64, TcpStream, IS_CLIENT>;

/// The role is a part of the type.
pub enum Wtx {
    Client(Side<true>),
    Server(Side<false>),
}

pub struct Side<const IS_CLIENT: bool> {
    socket: Socket<IS_CLIENT>,
    /// The payload of a message to send, which a client masks in place.
    outgoing: Vec<u8>,
    incoming: Vector<u8>,
}

impl<const IS_CLIENT: bool> Side<IS_CLIENT> {
    fn new(io: TcpStream) -> Self {
        let socket = Socket::new((), false, Xorshift64::from(simple_seed()), io, WebSocketBuffer::new());
        Self { socket, outgoing: Vec::new(), incoming: Vector::new() }
    }

    async fn send(&mut self, payload: &Bytes) {
        self.outgoing.clear();
        self.outgoing.extend_from_slice(payload);
        let mut frame = Frame::new_fin(OpCode::Binary, &mut self.outgoing[..]);
        self.socket.write_frame(&mut frame).await.expect("the peer is there");
    }

    async fn receive(&mut self) -> Option<usize> {
        self.incoming.clear();
        let frame = self.socket.read_frame(&mut self.incoming, WebSocketPayloadOrigin::Adaptive).await.ok()?;
        (frame.op_code() == OpCode::Binary).then(|| frame.payload().len())
    }

    async fn echo(&mut self) -> bool {
        self.incoming.clear();
        let (mut common, mut reader, mut writer) = self.socket.split_mut();
        let read = reader.read_frame(&mut self.incoming, &mut common, WebSocketPayloadOrigin::Adaptive).await;
        match read {
            Ok(mut frame) if frame.op_code() == OpCode::Binary => {
                writer.write_frame(&mut common, &mut frame).await.is_ok()
            }
            _ => false,
        }
    }
}

impl Contestant for Wtx {
    fn client(io: TcpStream) -> Self {
        Self::Client(Side::new(io))
    }

    fn server(io: TcpStream) -> Self {
        Self::Server(Side::new(io))
    }

    async fn send(&mut self, payload: &Bytes) {
        match self {
            Self::Client(side) => side.send(payload).await,
            Self::Server(side) => side.send(payload).await,
        }
    }

    async fn receive(&mut self) -> Option<usize> {
        match self {
            Self::Client(side) => side.receive().await,
            Self::Server(side) => side.receive().await,
        }
    }

    async fn echo(&mut self) -> bool {
        match self {
            Self::Client(side) => side.echo().await,
            Self::Server(side) => side.echo().await,
        }
    }
}
