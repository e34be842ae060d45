//! Opening a session: subprotocols, layers of others on both ends, and servers that do not open one.

use std::{net::SocketAddr, time::Duration};

use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_http::auth::AddAuthorizationLayer;
use tower_transport::{
    CloseCode, Error, Limits, Message, TransportExt,
    handshake::auth::AuthGuardLayer,
    layer::auth::StaticTokens,
    transport::sse::{SseDuplex, SseDuplexConnector, SseDuplexServer},
};

use super::{connect, raw::read_until, serve, within};

/// A handler that says what was agreed on, and what it was asked with; then echoes.
async fn tell(mut session: SseDuplex, parts: http::request::Parts) {
    let told = format!("{:?} {} {:?}", session.subprotocol(), parts.uri, parts.headers.get("x-request-id"));
    let _ = session.send_message(Message::text(told)).await;
    while let Some(Ok(message)) = session.receive_message().await {
        if message.is_data() && session.send_message(message).await.is_err() {
            return;
        }
    }
}

async fn open(connector: SseDuplexConnector, address: SocketAddr) -> Result<SseDuplex, Error> {
    let request = http::Request::get(format!("http://{address}/events?x=1")).header("x-request-id", "7");
    Ok(within(connector.oneshot(request.body(()).unwrap())).await?.into_body())
}

#[tokio::test]
async fn the_two_ends_agree_on_a_subprotocol_and_the_handler_gets_the_request() {
    let server = SseDuplexServer::new(tell).subprotocol("v2").unwrap().subprotocol("v1").unwrap();
    let address = serve(server).await;
    for (offered, chosen) in [(&["v1", "v2"][..], Some("v2")), (&["v1"], Some("v1")), (&["v0"], None), (&[], None)] {
        let mut connector = SseDuplexConnector::new();
        for name in offered {
            connector = connector.subprotocol(name).unwrap();
        }
        let mut client = open(connector, address).await.unwrap();
        assert_eq!(client.subprotocol(), chosen);
        let told = format!("{chosen:?} /events?x=1 Some(\"7\")");
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text(told));
    }
    assert!(SseDuplexConnector::new().subprotocol("not a token").unwrap_err().is_config());
}

#[tokio::test]
async fn layers_for_http_fit_both_ends_and_hold_for_each_post() {
    let guard = AuthGuardLayer::new(StaticTokens::new().token("secret", "ada"));
    let address = serve(guard.layer(SseDuplexServer::new(tell))).await;
    let error = open(SseDuplexConnector::new(), address).await.unwrap_err();
    assert!(error.is_auth() && error.status().unwrap() == 401, "{error:?}");
    let connector = ServiceBuilder::new()
        .layer(tower::timeout::TimeoutLayer::new(Duration::from_secs(10)))
        .layer(AddAuthorizationLayer::bearer("secret"))
        .service(SseDuplexConnector::new());
    let request = http::Request::get(format!("http://{address}/")).body(()).unwrap();
    let mut client = connector.oneshot(request).await.unwrap().into_body();
    client.next().await.unwrap().unwrap();
    client.send_message(Message::text("with a token on the POST, too")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("with a token on the POST, too"));
}

#[tokio::test]
async fn nothing_that_can_be_printed_has_the_token() {
    let (address, mut sessions) = super::sessions(Limits::default()).await;
    let client = connect(SseDuplexConnector::new(), address).await;
    let server = sessions.recv().await.unwrap();
    assert_eq!(format!("{client:?}"), "SseDuplex { end: \"client\", phase: Open, .. }");
    assert_eq!(format!("{server:?}"), "SseDuplex { end: \"server\", phase: Open, .. }");
}

/// A server that gives every connection the same answer.
async fn answering(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = tcp.read(&mut request).await;
                let _ = tcp.write_all(answer.as_bytes()).await;
                let _ = tcp.shutdown().await;
                let _ = tcp.read(&mut request).await;
            });
        }
    });
    address
}

async fn refused(answer: &'static str) -> Error {
    open(SseDuplexConnector::new(), answering(answer).await).await.unwrap_err()
}

