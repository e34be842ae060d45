//! What an operator is told of handshakes that are refused and connections that are closed.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use tower::{Layer, ServiceExt};
use tower_transport::{
    Limits, Message, TransportExt,
    handshake::{auth::AuthGuardLayer, limit::ConnectionLimitLayer},
    layer::auth::StaticTokens,
    transport::{
        sse::SseDuplexServer,
        websocket::{WebSocket, WebSocketUpgrade},
    },
};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// With one subscriber alone, what another thread calls first stays off for all: see `tests/it/layer/trace.rs`.
static ANOTHER: LazyLock<tracing::Dispatch> =
    LazyLock::new(|| tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default()));

/// What is logged at TRACE while `run` runs.
async fn logged(run: impl Future<Output = ()>) -> String {
    LazyLock::force(&ANOTHER);
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .without_time()
        .with_writer(log.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    run.await;
    drop(guard);
    let bytes = log.0.lock().unwrap().clone();
    let all = String::from_utf8(bytes).unwrap();
    // Not what others log.
    all.lines().filter(|line| line.contains("tower_transport")).map(|line| format!("{line}\n")).collect()
}

fn handshake() -> http::request::Builder {
    Request::get("/ws?access_token=s3cret")
        .header(header::HOST, "localhost:3000")
        .header(header::COOKIE, "session=s3cret")
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
        .extension(SocketAddr::from(([192, 0, 2, 7], 4711)))
}

fn request(builder: http::request::Builder) -> Request<Empty<Bytes>> {
    builder.body(Empty::new()).unwrap()
}

fn upgrade() -> WebSocketUpgrade<impl FnOnce(WebSocket, http::request::Parts) -> std::future::Ready<()> + Clone> {
    WebSocketUpgrade::new(|_, _| std::future::ready(()))
}

#[tokio::test]
async fn a_request_that_is_not_a_handshake_is_logged_with_status_reason_peer_and_path_and_no_secret() {
    let log = logged(async {
        let plain = Request::get("/ws?access_token=s3cret").header(header::COOKIE, "session=s3cret");
        let plain = plain.extension(SocketAddr::from(([192, 0, 2, 7], 4711)));
        let answer = upgrade().oneshot(request(plain)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
    })
    .await;
    assert!(log.contains("DEBUG") && log.contains("refused a handshake"), "{log}");
    for field in ["status=426", "transport=\"websocket\"", "peer=192.0.2.7:4711", "path=/ws", "reason="] {
        assert!(log.contains(field), "{field}: {log}");
    }
    assert!(!log.contains("s3cret"), "{log}");
}

#[tokio::test]
async fn a_page_of_another_origin_is_logged_with_its_origin_and_the_setting() {
    let log = logged(async {
        let page = Request::get("/sse?access_token=s3cret")
            .header(header::HOST, "localhost:3000")
            .header(header::ACCEPT, "text/event-stream")
            .header(header::ORIGIN, "http://localhost:5173");
        let answer = SseDuplexServer::new(|_, _| async {}).oneshot(request(page)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    })
    .await;
    assert!(log.contains("INFO") && log.contains("status=403"), "{log}");
    assert!(log.contains("origin=http://localhost:5173") && log.contains("allow_origin"), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}

#[tokio::test]
async fn a_client_that_is_not_let_in_is_logged_with_what_is_wrong_and_without_its_token() {
    let guard = AuthGuardLayer::new(StaticTokens::new().token("right", "ada")).query("access_token");
    let log = logged(async {
        let without = Request::get("/ws");
        let answer = guard.layer(upgrade()).oneshot(request(without)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let answer = guard.layer(upgrade()).oneshot(request(handshake())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    })
    .await;
    assert_eq!(log.matches("status=401").count(), 2, "{log}");
    assert!(log.contains("INFO") && log.contains("no credentials") && log.contains("the verifier says"), "{log}");
    assert!(log.contains("peer=192.0.2.7:4711") && !log.contains("s3cret"), "{log}");
}

#[tokio::test]
async fn a_limit_that_is_reached_is_logged_as_a_warning_with_its_setting() {
    let limit = ConnectionLimitLayer::new(0);
    let log = logged(async {
        let answer = limit.layer(upgrade()).oneshot(request(handshake())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    })
    .await;
    assert!(log.contains("WARN") && log.contains("status=503") && log.contains("ConnectionLimitLayer::new"), "{log}");
}

#[tokio::test]
async fn a_connection_that_is_closed_for_what_came_in_is_logged_with_its_code_and_the_limit() {
    let log = logged(async {
        let (near, far) = tokio::io::duplex(4096);
        let mut client = WebSocket::client(near, Limits::default());
        let mut server = WebSocket::server(far, Limits::new().message(100));
        client.send(Message::binary(vec![0; 101])).await.unwrap();
        let (error, ()) = tokio::join!(server.next(), async { while client.receive_message().await.is_some() {} });
        assert!(error.unwrap().unwrap_err().is_too_large());
    })
    .await;
    assert!(log.contains("DEBUG") && log.contains("code=1009") && log.contains("limit of 100 bytes"), "{log}");
}
