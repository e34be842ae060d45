//! `https`.

use std::sync::Arc;

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use support::{echo, tls, within};
use tokio::net::TcpListener;
use tokio_rustls::rustls::ClientConfig;
use tower::ServiceExt;
use tower_transport::{
    Message, TransportExt,
    transport::sse::{SseDuplexConnector, SseDuplexServer},
};

/// A TLS server for `localhost` that echoes, and the client configuration that trusts it alone.
async fn server() -> (u16, Arc<ClientConfig>) {
    let (acceptor, client) = tls::localhost();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let service = SseDuplexServer::new(|session, _| echo(session));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(tls), service));
        }
    });
    (port, client)
}

/// A configuration that is shared with a client of HTTP/2, and a server that would choose it: for the stream and for
/// the POSTs.
#[tokio::test]
async fn https_with_a_configuration_that_offers_http_2() {
    for offered in [&[][..], &[&b"h2"[..]], &[b"h2", b"http/1.1"]] {
        let (port, config) = server().await;
        let mut shared = ClientConfig::clone(&config);
        shared.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let request = http::Request::get(format!("https://localhost:{port}/")).body(()).unwrap();
        within(async {
            let connector = SseDuplexConnector::new().tls(Arc::new(shared));
            let mut client = connector.oneshot(request).await.unwrap().into_body();
            client.send_message(Message::text("up")).await.unwrap();
            assert_eq!(client.receive_message().await.unwrap().unwrap().as_text(), Some("up"));
        })
        .await;
    }
}
