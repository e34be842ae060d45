//! A server that gives one handler the sessions of all three transports.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, request};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet};
use tower::ServiceExt;
use tower_transport::{
    BoxError,
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport, adaptive::AdaptiveTransport},
    transport::{
        sse::{SseDuplex, SseDuplexServer},
        websocket::{WebSocket, WebSocketUpgrade},
        webtransport::{Certificate, CertificateHash, WebTransportServer, WebTransportStream},
    },
};

use super::checker::Checker;

/// What sessions are handed to.
#[derive(Clone)]
pub(crate) struct Handler {
    acceptor: OptimizedAcceptor<AdaptiveTransport>,
    pub(crate) checker: Checker,
    /// How many sessions began.
    pub(crate) sessions: Arc<AtomicUsize>,
    /// Whom the server lets in, by their `x-token`.
    pub(crate) token: Option<&'static str>,
}

impl Handler {
    pub(crate) fn new(builder: OptimizedBuilder) -> Self {
        Self { acceptor: builder.acceptor(), checker: Checker::default(), sessions: Arc::default(), token: None }
    }

    async fn take(self, transport: impl Into<AdaptiveTransport>) {
        let transport = transport.into();
        let is_known = transport.subprotocol() == Some(OptimizedAcceptor::SUBPROTOCOL);
        if let Ok(Some(session)) = self.acceptor.accept_over(transport, is_known).await {
            self.sessions.fetch_add(1, Relaxed);
            self.echo(session).await;
        }
    }

    async fn echo(self, session: OptimizedTransport<AdaptiveTransport>) {
        let (sender, mut receiver) = session.split();
        while let Some(Ok(message)) = receiver.receive().await {
            if !message.is_data() {
                continue;
            }
            self.checker.take(&message);
            if sender.send(message).await.is_err() {
                return;
            }
        }
    }

    fn lets_in(&self, headers: &HeaderMap) -> bool {
        self.token.is_none_or(|token| headers.get("x-token").is_some_and(|found| found == token))
    }
}

/// WebSocket and SSE with POST on one port.
pub(crate) struct Http {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

pub(crate) async fn http(handler: &Handler) -> Http {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let subprotocol = OptimizedAcceptor::SUBPROTOCOL;
    let taken = handler.clone();
    let ws = WebSocketUpgrade::new(move |websocket: WebSocket, _: request::Parts| taken.take(websocket))
        .subprotocol(subprotocol)
        .unwrap();
    let taken = handler.clone();
    let sse = SseDuplexServer::new(move |sse: SseDuplex, _| taken.take(sse)).subprotocol(subprotocol).unwrap();
    let gate = handler.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (ws, sse, gate) = (ws.clone(), sse.clone(), gate.clone());
        async move {
            let answer = match request.uri().path() {
                _ if !gate.lets_in(request.headers()) => plain(StatusCode::UNAUTHORIZED),
                "/ws" => boxed(ws.oneshot(request).await),
                "/sse" => boxed(sse.oneshot(request).await),
                _ => plain(StatusCode::NOT_FOUND),
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(tcp), service.clone())
                .with_upgrades();
            connections.spawn(async move {
                let _ = connection.await;
            });
        }
    });
    Http { address, _tasks: tasks }
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

fn boxed<B>(answer: Result<Response<B>, Infallible>) -> Answer
where
    B: http_body_util::BodyExt<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    answer.unwrap().map(|body| body.map_err(Into::into).boxed_unsync())
}

fn plain(status: StatusCode) -> Answer {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}

/// WebTransport on a port of its own.
pub(crate) struct Quic {
    pub(crate) address: SocketAddr,
    pub(crate) hash: CertificateHash,
    _task: JoinSet<()>,
}

pub(crate) fn quic(handler: &Handler) -> Quic {
    let certificate = Certificate::development(&[]).unwrap();
    let hash = certificate.hash();
    let server = WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate).unwrap();
    let address = server.local_addr().unwrap();
    let mut server = server.subprotocol(OptimizedAcceptor::SUBPROTOCOL).unwrap();
    let taken = handler.clone();
    let mut task = JoinSet::new();
    task.spawn(async move { server.serve(move |stream: WebTransportStream, _| taken.take(stream)).await });
    Quic { address, hash, _task: task }
}
