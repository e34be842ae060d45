//! The contract of `Transport`, over each of the three that it may be.

use std::net::Ipv4Addr;

use http::request;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::mpsc};
use tower::ServiceExt;
use tower_transport::{
    Message, contract_tests,
    stack::adaptive::{AdaptiveConnector, AdaptiveTransport, Endpoints, TransportKind},
    transport::{
        sse::SseDuplexServer,
        websocket::WebSocketService,
        webtransport::{Certificate, WebTransportConnector, WebTransportServer, WebTransportStream},
    },
};

fn large(i: usize) -> Message {
    Message::binary(vec![i as u8; 64 * 1024])
}

async fn give(to: mpsc::UnboundedSender<AdaptiveTransport>, transport: impl Into<AdaptiveTransport>) {
    // Nobody takes it where the test is over.
    let _ = to.send(transport.into());
}

/// Both ends of a connection of a kind: the client's as a connector makes it, the server's by `From`.
async fn pair(kind: TransportKind) -> (AdaptiveTransport, AdaptiveTransport) {
    let (accepted, mut server) = mpsc::unbounded_channel::<AdaptiveTransport>();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let certificate = Certificate::development(&[]).unwrap();
    let trusted = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
    let mut quic = WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate).unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let udp = format!("https://{}/wt", quic.local_addr().unwrap());
    let http = http1::Builder::new().timer(TokioTimer::new()).clone();
    match kind {
        TransportKind::WebTransport => {
            tokio::spawn(async move {
                let handler = move |stream: WebTransportStream, _: request::Parts| give(accepted, stream);
                quic.serve(handler).await;
            });
        }
        TransportKind::WebSocket => {
            let upgrade = WebSocketService::new(move |socket, _| give(accepted, socket));
            tokio::spawn(async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    let service = TowerToHyperService::new(upgrade.clone());
                    tokio::spawn(http.serve_connection(TokioIo::new(tcp), service).with_upgrades());
                }
            });
        }
        _ => {
            let sse = SseDuplexServer::new(move |sse, _| give(accepted, sse));
            tokio::spawn(async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    tokio::spawn(http.serve_connection(TokioIo::new(tcp), TowerToHyperService::new(sse.clone())));
                }
            });
        }
    }
    let mut endpoints = Endpoints::new(&base).unwrap().web_transport(&udp).unwrap();
    for other in TransportKind::all().filter(|other| *other != kind) {
        endpoints = endpoints.without(other);
    }
    let connector = AdaptiveConnector::new(endpoints).web_transport(trusted);
    let client = connector.oneshot(http::Request::new(())).await.unwrap().into_body();
    let server = server.recv().await.unwrap();
    assert_eq!((client.kind(), server.kind()), (kind, kind));
    (client, server)
}

contract_tests!(
    mod web_transport,
    pair = pair(TransportKind::WebTransport).await, message = large, room = 1_000, on = tokio
);
contract_tests!(mod web_socket, pair = pair(TransportKind::WebSocket).await, message = large, room = 1_000, on = tokio);
contract_tests!(mod sse, pair = pair(TransportKind::Sse).await, message = large, room = 1_000, on = tokio);
