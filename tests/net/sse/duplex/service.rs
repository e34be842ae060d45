//! The server as a service: what time does, on a paused clock, and HTTP of other versions and servers.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use support::echo;
use tokio::time::Instant;
use tower::ServiceExt;
use tower_transport::{
    Limits, Message, TransportExt,
    transport::sse::{SseDuplexConnector, SseDuplexServer},
};

use super::{
    called::{next_frame, server, trickle, whole},
    connect, within,
};

#[tokio::test(start_paused = true)]
async fn a_post_that_finds_no_room_is_answered_after_a_while_with_how_far_it_came() {
    let mut server = server(Limits::new().write_buffer(4));
    let (_stream, token, mut session) = server.open().await;
    let all = b"\x00\x04aaaa\x00\x04bbbb\x00\x04cccc";
    let start = Instant::now();
    assert_eq!(server.post(&token, 0, whole(&all[..])).await, (204, Some(1)));
    assert_eq!(start.elapsed(), Duration::from_secs(10), "on the paused clock");
    assert_eq!(server.post(&token, 0, whole(&all[..])).await, (204, Some(1)), "there is still none");
    let read = async {
        for text in ["aaaa", "bbbb", "cccc"] {
            assert_eq!(session.next().await.unwrap().unwrap(), Message::text(text));
        }
    };
    let answer = server.post(&token, 0, whole(&all[..]));
    assert_eq!(futures_util::future::join(answer, read).await.0, (204, Some(3)));
}