#[tokio::test]
async fn an_answer_that_opens_no_session_is_an_error_that_says_what_it_was() {
    let error = refused("HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nbusy").await;
    assert_eq!(
        (error.status().unwrap(), error.retry_after()),
        (http::StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(7)))
    );
    assert_eq!(error.response_body().unwrap(), "busy");
    assert!(refused("HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n").await.is_auth());
    let error =
        refused("HTTP/1.1 307 There\r\nlocation: https://evil.example/?token=secret\r\ncontent-length: 0\r\n\r\n")
            .await;
    assert!(error.is_config() && error.to_string().contains("https://evil.example"), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    assert!(refused("HTTP/1.1 204 Nothing\r\n\r\n").await.is_status());
    let error = refused("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi").await;
    assert!(error.is_protocol() && error.to_string().contains("text/event-stream"), "{error}");
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_a_token_is_refused() {
    macro_rules! stream {
        ($events:literal) => {
            refused(concat!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n", $events)).await
        };
    }
    assert!(stream!("data: hello\n\n").is_protocol());
    assert!(stream!("event: session\ndata: short\n\n").is_protocol());
    assert!(stream!("event: session\ndata: a token with a space in it\n\n").is_protocol());
    assert!(stream!("event: session\ndata: 0123456789abcdef\ndata: x\n\n").is_protocol());
    assert!(stream!(": nothing\n\n").is_closed());
    assert!(stream!("").is_closed());
}

#[tokio::test]
async fn a_subprotocol_that_was_not_offered_is_refused() {
    let error = refused(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nsec-websocket-protocol: v9\r\n\r\nevent: session\ndata: 0123456789abcdef\n\n",
    )
    .await;
    assert!(error.is_protocol() && error.to_string().contains("v9"), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_after_the_limit() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connector = SseDuplexConnector::new().limits(Limits::new().handshake(Duration::from_millis(50)));
    let error = open(connector, address.local_addr().unwrap()).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("50ms"), "{error}");
}

#[tokio::test]
async fn a_message_over_the_servers_limit_closes_the_session_with_1009() {
    let server = SseDuplexServer::new(|mut session: SseDuplex, _| async move {
        let error = session.next().await.unwrap().unwrap_err();
        assert!(error.is_too_large(), "{error:?}");
        assert!(session.next().await.is_none());
    });
    let address = serve(server.limits(Limits::new().message(1000))).await;
    let mut client = open(SseDuplexConnector::new(), address).await.unwrap();
    let sent = within(client.send_message(Message::binary(vec![0; 1001]))).await;
    let error = sent.unwrap_err();
    assert!(error.is_too_large() && error.status().unwrap() == 413, "{error:?}");
    let Message::Close(Some(frame)) = within(client.next()).await.unwrap().unwrap() else { panic!("a close") };
    assert_eq!(frame.code(), CloseCode::TOO_BIG);
    assert!(within(client.next()).await.is_none());
}

#[tokio::test]
async fn an_event_over_the_clients_limit_closes_the_session_with_1009() {
    let (told, mut tells) = tokio::sync::mpsc::channel(1);
    let server = SseDuplexServer::new(move |mut session: SseDuplex, _| async move {
        session.send_message(Message::text("x".repeat(1001))).await.unwrap();
        while session.next().await.is_some() {}
        told.send(session.close_frame().cloned()).await.unwrap();
    });
    let address = serve(server).await;
    let mut client = open(SseDuplexConnector::new().limits(Limits::new().message(1000)), address).await.unwrap();
    let error = within(client.next()).await.unwrap().unwrap_err();
    assert!(error.is_too_large() && error.to_string().contains("1000"), "{error:?}");
    assert!(client.next().await.is_none());
    assert_eq!(within(tells.recv()).await.unwrap().unwrap().code(), CloseCode::TOO_BIG);
}

#[tokio::test]
async fn what_concerns_a_connection_or_a_body_is_not_the_users() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let head = read_until(&mut tcp, "\r\n\r\n").await;
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\r\n";
        tcp.write_all(answer.as_bytes()).await.unwrap();
        head.to_ascii_lowercase()
    });
    let request = http::Request::get(format!("http://{address}/"))
        .header("content-length", "5")
        .header("transfer-encoding", "chunked")
        .header("connection", "upgrade")
        .header("upgrade", "h2c")
        .header("accept-encoding", "gzip")
        .header("authorization", "Bearer x")
        .body(());
    let error = within(SseDuplexConnector::new().oneshot(request.unwrap())).await.unwrap_err();
    assert!(error.is_protocol() && error.to_string().contains("`gzip`"), "{error:?}");
    let head = server.await.unwrap();
    for own in ["content-length", "transfer-encoding", "connection", "upgrade", "gzip"] {
        assert!(!head.contains(own), "{own}: {head}");
    }
    assert!(head.contains("authorization: bearer x") && head.contains("accept-encoding: identity"), "{head}");
}
