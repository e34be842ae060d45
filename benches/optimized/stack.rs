//! Both ends of an `OptimizedTransport` over a socket whose handshake is done, as a contestant.

use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use tokio::net::TcpStream;
use tower::service_fn;
use tower_transport::{
    Error, Limits, Message, TransportExt,
    layer::{
        compression::Deflate,
        rate_limit::{Quota, RateLimitLayer},
    },
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport},
    transport::websocket::WebSocket,
};

use crate::contestant::Contestant;

type Socket = WebSocket<TcpStream>;

/// Everything but compression; a payload that deflate works on is no measure of a stack.
pub(crate) struct Optimized(End);

/// Compression too: payloads from 256 bytes on are deflated, both ways, at both ends.
pub(crate) struct Compressing(Optimized);

enum End {
    /// The exchange with the client is made when the server is first used: making a contestant does not wait.
    Accepting(Option<Box<Socket>>, fn() -> &'static OptimizedAcceptor<Socket>),
    Open(OptimizedTransport<Socket>),
}

fn builder() -> OptimizedBuilder {
    // A rate limit that is never reached.
    let quota = Quota::per_second(1_000_000.try_into().expect("not zero"));
    OptimizedTransport::builder().rate_limit(RateLimitLayer::per_connection(quota))
}

fn plain() -> OptimizedBuilder {
    builder().compression(None::<Deflate>)
}

fn plain_acceptor() -> &'static OptimizedAcceptor<Socket> {
    static ACCEPTOR: LazyLock<OptimizedAcceptor<Socket>> = LazyLock::new(|| plain().max_sessions(100_000).acceptor());
    &ACCEPTOR
}

fn compressing_acceptor() -> &'static OptimizedAcceptor<Socket> {
    static ACCEPTOR: LazyLock<OptimizedAcceptor<Socket>> = LazyLock::new(|| builder().max_sessions(100_000).acceptor());
    &ACCEPTOR
}

impl Optimized {
    /// A connector that has its one connection already.
    fn over(io: TcpStream, builder: OptimizedBuilder) -> Self {
        let socket = Arc::new(Mutex::new(Some(WebSocket::client(io, Limits::default()))));
        let connector = service_fn(move |_: Request<()>| {
            let socket = socket.lock().expect("nobody panicked").take();
            let chosen = HeaderValue::from_static(OptimizedAcceptor::SUBPROTOCOL);
            std::future::ready(socket.ok_or_else(|| Error::refused("one connection only")).map(|socket| {
                let mut response = Response::new(socket);
                response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
                response
            }))
        });
        Self(End::Open(builder.connect_lazily(connector, Request::get("ws://bench/").body(()).expect("a URL"))))
    }

    async fn open(&mut self) -> Option<&mut OptimizedTransport<Socket>> {
        if let End::Accepting(socket, acceptor) = &mut self.0 {
            let accepted = acceptor().accept_over(*socket.take()?, true).await;
            self.0 = End::Open(accepted.ok()??);
        }
        match &mut self.0 {
            End::Open(transport) => Some(transport),
            End::Accepting(..) => None,
        }
    }
}

impl Contestant for Optimized {
    fn client(io: TcpStream) -> Self {
        Self::over(io, plain())
    }

    fn server(io: TcpStream) -> Self {
        Self(End::Accepting(Some(Box::new(WebSocket::server(io, Limits::default()))), plain_acceptor))
    }

    async fn send(&mut self, payload: &Bytes) {
        let transport = self.open().await.expect("a transport");
        transport.send_message(Message::binary(payload.clone())).await.expect("the peer is there");
    }

    async fn receive(&mut self) -> Option<usize> {
        self.open().await?.receive_message().await?.ok().map(|message| message.len())
    }

    async fn echo(&mut self) -> bool {
        let Some(transport) = self.open().await else { return false };
        match transport.receive_message().await {
            Some(Ok(message)) => transport.send_message(message).await.is_ok(),
            _ => false,
        }
    }
}

impl Contestant for Compressing {
    fn client(io: TcpStream) -> Self {
        Self(Optimized::over(io, builder()))
    }

    fn server(io: TcpStream) -> Self {
        let socket = Box::new(WebSocket::server(io, Limits::default()));
        Self(Optimized(End::Accepting(Some(socket), compressing_acceptor)))
    }

    async fn send(&mut self, payload: &Bytes) {
        self.0.send(payload).await;
    }

    async fn receive(&mut self) -> Option<usize> {
        self.0.receive().await
    }

    async fn echo(&mut self) -> bool {
        self.0.echo().await
    }
}
