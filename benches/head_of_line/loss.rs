//! Eight flows, 2 % of all packets lost each way: one WebSocket, and eight streams of one WebTransport session.

use std::{sync::Arc, time::Instant};

use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::TcpListener;
use tower::ServiceExt;
use tower_transport::{
    Error, TransportExt,
    transport::websocket::{WebSocket, WebSocketConnector, WebSocketService},
};

use crate::{
    flows::{FLOWS, PACE, SIZE, receive, send},
    goal::goal,
    on_one_thread,
    plan::Plan,
    session,
    statistics::percentile,
};

pub(crate) fn measure(plan: &Plan) {
    let (rounds, messages) = (plan.rounds.div_ceil(2), plan.count(1_000));
    let (websocket, webtransport) = on_one_thread(async move {
        let (mut websocket, mut webtransport) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            websocket.extend(over_websocket(messages).await);
            webtransport.extend(over_webtransport(messages).await);
        }
        (websocket, webtransport)
    });
    println!(
        "\nloss: {FLOWS} flows, each {messages} messages of {SIZE} B in {rounds} rounds, one in {PACE:?}, echoed; 2 % of packets lost each way; ms"
    );
    println!("  {:<28} {:>8} {:>8} {:>8} {:>8} {:>14}", "", "p50", "p90", "p99", "max", "over 20 ms");
    let row = |name: &str, millis: &[f64]| {
        let at = |share| percentile(millis.to_vec(), share);
        let late = millis.iter().filter(|latency| **latency > 20.0).count() as f64 / millis.len() as f64;
        println!(
            "  {name:<28} {:>8.2} {:>8.2} {:>8.1} {:>8.1} {:>12.2} %",
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0),
            late * 100.0
        );
        at(0.99)
    };
    let shared = row("one WebSocket", &websocket);
    let apart = row("8 streams of one session", &webtransport);
    goal("head_of_line/loss-p99-to-websocket", apart / shared, 1.0);
}

async fn over_webtransport(messages: usize) -> Vec<f64> {
    let session = session::connect().await;
    let streams = session.create_multiplexed_streams(FLOWS).await.expect("streams");
    let start = Instant::now();
    let flows = streams.into_iter().enumerate().map(async |(flow, stream)| {
        let (sink, stream) = stream.into_split();
        tokio::select! {
            () = send(sink, Arc::new([flow]), messages, start) => unreachable!("it stays open"),
            millis = receive(stream, messages, start) => millis,
        }
    });
    futures_util::future::join_all(flows).await.concat()
}

async fn over_websocket(messages: usize) -> Vec<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let uri = format!("ws://{}/", listener.local_addr().expect("a bound port"));
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("a client");
        tcp.set_nodelay(true).expect("an open socket");
        let service = TowerToHyperService::new(WebSocketService::new(async |socket, _| drop(echo(socket).await)));
        let http = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
        let _ = http.with_upgrades().await;
    });
    let request = http::Request::get(uri).body(()).expect("a good URL");
    let socket = WebSocketConnector::new().oneshot(request).await.expect("a WebSocket").into_body();
    let (sink, stream) = socket.into_split();
    let start = Instant::now();
    let flows = (0..FLOWS).collect();
    tokio::select! {
        () = send(sink, flows, messages, start) => unreachable!("it stays open"),
        millis = receive(stream, messages * FLOWS, start) => millis,
    }
}

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.receive_message().await.transpose()? {
        if message.is_data() {
            socket.send_message(message).await?;
        }
    }
    Ok(())
}
