//! The libraries with permessage-deflate, all with level 1 and windows of 15 bits, and with or without context takeover
//! in both directions.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use harness::contestant::{Contestant, Library, SinkStream};
use sockudo_ws::{CompressedWebSocketStream, Config, DeflateConfig};
use tokio::net::TcpStream;
use tower_transport::{
    Message,
    transport::websocket::{PerMessageDeflate, WebSocket, WebSocketAcceptor, WebSocketConnector},
};
use yawc::{CompressionLevel, Frame, Options, Role};

pub(crate) type SockudoWs<const TAKEOVER: bool> = SinkStream<Sockudo<TAKEOVER>>;
pub(crate) type Yawc<const TAKEOVER: bool> = SinkStream<YawcDeflate<TAKEOVER>>;

/// The smallest message that is compressed, in bytes: all of them.
const MIN_SIZE: usize = 1;

/// This crate. Its extension is negotiated, so the handshake is done with the first message.
pub(crate) enum Ours<const TAKEOVER: bool> {
    Connecting(Option<TcpStream>),
    Accepting(Option<TcpStream>),
    Open(Box<WebSocket<TcpStream>>),
}

pub(crate) fn settings(takeover: bool) -> PerMessageDeflate {
    PerMessageDeflate::new().min_size(MIN_SIZE).context_takeover(takeover).peer_context_takeover(takeover)
}

impl<const TAKEOVER: bool> Ours<TAKEOVER> {
    async fn open(&mut self) -> Option<&mut WebSocket<TcpStream>> {
        let opened = match self {
            Self::Open(_) => None,
            Self::Connecting(io) => {
                let connector = WebSocketConnector::new().per_message_deflate(settings(TAKEOVER));
                let request = http::Request::get("ws://localhost/").body(()).expect("a request");
                Some(connector.handshake(io.take()?, request).await.ok()?.into_body())
            }
            Self::Accepting(io) => {
                let acceptor = WebSocketAcceptor::new().per_message_deflate(settings(TAKEOVER));
                Some(acceptor.accept(io.take()?).await.ok()?.1)
            }
        };
        if let Some(socket) = opened {
            assert_eq!(socket.extensions().expect("deflate").contains("no_context_takeover"), !TAKEOVER);
            *self = Self::Open(Box::new(socket));
        }
        match self {
            Self::Open(socket) => Some(socket),
            Self::Connecting(_) | Self::Accepting(_) => None,
        }
    }
}

impl<const TAKEOVER: bool> Contestant for Ours<TAKEOVER> {
    fn client(io: TcpStream) -> Self {
        Self::Connecting(Some(io))
    }

    fn server(io: TcpStream) -> Self {
        Self::Accepting(Some(io))
    }

    async fn send(&mut self, payload: &Bytes) {
        let socket = self.open().await.expect("the peer is there");
        socket.send(Message::binary(payload.clone())).await.expect("the peer is there");
    }

    async fn receive(&mut self) -> Option<usize> {
        self.open().await?.next().await?.ok().map(|message| message.len())
    }

    async fn echo(&mut self) -> bool {
        let Some(socket) = self.open().await else { return false };
        match socket.next().await {
            Some(Ok(message)) => socket.send(message).await.is_ok(),
            _ => false,
        }
    }
}

pub(crate) struct Sockudo<const TAKEOVER: bool>;

impl<const TAKEOVER: bool> Sockudo<TAKEOVER> {
    fn deflate() -> DeflateConfig {
        DeflateConfig {
            server_no_context_takeover: !TAKEOVER,
            client_no_context_takeover: !TAKEOVER,
            compression_level: 1,
            compression_threshold: MIN_SIZE,
            ..DeflateConfig::default()
        }
    }
}

impl<const TAKEOVER: bool> Library for Sockudo<TAKEOVER> {
    type Message = sockudo_ws::Message;
    type Socket = CompressedWebSocketStream<TcpStream>;

    fn client(io: TcpStream) -> Self::Socket {
        CompressedWebSocketStream::client(io, Config::default(), Self::deflate())
    }

    fn server(io: TcpStream) -> Self::Socket {
        CompressedWebSocketStream::server(io, Config::default(), Self::deflate())
    }

    fn message(payload: &Bytes) -> Self::Message {
        Self::Message::binary(payload.clone())
    }

    fn received(item: sockudo_ws::Result<Self::Message>) -> Option<Self::Message> {
        item.ok()
    }

    fn length(message: &Self::Message) -> usize {
        message.as_bytes().len()
    }
}

pub(crate) struct YawcDeflate<const TAKEOVER: bool>;

impl<const TAKEOVER: bool> YawcDeflate<TAKEOVER> {
    fn socket(io: TcpStream, role: Role) -> yawc::WebSocket<TcpStream> {
        let mut options =
            Options::default().with_limits(4 << 20, 8 << 20).with_compression_level(CompressionLevel::fast());
        let deflate = options.compression.as_mut().expect("it is on");
        deflate.server_no_context_takeover = !TAKEOVER;
        deflate.client_no_context_takeover = !TAKEOVER;
        deflate.compression_threshold = MIN_SIZE;
        let negotiated = match TAKEOVER {
            true => "permessage-deflate",
            false => "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        };
        yawc::WebSocket::from_stream_with_extensions(io, role, Some(negotiated), options).expect("compression is on")
    }
}

impl<const TAKEOVER: bool> Library for YawcDeflate<TAKEOVER> {
    type Message = Frame;
    type Socket = yawc::WebSocket<TcpStream>;

    fn client(io: TcpStream) -> Self::Socket {
        Self::socket(io, Role::Client)
    }

    fn server(io: TcpStream) -> Self::Socket {
        Self::socket(io, Role::Server)
    }

    fn message(payload: &Bytes) -> Frame {
        Frame::binary(payload.clone())
    }

    fn received(item: Frame) -> Option<Frame> {
        Some(item)
    }

    fn length(message: &Frame) -> usize {
        message.payload().len()
    }
}
