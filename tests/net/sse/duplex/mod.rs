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

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tower::ServiceExt;
use tower_transport::{
    Limits,
    transport::sse::{SseDuplex, SseDuplexBody, SseDuplexConnector, SseDuplexServer},
};

/// A test that hangs has failed.
async fn within<F: Future>(test: F) -> F::Output {
    timeout(Duration::from_secs(20), test).await.expect("it hangs")
}

/// Serves any service of requests by hyper, for as long as the runtime lives.
async fn serve<S>(service: S) -> SocketAddr
where
    S: tower::Service<
            http::Request<hyper::body::Incoming>,
            Response = http::Response<SseDuplexBody>,
            Error = std::convert::Infallible,
            Future: Send,
        > + Clone
        + Send
        + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(tcp), service));
        }
    });
    address
}

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
