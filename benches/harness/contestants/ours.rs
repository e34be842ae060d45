//! This crate: a bare WebSocket, and one within a driver.

use bytes::Bytes;
use tokio::net::TcpStream;
use tower_transport::{
    Error, Limits, Message, QueueConfig, Receiver, Sender, TransportExt, transport::websocket::WebSocket as Socket,
};

use crate::contestant::{Contestant, Library};

pub struct WebSocket;

impl Library for WebSocket {
    type Message = Message;
    type Socket = Socket<TcpStream>;

    fn client(io: TcpStream) -> Self::Socket {
        Socket::client(io, Limits::default())
    }

    fn server(io: TcpStream) -> Self::Socket {
        Socket::server(io, Limits::default())
    }

    fn message(payload: &Bytes) -> Message {
        Message::binary(payload.clone())
    }

    fn received(item: Result<Message, Error>) -> Option<Message> {
        item.ok()
    }

    fn length(message: &Message) -> usize {
        message.len()
    }
}

/// A client that is driven, by a task that is not the one which sends and receives; its server is not.
pub struct Driven {
    sender: Sender<Message>,
    receiver: Receiver<Message>,
}

impl Driven {
    fn new(socket: Socket<TcpStream>) -> Self {
        let (sender, receiver, driver) = socket.drive(QueueConfig::messages()).into_parts();
        tokio::spawn(driver);
        Self { sender, receiver }
    }
}

impl Contestant for Driven {
    fn client(io: TcpStream) -> Self {
        Self::new(WebSocket::client(io))
    }

    fn server(io: TcpStream) -> Self {
        Self::new(WebSocket::server(io))
    }

    async fn send(&mut self, payload: &Bytes) {
        self.sender.send(Message::binary(payload.clone())).await.expect("the peer is there");
    }

    async fn receive(&mut self) -> Option<usize> {
        self.receiver.receive().await?.ok().map(|message| message.len())
    }

    async fn echo(&mut self) -> bool {
        match self.receiver.receive().await {
            Some(Ok(message)) => self.sender.send(message).await.is_ok(),
            _ => false,
        }
    }
}
