//! Pages of other origins: refused unless allowed, and then told so as CORS has it.

use http::HeaderValue;
use tower_transport::{Limits, transport::sse::SseDuplexServer};

use super::{
    raw::{MESSAGES, ask, open, post},
    serve, sessions,
};

const EVIL: &str = "origin: https://evil.example\r\n";
const APP: &str = "origin: https://app.example\r\n";
const EVENTS: &str = "accept: text/event-stream\r\n";

#[tokio::test]
async fn a_page_of_another_origin_opens_nothing_and_sends_nothing() {
    let (address, mut sessions) = sessions(Limits::default()).await;
    let opened = open(address, "").await;
    let _session = sessions.recv().await.unwrap();
    let stolen =
        format!("{MESSAGES}tower-transport-session: {}\r\ntower-transport-sequence: 0\r\n{EVIL}", opened.token);
    for (method, headers) in [("GET", format!("{EVENTS}{EVIL}")), ("POST", stolen), ("OPTIONS", EVIL.to_owned())] {
        let answer = ask(address, method, &headers, b"").await;
        assert_eq!(answer.status, 403, "{method}");
        assert!(!answer.head.to_ascii_lowercase().contains("access-control"), "{}", answer.head);
        assert!(!answer.body.contains(&opened.token));
    }
    assert!(sessions.try_recv().is_err());
    assert_eq!(post(address, &opened.token, "0", b"").await.status, 204, "and its own client goes on");
}

#[tokio::test]
async fn a_page_of_the_same_origin_is_let_in() {
    let (address, _sessions) = sessions(Limits::default()).await;
    let opened = open(address, &format!("origin: http://{address}\r\n")).await;
    assert!(!opened.head.to_ascii_lowercase().contains("access-control"));
    let preflight = ask(address, "OPTIONS", "", b"").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, None));
}

fn echo(session: tower_transport::transport::sse::SseDuplex) -> impl Future<Output = ()> {
    let mut session = session;
    async move { while futures_util::StreamExt::next(&mut session).await.is_some() {} }
}

#[tokio::test]
async fn an_allowed_origin_may_and_others_may_not() {
    let server = SseDuplexServer::new(|session, _| echo(session));
    let address = serve(server.allow_origin(HeaderValue::from_static("https://app.example"))).await;
    let opened = open(address, APP).await;
    let head = opened.head.to_ascii_lowercase();
    assert!(head.contains("access-control-allow-origin: https://app.example"), "{head}");
    assert!(head.contains("access-control-allow-credentials: true") && head.contains("vary: origin"), "{head}");
    let preflight = ask(address, "OPTIONS", &format!("{APP}access-control-request-method: POST\r\n"), b"").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://app.example"));
    assert!(preflight.header("access-control-allow-methods").unwrap().contains("POST"));
    let headers = preflight.header("access-control-allow-headers").unwrap();
    assert!(headers.contains("tower-transport-session") && headers.contains("content-type"), "{headers}");
    assert!(headers.contains("tower-transport-protocol"), "{headers}");
    let session = format!("{MESSAGES}tower-transport-session: {}\r\ntower-transport-sequence: 0\r\n", opened.token);
    let posted = ask(address, "POST", &format!("{session}{APP}"), b"\x00\x02hi").await;
    assert_eq!((posted.status, posted.header("access-control-allow-origin")), (204, Some("https://app.example")));
    let exposed = "sec-websocket-protocol, tower-transport-parts, tower-transport-sequence";
    assert_eq!(posted.header("access-control-expose-headers"), Some(exposed));
    for (method, headers) in [("GET", EVENTS), ("POST", session.as_str()), ("OPTIONS", "")] {
        let refused = ask(address, method, &format!("{headers}{EVIL}"), b"").await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, None), "{method}");
    }
}

#[tokio::test]
async fn a_page_offers_subprotocols_by_a_name_that_browsers_let_it_send() {
    let server = SseDuplexServer::new(|session, _| echo(session)).subprotocol("v1").unwrap();
    let opened = open(serve(server).await, "tower-transport-protocol: v2, v1\r\n").await;
    let head = opened.head.to_ascii_lowercase();
    assert!(head.contains("sec-websocket-protocol: v1"), "{head}");
}

#[tokio::test]
async fn where_every_origin_may_none_may_use_the_users_cookies() {
    let address = serve(SseDuplexServer::new(|session, _| echo(session)).allow_any_origin()).await;
    let opened = open(address, EVIL).await;
    let head = opened.head.to_ascii_lowercase();
    assert!(head.contains("access-control-allow-origin: *") && !head.contains("credentials"), "{head}");
}
