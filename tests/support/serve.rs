//! hyper as the bare server under our services, for the test crates that have peers of their own.

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
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower_transport::{
    BoxError,
    transport::websocket::{WebSocket, WebSocketUpgrade},
};

/// Serves `upgrade` for as long as the runtime lives.
pub async fn serve<H, F>(upgrade: WebSocketUpgrade<H>) -> SocketAddr
where
    H: FnOnce(WebSocket, request::Parts) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    serve_http(upgrade).await
}

/// Serves any service of requests for as long as the runtime lives.
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
        while let Ok((tcp, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(tcp), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    address
}
