//! Prometheus metrics of a server and its clients over real WebSockets: of `OptimizedTransport` ("orders"), which
//! reports all of its metrics itself, and of a stack of your own ("lengths").
//!
//! ```text
//! cargo run -p examples --bin metrics
//! ```
//!
//! The server has its metrics at `/metrics`, where a Prometheus server scrapes them. Here the program requests them
//! once and prints the answer. `docs/grafana-dashboard.json` shows them in Grafana.

use std::{num::NonZeroU32, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    response::Response,
    routing::{any, get},
};
use futures_util::SinkExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tower::{ServiceBuilder, ServiceExt};
use tower_transport::{
    BoxError, CloseCode, CloseFrame, Error, Message, QueueConfig, ServiceBuilderExt, TransportExt,
    layer::{
        heartbeat::HeartbeatLayer,
        trace::{self, Meter, QUEUE_BYTES, QUEUE_DROPPED, QUEUE_MESSAGES, Role, SECONDS_BUCKETS, TraceLayer},
    },
    stack::OptimizedTransport,
    transport::websocket::{WebSocket, WebSocketConnector, WebSocketHandshake},
};

/// A server of `OptimizedTransport` that echoes. It needs no code for its metrics.
async fn orders(session: OptimizedTransport) {
    let (sender, mut receiver) = session.split();
    while let Some(Ok(message)) = receiver.receive().await {
        if message.is_data() && sender.send(message).await.is_err() {
            return;
        }
    }
}

/// Sends orders, and resumes the session after its connection is lost.
async fn order(address: &str) -> Result<(), BoxError> {
    let beat = Duration::from_millis(50);
    let builder = OptimizedTransport::builder().named("orders").heartbeat(HeartbeatLayer::new(beat, beat * 100));
    let transport = builder.connect(&format!("ws://{address}/orders")).await?;
    let handle = transport.handle();
    let (sender, mut receiver) = transport.split();
    for round in 0..2 {
        for id in 0..25 {
            sender.send(Message::text(format!("buy {id} of the same {}", "thing ".repeat(40)))).await?;
        }
        for _ in 0..25 {
            receiver.receive().await.ok_or("the server is gone")??;
        }
        // Two heartbeats.
        tokio::time::sleep(beat * 3).await;
        if let (0, Some(reconnect)) = (round, handle.reconnect()) {
            reconnect.reconnect_now();
        }
    }
    Ok(sender.close(CloseFrame::new(CloseCode::NORMAL, "bye")).await?)
}

/// Answers each message with its length, from a driven transport, so that there is a queue to observe.
async fn session(socket: WebSocket) -> Result<(), Error> {
    let layer = TraceLayer::server("lengths").record_sizes();
    let (sender, mut receiver) = socket.layer(layer).drive(QueueConfig::messages()).spawn();

    let (depth, bytes, dropped) = (sender.clone(), sender.clone(), sender.clone());
    let meter = Meter::new("lengths", Role::Server)
        .gauge(QUEUE_MESSAGES, move || depth.queued() as f64)
        .gauge(QUEUE_BYTES, move || bytes.queued_bytes() as f64)
        .counter(QUEUE_DROPPED, move || dropped.dropped());

    let answer = async {
        while let Some(message) = receiver.receive().await {
            if let Message::Binary(bytes) = message? {
                sender.send(Message::text(bytes.len().to_string())).await?;
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = answer => ended,
        // Never completes: the meter is dropped with the session.
        () = meter.run(Duration::from_secs(5)) => Ok(()),
    }
}

async fn lengths(handshake: WebSocketHandshake) -> Response {
    handshake.on_upgrade(|socket| async {
        if let Err(error) = session(socket).await {
            println!("a session failed: {error}");
        }
    })
}

/// Runs three clients, each with a few messages. One message in ten is traced.
async fn clients(address: &str) -> Result<(), BoxError> {
    let connector = ServiceBuilder::new()
        .per_connection(TraceLayer::client("lengths").sample_one_in(NonZeroU32::MIN.saturating_add(9)))
        .service(WebSocketConnector::new());
    for client in 1..=3 {
        let request = http::Request::get(format!("ws://{address}/lengths")).body(())?;
        let mut transport = connector.clone().oneshot(request).await?.into_body();
        for length in 1..=10 * client {
            transport.send_message(Message::binary(vec![0; length])).await?;
            let answer = transport.receive_message().await.ok_or("the server is gone")??;
            assert_eq!(answer.as_text(), Some(length.to_string().as_str()));
        }
        // The last one leaves without a close, so that there is an error to count.
        if client < 3 {
            transport.close().await?;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Buckets, for percentiles in the dashboard.
    let seconds = Matcher::Suffix("_seconds".into());
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(seconds, SECONDS_BUCKETS)?.build_recorder();
    let prometheus = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    trace::describe();

    let acceptor = OptimizedTransport::builder().named("orders").acceptor();
    let app = Router::new()
        .route_service("/orders", acceptor.upgrade(|session, _parts| orders(session)))
        .route("/lengths", any(lengths))
        .route("/metrics", get(move || async move { prometheus.render() }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });

    order(&address).await?;
    clients(&address).await?;

    let request = http::Request::get(format!("http://{address}/metrics")).body(Body::empty())?;
    let response = Client::builder(TokioExecutor::new()).build_http().request(request).await?;
    let text = to_bytes(Body::new(response.into_body()), 1024 * 1024).await?;
    let text = std::str::from_utf8(&text)?;
    println!("{text}");

    for expected in [
        r#"tower_transport_messages_total{name="lengths",role="client",network_io_direction="transmit"} 60"#,
        // 50 orders, and the close.
        r#"tower_transport_messages_total{name="orders",role="client",network_io_direction="transmit"} 51"#,
        r#"tower_transport_resumed_total{name="orders",role="client"} 1"#,
        r#"tower_transport_handshakes_total{network_protocol_name="websocket",http_response_status_code="101"} 5"#,
    ] {
        assert!(text.contains(expected), "{expected}");
    }
    Ok(())
}
