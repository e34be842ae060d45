//! Whole stacks over a session's stream: reconnecting, and the recommended one, with resume.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::StreamExt;
use tower::ServiceBuilder;
use tower_transport::{
    CloseCode, CloseFrame, Limits, Message, QueueConfig, TransportExt,
    layer::{
        reconnect::{Backoff, Keep, ReconnectLayer, Target, WhenLost},
        resume::Verdict,
    },
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport},
    transport::webtransport::{Certificate, WebTransportConnector, WebTransportServer, WebTransportStream},
};

use crate::webtransport::support::server;
use support::within;

/// A certificate in PEM, for a server that comes back with the same.
fn pem() -> (String, String) {
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    (signed.cert.pem(), signed.signing_key.serialize_pem())
}

/// Sends back until it is told to end, and is then closed with every session.
async fn echo(
    address: &str,
    (chain, key): &(String, String),
) -> (SocketAddr, tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    // The port is free again a moment after the server before is gone.
    let mut server = loop {
        let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        match WebTransportServer::bind(address.parse().unwrap(), certificate) {
            Ok(server) => break server,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let address = server.local_addr().unwrap();
    let (end, ended) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let handler = |mut stream: WebTransportStream, _| async move {
            while let Some(Ok(message)) = stream.receive_message().await {
                if message.is_data() && stream.send_message(message).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = server.serve(handler) => {}
            _ = ended => {}
        }
        server.close(CloseFrame::new(CloseCode::RESTART, "")).await;
    });
    (address, end, task)
}

#[tokio::test]
async fn messages_go_on_when_a_server_goes_and_comes_back() {
    let pem = pem();
    let (address, mut end, mut task) = within(echo("127.0.0.1:0", &pem)).await;
    let backoff = Backoff::exponential().base(Duration::from_millis(10)).cap(Duration::from_millis(20));
    let layer = ReconnectLayer::new(format!("https://{address}/").parse::<http::Uri>().unwrap(), backoff)
        .when_lost(WhenLost::Keep(Keep::messages()));
    let handle = layer.handle();
    let connector = WebTransportConnector::new()
        .roots_pem(pem.0.as_bytes())
        .unwrap()
        .limits(Limits::new().handshake(Duration::from_secs(2)));
    let transport = ServiceBuilder::new().layer(layer).service(connector);
    let (sender, mut receiver, driver) = transport.drive(QueueConfig::messages()).into_parts();
    let driver = tokio::spawn(driver);
    for round in 0..3 {
        let message = Message::text(format!("round {round}"));
        sender.send(message.clone()).await.unwrap();
        while within(receiver.receive()).await.unwrap().unwrap() != message {}
        end.send(()).unwrap();
        within(task).await.unwrap();
        within(handle.states().any(async |state| !state.is_connected())).await;
        (_, end, task) = within(echo(&address.to_string(), &pem)).await;
    }
    drop(sender);
    within(async { while receiver.receive().await.is_some() {} }).await;
    within(driver).await.unwrap().unwrap();
}

fn builder() -> OptimizedBuilder {
    OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_millis(5)))
}

async fn send_back(transport: OptimizedTransport<WebTransportStream>) {
    let (sender, mut receiver) = transport.split();
    while let Some(Ok(message)) = receiver.receive().await {
        if message.is_data() && sender.send(message).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn the_recommended_stack_resumes_over_it_without_a_gap_or_a_duplicate() {
    let (server, hash) = server();
    let mut server = server.subprotocol(OptimizedAcceptor::SUBPROTOCOL).unwrap();
    let address = server.local_addr().unwrap();
    let sessions = Arc::new(AtomicUsize::new(0));
    let acceptor: OptimizedAcceptor<WebTransportStream> = builder().acceptor();
    let (acceptor, counted) = (Arc::new(acceptor), sessions.clone());
    tokio::spawn(async move {
        let handler = move |stream: WebTransportStream, _| async move {
            let is_known = stream.subprotocol() == Some(OptimizedAcceptor::SUBPROTOCOL);
            if let Ok(Some(transport)) = acceptor.accept_over(stream, is_known).await {
                counted.fetch_add(1, Relaxed);
                send_back(transport).await;
            }
        };
        server.serve(handler).await;
    });

    let connector = WebTransportConnector::new().certificate_hashes([hash]);
    let target = Target::parse(&format!("https://{address}/")).unwrap();
    let transport = within(builder().connect_with(connector, target)).await.unwrap();
    assert!(transport.capabilities().resume() && transport.capabilities().batch());
    let handle = transport.handle();
    let (sender, mut receiver) = transport.split();
    let writer = tokio::spawn(async move {
        for i in 0..1000 {
            sender.send(Message::text(i.to_string())).await.unwrap();
        }
        sender
    });
    for i in 0..1000 {
        if i % 200 == 100 {
            handle.reconnect().unwrap().reconnect_now();
        }
        let message = within(receiver.receive()).await.unwrap().unwrap();
        assert_eq!(message.as_text().unwrap(), i.to_string());
    }
    drop(within(writer).await.unwrap());
    assert!(handle.reconnect().unwrap().connections() > 3);
    assert_eq!(handle.reconnect().unwrap().lost(), 0);
    assert!(matches!(handle.resume().unwrap().verdict(), Some(Verdict::Resumed { .. })));
    assert_eq!(sessions.load(Relaxed), 1, "one handler had it all");
}
