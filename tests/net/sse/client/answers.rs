//! Answers that are not an event stream.

use std::time::Duration;

use http::StatusCode;
use tower::ServiceExt;
use tower_transport::{
    Error, Limits,
    layer::reconnect::{Class, classify},
    transport::sse::SseConnector,
};

use super::scripted::{STREAM, Scripted, get, open};

async fn failure(answer: &str) -> Error {
    let server = Scripted::new([answer.to_owned()]).await;
    open(&SseConnector::new(), &server.url()).await.unwrap_err()
}

#[tokio::test]
async fn the_request_says_what_it_is_and_what_the_user_wants_said() {
    let server = Scripted::new([STREAM]).await;
    let mut request = get(&server.url());
    request.headers_mut().insert("cookie", "a=b".parse().unwrap());
    request.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
    let _ = SseConnector::new().subprotocol("v1").unwrap().oneshot(request).await.unwrap();
    let head = &server.requests()[0];
    assert!(head.starts_with("get /feed?a=b http/1.1\r\n"), "{head}");
    for line in [
        "accept: text/event-stream",
        "accept-encoding: identity",
        "cache-control: no-store",
        "cookie: a=b",
        &format!("host: {}", server.address),
        "sec-websocket-protocol: v1",
    ] {
        assert!(head.lines().any(|found| found == line), "{line} in {head}");
    }
    assert!(!head.contains("last-event-id"), "not yet: {head}");
}

#[tokio::test]
async fn another_content_type_is_named_and_final() {
    let error = failure("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 0\r\n\r\n").await;
    assert!(error.is_protocol() && error.to_string().contains("`text/html`"), "{error}");
    assert_eq!(classify(&error), Class::Final);
    let encoded = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\r\n";
    assert!(failure(encoded).await.to_string().contains("`gzip`"));
}

#[tokio::test]
async fn the_status_says_whether_to_come_back() {
    for (status, class) in [
        (204, Class::Final),
        (206, Class::Final),
        (304, Class::Final),
        (404, Class::Final),
        (429, Class::Retry),
        (500, Class::Retry),
        (503, Class::Retry),
    ] {
        let error = failure(&format!("HTTP/1.1 {status} x\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!(error.status(), StatusCode::from_u16(status).ok());
        assert!(error.is_status(), "{status}: {error:?}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(classify(&error), class, "{status}");
    }
}

#[tokio::test]
async fn missing_credentials_are_an_auth_error_with_what_the_server_says() {
    for status in [401, 403, 407] {
        let error = failure(&format!("HTTP/1.1 {status} x\r\ncontent-length: 3\r\n\r\nwho")).await;
        assert!(error.is_auth(), "{status}: {error:?}");
        assert_eq!(error.response_body().unwrap(), "who");
        assert_eq!(classify(&error), Class::Final);
    }
}

#[tokio::test]
async fn what_is_not_http_or_no_answer_is_told_apart() {
    assert!(failure("data: a\n\n").await.is_protocol());
    assert!(failure("").await.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_keeps_silent_is_a_timeout_that_names_the_limit() {
    let server = Scripted::holding(["HTTP/1.1 200 OK\r\n"], true).await;
    let start = tokio::time::Instant::now();
    let connector = SseConnector::new().limits(Limits::new().handshake(Duration::from_secs(7)));
    let error = open(&connector, &server.url()).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("7s (Limits::handshake)"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 7, "on the paused clock");
}

#[tokio::test]
async fn the_subprotocol_is_the_servers_choice_among_what_was_offered() {
    let answer = STREAM.replace("\r\n\r\n", "\r\nsec-websocket-protocol: v2\r\n\r\n");
    let server = Scripted::new([answer]).await;
    let connector = SseConnector::new().subprotocol("v1").unwrap();
    let error = open(&connector, &server.url()).await.unwrap_err();
    assert!(error.is_protocol() && error.to_string().contains("`v2`"), "{error}");
    let events = open(&connector.subprotocol("v2").unwrap(), &server.url()).await.unwrap();
    assert_eq!(events.subprotocol(), Some("v2"));
}

#[tokio::test]
async fn all_subprotocols_are_offered_in_one_header_line() {
    let server = Scripted::new([STREAM]).await;
    let connector = SseConnector::new().subprotocol("v2").unwrap().subprotocol("v1").unwrap();
    let mut request = get(&server.url());
    request.headers_mut().insert("sec-websocket-protocol", "layer, v1".parse().unwrap());
    connector.oneshot(request).await.unwrap();
    let head = server.requests().remove(0);
    let offers: Vec<_> = head.lines().filter(|line| line.starts_with("sec-websocket-protocol")).collect();
    assert_eq!(offers, ["sec-websocket-protocol: layer, v1, v2"]);
}

#[tokio::test]
async fn a_url_that_cannot_work_and_a_port_without_a_server_are_told_apart() {
    assert!(open(&SseConnector::new(), "ftp://localhost/").await.unwrap_err().is_config());
    let server = Scripted::new([STREAM]).await;
    let url = server.url();
    server.stop().await;
    assert!(open(&SseConnector::new(), &url).await.unwrap_err().is_refused());
}
