//! A slow line over real sockets: a heartbeat does not take it for a dead peer.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::any};
use futures_util::StreamExt;
use support::proxy::slow_line;
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use tower_transport::{
    Message, QueueConfig, Receiver, TransportExt,
    layer::heartbeat::HeartbeatLayer,
    transport::websocket::{WebSocket, WebSocketConnector, WebSocketHandshake, WebSocketService},
};

use crate::serve::serve;

/// Takes the line four seconds: as many times the heartbeat's interval and timeout as 3.5 MB take at 34 KB a second
/// with the defaults.
const LARGE: usize = 2_000_000;
const RATE: usize = 500_000;

fn heartbeat() -> HeartbeatLayer {
    HeartbeatLayer::new(Duration::from_millis(800), Duration::from_millis(800))
}

fn large() -> Message {
    Message::binary(vec![7; LARGE])
}

fn queue() -> QueueConfig<Message, Message> {
    QueueConfig::messages().max_bytes((8 << 20).try_into().unwrap())
}

/// Receives the large message, however many pings come before it.
async fn receive(receiver: &mut Receiver<Message>) {
    loop {
        let message = receiver.receive().await.expect("the connection goes on").unwrap();
        if message.is_data() {
            assert_eq!(message.len(), LARGE);
            return;
        }
    }
}

async fn connect(server: SocketAddr) -> WebSocket {
    let address = slow_line(server, RATE).await;
    let request = http::Request::get(format!("ws://{address}/")).body(()).unwrap();
    WebSocketConnector::new().oneshot(request).await.unwrap().into_body()
}

/// Sends a large message as soon as the peer has sent one.
async fn answer(socket: WebSocket, has_heartbeat: bool) {
    let (sender, mut receiver) = match has_heartbeat {
        true => heartbeat().layer(socket).drive(queue()).spawn(),
        false => socket.drive(queue()).spawn(),
    };
    receive(&mut receiver).await;
    sender.send(large()).await.unwrap();
    while receiver.receive().await.is_some_and(|message| message.is_ok()) {}
}

async fn exchange(server: SocketAddr, has_heartbeat: bool) {
    let socket = connect(server).await;
    let (sender, mut receiver) = match has_heartbeat {
        true => heartbeat().layer(socket).drive(queue()).spawn(),
        false => socket.drive(queue()).spawn(),
    };
    sender.send(large()).await.unwrap();
    receive(&mut receiver).await;
}

#[tokio::test]
async fn a_peer_without_pings_of_its_own_is_not_cut_while_a_large_message_crosses_a_slow_line() {
    for (client, server) in [(true, false), (false, true)] {
        let server = serve(WebSocketService::new(move |socket, _| answer(socket, server))).await;
        exchange(server, client).await;
    }
}

#[tokio::test]
async fn two_ends_with_heartbeats_exchange_large_messages_over_a_slow_line() {
    let server = serve(WebSocketService::new(|socket, _| answer(socket, true))).await;
    exchange(server, true).await;
}

/// The servers of axum and hyper-util put their own wrapper around the stream.
#[tokio::test]
async fn a_socket_that_axum_accepted_is_the_tcp_stream_itself() {
    let (told, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let app = Router::new().route(
        "/",
        any(|handshake: WebSocketHandshake| async move {
            handshake.on_upgrade(move |mut socket| async move {
                let _ = told.send(socket.get_ref().tcp().is_some());
                while socket.next().await.is_some() {}
            })
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let request = http::Request::get(format!("ws://{address}/")).body(()).unwrap();
    let mut client = WebSocketConnector::new().oneshot(request).await.unwrap().into_body();
    assert!(seen.recv().await.unwrap());
    client.close(None).await.unwrap();
}
