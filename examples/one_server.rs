//! One server for WebTransport, WebSocket and SSE with POST, in axum. A client connects over each of the three, then
//! one of them changes its transport in the middle of its session, and the example ends.
//!
//! ```text
//! cargo run --example one_server --features adaptive,axum,dev-certificate
//! ```
//!
//! `one_server_hyper` is the same server without axum, with guards.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
};
use futures_util::future::BoxFuture;
use http::Response;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_transport::{
    BoxError, Error, Message, TransportExt,
    layer::rate_limit::{KeyedRateLimiter, Quota},
    stack::{AdaptiveTransport, OptimizedTransport, TransportKind, adaptive::SessionServer},
    transport::{
        sse::SseDuplexConnector,
        websocket::WebSocketConnector,
        webtransport::{Certificate, CertificateHash, WebTransportConnector, WebTransportServer},
    },
};

/// The quota of each client address for an hour, over all sessions and transports.
const QUOTA: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// The only handler. It does not know which transport it has, unless it asks.
async fn session(
    session: OptimizedTransport<AdaptiveTransport>,
    parts: http::request::Parts,
    limiter: KeyedRateLimiter<IpAddr>,
) {
    let kind = parts.extensions.get::<TransportKind>().copied();
    let Some(address) = parts.extensions.get::<SocketAddr>() else { return };
    println!("server: a session over {}", kind.map_or("?", TransportKind::as_str));
    let mut session = limiter.for_key(address.ip()).inbound().layer(session);
    while let Some(Ok(message)) = session.receive_message().await {
        let Some(text) = message.as_text() else { continue };
        let answer = format!("{text}, you who came over {}", kind.map_or("?", TransportKind::as_str));
        if session.send_message(Message::text(answer)).await.is_err() {
            return;
        }
    }
}

/// Uses the transport that it is told to use. (`AdaptiveConnector` detects which one works: example `adaptive`.)
#[derive(Clone)]
struct Road {
    kind: Arc<Mutex<TransportKind>>,
    tcp: SocketAddr,
    udp: SocketAddr,
    certificate: CertificateHash,
}

impl Service<http::Request<()>> for Road {
    type Response = Response<AdaptiveTransport>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<()>) -> Self::Future {
        let Self { tcp, udp, certificate, .. } = self.clone();
        let kind = self.kind.lock().map_or(TransportKind::WebSocket, |kind| *kind);
        Box::pin(async move {
            let url = match kind {
                TransportKind::WebTransport => format!("https://{udp}/wt"),
                TransportKind::WebSocket => format!("ws://{tcp}/ws"),
                _ => format!("http://{tcp}/sse"),
            };
            *request.uri_mut() = url.parse().map_err(|_| Error::config("no URL"))?;
            Ok(match kind {
                TransportKind::WebTransport => {
                    let connector = WebTransportConnector::new().certificate_hashes([certificate]);
                    connector.oneshot(request).await?.map(Into::into)
                }
                TransportKind::WebSocket => WebSocketConnector::new().oneshot(request).await?.map(Into::into),
                _ => SseDuplexConnector::new().oneshot(request).await?.map(Into::into),
            })
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // The server: one acceptor, one session store, one handler.
    let limiter = KeyedRateLimiter::new(Quota::per_hour(QUOTA));
    let keys = limiter.clone();
    let acceptor = OptimizedTransport::builder().named("one_server").acceptor();
    let server =
        SessionServer::new(acceptor.clone(), move |transport, parts| session(transport, parts, limiter)).sessions(1000);

    // TCP: WebSockets at /ws, SSE at /sse, next to other routes.
    let address = ServiceBuilder::new().map_request(|mut request: Request| {
        if let Some(&ConnectInfo(address)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
            request.extensions_mut().insert(address);
        }
        request
    });
    let router: Router = Router::new().fallback_service(server.http()).layer(address);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let tcp = listener.local_addr()?;
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });

    // UDP: WebTransport, with a development certificate that the client knows by its hash.
    let certificate = Certificate::development(&["localhost", "127.0.0.1"])?;
    let hash = certificate.hash();
    let endpoint = WebTransportServer::bind("127.0.0.1:0".parse()?, certificate)?;
    let udp = endpoint.local_addr()?;
    let web_transport = tokio::spawn(server.web_transport(endpoint));
    println!("server: TCP {tcp}, UDP {udp}");

    // One client over each transport.
    let mut clients = Vec::new();
    for kind in TransportKind::all() {
        let road = Road { kind: Arc::new(Mutex::new(kind)), tcp, udp, certificate: hash };
        let mut client = OptimizedTransport::builder().connect_with(road.clone(), "https://localhost/").await?;
        client.send_message(Message::text("hello")).await?;
        println!("client: {:?}", client.receive_message().await.transpose()?.as_ref().and_then(Message::as_text));
        clients.push((road, client));
    }
    println!("shared: {} sessions in one store, {} key in one rate limiter", acceptor.sessions(), keys.keys());

    // The first changes its transport: the same session, and the same handler (which still reports how it began).
    let Some((road, client)) = clients.first_mut() else { return Ok(()) };
    let handle = client.handle();
    for kind in [TransportKind::WebSocket, TransportKind::Sse] {
        if let Ok(mut road) = road.kind.lock() {
            *road = kind;
        }
        if let Some(reconnect) = handle.reconnect() {
            reconnect.reconnect_now();
        }
        client.send_message(Message::text(format!("still me, now over {kind}"))).await?;
        println!("client: {:?}", client.receive_message().await.transpose()?.as_ref().and_then(Message::as_text));
        println!("        {:?}", handle.resume().and_then(|resume| resume.verdict()));
    }
    println!("shared: {} sessions, {} handlers", acceptor.sessions(), server.session_count());

    // The end: each client is told 1012 and when to return, and no new client is admitted.
    let reading: Vec<_> = clients
        .into_iter()
        .map(|(_, mut client)| tokio::spawn(async move { while let Some(Ok(_)) = client.receive_message().await {} }))
        .collect();
    let drained = server.drain().drain(Duration::from_secs(5)).await;
    web_transport.await?;
    println!("server: {drained}");
    reading.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}
