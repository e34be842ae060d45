//! A server in bare hyper or in axum, with WebTransport beside it, and a client that comes by whichever road it is
//! told.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::ConnectInfo};
use futures_util::future::BoxFuture;
use http::{Request, Response, request};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_transport::{
    Error, Message, TransportExt,
    layer::reconnect::Backoff,
    stack::{
        AdaptiveTransport, OptimizedAcceptor, OptimizedBuilder, OptimizedTransport, TransportKind,
        adaptive::SessionServer,
    },
    transport::{
        sse::SseDuplexConnector,
        websocket::WebSocketConnector,
        webtransport::{Certificate, CertificateHash, WebTransportConnector, WebTransportServer},
    },
};

use super::within;
use support::echo;

pub(super) type Session = OptimizedTransport<AdaptiveTransport>;

pub(super) fn builder() -> OptimizedBuilder {
    OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_millis(5)))
}

pub(super) fn acceptor() -> OptimizedAcceptor<AdaptiveTransport> {
    builder().acceptor()
}

/// Says which handler it is, counted from 1, and how its client came; then sends back what it gets.
pub(super) fn greeter() -> impl Fn(Session, request::Parts) -> BoxFuture<'static, ()> + Clone + Send + Sync + 'static {
    let count = Arc::new(AtomicUsize::new(0));
    move |mut session, parts| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(async move {
            let kind = parts.extensions.get::<TransportKind>().unwrap();
            let _ = session.send_message(Message::text(format!("{number} {}", kind.as_str()))).await;
            echo(session).await;
        })
    }
}

/// The server of HTTP.
#[derive(Clone, Copy, Debug)]
pub(super) enum Host {
    Hyper,
    Axum,
    /// A route for each transport.
    Routes,
}

/// Where a server is to be reached.
#[derive(Clone)]
pub(super) struct House {
    http: SocketAddr,
    pub(super) udp: SocketAddr,
    pub(super) certificate: CertificateHash,
}

impl House {
    pub(super) async fn open(server: &SessionServer, host: Host) -> Self {
        Self::open_with(server, host, |endpoint| endpoint).await
    }

    /// With settings of WebTransport's endpoint.
    pub(super) async fn open_with(
        server: &SessionServer,
        host: Host,
        endpoint_of: impl FnOnce(WebTransportServer) -> WebTransportServer,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let http = listener.local_addr().unwrap();
        match host {
            Host::Hyper => {
                let service = server.http();
                tokio::spawn(async move {
                    while let Ok((tcp, address)) = listener.accept().await {
                        let service = TowerToHyperService::new(service.clone().from_address(address));
                        let connection = http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
                        tokio::spawn(connection.with_upgrades());
                    }
                });
            }
            Host::Axum | Host::Routes => {
                let router = match host {
                    Host::Routes => {
                        Router::new().route_service("/ws", server.web_socket()).route_service("/sse", server.sse())
                    }
                    _ => Router::new().fallback_service(server.http()),
                };
                let address = ServiceBuilder::new().map_request(|mut request: axum::extract::Request| {
                    let ConnectInfo(address) = *request.extensions().get::<ConnectInfo<SocketAddr>>().unwrap();
                    request.extensions_mut().insert(address);
                    request
                });
                let service = router.layer(address).into_make_service_with_connect_info::<SocketAddr>();
                tokio::spawn(async move { axum::serve(listener, service).await });
            }
        }
        let certificate = Certificate::development(&["localhost", "127.0.0.1"]).unwrap();
        let hash = certificate.hash();
        let endpoint = WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate).unwrap();
        let udp = endpoint.local_addr().unwrap();
        tokio::spawn(server.web_transport(endpoint_of(endpoint)));
        Self { http, udp, certificate: hash }
    }

    /// A way to it.
    pub(super) fn road(&self, kind: TransportKind) -> Road {
        Road { house: self.clone(), kind: Arc::new(Mutex::new(kind)), token: None }
    }

    pub(super) async fn connect(&self, kind: TransportKind) -> Result<Session, Error> {
        self.road(kind).connect().await
    }
}

/// A connector that goes by whichever transport it is told, attempt by attempt.
#[derive(Clone)]
pub(super) struct Road {
    house: House,
    kind: Arc<Mutex<TransportKind>>,
    token: Option<Arc<Mutex<&'static str>>>,
}

impl Road {
    pub(super) fn take(&self, kind: TransportKind) {
        *self.kind.lock().unwrap() = kind;
    }

    /// Shows this token from now on.
    pub(super) fn token(mut self, token: &'static str) -> Self {
        *self.token.get_or_insert_default().lock().unwrap() = token;
        self
    }

    pub(super) async fn connect(&self) -> Result<Session, Error> {
        within(builder().connect_with(self.clone(), "https://localhost/")).await
    }
}

impl Service<Request<()>> for Road {
    type Response = Response<AdaptiveTransport>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<()>) -> Self::Future {
        let House { http, udp, certificate } = self.house.clone();
        let kind = *self.kind.lock().unwrap();
        *request.uri_mut() = match kind {
            TransportKind::WebTransport => format!("https://{udp}/wt"),
            TransportKind::WebSocket => format!("ws://{http}/ws"),
            _ => format!("http://{http}/sse"),
        }
        .parse()
        .unwrap();
        if let Some(token) = &self.token {
            let token = format!("Bearer {}", token.lock().unwrap());
            request.headers_mut().insert(http::header::AUTHORIZATION, token.parse().unwrap());
        }
        Box::pin(async move {
            match kind {
                TransportKind::WebTransport => {
                    let connector = WebTransportConnector::new().certificate_hashes([certificate]);
                    Ok(connector.oneshot(request).await?.map(Into::into))
                }
                TransportKind::WebSocket => Ok(WebSocketConnector::new().oneshot(request).await?.map(Into::into)),
                _ => Ok(SseDuplexConnector::new().oneshot(request).await?.map(Into::into)),
            }
        })
    }
}

pub(super) async fn hear(session: &mut Session) -> String {
    let message = within(session.receive_message()).await.unwrap().unwrap();
    message.as_text().unwrap().to_owned()
}

/// Says something, and hears it again.
pub(super) async fn round_trip(session: &mut Session, text: &str) {
    within(session.send_message(Message::text(text.to_owned()))).await.unwrap();
    assert_eq!(hear(session).await, text);
}