#[tokio::test(start_paused = true)]
async fn the_newest_post_of_a_session_goes_on_and_what_the_others_brought_whole_stays() {
    let mut server = server(Limits::new());
    let (_stream, token, mut session) = server.open().await;
    let mut first = std::pin::pin!(server.post(&token, 0, trickle(vec![b"\x00\x01a\x00\x01"], Duration::ZERO)));
    assert!(first.as_mut().now_or_never().is_none());
    assert_eq!(within(session.next()).await.unwrap().unwrap(), Message::text("a"));
    let second = server.post(&token, 0, whole(&b"\x00\x01a\x00\x01b"[..]));
    assert_eq!(second.await, (204, Some(2)));
    assert_eq!(first.await, (409, None));
    assert_eq!(session.next().await.unwrap().unwrap(), Message::text("b"));
    assert!(session.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_body_may_be_slow_but_not_stand_still() {
    let mut server = server(Limits::new());
    let (_stream, token, mut session) = server.open().await;
    let start = Instant::now();
    let slow = trickle(vec![b"\x00", b"\x02", b"h", b"i", b"\x00"], Duration::from_secs(9));
    assert_eq!(server.post(&token, 0, slow).await, (408, None));
    assert_eq!(start.elapsed(), Duration::from_secs(5 * 9 + 10), "on the paused clock");
    assert_eq!(session.next().await.unwrap().unwrap(), Message::text("hi"));
    assert_eq!(server.post(&token, 1, whole(&b"\x00\x03and"[..])).await, (204, Some(2)), "and the session goes on");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_ends_the_session_and_the_client_is_told() {
    for (body, status, code) in
        [(&b"\x08\x00"[..], 400, 1002), (b"\x00\x01\xff", 400, 1002), (b"\x01\xbf\xff\xff\xff", 413, 1009)]
    {
        let mut server = server(Limits::new());
        let (mut stream, token, mut session) = server.open().await;
        assert_eq!(server.post(&token, 0, whole(&b"\x00\x02hi"[..])).await, (204, Some(1)));
        assert_eq!(server.post(&token, 1, whole(body)).await, (status, Some(1)));
        assert_eq!(session.next().await.unwrap().unwrap(), Message::text("hi"), "what was good is read");
        let (error, frame) = futures_util::future::join(session.next(), next_frame(&mut stream)).await;
        let error = error.unwrap().unwrap_err();
        assert!(if code == 1009 { error.is_too_large() } else { error.is_protocol() }, "{error:?}");
        assert!(frame.unwrap().starts_with(&format!("event: close\ndata: {code} ")));
        assert!(session.next().await.is_none());
        assert_eq!(next_frame(&mut stream).await, None, "the stream ends with the session");
        assert_eq!(server.post(&token, 1, whole(&b"\x00\x02hi"[..])).await.0, 404);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_within_a_message_is_refused_and_may_be_sent_again() {
    let mut server = server(Limits::new());
    let (_stream, token, mut session) = server.open().await;
    assert_eq!(server.post(&token, 0, whole(&b"\x00\x01a\x00\x02b"[..])).await, (400, Some(1)));
    assert_eq!(server.post(&token, 0, whole(&b"\x00\x01a\x00\x02bc"[..])).await, (204, Some(2)));
    for text in ["a", "bc"] {
        assert_eq!(session.next().await.unwrap().unwrap(), Message::text(text));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_events_has_a_comment_every_15_seconds() {
    let mut server = server(Limits::new());
    let (mut stream, _token, mut session) = server.open().await;
    let start = Instant::now();
    for seconds in [15, 30] {
        assert_eq!(next_frame(&mut stream).await.unwrap(), ":\n\n");
        assert_eq!(start.elapsed(), Duration::from_secs(seconds));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (sent, frame) =
        futures_util::future::join(session.send_message(Message::text("hi")), next_frame(&mut stream)).await;
    sent.unwrap();
    assert_eq!(frame.unwrap(), "data: hi\n\n");
    assert_eq!(next_frame(&mut stream).await.unwrap(), ":\n\n");
    assert_eq!(start.elapsed(), Duration::from_secs(55), "each event puts it off");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_the_close_is_left_after_the_limit() {
    let mut server = server(Limits::new());
    let (mut stream, _token, mut session) = server.open().await;
    let start = Instant::now();
    assert!(session.close(None).await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed(), Duration::from_secs(10), "on the paused clock");
    assert_eq!(next_frame(&mut stream).await.unwrap(), "event: close\ndata:\n\n");
    assert_eq!(next_frame(&mut stream).await, None);
}

#[tokio::test]
async fn over_http2_stream_and_posts_share_a_connection() {
    let service = TowerToHyperService::new(SseDuplexServer::new(|session, _| echo(session)));
    let (near, far) = tokio::io::duplex(64 * 1024);
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::spawn(async move { builder.serve_connection(TokioIo::new(far), service).await });
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://a/").header("accept", "text/event-stream").body(whole("")).unwrap();
    let mut stream = client.send_request(request).await.unwrap().into_body();
    let mut next = async || within(stream.frame()).await.unwrap().unwrap().into_data().unwrap();
    let first = String::from_utf8(next().await.to_vec()).unwrap();
    let token = first.strip_prefix("event: session\ndata: ").unwrap().trim();
    for (sequence, text) in ["a", "b"].into_iter().enumerate() {
        let request = Request::post("http://a/")
            .header("content-type", "application/vnd.tower-transport.messages")
            .header("tower-transport-session", token)
            .header("tower-transport-sequence", sequence);
        let body = Full::from([&[0, 1], text.as_bytes()].concat()).boxed_unsync();
        assert_eq!(client.send_request(request.body(body).unwrap()).await.unwrap().status(), 204);
        assert_eq!(next().await, format!("data: {text}\n\n"));
    }
}

#[tokio::test]
async fn it_is_a_route_of_axum() {
    let app = axum::Router::new().route_service("/events", SseDuplexServer::new(|session, _| echo(session)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut client = connect(SseDuplexConnector::new(), address).await;
    client.send_message(Message::text("hi")).await.unwrap();
    assert_eq!(within(client.next()).await.unwrap().unwrap(), Message::text("hi"));
}

#[tokio::test]
async fn a_request_over_http_1_1_names_its_host_once() {
    let ask = |method: &str, hosts: &[&str], version| {
        let mut request = Request::builder().method(method).uri("http://a/").version(version);
        for host in hosts {
            request = request.header("host", *host);
        }
        let request = request.header("accept", "text/event-stream").body(whole("")).unwrap();
        SseDuplexServer::new(|session, _| echo(session)).oneshot(request)
    };
    for method in ["GET", "POST", "OPTIONS"] {
        for hosts in [&[][..], &["a", "a"], &["a", "b"]] {
            let answer = ask(method, hosts, http::Version::HTTP_11).await.unwrap();
            assert_eq!(answer.status(), 400, "{method} {hosts:?}");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(body.windows(4).any(|word| word == b"Host"), "{body:?}");
        }
    }
    assert_eq!(ask("GET", &["a", "b"], http::Version::HTTP_2).await.unwrap().status(), 400);
    for (hosts, version) in
        [(&["a"][..], http::Version::HTTP_11), (&[], http::Version::HTTP_10), (&[], http::Version::HTTP_2)]
    {
        assert_eq!(ask("GET", hosts, version).await.unwrap().status(), 200, "{version:?}");
    }
}
