//! Requests that are not handshakes, and pages that may not make one.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, body::Body, response::Response, routing::any};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_transport::{
    TransportExt,
    transport::{
        sse::SseDuplexServer,
        websocket::{WebSocketHandshake, WebSocketHandshakeRejection, WebSocketService},
    },
};

fn handshake() -> http::request::Builder {
    Request::get("/")
        .header(header::HOST, "localhost:3000")
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
}

async fn text(response: http::Response<impl http_body::Body<Data = bytes::Bytes, Error: std::fmt::Debug>>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_request_that_is_not_a_handshake_is_rejected_before_the_axum_handler_runs() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let handler = move |handshake: WebSocketHandshake| async move {
        counted.fetch_add(1, Ordering::Relaxed);
        handshake.on_upgrade(|mut socket| async move { while let Some(Ok(_)) = socket.receive_message().await {} })
    };
    let app = Router::new().route("/", any(handler));
    let ask = async |request: http::request::Builder| {
        app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    };

    let plain = ask(Request::get("/")).await;
    assert_eq!(plain.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(plain.headers()[header::UPGRADE], "websocket");
    assert!(text(plain).await.contains("WebSocket"));
    assert_eq!(ask(handshake().method("POST")).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    let without_key = Request::get("/").header("connection", "upgrade").header("upgrade", "websocket");
    assert_eq!(ask(without_key.header("sec-websocket-version", "13")).await.status(), StatusCode::BAD_REQUEST);
    // This test is a server that does not upgrade.
    assert_eq!(ask(handshake()).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(runs.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_axum_handler_may_take_the_rejection_and_serve_other_requests_as_well() {
    async fn either(handshake: Result<WebSocketHandshake, WebSocketHandshakeRejection>) -> Result<Response, String> {
        match handshake {
            Ok(handshake) => Ok(handshake.on_upgrade(|_| async {})),
            Err(rejection) => Err(format!("{} {rejection}", rejection.status())),
        }
    }
    let app = Router::new().route("/", any(either));
    let answer = app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    assert!(text(answer).await.starts_with("426 Upgrade Required"));
}

#[tokio::test]
async fn the_debug_output_of_the_extractor_has_neither_url_nor_headers() {
    async fn print(handshake: Result<WebSocketHandshake, WebSocketHandshakeRejection>) -> String {
        format!("{handshake:?}")
    }
    let address = super::serve_axum(Router::new().route("/", any(print))).await;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = b"GET /?access_token=t0ken HTTP/1.1\r\nHost: localhost\r\nCookie: session=s3cret\r\nConnection: upgrade, close\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    tcp.write_all(request).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("WebSocketHandshake"), "{answer}");
    assert!(!answer.contains("t0ken") && !answer.contains("s3cret"), "{answer}");
}

#[tokio::test]
async fn a_page_of_another_origin_is_told_which_origin_and_which_setting() {
    let page = |request: http::request::Builder| {
        request
            .header(header::ORIGIN, "http://localhost:5173")
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap()
    };
    // Below a server that upgrades, which a test by `oneshot` is not, the origin is looked at.
    let address = super::serve(WebSocketService::new(|_, _| async {})).await;
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let mut request = page(handshake());
    *request.uri_mut() = format!("http://{address}/").parse().unwrap();
    let web_socket = client.request(request).await.unwrap();
    assert_eq!(web_socket.status(), StatusCode::FORBIDDEN);
    assert_eq!(web_socket.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let web_socket = text(web_socket).await;

    let request = page(Request::get("/").header(header::HOST, "localhost:3000").header("accept", "text/event-stream"));
    let sse = SseDuplexServer::new(|_, _| async {}).oneshot(request).await.unwrap();
    assert_eq!(sse.status(), StatusCode::FORBIDDEN);
    let sse = text(sse).await;
    for said in [web_socket, sse] {
        assert!(said.contains("`http://localhost:5173`") && said.contains("`allow_origin`"), "{said}");
        assert!(said.contains("`localhost:3000`"), "{said}");
    }
}
