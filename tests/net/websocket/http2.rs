//! WebSockets within HTTP/2 connections (RFC 8441). The other end is hyper's own client or server.

use std::{convert::Infallible, future::poll_fn, net::SocketAddr, time::Duration};

use axum::{Router, routing::any};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, future::BoxFuture};
use http::{Method, Request, Response, StatusCode, Version, header, request};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http2::SendRequest, ext::Protocol, upgrade::Upgraded};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{
    echo,
    serve::{serve_axum, serve_both},
};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tower::{Layer, ServiceExt};
use tower_transport::{
    CloseCode, CloseFrame, Limits, Message, TransportExt,
    handshake::limit::ConnectionLimitLayer,
    transport::{
        Drain,
        websocket::{PerMessageDeflate, WebSocket, WebSocketHandshake, WebSocketService},
    },
};

type Sender = SendRequest<Empty<Bytes>>;
type Socket = WebSocket<TokioIo<Upgraded>>;

/// A connection of hyper's client, with a stream window of 64 KiB.
async fn connection(address: SocketAddr) -> Sender {
    let tcp = TcpStream::connect(address).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(WINDOW as u32);
    let (sender, connection) = builder.handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    sender
}

const WINDOW: usize = 64 * 1024;

fn handshake(address: SocketAddr, path: &str) -> request::Builder {
    Request::connect(format!("http://{address}{path}"))
        .version(Version::HTTP_2)
        .extension(Protocol::from_static("websocket"))
        .header(header::SEC_WEBSOCKET_VERSION, "13")
}

async fn ask(sender: &mut Sender, request: request::Builder) -> Response<Incoming> {
    sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap()
}

async fn open(sender: &mut Sender, request: request::Builder) -> (Response<()>, Socket) {
    let (parts, body) = ask(sender, request).await.into_parts();
    assert_eq!(parts.status, StatusCode::OK);
    let upgraded = hyper::upgrade::on(Response::from_parts(parts.clone(), body)).await.unwrap();
    (Response::from_parts(parts, ()), WebSocket::client(TokioIo::new(upgraded), Limits::new()))
}

async fn refusal(sender: &mut Sender, request: request::Builder) -> (StatusCode, String) {
    let response = ask(sender, request).await;
    let (parts, body) = response.into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    (parts.status, String::from_utf8(text.to_vec()).unwrap())
}

pub(super) fn echoing()
-> WebSocketService<impl FnOnce(WebSocket, request::Parts) -> BoxFuture<'static, ()> + Clone + Send + 'static> {
    WebSocketService::new(|socket, _| Box::pin(echo(socket)) as _)
}

async fn echoes(socket: &mut Socket) {
    for n in [0, 1, 126, 65_536, 1 << 20] {
        let message = Message::binary(vec![7; n]);
        let (mut sink, mut stream) = socket.split();
        let (sent, received) = tokio::join!(sink.send(message.clone()), stream.next());
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message, "{n}");
    }
}

#[tokio::test]
async fn one_service_and_one_extractor_serve_both_versions_in_hyper_and_in_axum() {
    let by_extractor = |handshake: WebSocketHandshake| async move { handshake.on_upgrade(echo) };
    let app = Router::new().route_service("/service", echoing()).route("/extractor", any(by_extractor));
    let (axum, hyper) = (serve_axum(app).await, serve_both(echoing()).await);
    for (address, path) in [(hyper, "/"), (axum, "/service"), (axum, "/extractor")] {
        let (response, mut socket) = open(&mut connection(address).await, handshake(address, path)).await;
        for name in [header::SEC_WEBSOCKET_ACCEPT, header::UPGRADE, header::CONNECTION] {
            assert!(!response.headers().contains_key(name));
        }
        echoes(&mut socket).await;
        let answer = socket.close(Some(CloseFrame::new(CloseCode::NORMAL, "bye"))).await.unwrap();
        assert_eq!(answer.unwrap().reason(), "bye");

        let connector = tower_transport::transport::websocket::WebSocketConnector::new();
        let mut socket = connector.connect(&format!("ws://{address}{path}")).await.unwrap();
        socket.send_message(Message::text("over HTTP/1.1")).await.unwrap();
        assert_eq!(socket.receive_message().await.unwrap().unwrap(), Message::text("over HTTP/1.1"));
    }
}

