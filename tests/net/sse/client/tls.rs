//! `https`.

use std::sync::Arc;

use support::tls;
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_rustls::rustls::ClientConfig;
use tower_transport::transport::sse::SseConnector;

use super::scripted::{STREAM, open, read};

/// A TLS server for `localhost` that gives each connection `answer`, and the client configuration that trusts it alone.
async fn server(answer: String) -> (u16, Arc<ClientConfig>) {
    let (acceptor, client) = tls::localhost();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(mut tls) = acceptor.accept(tcp).await {
                let mut request = [0; 4096];
                let _ = tokio::io::AsyncReadExt::read(&mut tls, &mut request).await;
                tls.write_all(answer.as_bytes()).await.unwrap();
                let _ = tls.shutdown().await;
            }
        }
    });
    (port, client)
}

#[tokio::test]
async fn https_with_own_roots() {
    let (port, config) = server(format!("{STREAM}data: a\n\n")).await;
    let connector = SseConnector::new().tls(config);
    let (events, error) = read(open(&connector, &format!("https://localhost:{port}/")).await.unwrap()).await;
    assert_eq!(events, [["message", "a", ""]]);
    assert!(error.is_closed(), "{error:?}");
    let error = open(&connector, &format!("https://127.0.0.1:{port}/")).await.unwrap_err();
    assert!(error.is_tls(), "another name: {error:?}");
}

#[tokio::test]
async fn a_redirect_never_leads_from_https_to_http() {
    let (port, config) = server("HTTP/1.1 302 x\r\nlocation: http://localhost/\r\n\r\n".to_owned()).await;
    let error = open(&SseConnector::new().tls(config), &format!("https://localhost:{port}/")).await.unwrap_err();
    assert!(error.is_protocol() && error.to_string().contains("https:// to http://"), "{error}");
}

/// A configuration that is shared with a client of HTTP/2, and a server that would choose it.
#[tokio::test]
async fn https_with_a_configuration_that_offers_http_2() {
    for offered in [&[&b"h2"[..]][..], &[b"h2", b"http/1.1"]] {
        let (port, config) = server(format!("{STREAM}data: a\n\n")).await;
        let mut shared = ClientConfig::clone(&config);
        shared.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let connector = SseConnector::new().tls(Arc::new(shared));
        let (events, _) = read(open(&connector, &format!("https://localhost:{port}/")).await.unwrap()).await;
        assert_eq!(events, [["message", "a", ""]]);
    }
}
