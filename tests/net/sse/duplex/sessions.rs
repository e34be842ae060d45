//! The server's answers to requests that are written by hand.

use futures_util::{FutureExt, StreamExt};
use tokio::io::AsyncReadExt;
use tower_transport::{Limits, Message, TransportExt, transport::sse::SseDuplexServer};

use super::{
    raw::{MESSAGES, ask, open, post, read_until},
    serve, sessions, within,
};

#[tokio::test]
async fn messages_are_taken_in_their_order_and_once() {
    let (address, mut sessions) = sessions(Limits::default()).await;
    let opened = open(address, "").await;
    let mut server = sessions.recv().await.unwrap();
    let answer = post(address, &opened.token, "0", b"\x00\x02hi\x01\x01\xff").await;
    assert_eq!((answer.status, answer.header("tower-transport-sequence")), (204, Some("2")));
    // The answer was lost, say; and there is one more by now.
    let answer = post(address, &opened.token, "0", b"\x00\x02hi\x01\x01\xff\x00\x01!").await;
    assert_eq!((answer.status, answer.header("tower-transport-sequence")), (204, Some("3")));
    for message in [Message::text("hi"), Message::binary(&b"\xff"[..]), Message::text("!")] {
        assert_eq!(server.next().await.unwrap().unwrap(), message);
    }
    assert!(server.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_gap_is_refused_with_the_number_that_is_due() {
    let (address, mut sessions) = sessions(Limits::default()).await;
    let opened = open(address, "").await;
    let mut server = sessions.recv().await.unwrap();
    let answer = post(address, &opened.token, "1", b"\x00\x02hi").await;
    assert_eq!((answer.status, answer.header("tower-transport-sequence")), (409, Some("0")));
    assert_eq!(post(address, &opened.token, "18446744073709551615", b"").await.status, 409);
    for bad in ["", "-1", "+1", "0x0", "1e0", "18446744073709551616", "0, 0"] {
        assert_eq!(post(address, &opened.token, bad, b"").await.status, 400, "{bad}");
    }
    assert_eq!(post(address, &opened.token, "0", b"\x00\x02hi").await.status, 204);
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("hi"));
}

#[tokio::test]
async fn a_token_opens_its_own_session_and_no_other() {
    let (address, mut sessions) = sessions(Limits::default()).await;
    let (one, other) = (open(address, "").await, open(address, "").await);
    let (mut first, mut second) = (sessions.recv().await.unwrap(), sessions.recv().await.unwrap());
    assert_eq!(post(address, &other.token, "0", b"\x00\x05other").await.status, 204);
    assert_eq!(post(address, &one.token, "0", b"\x00\x03one").await.status, 204);
    assert_eq!(first.next().await.unwrap().unwrap(), Message::text("one"));
    assert_eq!(second.next().await.unwrap().unwrap(), Message::text("other"));
    // The same bytes with one bit flipped, and what is no token.
    let near = format!("{}{}", if one.token.starts_with('A') { "B" } else { "A" }, &one.token[1..]);
    for bad in [&near, "", "x", &"A".repeat(22), &"A".repeat(10_000), &format!("{}, {}", one.token, one.token)] {
        assert_eq!(post(address, bad, "0", b"\x00\x03bad").await.status, 404);
    }
    assert_eq!(ask(address, "POST", &format!("{MESSAGES}tower-transport-sequence: 0\r\n"), b"").await.status, 404);
    assert!(first.next().now_or_never().is_none() && second.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_session_whose_stream_is_gone_takes_nothing_more() {
    let (address, mut sessions) = sessions(Limits::default()).await;
    let opened = open(address, "").await;
    let mut server = sessions.recv().await.unwrap();
    drop(opened.tcp);
    assert!(within(server.next()).await.unwrap().unwrap_err().is_closed());
    assert_eq!(post(address, &opened.token, "0", b"\x00\x02hi").await.status, 404);
    drop(server);
    assert_eq!(post(address, &opened.token, "0", b"\x00\x02hi").await.status, 404);
}

#[tokio::test]
async fn the_answer_cannot_be_kept_by_a_cache_and_the_token_is_not_in_its_head() {
    let (address, _sessions) = sessions(Limits::default()).await;
    let opened = open(address, "").await;
    let head = opened.head.to_ascii_lowercase();
    for line in ["content-type: text/event-stream", "cache-control: no-store, no-transform", "x-accel-buffering: no"] {
        assert!(head.contains(line), "{head}");
    }
    assert!(opened.token.len() == 22 && !opened.head.contains(&opened.token));
}

#[tokio::test]
async fn what_opens_no_session_and_sends_nothing_is_told_so() {
    let (address, mut sessions) = sessions(Limits::default()).await;
    let opened = open(address, "").await;
    let token = format!("tower-transport-session: {}\r\ntower-transport-sequence: 0\r\n", opened.token);
    for (method, headers, status) in [
        ("GET", "", 406),
        ("GET", "accept: text/html, */*\r\n", 406),
        ("PUT", "accept: text/event-stream\r\n", 405),
        ("HEAD", "accept: text/event-stream\r\n", 405),
        ("POST", token.as_str(), 415),
        ("POST", &format!("content-type: text/plain\r\n{token}"), 415),
        ("POST", &format!("content-type: application/x-www-form-urlencoded\r\n{token}"), 415),
    ] {
        assert_eq!(ask(address, method, headers, b"").await.status, status, "{method} {headers}");
    }
    let mut first = sessions.recv().await.unwrap();
    assert!(sessions.recv().now_or_never().is_none() && first.next().now_or_never().is_none());
}

#[tokio::test]
async fn there_are_no_more_sessions_than_may_be_and_a_place_is_free_again() {
    let server = SseDuplexServer::new(|mut session, _| async move { while session.next().await.is_some() {} });
    let address = serve(server.sessions(2)).await;
    let (_one, other) = (open(address, "").await, open(address, "").await);
    let refused = ask(address, "GET", "accept: text/event-stream\r\n", b"").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    drop(other);
    within(async {
        // The place is free when the server has seen the client go.
        loop {
            let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
            let request = format!("GET / HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut tcp, request.as_bytes()).await.unwrap();
            let mut start = [0; 12];
            tcp.read_exact(&mut start).await.unwrap();
            if &start == b"HTTP/1.1 200" {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_stream_has_comments_and_no_more_than_that() {
    let server = SseDuplexServer::new(|mut session, _| async move { while session.next().await.is_some() {} });
    let address = serve(server.keep_alive(std::time::Duration::from_millis(10))).await;
    let mut opened = open(address, "last-event-id: 999999999999999999999999\r\n").await;
    for _ in 0..3 {
        assert_eq!(within(read_until(&mut opened.tcp, ":\n\n")).await.trim_start(), "3\r\n:\n\n");
    }
}

#[tokio::test]
async fn messages_that_are_ready_together_go_down_together() {
    let (address, mut sessions) = sessions(Limits::default()).await;
    let mut opened = open(address, "").await;
    let mut server = sessions.recv().await.unwrap();
    for i in 0..3 {
        futures_util::SinkExt::feed(&mut server, Message::text(i.to_string())).await.unwrap();
    }
    server.send_message(Message::text("last")).await.unwrap();
    let all = within(read_until(&mut opened.tcp, "data: last\n\n")).await;
    assert_eq!(all, "\r\n27\r\ndata: 0\n\ndata: 1\n\ndata: 2\n\ndata: last\n\n", "one chunk");
}
