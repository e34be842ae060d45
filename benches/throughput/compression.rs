//! This crate's WebSocket below the compression layer with its defaults, alone and with batches above it. The payloads
//! are regular, as those of the whole benchmark: they shrink well, which costs least. Messages below the layer's
//! minimum are sent as they are, unless a batch makes them one that is larger.

use bytes::Bytes;
use tokio::net::TcpStream;
use tower_layer::Layer;
use tower_transport::{
    Error, Message,
    layer::{
        batch::{BatchLayer, Batched},
        compression::{Compressed, CompressionLayer, Deflate},
    },
    transport::websocket::WebSocket,
};

use crate::{
    contestant::{Library, SinkStream},
    contestants::OursLibrary,
    fed,
    rounds::Row,
};

/// Without batches.
struct Alone;

/// With batches above.
struct Both;

fn compressed(socket: WebSocket<TcpStream>) -> Compressed<WebSocket<TcpStream>> {
    CompressionLayer::new(Deflate::new()).layer(socket)
}

macro_rules! library {
    ($name:ident, $socket:ty, $wrap:expr) => {
        impl Library for $name {
            type Message = Message;
            type Socket = $socket;

            fn client(io: TcpStream) -> Self::Socket {
                $wrap(OursLibrary::client(io))
            }

            fn server(io: TcpStream) -> Self::Socket {
                $wrap(OursLibrary::server(io))
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
    };
}

library!(Alone, Compressed<WebSocket<TcpStream>>, compressed);
library!(Both, Batched<Compressed<WebSocket<TcpStream>>>, |socket| BatchLayer::default().layer(compressed(socket)));

pub(crate) fn rows(size: usize, messages: usize) -> [Row; 2] {
    [
        Row::new("ours + compression, fed", move || fed::fed::<Alone, SinkStream<Alone>>(size, messages)),
        Row::new("ours + batch + compr., fed", move || fed::fed::<Both, SinkStream<Both>>(size, messages)),
    ]
}
