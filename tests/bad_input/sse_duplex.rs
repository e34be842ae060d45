//! Strangers and greedy peers of SSE and POST. Memory is measured on the test's own thread. The server
//! is called as a service, so that little else uses memory there.

use std::{convert::Infallible, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tower::{Service, ServiceExt};
use tower_transport::{
    Limits, Message,
    transport::sse::{SseDuplex, SseDuplexAnswer, SseDuplexBody, SseDuplexConnector, SseDuplexServer},
};

use crate::{allocator::Growth, within};

const KIB: usize = 1024;

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::from(bytes.into()).boxed_unsync()
}

/// A body of these pieces that does not end.
fn endless(pieces: impl IntoIterator<Item = Bytes, IntoIter: Send + 'static>) -> Body {
    let pieces = stream::iter(pieces).map(|piece| Ok(Frame::data(piece)));
    StreamBody::new(pieces.chain(stream::pending())).boxed_unsync()
}

/// A server whose sessions are given to the test.
struct Server<S> {
    service: S,
    sessions: mpsc::Receiver<SseDuplex>,
}

fn server(
    limits: Limits,
) -> Server<
    impl Service<Request<Body>, Response = Response<SseDuplexBody>, Error = Infallible, Future = SseDuplexAnswer<Body>>,
> {
    let (opened, sessions) = mpsc::channel(4096);
    let service = SseDuplexServer::new(move |session, _| async move {
        let _ = opened.send(session).await;
    });
    Server { service: service.limits(limits), sessions }
}

