//! Both ends call each other over one session, while the connection below it is cut again and again.
//!
//! ```text
//! cargo run --release --example peer --features json,optimized,peer
//! ```
//!
//! A server asks its clients for their load, streams ticks to them, and answers their questions. `OptimizedTransport`
//! resumes the session after each cut, so that no call is lost.

use std::{
    future::ready,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde::{Deserialize, Serialize};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_transport::{
    BoxError, Message, ServiceBuilderExt, Transport,
    codec::JsonCodec,
    layer::reconnect::Backoff,
    service::peer::{Frame, Frames, IncomingCall, PeerBuilder, Reply, unary},
    stack::OptimizedTransport,
    transport::accept,
};

/// The questions of clients.
#[derive(Serialize, Deserialize)]
enum Question {
    Square(u64),
    Ticks(u64),
}

/// The questions of the server to its clients.
#[derive(Serialize, Deserialize)]
enum Probe {
    Load,
}

type OfClient = Frames<Question, u64, String, Probe, u64>;
type OfServer = Frames<Probe, u64, String, Question, u64>;

/// The server's end of one session.
async fn serve<T>(transport: T)
where
    T: Transport<Message, In = Message, TransportError: Send> + Send + Unpin + 'static,
{
    let transport = ServiceBuilder::new()
        .codec(JsonCodec::<Frame<Probe, u64, String>, Frame<Question, u64, String>>::new())
        .service(transport);
    let answer = service_fn(async |call: IncomingCall<Question>| match call.request {
        Question::Square(number) => number.checked_mul(number).map(Reply::One).ok_or("too large".to_owned()),
        Question::Ticks(count) => Ok(Reply::Stream(stream::iter(0..count).map(Ok))),
    });
    let (caller, peer) = PeerBuilder::new(OfServer::new()).build(transport, answer);
    let probing = async {
        let mut answers = 0_u64;
        // It ends with the session.
        while caller.clone().oneshot(Probe::Load).await.is_ok() {
            answers += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!("the server asked its client {answers} times");
    };
    let (ended, ()) = tokio::join!(peer, probing);
    if let Err(error) = ended {
        eprintln!("the session ended: {error}");
    }
}

/// A relay to the server whose connections live for 50 ms.
async fn flaky_relay(server: std::net::SocketAddr) -> std::io::Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let (mut client, _) = accept(|| listener.accept()).await;
            CONNECTIONS.fetch_add(1, Relaxed);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await?;
                let relaying = copy_bidirectional(&mut client, &mut server);
                tokio::time::timeout(Duration::from_millis(50), relaying).await?
            });
        }
    });
    Ok(address)
}

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let relay = flaky_relay(listener.local_addr()?).await?;
    let upgrade = OptimizedTransport::builder().acceptor().upgrade(|session, _| serve(session));
    tokio::spawn(async move {
        loop {
            let (tcp, _) = accept(|| listener.accept()).await;
            let connection = http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(upgrade.clone()))
                .with_upgrades();
            tokio::spawn(connection);
        }
    });

    // Most clients keep the default, which begins at 100 ms and doubles.
    let backoff = Backoff::fixed(Duration::from_millis(5));
    let transport = OptimizedTransport::builder().backoff(backoff).connect(&format!("ws://{relay}/")).await?;
    let transport = ServiceBuilder::new()
        .codec(JsonCodec::<Frame<Question, u64, String>, Frame<Probe, u64, String>>::new())
        .service(transport);
    let probed = AtomicU64::new(0);
    let load = service_fn(move |_: Probe| ready(Ok(probed.fetch_add(1, Relaxed))));
    let (mut caller, peer) = PeerBuilder::new(OfClient::new()).build(transport, unary(load));
    let peer = tokio::spawn(peer);

    let begun = tokio::time::Instant::now();
    let (mut calls, mut streams) = (0_u64, 0_u64);
    while begun.elapsed() < Duration::from_secs(3) {
        // A hundred calls at a time, and a stream of a thousand answers.
        let squares = (calls..calls + 100).map(|number| caller.clone().oneshot(Question::Square(number)));
        for (number, square) in (calls..).zip(try_join_all(squares).await?) {
            assert_eq!(square, number * number);
        }
        calls += 100;
        let ticks = caller.stream(Question::Ticks(1000), false).await?;
        assert_eq!(ticks.try_fold(0, |count, _| ready(Ok(count + 1))).await?, 1000);
        streams += 1;
    }
    println!("{calls} calls and {streams} streams over {} connections, none lost", CONNECTIONS.load(Relaxed));
    caller.graceful_shutdown();
    peer.await??;
    // The server's last line.
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}
