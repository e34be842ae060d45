//! A raw socket at one end, a WebSocket of ours at the other.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower::ServiceExt;
use tower_transport::{
    Error, Limits,
    transport::websocket::{WebSocket, WebSocketConnector, WebSocketService},
};

use crate::{serve::serve, wire::From};

pub(crate) const REQUEST: &str = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                           sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Which end of ours is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Server,
    Client,
}

impl Victim {
    /// Both ends of a connection whose handshake went well.
    pub(crate) async fn meet(self, limits: Limits) -> (TcpStream, WebSocket) {
        match self {
            Self::Server => {
                let (address, mut sockets) = our_server(limits).await;
                let mut attacker = TcpStream::connect(address).await.unwrap();
                attacker.write_all(REQUEST.as_bytes()).await.unwrap();
                let head = read_head(&mut attacker).await;
                assert!(head.starts_with("HTTP/1.1 101"), "{head}");
                (attacker, sockets.recv().await.unwrap())
            }
            Self::Client => {
                let (mut attacker, connecting) = called(limits).await;
                let key = key(&read_head(&mut attacker).await);
                attacker.write_all(response(&key).as_bytes()).await.unwrap();
                (attacker, connecting.await.unwrap().unwrap())
            }
        }
    }

    /// The attacker.
    pub(crate) fn attacker(self) -> From {
        match self {
            Self::Server => From::Client,
            Self::Client => From::Server,
        }
    }
}

/// Our server, which gives each WebSocket that it accepts to the test.
pub(crate) async fn our_server(limits: Limits) -> (SocketAddr, mpsc::Receiver<WebSocket>) {
    let (accepted, sockets) = mpsc::channel(1);
    let upgrade = WebSocketService::new(move |socket, _| async move { accepted.send(socket).await.unwrap() });
    (serve(upgrade.limits(limits)).await, sockets)
}

/// Our connector calls: the other end, and what comes of it.
pub(crate) async fn called(limits: Limits) -> (TcpStream, tokio::task::JoinHandle<Result<WebSocket, Error>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let request = http::Request::get(format!("ws://{}/", listener.local_addr().unwrap())).body(()).unwrap();
    let connecting = WebSocketConnector::new().limits(limits).oneshot(request);
    let connecting = tokio::spawn(async move { Ok(connecting.await?.into_body()) });
    (listener.accept().await.unwrap().0, connecting)
}

/// Reads a request or a response to the end of its head.
pub(crate) async fn read_head(tcp: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// The key of a request.
pub(crate) fn key(head: &str) -> String {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("sec-websocket-key:"));
    line.unwrap().split_once(':').unwrap().1.trim().to_owned()
}

/// The right response to a key.
pub(crate) fn response(key: &str) -> String {
    let accept = derive_accept_key(key.as_bytes());
    format!("HTTP/1.1 101 Hello\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n")
}
