//! The interface of a contestant.

use std::future::Future;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::net::TcpStream;

/// One end of a WebSocket connection after its handshake, by one library in one configuration.
///
/// The scenarios are generic over its type, so that nothing is boxed on a message's path.
pub trait Contestant: Sized + Send + 'static {
    fn client(io: TcpStream) -> Self;
    fn server(io: TcpStream) -> Self;

    /// Sends one binary message and flushes it.
    fn send(&mut self, payload: &Bytes) -> impl Future<Output = ()> + Send;

    /// Receives one message and tells its length; `None` at the end.
    fn receive(&mut self) -> impl Future<Output = Option<usize>> + Send;

    /// Receives one message and sends it back; `false` at the end.
    fn echo(&mut self) -> impl Future<Output = bool> + Send;
}

/// A library whose socket is a `Sink` and a `Stream`.
pub trait Library: 'static {
    type Message: Send;
    type Socket: Sink<Self::Message, Error: Send> + Stream<Item: Send> + Unpin + Send;

    fn client(io: TcpStream) -> Self::Socket;
    fn server(io: TcpStream) -> Self::Socket;
    fn message(payload: &Bytes) -> Self::Message;
    /// The message in what the stream gave; `None` where that is an error.
    fn received(item: <Self::Socket as Stream>::Item) -> Option<Self::Message>;
    fn length(message: &Self::Message) -> usize;
}

/// The contestant that such a library makes.
pub struct SinkStream<L: Library>(L::Socket);

impl<L: Library> Contestant for SinkStream<L> {
    fn client(io: TcpStream) -> Self {
        Self(L::client(io))
    }

    fn server(io: TcpStream) -> Self {
        Self(L::server(io))
    }

    async fn send(&mut self, payload: &Bytes) {
        assert!(self.0.send(L::message(payload)).await.is_ok(), "the peer is there");
    }

    async fn receive(&mut self) -> Option<usize> {
        self.0.next().await.and_then(L::received).map(|message| L::length(&message))
    }

    async fn echo(&mut self) -> bool {
        match self.0.next().await.and_then(L::received) {
            Some(message) => self.0.send(message).await.is_ok(),
            None => false,
        }
    }
}
