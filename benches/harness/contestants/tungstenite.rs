//! tokio-tungstenite, with its defaults (the base of all ratios) and with a small read buffer.

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::contestant::Library;

pub struct Tungstenite;

pub struct SmallBuffer;

/// The constructor is `async` and never waits.
fn socket(io: TcpStream, role: Role, config: Option<WebSocketConfig>) -> WebSocketStream<TcpStream> {
    WebSocketStream::from_raw_socket(io, role, config).now_or_never().expect("a constructor does not wait")
}

fn small() -> Option<WebSocketConfig> {
    Some(WebSocketConfig::default().read_buffer_size(4096))
}

impl Library for Tungstenite {
    type Message = Message;
    type Socket = WebSocketStream<TcpStream>;

    fn client(io: TcpStream) -> Self::Socket {
        socket(io, Role::Client, None)
    }

    fn server(io: TcpStream) -> Self::Socket {
        socket(io, Role::Server, None)
    }

    fn message(payload: &Bytes) -> Message {
        Message::Binary(payload.clone())
    }

    fn received(item: Result<Message, Error>) -> Option<Message> {
        item.ok()
    }

    fn length(message: &Message) -> usize {
        message.len()
    }
}

impl Library for SmallBuffer {
    type Message = Message;
    type Socket = WebSocketStream<TcpStream>;

    fn client(io: TcpStream) -> Self::Socket {
        socket(io, Role::Client, small())
    }

    fn server(io: TcpStream) -> Self::Socket {
        socket(io, Role::Server, small())
    }

    fn message(payload: &Bytes) -> Message {
        Tungstenite::message(payload)
    }

    fn received(item: Result<Message, Error>) -> Option<Message> {
        item.ok()
    }

    fn length(message: &Message) -> usize {
        message.len()
    }
}
