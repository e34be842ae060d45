//! SSE down and POST up as one transport, over real sockets.

mod called;
mod close;
mod connect;
mod contract;
mod cut;
mod fake;
mod flow;
mod messages;
mod nginx;
mod optimized;
mod origins;
mod peers;
mod posts;
mod progress;
mod proxy;
mod random;
mod raw;
mod retry;
mod service;
mod sessions;
mod tls;

use std::net::SocketAddr;

use support::{serve::serve_http as serve, within};
use tokio::sync::mpsc;
use tower::ServiceExt;
use tower_transport::{
    Limits,
    transport::sse::{SseDuplex, SseDuplexConnector, SseDuplexServer},
};

/// A server whose sessions are given to the test, in order.
async fn sessions(limits: Limits) -> (SocketAddr, mpsc::Receiver<SseDuplex>) {
    let (opened, sessions) = mpsc::channel(64);
    let server = SseDuplexServer::new(move |session, _| async move {
        let _ = opened.send(session).await;
    });
    (serve(server.limits(limits)).await, sessions)
}

async fn connect(connector: SseDuplexConnector, address: SocketAddr) -> SseDuplex {
    let request = http::Request::get(format!("http://{address}/events")).body(()).unwrap();
    connector.oneshot(request).await.unwrap().into_body()
}

/// Both ends of a session.
async fn pair_with(limits: Limits) -> (SseDuplex, SseDuplex) {
    let (address, mut sessions) = sessions(limits).await;
    let client = connect(SseDuplexConnector::new().limits(limits), address).await;
    (client, sessions.recv().await.unwrap())
}

async fn pair() -> (SseDuplex, SseDuplex) {
    pair_with(Limits::default()).await
}
