//! The server: an echo behind hyper, plain or over TLS.

use std::sync::Arc;

use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};
use tower::service_fn;
use tower_transport::{
    Error, Message,
    service::Server,
    transport::websocket::{WebSocketConnector, WebSocketService},
};

pub(crate) struct Target {
    url: String,
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    pub(crate) async fn start(is_secure: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let (acceptor, tls) = if is_secure { secured() } else { (None, None) };
        let scheme = if is_secure { "wss" } else { "ws" };
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tcp.set_nodelay(true).expect("an open socket");
                // Thousands of connections must not use up the ports by waiting in TIME_WAIT.
                tcp.set_zero_linger().expect("an open socket");
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(tcp).await,
                        Some(acceptor) => serve(acceptor.accept(tcp).await.expect("a TLS handshake")).await,
                    }
                });
            }
        });
        Self { url: format!("{scheme}://localhost:{port}/"), tls }
    }

    pub(crate) fn connector(&self) -> WebSocketConnector {
        match &self.tls {
            None => WebSocketConnector::new(),
            Some(config) => WebSocketConnector::new().tls(config.clone()),
        }
    }

    pub(crate) fn request(&self) -> http::Request<()> {
        http::Request::get(&self.url).body(()).expect("a good URL")
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) {
    let echo = WebSocketService::new(|socket, _| async {
        let echo = service_fn(|message: Message| std::future::ready(Ok::<_, Error>(message)));
        // A client that just drops its connection is nobody's error here.
        let _ = Server::in_order(socket, echo).await;
    });
    let service = TowerToHyperService::new(echo);
    let http = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = http.with_upgrades().await;
}

/// A server for `localhost`, and the client that trusts it alone. The client resumes no TLS session: each connect is a
/// first one.
fn secured() -> (Option<TlsAcceptor>, Option<Arc<ClientConfig>>) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
    let certificate = certified.cert.der().clone();
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = tokio_rustls::rustls::client::Resumption::disabled();
    (Some(TlsAcceptor::from(Arc::new(server))), Some(Arc::new(client)))
}
