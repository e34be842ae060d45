//! tokio-websockets with its defaults.

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, Error, Message, ServerBuilder, WebSocketStream};

use crate::contestant::Library;

pub struct TokioWebSockets;

impl Library for TokioWebSockets {
    type Message = Message;
    type Socket = WebSocketStream<TcpStream>;

    fn client(io: TcpStream) -> Self::Socket {
        ClientBuilder::new().take_over(io)
    }

    fn server(io: TcpStream) -> Self::Socket {
        ServerBuilder::new().serve(io)
    }

    fn message(payload: &Bytes) -> Message {
        Message::binary(payload.clone())
    }

    fn received(item: Result<Message, Error>) -> Option<Message> {
        item.ok()
    }

    fn length(message: &Message) -> usize {
        message.as_payload().len()
    }
}
