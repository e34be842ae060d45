//! sockudo-ws with its defaults, which let 16 MiB through.

use bytes::Bytes;
use sockudo_ws::{Config, Message, Result, WebSocketStream};
use tokio::net::TcpStream;

use crate::contestant::Library;

pub struct SockudoWs;

impl Library for SockudoWs {
    type Message = Message;
    type Socket = WebSocketStream<TcpStream>;

    fn client(io: TcpStream) -> Self::Socket {
        WebSocketStream::client(io, Config::default())
    }

    fn server(io: TcpStream) -> Self::Socket {
        WebSocketStream::server(io, Config::default())
    }

    fn message(payload: &Bytes) -> Message {
        Message::binary(payload.clone())
    }

    fn received(item: Result<Message>) -> Option<Message> {
        item.ok()
    }

    fn length(message: &Message) -> usize {
        message.as_bytes().len()
    }
}
