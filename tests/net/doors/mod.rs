//! The doors of a server: what lets a connection in, holds its place, and shows it out.

mod drain;
mod handshake;
mod logs;
mod places;

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
};

use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower_transport::{BoxError, transport::accept};

/// Serves any service of requests in bare hyper, for as long as the runtime lives.
async fn serve<S, B>(service: S) -> SocketAddr
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
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(service.clone()))
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    address
}

/// Serves an axum app for as long as the runtime lives.
async fn serve_axum(app: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}
