//! gRPC over a session: an unmodified tonic server and client, here of the standard health service. The connection is
//! replaced 20 times; no call fails, the stream goes on, and tonic connects once.
//!
//! `cargo run -p grpc`

use std::{error::Error, time::Duration};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{DuplexStream, copy_bidirectional, duplex},
    net::TcpListener,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Endpoint, Server};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};
use tower::service_fn;
use tower_transport::{
    TransportExt,
    stack::{OptimizedAcceptor, OptimizedHandle, OptimizedTransport},
    transport::accept,
};

/// Accepts sessions, and gives each to tonic as a connection.
async fn accept_sessions(listener: TcpListener, connections: mpsc::Sender<Result<DuplexStream, std::io::Error>>) {
    let acceptor: OptimizedAcceptor = OptimizedTransport::builder().acceptor();
    let upgrade = acceptor.upgrade(move |session, _parts| async move {
        // tonic's server takes streams that implement its trait `Connected`, as tokio's do.
        let (near, mut far) = duplex(64 * 1024);
        if connections.send(Ok(near)).await.is_ok() {
            let _ = copy_bidirectional(&mut session.into_io(), &mut far).await;
        }
    });
    loop {
        let (tcp, _) = accept(|| listener.accept()).await;
        let service = TowerToHyperService::new(upgrade.clone());
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(tcp), service);
        tokio::spawn(connection.with_upgrades());
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/", listener.local_addr()?);
    let (connections, incoming) = mpsc::channel(8);
    tokio::spawn(accept_sessions(listener, connections));
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(Server::builder().add_service(health).serve_with_incoming(ReceiverStream::new(incoming)));

    // tonic calls the connector again if its connection fails, and gets a new session then.
    let (handles, mut connected) = mpsc::channel::<OptimizedHandle>(8);
    let connector = service_fn(move |_| {
        let (url, handles) = (url.clone(), handles.clone());
        async move {
            let session = OptimizedTransport::connect(&url).await?;
            let _ = handles.send(session.handle()).await;
            Ok::<_, tower_transport::Error>(TokioIo::new(session.into_io()))
        }
    });
    let channel = Endpoint::from_static("http://over.a.session").connect_with_connector(connector).await?;
    let handle = connected.recv().await.ok_or("tonic did not connect")?;
    let reconnects = handle.reconnect().ok_or("a client reconnects")?;

    let mut client = HealthClient::new(channel);
    let request = || HealthCheckRequest { service: "example".to_owned() };
    reporter.set_service_status("example", ServingStatus::Serving).await;
    let mut changes = client.watch(request()).await?.into_inner();
    println!("watching: {:?}", changes.message().await?.ok_or("the stream ended")?.status());
    for number in 0..20 {
        let status = if number % 2 == 0 { ServingStatus::NotServing } else { ServingStatus::Serving };
        reconnects.reconnect_now();
        reporter.set_service_status("example", status).await;
        let change = changes.message().await?.ok_or("the stream ended")?;
        let answer = client.check(request()).await?.into_inner();
        assert_eq!(change.status(), answer.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{} connections, and no call has failed", reconnects.connections());
    assert!(connected.try_recv().is_err(), "tonic has connected again");
    Ok(())
}
