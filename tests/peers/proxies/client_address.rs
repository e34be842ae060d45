//! The client's address behind a real HAProxy: by the PROXY protocol, and by the header that it appends to.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
};

use http::{Request, request::Parts};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, ServiceExt};
use tower_transport::{
    Message, TransportExt,
    handshake::{client_address::ClientAddressLayer, proxy_protocol::accept_proxied},
    transport::websocket::{WebSocket, WebSocketConnector, WebSocketService},
};

use super::proxy::{Kind, Proxy};
use crate::within;

/// A service that tells each client the address that the server sees.
fn tell()
-> WebSocketService<impl Clone + Send + FnOnce(WebSocket, Parts) -> futures_util::future::BoxFuture<'static, ()>> {
    WebSocketService::new(|mut socket: WebSocket, parts: Parts| {
        let (socket_address, address) = (parts.extensions.get::<SocketAddr>(), parts.extensions.get::<IpAddr>());
        let seen = format!("{socket_address:?} {address:?}");
        Box::pin(async move { socket.send_message(Message::text(seen)).await.unwrap() }) as _
    })
}

/// Serves connections that begin with a header of the PROXY protocol, or none.
async fn server(reads_header: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, proxy)) = listener.accept().await {
            tokio::spawn(async move {
                // A health check ends its connection whenever it likes.
                let header = if reads_header { accept_proxied(&mut tcp).await } else { Ok(None) };
                let Ok(client) = header else { return };
                let service = tower::service_fn(move |mut request: Request<Incoming>| {
                    request.extensions_mut().insert(client.unwrap_or(proxy));
                    let trusted = ["127.0.0.3/32".parse().unwrap()];
                    let layer = ClientAddressLayer::x_forwarded_for(trusted);
                    async move {
                        let response = if reads_header {
                            tell().oneshot(request).await
                        } else {
                            layer.layer(tell()).oneshot(request).await
                        };
                        Ok::<_, Infallible>(response.unwrap())
                    }
                });
                let service = TowerToHyperService::new(service);
                let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), service).with_upgrades().await;
            });
        }
    });
    address
}

const TCP: &str = include_str!("../../../docs/guide/haproxy-tcp.cfg");

#[test]
fn the_guide_shows_the_configuration_that_is_tested() {
    assert!(include_str!("../../../docs/guide/deployment.md").contains(TCP));
}

/// Returns what the server sees of a client behind HAProxy, and the client's own address. The configuration is that of
/// the guide, with these changes.
async fn seen(changes: &[(&str, &str)], server: SocketAddr) -> Option<(String, SocketAddr)> {
    let proxy = Proxy::start_with(Kind::Haproxy, |address, _| {
        let (address, server) = (address.to_string(), server.to_string());
        let own = [("maxconn 32768", "maxconn 512"), (":443", &*address), ("127.0.0.1:3000", &*server)];
        own.iter().chain(changes).fold(TCP.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "the configuration does not contain `{from}`");
            text.replace(from, to)
        })
    })
    .await?;
    within(async {
        let tcp = TcpStream::connect(proxy.address()).await.unwrap();
        let own = tcp.local_addr().unwrap();
        let request = Request::get(proxy.url("ws", "/")).header("x-forwarded-for", "6.6.6.6").body(()).unwrap();
        let mut socket = WebSocketConnector::new().handshake(tcp, request).await.unwrap().into_body();
        let seen = socket.receive_message().await.unwrap().unwrap();
        Some((seen.as_text().unwrap().to_owned(), own))
    })
    .await
}

#[tokio::test]
async fn both_versions_of_the_proxy_protocol_tell_the_clients_address_and_port() {
    for send in ["send-proxy", "send-proxy-v2"] {
        let Some((seen, own)) = seen(&[("send-proxy-v2", send)], server(true).await).await else { return };
        assert_eq!(seen, format!("{:?} None", Some(own)), "{send}");
    }
}

#[tokio::test]
async fn the_address_that_haproxy_appends_wins_over_the_one_that_the_client_forged() {
    let changes = [
        ("mode tcp", "mode http"),
        ("default_", "option forwardfor\n    default_"),
        ("send-proxy-v2", "source 127.0.0.3"),
    ];
    let Some((seen, own)) = seen(&changes, server(false).await).await else { return };
    assert_eq!(seen, format!("None {:?}", Some(own.ip())));
}
