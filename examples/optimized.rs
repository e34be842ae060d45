//! One client, two servers: one that knows this crate and one that does not. The same code talks to both; the features
//! are negotiated in the handshake.
//!
//! `cargo run --release --example optimized --features optimized`

use std::{net::SocketAddr, time::Instant};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower_transport::{
    BoxError, Message, TransportExt,
    layer::{heartbeat::HeartbeatLayer, resume::Verdict},
    stack::{OptimizedAcceptor, OptimizedTransport},
    transport::{
        accept,
        websocket::{WebSocket, WebSocketService},
    },
};

const MESSAGES: usize = 20_000;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // A server with the stack: each session is an `OptimizedTransport`, in two halves.
    let acceptor: OptimizedAcceptor = OptimizedTransport::builder().named("server").acceptor();
    let knowing = acceptor.upgrade(|session, _parts| async {
        let (sender, mut receiver) = session.split();
        while let Some(Ok(message)) = receiver.receive().await {
            if message.is_data() && sender.send(message).await.is_err() {
                return;
            }
        }
    });
    // A plain WebSocket server.
    let plain = WebSocketService::new(|mut socket, _parts| async move {
        while let Some(Ok(message)) = socket.receive_message().await {
            if message.is_data() && socket.send_message(message).await.is_err() {
                return;
            }
        }
    });
    for (name, address) in [("a server that knows us", serve(knowing).await?), ("a plain server", serve(plain).await?)]
    {
        println!("{name}:");
        talk(address).await?;
    }
    Ok(())
}

async fn talk(address: SocketAddr) -> Result<(), BoxError> {
    let beat = HeartbeatLayer::new(std::time::Duration::from_millis(100), std::time::Duration::from_secs(5));
    let transport =
        OptimizedTransport::builder().named("client").heartbeat(beat).connect(&format!("ws://{address}/")).await?;
    println!("  on between the two ends: {}", transport.capabilities());
    let handle = transport.handle();

    let (sender, mut receiver) = transport.split();
    let started = Instant::now();
    let writer = tokio::spawn(async move {
        for number in 0..MESSAGES {
            sender.send(quote(number)).await?;
        }
        Ok::<_, tower_transport::Error>(sender)
    });
    for number in 0..MESSAGES {
        let message = receiver.receive().await.ok_or("the server hung up")??;
        assert_eq!(message, quote(number), "all of them, in order");
    }
    let rate = MESSAGES as f64 / started.elapsed().as_secs_f64();
    println!("  {MESSAGES} messages there and back, in order: {:.0} thousand a second", rate / 1e3);

    // A message that is worth compressing.
    let sender = writer.await??;
    let long = Message::text("the same words again and again; ".repeat(500));
    sender.send(long.clone()).await?;
    assert_eq!(receiver.receive().await.ok_or("the server hung up")??, long);
    match handle.compression().and_then(|stats| stats.sent().ratio()) {
        Some(ratio) => println!("  a message of {} bytes went out {ratio:.0} times smaller", long.len()),
        None => println!("  a message of {} bytes went out as it was", long.len()),
    }

    let session = match handle.resume().and_then(|session| session.verdict()) {
        Some(Verdict::New) => "begun: it would survive a cut",
        Some(_) => "resumed",
        None => "none: a cut would lose what is on its way",
    };
    println!("  session {session}");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    if let Some(rtt) = handle.rtt() {
        println!("  round trip of a ping: {:?}\n", rtt.last);
    }
    Ok(())
}

/// Returns a small message.
fn quote(number: usize) -> Message {
    Message::text(format!("{{\"symbol\":\"ACME\",\"bid\":{number}}}"))
}

async fn serve<H, F>(upgrade: WebSocketService<H>) -> Result<SocketAddr, BoxError>
where
    H: FnOnce(WebSocket, http::request::Parts) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let (tcp, _) = accept(|| listener.accept()).await;
            let service = TowerToHyperService::new(upgrade.clone());
            let connection = http1::Builder::new()
                .timer(TokioTimer::new()) // cuts a client that never ends its request
                .serve_connection(TokioIo::new(tcp), service)
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    Ok(address)
}
