//! `https`.

use std::sync::Arc;

use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};
use tower_transport::transport::sse::SseConnector;

use super::scripted::{STREAM, open, read};

/// A TLS server for `localhost` that gives each connection `answer`, and the client configuration that trusts it alone.
async fn server(answer: String) -> (u16, Arc<ClientConfig>) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    // As servers of both, which prefer the newer.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(mut tls) = acceptor.accept(tcp).await {
                let mut request = [0; 4096];
                let _ = tokio::io::AsyncReadExt::read(&mut tls, &mut request).await;
                tls.write_all(answer.as_bytes()).await.unwrap();
                let _ = tls.shutdown().await;
            }
        }
    });
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (port, Arc::new(client))
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
