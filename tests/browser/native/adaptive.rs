//! One server of sessions over three transports, and the networks between it and the page.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tower::Service;
use tower_transport::{
    BoxError, Message, TransportExt,
    stack::{
        OptimizedTransport,
        adaptive::{SessionServer, TransportKind, server::SessionService},
    },
    transport::webtransport::{Certificate, CertificateHash, WebTransportServer},
};

use super::listen;

/// The path between a page and the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    /// A proxy that refuses upgrades.
    NoUpgrades,
    /// A guard that admits the token in the query.
    Guard,
}

/// Returns the parameters for the page, and the hash of the certificate.
pub(super) async fn serve() -> (String, CertificateHash) {
    let acceptor = OptimizedTransport::builder().named("adaptive").acceptor();
    let server = SessionServer::new(acceptor, |mut session, parts| async move {
        let kind = parts.extensions.get::<TransportKind>().map_or("none", |kind| kind.as_str());
        let _ = session.send_message(Message::text(kind)).await;
        while let Some(Ok(message)) = session.receive_message().await {
            if message.is_data() && session.send_message(message).await.is_err() {
                return;
            }
        }
    });
    let server = server.allow_any_origin();
    let certificate = Certificate::development(&[]).unwrap();
    let hash = certificate.hash();
    let quic = WebTransportServer::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
    let udp = quic.local_addr().unwrap();
    tokio::spawn(server.web_transport(quic));
    // A port that was free a moment ago.
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut addresses = Vec::new();
    for between in [Between::Nothing, Between::NoUpgrades, Between::Guard] {
        let (listener, address) = listen().await;
        addresses.push(address);
        tokio::spawn(accept(listener, server.http(), between));
    }
    let (open, refusing, guarded) = (addresses[0], addresses[1], addresses[2]);
    let tcp = format!("adaptive={open}&adaptive-refusing={refusing}&adaptive-guarded={guarded}");
    (format!("{tcp}&adaptive-udp={udp}&adaptive-no-udp={closed}"), hash)
}

async fn accept(listener: TcpListener, server: SessionService, between: Between) {
    while let Ok((tcp, _)) = listener.accept().await {
        let server = server.clone();
        let service = service_fn(move |request| pass(server.clone(), request, between));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service).with_upgrades());
    }
}

type Body = UnsyncBoxBody<Bytes, BoxError>;

async fn pass(
    mut server: SessionService,
    request: Request<Incoming>,
    between: Between,
) -> Result<Response<Body>, Infallible> {
    let refused = match between {
        Between::NoUpgrades if request.headers().contains_key(header::UPGRADE) => Some(StatusCode::FORBIDDEN),
        Between::Guard if request.method() != Method::OPTIONS && request.uri().query() != Some("token=6f1c") => {
            Some(StatusCode::UNAUTHORIZED)
        }
        _ => None,
    };
    if let Some(status) = refused {
        let mut response = Response::new(Full::new(Bytes::from("no")).map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = status;
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        return Ok(response);
    }
    Ok(match server.call(request).await {
        Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
        Err(never) => match never {},
    })
}
