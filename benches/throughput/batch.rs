//! This crate's WebSocket below the batch layer, with its defaults.

use bytes::Bytes;
use tokio::net::TcpStream;
use tower_layer::Layer;
use tower_transport::{
    Error, Message,
    layer::batch::{BatchLayer, Batched as Layered},
    transport::websocket::WebSocket,
};

use crate::{
    PACKED, SENDERS,
    contestant::{Library, SinkStream},
    contestants::OursLibrary,
    fed,
    rounds::Row,
};

pub(crate) struct Batched;

pub(crate) type Batching = SinkStream<Batched>;

impl Library for Batched {
    type Message = Message;
    type Socket = Layered<WebSocket<TcpStream>>;

    fn client(io: TcpStream) -> Self::Socket {
        BatchLayer::default().layer(OursLibrary::client(io))
    }

    fn server(io: TcpStream) -> Self::Socket {
        BatchLayer::default().layer(OursLibrary::server(io))
    }

    fn message(payload: &Bytes) -> Message {
        OursLibrary::message(payload)
    }

    fn received(item: Result<Message, Error>) -> Option<Message> {
        item.ok()
    }

    fn length(message: &Message) -> usize {
        message.len()
    }
}

pub(crate) fn rows(size: usize, messages: usize) -> [Row; 3] {
    [
        Row::new(PACKED, move || fed::fed::<Batched, Batching>(size, messages)),
        Row::new(SENDERS, move || fed::senders::<Batched, Batching>(size, messages)),
        Row::new("ours + batch, one feeder", move || fed::feeder::<Batched, Batching>(size, messages)),
    ]
}
