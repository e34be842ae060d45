//! The log of refused handshakes and closed connections, as an operator sees it.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use support::log::logged as logged_at;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::{Layer, ServiceExt};
use tower_transport::{
    Limits, Message, TransportExt,
    handshake::{auth::AuthGuardLayer, limit::ConnectionLimitLayer},
    layer::{auth::StaticTokens, limit::LimitLayer},
    transport::{
        sse::SseDuplexServer,
        websocket::{WebSocket, WebSocketConnector, WebSocketService},
        webtransport::{Certificate, WebTransportConnector, WebTransportServer},
    },
};

use crate::serve::serve_http;

/// Returns what is logged at TRACE while `run` runs.
async fn logged(run: impl Future<Output = ()>) -> String {
    logged_at(tracing::Level::TRACE, run).await
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

fn upgrade() -> WebSocketService<impl FnOnce(WebSocket, http::request::Parts) -> std::future::Ready<()> + Clone> {
    WebSocketService::new(|_, _| std::future::ready(()))
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
    assert!(log.contains("INFO") && log.contains("refused a handshake"), "{log}");
    for field in [
        "http.response.status_code=426",
        "network.protocol.name=\"websocket\"",
        "network.peer.address=192.0.2.7 network.peer.port=4711",
        "url.path=/ws",
        "reason=",
    ] {
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
    assert!(log.contains("INFO") && log.contains("http.response.status_code=403"), "{log}");
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
    assert_eq!(log.matches("http.response.status_code=401").count(), 2, "{log}");
    assert!(log.contains("INFO") && log.contains("no credentials") && log.contains("the verifier says"), "{log}");
    assert!(log.contains("network.peer.address=192.0.2.7 network.peer.port=4711") && !log.contains("s3cret"), "{log}");
}

#[tokio::test]
async fn a_limit_that_is_reached_is_logged_as_a_warning_with_its_setting() {
    let limit = ConnectionLimitLayer::new(0);
    let log = logged(async {
        let answer = limit.layer(upgrade()).oneshot(request(handshake())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    })
    .await;
    assert!(
        log.contains("WARN")
            && log.contains("http.response.status_code=503")
            && log.contains("ConnectionLimitLayer::new"),
        "{log}"
    );
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
    assert!(log.contains("INFO") && log.contains("code=1009") && log.contains("limit of 100 bytes"), "{log}");
}

/// Starts a server as a user writes it: a guard in front of a WebSocket endpoint, and the client's address in the
/// request.
async fn server() -> SocketAddr {
    let guard = AuthGuardLayer::new(StaticTokens::new().token("right", "ada")).query("access_token");
    let upgrade =
        WebSocketService::new(|mut socket: WebSocket, _| async move { while let Some(Ok(_)) = socket.next().await {} });
    let app = tower::ServiceBuilder::new()
        .map_request(|mut request: Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(SocketAddr::from(([192, 0, 2, 7], 4711)));
            request
        })
        .layer(guard)
        .service(upgrade.limits(Limits::new().message(100)));
    serve_http(app).await
}

/// Sends one request for each kind of refusal, and one message that is too large.
async fn be_refused(address: SocketAddr) {
    let connect = async |query: &str, origin: Option<&'static str>| {
        let mut request = Request::get(format!("ws://{address}/ws{query}"));
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        WebSocketConnector::new().oneshot(request.body(()).unwrap()).await
    };
    let status = |result: Result<http::Response<_>, tower_transport::Error>| {
        result.map(|_: http::Response<WebSocket>| ()).unwrap_err().status()
    };
    assert_eq!(status(connect("?access_token=wrong", None).await), Some(StatusCode::UNAUTHORIZED));
    let page = Some("http://localhost:5173");
    assert_eq!(status(connect("?access_token=right", page).await), Some(StatusCode::FORBIDDEN));

    let mut plain = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /ws?access_token=right HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    plain.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");

    let mut socket = connect("?access_token=right", None).await.unwrap().into_body();
    socket.send(Message::binary(vec![0; 101])).await.unwrap();
    while socket.receive_message().await.is_some() {}
}

#[tokio::test]
async fn an_operator_sees_each_refusal_at_the_default_level_with_its_cause_and_setting() {
    let address = server().await;
    // `tracing_subscriber::fmt()` logs INFO and above by default.
    for level in [tracing::Level::INFO, tracing::Level::TRACE] {
        let log = logged_at(level, be_refused(address)).await;
        let lines: Vec<_> = log.lines().collect();
        let line = |mark: &str| {
            let found: Vec<_> = lines.iter().filter(|line| line.contains(mark)).collect();
            assert_eq!(found.len(), 1, "{mark}: {log}");
            *found[0]
        };
        let (handshake, transport) = ("tower_transport::handshake: ", "tower_transport::transport: ");
        for (mark, target, words) in [
            ("http.response.status_code=401", handshake, ["the verifier says", "path=/ws"]),
            ("http.response.status_code=403", handshake, ["`http://localhost:5173`", "`allow_origin`"]),
            ("http.response.status_code=426", handshake, ["ask for an upgrade", "a proxy must forward"]),
            ("code=1009", transport, ["message of 101 bytes is over the limit of 100 bytes", "`Limits::message`"]),
        ] {
            let line = line(mark);
            assert!(line.contains(target), "{target}: {line}");
            for word in words.into_iter().chain(["network.peer.address=192.0.2.7 network.peer.port=4711"]) {
                assert!(line.contains(word), "{word}: {line}");
            }
        }
        assert!(lines.iter().all(|line| line.contains(handshake) || line.contains(transport)), "{log}");
        assert!(!log.contains("=right") && !log.contains("=wrong"), "{log}");
    }
}

#[tokio::test]
async fn a_layer_that_closes_for_a_message_or_a_rate_is_logged_with_its_limit_and_setting() {
    let log = logged_at(tracing::Level::INFO, async {
        let (near, mut far) = tower_transport::channel::<Message, Message>(8);
        let mut near = near.layer(LimitLayer::new().max_message(100));
        far.send(Message::binary(vec![0; 101])).await.unwrap();
        assert!(near.next().await.unwrap().unwrap_err().is_too_large());
    })
    .await;
    assert_eq!(log.lines().count(), 1, "{log}");
    for word in ["tower_transport::layer: ", "code=1009", "101 bytes", "limit of 100", "LimitLayer::max_incoming"] {
        assert!(log.contains(word), "{word}: {log}");
    }
}

#[tokio::test]
async fn a_client_of_webtransport_that_opens_no_stream_is_logged_with_the_limit() {
    let certificate = Certificate::development(&[]).unwrap();
    let connector = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
    let server = WebTransportServer::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
    let mut server = server.limits(Limits::new().handshake(Duration::from_millis(200)));
    let request = Request::get(format!("https://{}/", server.local_addr().unwrap())).body(()).unwrap();
    let log = logged(async {
        let serve = server.serve(|_, _| async {});
        let connect = async {
            let session = connector.connect_session(request).await.unwrap().into_body();
            session.closed().await
        };
        tokio::select! {
            () = serve => {}
            error = connect => assert_eq!(error.close_frame().unwrap().code().get(), 1002),
        }
    })
    .await;
    assert!(log.contains("opened no stream") && log.contains("Limits::handshake"), "{log}");
}
