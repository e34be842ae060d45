use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};
use tower::ServiceExt;
use tower_transport::transport::websocket::{WebSocket, WebSocketConnector, WebSocketService};

use super::tcp::serve;
use crate::contestant::{Address, Network};

pub(crate) struct WebSockets;
pub(crate) struct SecureWebSockets;

async fn listen(scheme: &str, tls: Option<TlsAcceptor>, trust: String) -> (Address, UnboundedReceiver<WebSocket>) {
    let (opened, ends) = unbounded_channel();
    let upgrade = WebSocketService::new(move |socket, _| {
        let _ = opened.send(socket);
        async {}
    });
    let port = serve(upgrade, tls).await.port();
    (Address { url: format!("{scheme}://localhost:{port}/"), trust }, ends)
}

async fn connect(connector: &WebSocketConnector, address: &Address) -> WebSocket {
    connector.clone().oneshot(address.request()).await.expect("a connection").into_body()
}

impl Network for WebSockets {
    type Near = WebSocket;
    type Far = WebSocket;
    type Client = WebSocketConnector;

    async fn listen() -> (Address, UnboundedReceiver<WebSocket>) {
        listen("ws", None, String::new()).await
    }

    fn client(_: &Address) -> WebSocketConnector {
        WebSocketConnector::new()
    }

    async fn connect(client: &WebSocketConnector, address: &Address) -> WebSocket {
        connect(client, address).await
    }
}

impl Network for SecureWebSockets {
    type Near = WebSocket;
    type Far = WebSocket;
    type Client = WebSocketConnector;

    async fn listen() -> (Address, UnboundedReceiver<WebSocket>) {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .expect("a certificate");
        let trust = BASE64_STANDARD.encode(certified.cert.der());
        listen("wss", Some(TlsAcceptor::from(Arc::new(config))), trust).await
    }

    fn client(address: &Address) -> WebSocketConnector {
        let mut roots = RootCertStore::empty();
        roots.add(BASE64_STANDARD.decode(&address.trust).expect("base64").into()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        WebSocketConnector::new().tls(Arc::new(config))
    }

    async fn connect(client: &WebSocketConnector, address: &Address) -> WebSocket {
        connect(client, address).await
    }
}
