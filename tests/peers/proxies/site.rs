//! The server behind the proxy, and its certificate.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{Router, routing::get};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use support::{echo, serve::serve_axum};
use tokio::sync::watch;
use tower_transport::{
    QueueConfig,
    stack::OptimizedTransport,
    transport::{
        sse::{Event, SseDuplexServer, event_channel},
        websocket::{PerMessageDeflate, WebSocketService},
    },
};

use super::ALIVE;

pub(super) struct Site {
    pub(super) address: SocketAddr,
    pub(super) certificate: rcgen::CertifiedKey<rcgen::KeyPair>,
    event: watch::Sender<String>,
}

impl Site {
    pub(super) async fn start() -> Self {
        let (event, events) = watch::channel("first".to_owned());
        let feed = move || {
            let mut events = events.clone();
            async move {
                let (sender, stream) = event_channel(QueueConfig::events());
                tokio::spawn(async move {
                    loop {
                        let event = Event::new(events.borrow_and_update().as_str());
                        if sender.send(event).await.is_err() || events.changed().await.is_err() {
                            return;
                        }
                    }
                });
                stream.keep_alive(ALIVE)
            }
        };
        let acceptor = OptimizedTransport::builder().acceptor();
        let websocket = WebSocketService::new(|socket, _| echo(socket));
        let app = Router::new()
            .route("/ready", get(|| async { "ready" }))
            .route("/events", get(feed))
            .route_service("/ws", websocket.per_message_deflate(PerMessageDeflate::new()))
            .route_service("/sse", SseDuplexServer::new(|session, _| echo(session)).keep_alive(ALIVE))
            .route_service("/session", acceptor.upgrade(|session, _| echo(session)));
        let address = serve_axum(app).await;
        let certificate = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()]).unwrap();
        Self { address, certificate, event }
    }

    /// The TLS configuration of a client that trusts the proxy's certificate.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        Arc::new(
            config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth(),
        )
    }

    pub(super) async fn publish(&self, data: &str) {
        self.event.send_replace(data.to_owned());
    }
}
