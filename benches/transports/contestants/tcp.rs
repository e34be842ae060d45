//! hyper under a service, over plain TCP or TLS.

use std::{convert::Infallible, net::SocketAddr};

use hyper::body::{Body, Incoming};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tower::Service;
use tower_transport::BoxError;

/// Serves for as long as the runtime lives.
pub(crate) async fn serve<S, B>(service: S, tls: Option<TlsAcceptor>) -> SocketAddr
where
    S: Service<http::Request<Incoming>, Response = http::Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tcp.set_nodelay(true).expect("an open socket");
            // Thousands of connections must not use up the ports by waiting in TIME_WAIT.
            tcp.set_zero_linger().expect("an open socket");
            let (service, tls) = (service.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => serve_one(tcp, service).await,
                    Some(tls) => serve_one(tls.accept(tcp).await.expect("a TLS handshake"), service).await,
                }
            });
        }
    });
    address
}

async fn serve_one<S, B>(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: S)
where
    S: Service<http::Request<Incoming>, Response = http::Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let service = TowerToHyperService::new(service);
    let mut http = hyper::server::conn::http1::Builder::new();
    // A client that just drops its connection is nobody's error here.
    let _ = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(io), service).with_upgrades().await;
}