impl<S> Server<S>
where
    S: Service<Request<Body>, Response = Response<SseDuplexBody>, Error = Infallible, Future = SseDuplexAnswer<Body>>,
{
    async fn get(&mut self) -> Response<SseDuplexBody> {
        let request =
            Request::get("/").header("host", "a").header("accept", "text/event-stream").body(whole("")).unwrap();
        self.service.call(request).await.unwrap()
    }

    /// Opens a session: its stream, its token, and the handler's end.
    async fn open(&mut self) -> (SseDuplexBody, String, SseDuplex) {
        let mut stream = self.get().await.into_body();
        let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        let first = String::from_utf8(first.to_vec()).unwrap();
        let token = first.strip_prefix("event: session\ndata: ").unwrap().trim().to_owned();
        (stream, token, self.sessions.recv().await.unwrap())
    }

    fn post(&mut self, token: &str, sequence: u64, body: Body) -> Pin<Box<SseDuplexAnswer<Body>>> {
        let request = Request::post("/")
            .header("host", "a")
            .header("content-type", "application/vnd.tower-transport.messages")
            .header("tower-transport-session", token)
            .header("tower-transport-sequence", sequence);
        Box::pin(self.service.call(request.body(body).unwrap()))
    }

    async fn status(&mut self, token: &str, sequence: u64, body: Body) -> u16 {
        self.post(token, sequence, body).await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn a_hundred_thousand_guesses_of_a_token_find_nothing_and_cost_nothing() {
    let mut server = server(Limits::new());
    let (_stream, token, mut session) = server.open().await;
    let growth = Growth::start();
    for guess in 0..100_000_u32 {
        let guess = format!("{guess:06}{}", &token[6..]);
        if guess != token {
            assert_eq!(server.status(&guess, 0, whole(&b"\x00\x02hi"[..])).await, 404);
        }
    }
    assert!(growth.peak() < 16 * KIB, "{}", growth.peak());
    assert!(session.next().now_or_never().is_none());
}

#[tokio::test]
async fn of_a_flood_of_sessions_so_many_stay_as_may_be() {
    let mut server = server(Limits::new());
    let growth = Growth::start();
    let mut streams = Vec::new();
    for opened in 0..5000 {
        let response = server.get().await;
        assert_eq!(response.status(), if opened < 1024 { 200 } else { 503 });
        streams.push(response.into_body());
    }
    // Measured: 2.3 KiB each, the handler's task and what it holds included.
    assert!(growth.peak() < 1024 * 4 * KIB + 5000 * size_of::<SseDuplexBody>() * 2, "{}", growth.peak());
}

#[tokio::test]
async fn of_a_flood_of_posts_on_one_session_one_is_read() {
    let mut server = server(Limits::new());
    let (_stream, token, mut session) = server.open().await;
    let growth = Growth::start();
    let mut newest: Option<Pin<Box<SseDuplexAnswer<Body>>>> = None;
    for _ in 0..10_000 {
        // Each begins a message of 4 MiB, and sends 16 KiB of it.
        let mut post =
            server.post(&token, 0, endless([Bytes::from_static(b"\x01\x80\x40\x00\x00"), vec![0; 16 * KIB].into()]));
        assert!(post.as_mut().now_or_never().is_none());
        if let Some(older) = newest.replace(post) {
            assert_eq!(older.await.unwrap().status(), 409);
        }
    }
    assert!(growth.peak() < 128 * KIB, "{}", growth.peak());
    assert!(session.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_message_of_a_gibibyte_is_refused_by_its_head() {
    for head in
        [&b"\x01\xc0\x00\x00\x00\x40\x00\x00\x00"[..], b"\x00\xff\xff\xff\xff\xff\xff\xff\xff", b"\x01\x80\x40\x00\x01"]
    {
        let mut server = server(Limits::new());
        let (_stream, token, mut session) = server.open().await;
        let growth = Growth::start();
        let body = endless(
            std::iter::once(Bytes::copy_from_slice(head)).chain(std::iter::repeat(Bytes::from_static(&[0; 4096]))),
        );
        assert_eq!(server.status(&token, 0, body).await, 413);
        assert!(growth.peak() < 16 * KIB, "{}", growth.peak());
        assert!(within(session.next()).await.is_none_or(|end| end.unwrap_err().is_too_large()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_in_parts_without_end_is_refused_at_the_limit_of_a_message() {
    let mut server = server(Limits::new());
    let (_stream, token, mut session) = server.open().await;
    let growth = Growth::start();
    let part = Bytes::from([&b"\x05\x80\x00\x40\x00"[..], &[0; 16 * KIB]].concat());
    assert_eq!(server.status(&token, 0, endless(std::iter::repeat(part))).await, 413);
    println!("{} KiB", growth.peak() / KIB);
    assert!(growth.peak() < 6 * KIB * KIB + 256 * KIB, "{}", growth.peak());
    assert!(within(session.next()).await.unwrap().unwrap_err().is_too_large());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_always_there_gives_other_tasks_their_turn() {
    let mut server = server(Limits::new());
    let (_stream, token, mut session) = server.open().await;
    let growth = Growth::start();
    // Nothing at all, and parts of nothing, as often as somebody asks.
    for piece in [Bytes::new(), Bytes::from(b"\x05\x00".repeat(4096))] {
        let mut post = server.post(&token, 0, endless(std::iter::repeat(piece)));
        for _ in 0..100 {
            assert!(post.as_mut().now_or_never().is_none());
        }
    }
    assert!(growth.peak() < 64 * KIB, "{}", growth.peak());
    assert!(session.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_reads_holds_no_more_than_its_inbox() {
    let mut server = server(Limits::new());
    let (_stream, token, _session) = server.open().await;
    let growth = Growth::start();
    // A body without an end, of messages of one byte, of none, and of 10,000.
    for message in [&b"\x01\x01x"[..], b"\x00\x00", &[&[1, 0x67, 0x10][..], &[0; 10_000]].concat()] {
        for _ in 0..20 {
            let due = server.post(&token, 0, whole("")).await.unwrap();
            let due = due.headers()["tower-transport-sequence"].to_str().unwrap().parse().unwrap();
            let piece = Bytes::from(message.repeat(4096 / message.len() + 1));
            assert_eq!(server.status(&token, due, endless(std::iter::repeat(piece))).await, 204);
        }
    }
    assert!(growth.peak() < 128 * KIB, "{}", growth.peak());
}

#[tokio::test]
async fn a_small_message_does_not_hold_the_large_buffer_that_it_came_in() {
    let mut server = server(Limits::new());
    let (_stream, token, _session) = server.open().await;
    let growth = Growth::start();
    for due in 0..500 {
        // All that is known already, and one byte more, in a buffer of 400 KiB.
        let mut body = Vec::with_capacity(400 * KIB);
        body.extend_from_slice(&b"\x01\x01x".repeat(due + 1));
        assert_eq!(server.status(&token, 0, whole(body)).await, 204);
    }
    assert!(growth.peak() < 600 * KIB, "{}", growth.peak());
}

#[tokio::test]
async fn a_client_that_pings_and_never_reads_is_answered_in_the_space_of_one_answer() {
    let mut server = server(Limits::new());
    let (_stream, token, mut session) = server.open().await;
    let growth = Growth::start();
    for due in 0..20_000 {
        let ping = [&[2, 0x40, 125][..], &[7; 125]].concat();
        assert_eq!(server.status(&token, due, whole(ping)).await, 204);
        assert!(matches!(session.next().await.unwrap().unwrap(), Message::Ping(_)));
    }
    assert!(growth.peak() < 16 * KIB, "{}", growth.peak());
}

#[tokio::test]
async fn a_last_event_id_is_not_looked_at_within_the_limit_of_a_head() {
    let mut server = server(Limits::new());
    for (id, status) in [("0", 200), ("x", 200), (&*"9".repeat(60 * KIB), 200), (&*"9".repeat(1 << 20), 431)] {
        let request =
            Request::get("/").header("host", "a").header("accept", "text/event-stream").header("last-event-id", id);
        let response = server.service.call(request.body(whole("")).unwrap()).await.unwrap();
        assert_eq!(response.status(), status);
    }
}

/// A server that opens a session and then says `bytes` again and again; POSTs it does not answer.
async fn hostile(bytes: impl Into<Bytes>, limits: Limits) -> SseDuplex {
    const OPENING: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: session\ndata: 0123456789abcdef\n\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let request = Request::get(format!("http://{}/", listener.local_addr().unwrap())).body(()).unwrap();
    let bytes = bytes.into();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(OPENING.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let mut taken = [0; 4096];
        let mut kept = Vec::new();
        loop {
            tokio::select! {
                written = writer.write_all(&bytes) => if written.is_err() { return },
                _ = reader.read(&mut taken) => {}
                Ok((poster, _)) = listener.accept() => kept.push(poster),
            }
        }
    });
    within(SseDuplexConnector::new().limits(limits).oneshot(request)).await.unwrap().into_body()
}

#[tokio::test]
async fn an_event_without_an_end_is_left_at_the_limit() {
    let limits = Limits::new().message(64 * KIB).close(Duration::from_millis(10));
    for bytes in [vec![b'x'; 4096], b"data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n".repeat(90)] {
        let bytes = [b"data: ".as_slice(), &bytes].concat();
        let mut client = hostile(bytes, limits).await;
        let growth = Growth::start();
        let error = within(client.next()).await.unwrap().unwrap_err();
        assert!(error.is_too_large() && error.to_string().contains("65536"), "{error:?}");
        assert!(within(client.next()).await.is_none());
        assert!(growth.peak() < 1024 * KIB, "{}", growth.peak());
    }
}

#[tokio::test]
async fn events_that_are_none_of_the_protocol_end_the_session() {
    let limits = Limits::new().close(Duration::from_millis(10));
    for events in [
        "event: blob\ndata: x\n\n",
        "event: binary\ndata: *\n\n",
        "event: close\ndata: 1\n\n",
        "event: text64\ndata: /w==\n\n",
    ] {
        let mut client = hostile(events, limits).await;
        let error = within(client.next()).await.unwrap().unwrap_err();
        assert!(error.is_protocol(), "{error:?}");
        assert!(within(client.next()).await.is_none());
    }
}

#[tokio::test]
async fn a_server_that_pings_and_answers_no_post_is_answered_in_the_space_of_one_answer() {
    let mut client = hostile("event: ping\ndata: AAAA\n\n".repeat(100), Limits::new()).await;
    let growth = Growth::start();
    for _ in 0..20_000 {
        assert_eq!(within(client.next()).await.unwrap().unwrap(), Message::Ping(Bytes::from_static(&[0; 3])));
    }
    assert!(growth.peak() < 512 * KIB, "{}", growth.peak());
}

#[tokio::test]
async fn comments_without_end_are_no_message_and_hold_nothing() {
    let mut client = hostile(": nothing to see here\n\n".repeat(1000), Limits::new()).await;
    let growth = Growth::start();
    let seen = tokio::time::timeout(Duration::from_millis(200), client.next()).await;
    assert!(seen.is_err(), "{seen:?}");
    assert!(growth.peak() < 512 * KIB, "{}", growth.peak());
}