#[tokio::test]
async fn a_handler_learns_the_version_from_the_parts_of_its_request() {
    let address = serve_both(WebSocketService::new(|mut socket: WebSocket, parts: request::Parts| async move {
        let said = format!("{:?} {} {} {socket:?}", parts.version, parts.method, parts.uri);
        let _ = socket.send_message(Message::text(said)).await;
        assert!(socket.get_ref().tcp().is_none());
    }))
    .await;
    let (_, mut socket) = open(&mut connection(address).await, handshake(address, "/a?b")).await;
    let said = socket.receive_message().await.unwrap().unwrap();
    assert!(said.as_text().unwrap().starts_with(&format!("HTTP/2.0 CONNECT http://{address}/a?b")), "{said:?}");
}

/// Envoy makes an extended CONNECT of an upgrade and keeps its key, and the client expects the answer.
#[tokio::test]
async fn a_key_that_a_proxy_has_kept_is_answered() {
    let address = serve_both(echoing()).await;
    let request = handshake(address, "/").header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
    let (response, mut socket) = open(&mut connection(address).await, request).await;
    assert_eq!(response.headers()[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    echoes(&mut socket).await;
}

#[tokio::test]
async fn requests_that_are_not_handshakes_are_refused_with_a_status_and_a_reason() {
    let address = serve_both(echoing()).await;
    let mut sender = connection(address).await;
    let uri = format!("http://{address}/");
    let http2 = |builder: request::Builder| builder.version(Version::HTTP_2).uri(&uri);
    let with = |name, value: &'static str| handshake(address, "/").header(name, value);
    for (request, status, says) in [
        (http2(Request::get("/")), 400, "8441"),
        (http2(Request::post("/")), 405, "CONNECT"),
        (http2(Request::connect("/").extension(Protocol::from_static("connect-udp"))), 501, "websocket"),
        (http2(Request::connect("/").extension(Protocol::from_static("websocket"))), 400, "version 13"),
        (with(header::SEC_WEBSOCKET_VERSION, "13"), 400, "version 13"),
        (with(header::SEC_WEBSOCKET_PROTOCOL, "caf\u{e9}"), 400, "ASCII"),
        (with(header::HOST, "a.example").header(header::HOST, "b.example"), 400, "one Host"),
        (with(header::ORIGIN, "https://evil.example"), 403, "allow_origin"),
        // The scheme is the request's, so a page over http:// has another origin.
        (
            handshake(address, "/").uri(format!("https://{address}/")).header(header::ORIGIN, &uri[..uri.len() - 1]),
            403,
            "allow_origin",
        ),
    ] {
        let (refused, said) = refusal(&mut sender, request).await;
        assert_eq!((refused.as_u16(), said.contains(says)), (status, true), "{said}");
    }
    // The connection is as it was.
    let own = format!("http://{address}");
    echoes(&mut open(&mut sender, handshake(address, "/").header(header::ORIGIN, own)).await.1).await;
}

#[tokio::test]
async fn the_subprotocol_and_the_compression_are_negotiated_as_over_http_1() {
    let service = echoing().subprotocol("v2").unwrap().subprotocol("v1").unwrap();
    let address = serve_both(service.per_message_deflate(PerMessageDeflate::new())).await;
    let request = handshake(address, "/")
        .header(header::SEC_WEBSOCKET_PROTOCOL, "v1, v2")
        .header(header::SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate; client_max_window_bits");
    let (response, _) = open(&mut connection(address).await, request).await;
    assert_eq!(response.headers()[header::SEC_WEBSOCKET_PROTOCOL], "v2");
    let extensions = response.headers()[header::SEC_WEBSOCKET_EXTENSIONS].to_str().unwrap();
    assert!(extensions.starts_with("permessage-deflate"), "{extensions}");
}

#[tokio::test]
async fn the_connection_limit_counts_each_websocket_of_a_connection() {
    let limit = ConnectionLimitLayer::new(2);
    let address = serve_both(limit.layer(echoing())).await;
    let mut sender = connection(address).await;
    let (_, first) = open(&mut sender, handshake(address, "/")).await;
    let (_, mut second) = open(&mut sender, handshake(address, "/")).await;
    assert_eq!(refusal(&mut sender, handshake(address, "/")).await.0, StatusCode::SERVICE_UNAVAILABLE);
    drop(first);
    while limit.connections() > 1 {
        tokio::task::yield_now().await;
    }
    echoes(&mut open(&mut sender, handshake(address, "/")).await.1).await;
    echoes(&mut second).await;
}

#[tokio::test]
async fn a_drain_closes_the_websockets_and_refuses_new_ones() {
    let drain = Drain::new();
    let address = serve_both(echoing().drain(&drain)).await;
    let mut sender = connection(address).await;
    let (_, mut socket) = open(&mut sender, handshake(address, "/")).await;
    echoes(&mut socket).await;
    let time = Duration::from_secs(10);
    let closing = tokio::spawn(async move { drain.close(CloseFrame::new(CloseCode::RESTART, "new"), time).await });
    let Some(Ok(Message::Close(Some(frame)))) = socket.receive_message().await else { panic!("no close frame") };
    assert_eq!(frame.code(), CloseCode::RESTART);
    assert!(socket.receive_message().await.is_none());
    assert_eq!(closing.await.unwrap().cut, 0);
    assert_eq!(refusal(&mut sender, handshake(address, "/")).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

/// The bytes that a server's sink accepts while its peer reads nothing.
async fn accepted_until_pending(mut socket: WebSocket, size: usize) -> usize {
    let mut accepted = 0;
    let message = Message::binary(vec![7; size]);
    // Other tasks fill the window, so the sink is full only once it is not ready for a while.
    while let Ok(room) = timeout(Duration::from_millis(500), poll_fn(|cx| socket.poll_ready_unpin(cx))).await {
        room.unwrap();
        socket.start_send_unpin(message.clone()).unwrap();
        accepted += size;
        assert!(accepted < 64 << 20, "nothing stops the sink");
    }
    accepted
}

/// hyper 1.8 to 1.10 take every write at once, and hold it without a bound.
#[tokio::test]
async fn the_sink_waits_for_a_peer_that_does_not_read() {
    for size in [1000, 100_000] {
        let (report, mut reported) = mpsc::unbounded_channel();
        let address = serve_both(WebSocketService::new(move |socket: WebSocket, _| async move {
            let _ = report.send(accepted_until_pending(socket, size).await);
        }))
        .await;
        let (_, _unread) = open(&mut connection(address).await, handshake(address, "/")).await;
        let accepted = reported.recv().await.unwrap();
        // The bytes that the peer permits, the pieces that hyper holds, and this crate's buffer with the message that crossed it.
        let bound = WINDOW + 5 * 16 * 1024 + Limits::new().write_buffer + size + 1000;
        println!("messages of {size}: accepted {accepted} bytes of at most {bound}");
        assert!(accepted <= bound, "{accepted} > {bound}");
    }
}

#[tokio::test]
async fn a_peer_that_resets_its_stream_has_left() {
    let (report, mut reported) = mpsc::unbounded_channel();
    let address = serve_both(WebSocketService::new(move |mut socket: WebSocket, _| async move {
        let read = socket.receive_message().await;
        let sent = loop {
            if let Err(error) = socket.send_message(Message::text("more")).await {
                break error;
            }
            tokio::task::yield_now().await;
        };
        let _ = report.send((read, sent));
    }))
    .await;
    let (_, socket) = open(&mut connection(address).await, handshake(address, "/")).await;
    drop(socket);
    let (read, sent) = reported.recv().await.unwrap();
    assert!(read.unwrap().unwrap_err().is_closed());
    assert!(sent.is_closed(), "{sent:?}");
}

#[tokio::test]
async fn a_server_that_does_not_upgrade_says_what_is_missing() {
    let request = handshake(([127, 0, 0, 1], 80).into(), "/").body(()).unwrap();
    let response = echoing().oneshot(request).await.unwrap_or_else(|error: Infallible| match error {});
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let mut http1 = Request::new(());
    *http1.method_mut() = Method::CONNECT;
    assert_eq!(echoing().oneshot(http1).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}
