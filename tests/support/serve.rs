//! Servers on loopback, for as long as the runtime lives.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
};

use http::request;
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower_transport::{
    BoxError,
    transport::{
        accept,
        websocket::{WebSocket, WebSocketService},
    },
};

/// Serves WebSockets in bare hyper.
pub async fn serve<H, F>(upgrade: WebSocketService<H>) -> SocketAddr
where
    H: FnOnce(WebSocket, request::Parts) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    serve_http(upgrade).await
}

/// Serves any service of requests in bare hyper.
pub async fn serve_http<S, B>(service: S) -> SocketAddr
where
    S: tower::Service<http::Request<Incoming>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = accept(|| listener.accept()).await;
            let service = TowerToHyperService::new(service.clone());
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(tcp), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    address
}

/// Serves any service of requests in bare hyper, over HTTP/1.1 and HTTP/2.
pub async fn serve_both<S, B>(service: S) -> SocketAddr
where
    S: tower::Service<http::Request<Incoming>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = accept(|| listener.accept()).await;
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let mut http = auto::Builder::new(TokioExecutor::new());
                http.http1().timer(TokioTimer::new());
                http.http2().timer(TokioTimer::new()).enable_connect_protocol();
                let _ = http.serve_connection_with_upgrades(TokioIo::new(tcp), service).await;
            });
        }
    });
    address
}

/// Serves an axum app.
pub async fn serve_axum(app: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}
