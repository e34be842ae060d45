//! One server for WebTransport, WebSocket and SSE with POST, in bare hyper, with one guard for all three. A client
//! without a valid token is refused over each of them, and no subject has more than three connections. A client tries,
//! and the example ends.
//!
//! ```text
//! cargo run --example one_server_hyper --features adaptive,auth,dev-certificate
//! ```

use std::time::Duration;

use http::{Request, header, request::Parts};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt};
use tower_transport::{
    BoxError, Error, Message, TransportExt,
    handshake::{auth::AuthGuardLayer, limit::ConnectionLimitLayer},
    layer::auth::StaticTokens,
    stack::{AdaptiveTransport, OptimizedTransport, TransportKind, adaptive::SessionServer},
    transport::{
        accept,
        sse::SseDuplexConnector,
        websocket::WebSocketConnector,
        webtransport::{Certificate, WebTransportConnector, WebTransportServer},
    },
};

/// The verifier's result for a token, which is in the extensions of every admitted request.
type Subject = &'static str;

fn subject(parts: &Parts) -> Option<Subject> {
    parts.extensions.get::<Subject>().copied()
}

async fn session(mut session: OptimizedTransport<AdaptiveTransport>, parts: Parts) {
    let greeting = format!("hello, {}", subject(&parts).unwrap_or("stranger"));
    let _ = session.send_message(Message::text(greeting)).await;
    while let Some(Ok(_)) = session.receive_message().await {}
}

/// One accept loop for both HTTP transports.
async fn serve(server: SessionServer, listener: TcpListener) {
    loop {
        let (tcp, address) = accept(|| listener.accept()).await;
        let service = TowerToHyperService::new(server.http().from_address(address));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new()) // cuts a client that never ends its request
            .max_buf_size(64 << 10) // and one whose headers do not end
            .serve_connection(TokioIo::new(tcp), service)
            .with_upgrades();
        tokio::spawn(connection);
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let limit = ConnectionLimitLayer::new(10_000).per_key(3, subject);
    let guard = ServiceBuilder::new()
        .layer(AuthGuardLayer::new(StaticTokens::new().token("a-secret", "ada")))
        .layer(limit.clone());
    // Only its own subject resumes a session.
    let server = SessionServer::new(OptimizedTransport::builder().acceptor(), session).guard(guard).owned_by(subject);

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let tcp = listener.local_addr()?;
    tokio::spawn(serve(server.clone(), listener));

    let certificate = Certificate::development(&["localhost", "127.0.0.1"])?;
    let web_transport = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
    let endpoint = WebTransportServer::bind("127.0.0.1:0".parse()?, certificate)?;
    let udp = endpoint.local_addr()?;
    let udp_served = tokio::spawn(server.web_transport(endpoint));
    println!("server: TCP {tcp}, UDP {udp}");

    let connect = async |kind: TransportKind, token: &str| -> Result<AdaptiveTransport, Error> {
        let url = match kind {
            TransportKind::WebTransport => format!("https://{udp}/wt"),
            TransportKind::WebSocket => format!("ws://{tcp}/ws"),
            _ => format!("http://{tcp}/sse"),
        };
        let request = Request::get(url).header(header::AUTHORIZATION, format!("Bearer {token}"));
        let request = request.body(())?;
        Ok(match kind {
            TransportKind::WebTransport => web_transport.clone().oneshot(request).await?.into_body().into(),
            TransportKind::WebSocket => WebSocketConnector::new().oneshot(request).await?.into_body().into(),
            _ => SseDuplexConnector::new().oneshot(request).await?.into_body().into(),
        })
    };
    let mut clients = Vec::new();
    for kind in TransportKind::all() {
        let refused = connect(kind, "guessed").await.map(drop);
        println!("{kind}, with a token that was guessed: {refused:?}");
        let mut client = connect(kind, "a-secret").await?;
        let greeting = client.receive_message().await.transpose()?;
        println!("{kind}, with a good one: {:?}", greeting.as_ref().and_then(Message::as_text));
        clients.push(client);
    }
    println!("shared: {} sessions, {} connections of one subject", server.session_count(), limit.connections());
    for kind in TransportKind::all() {
        let fourth = connect(kind, "a-secret").await.map(drop);
        println!("{kind}, one connection too many: {fourth:?}");
    }

    let told = clients
        .into_iter()
        .map(|mut client| tokio::spawn(async move { (client.kind(), client.receive_message().await) }));
    let told: Vec<_> = told.collect();
    server.close(Duration::from_secs(5)).await?;
    for told in told {
        let (kind, message) = told.await?;
        println!("{kind}, as the server goes away: {message:?}");
    }
    udp_served.await?;
    Ok(())
}
