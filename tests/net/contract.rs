//! The contract of `Transport`, over what this crate makes on real sockets. (In memory: `tests/it/channel.rs`; layers
//! and codecs: `tests/it/layer`.)

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Sink, Stream};
use tokio::net::{TcpListener, TcpStream};
use tower_transport::{
    Error, Limits, Message, QueueConfig, Receiver, Sender, TransportExt, contract_tests,
    transport::websocket::WebSocket,
};

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

/// Both roles: each check runs in both directions.
async fn websockets() -> (WebSocket<TcpStream>, WebSocket<TcpStream>) {
    let (client, server) = sockets().await;
    (WebSocket::client(client, Limits::default()), WebSocket::server(server, Limits::default()))
}

/// A sender and a receiver of one driver, as the transport that they are together.
struct Driven {
    sender: Sender<Message>,
    receiver: Receiver<Message>,
}

impl Driven {
    fn spawn(websocket: WebSocket<TcpStream>) -> Self {
        let (sender, receiver, driver) = websocket.drive(QueueConfig::messages()).into_parts();
        tokio::spawn(driver);
        Self { sender, receiver }
    }
}

impl Stream for Driven {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.receiver).poll_next(cx)
    }
}

impl Sink<Message> for Driven {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Sink::poll_ready(Pin::new(&mut self.sender), cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Pin::new(&mut self.sender).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_close(cx)
    }
}

async fn driven() -> (Driven, Driven) {
    let (client, server) = websockets().await;
    (Driven::spawn(client), Driven::spawn(server))
}

fn large(i: usize) -> Message {
    Message::binary(vec![i as u8; 64 * 1024])
}

contract_tests!(mod websocket, pair = websockets().await, message = large, room = 1_000, on = tokio);
contract_tests!(mod driver, pair = driven().await, message = large, room = 1_000, on = tokio);
