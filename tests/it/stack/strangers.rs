//! Servers that choose the stack's subprotocol without knowing it, as some take whichever name is offered first, or
//! that refuse it; and clients that offer it without knowing it. Over channels on a paused clock, then over each
//! transport.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt, future::BoxFuture};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower::{Service, ServiceExt, service_fn};
use tower_transport::{
    Channel, CloseCode, CloseFrame, Error, Limits, Message, Transport, TransportExt, channel,
    layer::{heartbeat::HeartbeatLayer, reconnect::Backoff},
    stack::{
        AdaptiveConnector, Capabilities, Endpoints, OptimizedAcceptor, OptimizedBuilder, OptimizedTransport,
        TransportKind, WebSocketContext,
    },
    transport::{
        sse::{SseDuplexConnector, SseDuplexServer},
        websocket::{UpgradeBody, WebSocket, WebSocketConnector, WebSocketService},
        webtransport::{Certificate, WebTransportConnector, WebTransportServer},
    },
};

use crate::serve::{serve, serve_http};
use support::within;

const OURS: &str = OptimizedAcceptor::SUBPROTOCOL;

/// With a handshake that leaves 100 ms for an answer in place of a hello, and 400 ms for silence.
fn builder() -> OptimizedBuilder {
    let limits = Limits::new().handshake(Duration::from_millis(1600));
    OptimizedTransport::builder().limits(limits).backoff(Backoff::fixed(Duration::from_millis(5)))
}

/// The behavior of a server on one connection, after it has chosen the first name that was offered.
type Behavior = fn(Channel) -> BoxFuture<'static, ()>;

/// The names that each connection offered.
type Offers = Arc<Mutex<Vec<String>>>;

/// A connector to a server that behaves in one way after the other, and keeps to the last one.
fn server(
    behaviors: &[Behavior],
) -> (
    Offers,
    impl Service<Request<()>, Response = Response<Channel>, Error = Error, Future: Send> + Clone + Send + Sync + 'static,
) {
    let offers = Offers::default();
    let (seen, behaviors) = (offers.clone(), Arc::new(Mutex::new(VecDeque::from(behaviors.to_vec()))));
    let connector = service_fn(move |request: Request<()>| {
        let offer =
            request.headers().get(header::SEC_WEBSOCKET_PROTOCOL).map(|offer| offer.to_str().unwrap().to_owned());
        let offer = offer.unwrap_or_default();
        seen.lock().unwrap().push(offer.clone());
        let mut behaviors = behaviors.lock().unwrap();
        let behavior = if behaviors.len() > 1 { behaviors.pop_front().unwrap() } else { behaviors[0] };
        let (near, far) = channel::<Message, Message>(16);
        tokio::spawn(behavior(far));
        let mut response = Response::new(near);
        if let Some(first) = offer.split(',').next().filter(|first| !first.is_empty()) {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(first.trim()).unwrap());
        }
        std::future::ready(Ok::<_, Error>(response))
    });
    (offers, connector)
}

/// Says that it was given a message of the user's, and complains of any other data.
async fn check(far: &mut Channel) {
    while let Some(Ok(message)) = far.next().await {
        match message {
            Message::Text(text) if text.as_str() == "from the user" => far.send(Message::text("got it")).await.unwrap(),
            Message::Ping(payload) => far.send(Message::Pong(payload)).await.unwrap(),
            Message::Close(_) => return,
            other => panic!("a stranger gets what is not the user's: {other:?}"),
        }
    }
}

fn greets(mut far: Channel) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        far.send(Message::text("welcome")).await.unwrap();
        check(&mut far).await;
    })
}

fn answers_pings(mut far: Channel) -> BoxFuture<'static, ()> {
    Box::pin(async move { check(&mut far).await })
}

fn closes(mut far: Channel) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let code = CloseCode::new(4406).unwrap();
        far.send(Message::Close(Some(CloseFrame::new(code, "Subprotocol not acceptable")))).await.unwrap();
        while far.next().await.is_some() {}
    })
}

fn is_silent(mut far: Channel) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        while let Some(Ok(message)) = far.next().await {
            assert!(!message.is_data(), "a stranger gets what is not the user's: {message:?}");
        }
    })
}

fn knows(far: Channel) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let acceptor: OptimizedAcceptor<Channel> = builder().acceptor();
        let Ok(Some(mut session)) = acceptor.accept_over(far, true).await else { return };
        let first = session.receive_message().await;
        assert_eq!(first.unwrap().unwrap(), Message::text("from the user"));
        session.send_message("got it".into()).await.unwrap();
        let _ = session.close().await;
    })
}

async fn talk<T>(transport: &mut OptimizedTransport<T>)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
{
    within(transport.send_message("from the user".into())).await.unwrap();
    assert_eq!(within(transport.receive_message()).await.unwrap().unwrap(), Message::text("got it"));
}

fn offered(offers: &Offers) -> Vec<bool> {
    offers.lock().unwrap().iter().map(|offer| offer.contains(OURS)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_talks_first_gets_plain_messages_on_the_same_connection_and_its_greeting_is_kept() {
    let (offers, connector) = server(&[greets]);
    let mut transport = builder().connect_with(connector, "ws://host/").await.unwrap();
    assert_eq!(transport.capabilities(), Capabilities::NONE);
    assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::text("welcome"));
    talk(&mut transport).await;
    assert_eq!(offered(&offers), [true]);
}

/// Binary messages with the mark of the stack that no end sends as its hello.
const NOT_HELLOS: [&[u8]; 7] = [
    b"\x09\x07\xf8ttx\x01\xff",                        // another kind
    b"\x01\0\0\0\0\0\x40\0\0\x07\xf8ttx\x01\xff",      // an escaped message
    b"short\x01\x07\xf8ttx\x01\xff",                   // truncated
    b"\0\0\0\0\0\0\x40\0\x01\x07\xf8ttx\x01\xff",      // without the bit that is always set
    b"\x01\0\0\0\0\0\0\0\x01\x07\xf8ttx\x01\xff",      // accepts no message
    b"\x21\0\0\0\0\0\x40\0\x01\x07\xf8ttx\x01\xff",    // a context without compression
    b"\x01\0\0\0\0\0\x40\0abc\x01\x07\xf8ttx\x01\xff", // a number that is cut
];

fn greets_with_not_a_hello<const I: usize>(mut far: Channel) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        far.send(Message::binary(NOT_HELLOS[I])).await.unwrap();
        check(&mut far).await;
    })
}

#[tokio::test(start_paused = true)]
async fn a_stranger_whose_first_message_ends_like_a_hello_and_is_none_gets_plain_messages() {
    let greetings: [Behavior; 7] = [
        greets_with_not_a_hello::<0>,
        greets_with_not_a_hello::<1>,
        greets_with_not_a_hello::<2>,
        greets_with_not_a_hello::<3>,
        greets_with_not_a_hello::<4>,
        greets_with_not_a_hello::<5>,
        greets_with_not_a_hello::<6>,
    ];
    for (greeting, first) in greetings.into_iter().zip(NOT_HELLOS) {
        let (offers, connector) = server(&[greeting]);
        let builder = builder();
        let mut transport = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
        assert_eq!(transport.capabilities(), Capabilities::NONE);
        assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::binary(first), "as it was sent");
        talk(&mut transport).await;
        builder.connect_with(connector, "ws://host/").await.unwrap();
        assert_eq!(offered(&offers), [true, false]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_said_hello_and_then_sends_one_that_is_not_valid_fails_one_connection_and_is_then_unknown() {
    let stranger = greets_with_not_a_hello::<0>;
    let (offers, connector) = server(&[knows, stranger]);
    let builder = builder();
    let mut transport = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
    talk(&mut transport).await;
    let error = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap_err();
    assert!(error.is_protocol(), "{error}");
    let mut other = builder.connect_with(connector, "ws://host/").await.unwrap();
    assert_eq!(other.receive_message().await.unwrap().unwrap(), Message::binary(NOT_HELLOS[0]));
    talk(&mut other).await;
    assert_eq!(offered(&offers), [true; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_replays_a_valid_hello_gets_plain_messages() {
    /// Replays a hello with these features. It is silent then, or echoes what it gets, or replays another hello.
    fn replays<const FEATURES: u8, const THEN: u8>(mut far: Channel) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let numbers = [FEATURES, 0, 0, 0, 0, 0, 0x40, 0];
            let hello = Message::binary([&numbers[..], b"\x01\x07\xf8ttx\x01\xff"].concat());
            far.send(hello.clone()).await.unwrap();
            while let Some(Ok(message)) = far.next().await {
                let answer = match THEN {
                    0 => continue,
                    1 => message,
                    _ => hello.clone(),
                };
                let _ = far.send(answer).await;
            }
        })
    }
    let strangers: [Behavior; 6] =
        [replays::<1, 0>, replays::<9, 0>, replays::<1, 1>, replays::<9, 1>, replays::<1, 2>, replays::<9, 2>];
    for stranger in strangers {
        let (offers, connector) = server(&[stranger, answers_pings]);
        let builder = builder();
        let mut transport = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
        assert_eq!(transport.capabilities(), Capabilities::NONE);
        talk(&mut transport).await;
        assert_eq!(offered(&offers), [true, false]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_trusts_a_hello_once_the_server_has_repeated_the_nonce_of_its_own() {
    for resume in [true, false] {
        let (offers, connector) = server(&[knows]);
        let builder = if resume { builder() } else { builder().resume(None) };
        for _ in 0..2 {
            let mut transport = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
            assert!(transport.capabilities().is_known());
            assert_eq!(transport.capabilities().resume(), resume);
            talk(&mut transport).await;
        }
        assert_eq!(offered(&offers), [true, true]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_accepts_only_empty_messages_says_a_valid_hello() {
    let acceptor: OptimizedAcceptor<Channel> = builder().limits(Limits::new().message(0)).acceptor();
    let (mut client, far) = channel::<Message, Message>(16);
    tokio::spawn(async move { acceptor.accept_over(far, true).await.map(|_| ()) });
    let hello = client.next().await.unwrap().unwrap();
    assert_eq!(hello.as_bytes()[4..8], [1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_waits_for_the_client_is_asked_again_without_the_name_and_remembered() {
    let (offers, connector) = server(&[answers_pings]);
    let (builder, since) = (builder(), Instant::now());
    let mut transport = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
    assert_eq!(since.elapsed(), Duration::from_millis(100), "a sixteenth of the handshake's time");
    assert_eq!(transport.capabilities(), Capabilities::NONE);
    talk(&mut transport).await;

    let mut other = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
    talk(&mut other).await;
    assert_eq!(offered(&offers), [true, false, false]);
    builder.clone().connect_with(connector.clone(), "ws://host/other").await.unwrap();
    assert_eq!(offered(&offers)[3..], [true, false], "it is remembered for its own URL alone");
    sleep(Duration::from_secs(601)).await;
    builder.connect_with(connector, "ws://host/").await.unwrap();
    assert_eq!(offered(&offers)[5..], [true, false], "it may have learned the name");
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_closes_for_the_name_is_asked_again_without_it() {
    let (offers, connector) = server(&[closes, answers_pings]);
    let mut transport = builder().connect_with(connector, "ws://host/").await.unwrap();
    talk(&mut transport).await;
    assert_eq!(offered(&offers), [true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_close_that_has_another_cause_is_told_and_nothing_else_is_tried() {
    fn refuses(mut far: Channel) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            far.send(Message::Close(Some(CloseFrame::new(CloseCode::new(4401).unwrap(), "who?")))).await.unwrap();
            while far.next().await.is_some() {}
        })
    }
    let (offers, connector) = server(&[refuses]);
    let error = builder().connect_with(connector, "ws://host/").await.unwrap_err();
    assert_eq!(error.close_frame().unwrap().code().get(), 4401);
    assert_eq!(offered(&offers), [true]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_at_all_is_asked_again_and_not_remembered() {
    let (offers, connector) = server(&[is_silent, answers_pings, knows]);
    let (builder, since) = (builder(), Instant::now());
    let mut transport = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
    assert!(since.elapsed() >= Duration::from_millis(400) && since.elapsed() < Duration::from_millis(1600));
    talk(&mut transport).await;
    let mut other = builder.connect_with(connector, "ws://host/").await.unwrap();
    assert!(other.capabilities().is_known(), "the silence may have been the network's");
    talk(&mut other).await;
    assert_eq!(offered(&offers), [true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_said_hello_before_is_not_taken_for_a_stranger_when_it_is_silent() {
    let (offers, connector) = server(&[knows, answers_pings]);
    let builder = builder();
    let mut transport = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
    talk(&mut transport).await;
    let error = builder.connect_with(connector, "ws://host/").await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(offered(&offers), [true, true]);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_in_place_of_a_server_that_said_hello_fails_one_connection_and_is_then_unknown() {
    for stranger in [closes, answers_pings, is_silent] as [Behavior; 3] {
        let (offers, connector) = server(&[knows, stranger, stranger, answers_pings]);
        let builder = builder();
        let mut transport = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
        talk(&mut transport).await;
        let error = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap_err();
        assert!(error.is_timeout() || error.close_frame().is_some(), "{error}");
        let mut other = builder.connect_with(connector, "ws://host/").await.unwrap();
        assert_eq!(other.capabilities(), Capabilities::NONE);
        talk(&mut other).await;
        assert_eq!(offered(&offers), [true, true, true, false]);
    }
}

/// Moves messages between two channels until the other ends are gone.
async fn relay(mut one: Channel, mut other: Channel) {
    loop {
        tokio::select! {
            Some(Ok(message)) = one.next() => if other.send(message).await.is_err() { return },
            Some(Ok(message)) = other.next() => if one.send(message).await.is_err() { return },
            else => return,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_outlives_connections_that_stall_right_after_the_servers_hello() {
    let acceptor: OptimizedAcceptor<Channel> = builder().acceptor();
    let (sessions, mut accepted) = tokio::sync::mpsc::unbounded_channel();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let offers = Offers::default();
    let connector = service_fn({
        let (lines, offers) = (lines.clone(), offers.clone());
        move |request: Request<()>| {
            let offer = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
            let offer = offer.map(|offer| offer.to_str().unwrap().to_owned()).unwrap_or_default();
            let mut response = Response::new(());
            if offer.contains(OURS) {
                response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(OURS));
            }
            offers.lock().unwrap().push(offer);
            let count = offers.lock().unwrap().len();
            let (near, mut middle) = channel::<Message, Message>(16);
            let (other_middle, far) = channel::<Message, Message>(16);
            let (acceptor, sessions) = (acceptor.clone(), sessions.clone());
            tokio::spawn(async move {
                if let Ok(Some(session)) = acceptor.accept_over(far, true).await {
                    let _ = sessions.send(session);
                }
            });
            let line = tokio::spawn(async move {
                let mut other_middle = other_middle;
                if matches!(count, 2..=5) {
                    // The hello comes through, and nothing after it.
                    let hello = other_middle.next().await.unwrap().unwrap();
                    middle.send(hello).await.unwrap();
                    drop(other_middle);
                    sleep(Duration::from_secs(60)).await;
                    return;
                }
                relay(middle, other_middle).await;
            });
            lines.lock().unwrap().push(line.abort_handle());
            std::future::ready(Ok::<_, Error>(response.map(|()| near)))
        }
    });
    let mut transport = builder().connect_with(connector, "ws://host/").await.unwrap();
    let mut session = accepted.recv().await.unwrap();
    for text in ["one", "two"] {
        transport.send_message(text.into()).await.unwrap();
    }
    lines.lock().unwrap()[0].abort();
    let (told, ()) = futures_util::join!(timeout(Duration::from_secs(50), transport.receive_message()), async {
        for text in ["one", "two"] {
            assert_eq!(within(session.receive_message()).await.unwrap().unwrap(), Message::text(text));
        }
    });
    assert!(told.is_err(), "no loss is told: {told:?}");
    assert!(transport.capabilities().resume());
    assert_eq!(offered(&offers), [true; 6]);
    assert!(accepted.try_recv().is_err(), "it is the same session");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_said_hello_stays_known_when_it_closes_for_another_cause() {
    fn restarts(mut far: Channel) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            far.send(Message::Close(Some(CloseFrame::new(CloseCode::RESTART, "")))).await.unwrap();
            while far.next().await.is_some() {}
        })
    }
    let (offers, connector) = server(&[knows, restarts, closes]);
    let builder = builder();
    let mut transport = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
    talk(&mut transport).await;
    for code in [CloseCode::RESTART.get(), 4406] {
        let error = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap_err();
        assert_eq!(error.close_frame().unwrap().code().get(), code);
    }
    assert_eq!(offered(&offers), [true; 3], "the first close does not make it a stranger, nor unknown");
}

/// A connector to a server that answers the handshake with `with` if the stack's subprotocol is offered and with
/// `without` if not. 101 stands for a stranger that answers pings.
fn refusing(
    with: u16,
    without: u16,
) -> (
    Offers,
    impl Service<Request<()>, Response = Response<Channel>, Error = Error, Future: Send> + Clone + Send + Sync + 'static,
) {
    let (offers, connector) = server(&[answers_pings]);
    let seen = offers.clone();
    let connector = service_fn(move |mut request: Request<()>| {
        let offer = request.headers_mut().remove(header::SEC_WEBSOCKET_PROTOCOL);
        let offer = offer.map(|offer| offer.to_str().unwrap().to_owned()).unwrap_or_default();
        let status = if offer.contains(OURS) { with } else { without };
        let connector = connector.clone();
        let seen = seen.clone();
        async move {
            if status != 101 {
                seen.lock().unwrap().push(offer);
                return Err(Error::from_refusal(StatusCode::from_u16(status).unwrap(), Bytes::new()));
            }
            connector.oneshot(request).await
        }
    });
    (offers, connector)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_the_name_is_asked_once_more_without_it_and_remembered() {
    for status in [400, 406, 501] {
        let (offers, connector) = refusing(status, 101);
        let builder = builder();
        for _ in 0..2 {
            let mut transport = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
            assert_eq!(transport.capabilities(), Capabilities::NONE);
            talk(&mut transport).await;
        }
        assert_eq!(offered(&offers), [true, false, false], "{status}");
        sleep(Duration::from_secs(601)).await;
        builder.connect_with(connector, "ws://host/").await.unwrap();
        assert_eq!(offered(&offers)[3..], [true, false], "it may have learned the name");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_the_name_cannot_explain_is_told_at_once() {
    for status in [301, 401, 403, 404, 429, 500, 502, 503] {
        let (offers, connector) = refusing(status, 101);
        let error = builder().connect_with(connector, "ws://host/").await.unwrap_err();
        assert_eq!(error.status().unwrap(), status);
        assert_eq!(offered(&offers), [true], "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_with_and_without_the_name_is_not_dialed_twice_for_each_attempt() {
    let (offers, connector) = refusing(400, 406);
    let builder = builder();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let error = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap_err();
        statuses.push(error.status().unwrap().as_u16());
    }
    assert_eq!(offered(&offers), [true, false, true, true, true]);
    assert_eq!(statuses, [406, 400, 400, 400]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_said_hello_and_now_refuses_the_name_gets_plain_messages() {
    let (known, hello) = server(&[knows]);
    let (offers, refuses) = refusing(400, 101);
    let builder = builder();
    let mut transport = builder.clone().connect_with(hello, "ws://host/").await.unwrap();
    talk(&mut transport).await;
    let mut other = builder.connect_with(refuses, "ws://host/").await.unwrap();
    talk(&mut other).await;
    assert_eq!((offered(&known), offered(&offers)), (vec![true], vec![true, false]));
}

fn drops(far: Channel) -> BoxFuture<'static, ()> {
    drop(far);
    Box::pin(async {})
}

fn fails(mut far: Channel) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        far.next().await;
        far.send(Message::Close(None)).await.unwrap();
    })
}

fn closes_with<const CODE: u16>(mut far: Channel) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let frame = CloseFrame::new(CloseCode::new(CODE).unwrap(), "");
        far.send(Message::Close(Some(frame))).await.unwrap();
        while far.next().await.is_some() {}
    })
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_ends_the_connection_in_any_way_is_asked_again_without_the_name() {
    let ways: [Behavior; 9] = [
        drops,
        fails,
        closes_with::<1000>,
        closes_with::<1001>,
        closes_with::<1002>,
        closes_with::<1011>,
        closes_with::<1012>,
        closes_with::<1013>,
        closes_with::<4000>,
    ];
    for ends in ways {
        let (offers, connector) = server(&[ends, answers_pings]);
        let mut transport = builder().connect_with(connector, "ws://host/").await.unwrap();
        talk(&mut transport).await;
        assert_eq!(offered(&offers), [true, false]);
    }
}

#[tokio::test(start_paused = true)]
async fn rejected_credentials_are_not_sent_again() {
    for rejects in [closes_with::<3000>, closes_with::<3003>, closes_with::<4401>, closes_with::<4403>] as [Behavior; 4]
    {
        let (offers, connector) = server(&[rejects]);
        assert!(builder().connect_with(connector, "ws://host/").await.unwrap_err().close_frame().is_some());
        assert_eq!(offered(&offers), [true]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_drops_connections_is_remembered_once_it_did_so_for_some_time() {
    let (offers, connector) = server(&[drops, answers_pings, drops, answers_pings]);
    let builder = builder();
    for _ in 0..3 {
        let mut transport = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
        talk(&mut transport).await;
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(offered(&offers), [true, false, true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_cuts_the_first_connections_of_many_clients_makes_no_stranger_of_the_server() {
    let (offers, connector) = server(&[drops, answers_pings, drops, answers_pings, knows]);
    let builder = builder();
    for _ in 0..2 {
        builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
    }
    let mut transport = builder.connect_with(connector, "ws://host/").await.unwrap();
    assert!(transport.capabilities().is_known());
    talk(&mut transport).await;
    assert_eq!(offered(&offers), [true, false, true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_behind_a_live_proxy_is_not_dialed_twice_for_each_attempt() {
    for dead in [drops as Behavior, closes_with::<1013>, is_silent] {
        let (offers, connector) = server(&[dead]);
        let builder = builder()
            .backoff(Backoff::fixed(Duration::from_secs(1)))
            .heartbeat(HeartbeatLayer::new(Duration::from_secs(1), Duration::from_secs(1)));
        let mut transport = builder.connect_lazily(connector, "ws://host/");
        assert!(timeout(Duration::from_secs(590), transport.receive_message()).await.is_err());
        let (with, without): (Vec<bool>, Vec<bool>) = offered(&offers).into_iter().partition(|offered| *offered);
        assert!(with.len() <= 7 && without.len() > 100, "{} with the name, {} without", with.len(), without.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_said_hello_stays_known_when_its_connections_are_cut() {
    let (offers, connector) = server(&[knows, drops, drops, drops, knows]);
    let builder = builder();
    let mut transport = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap();
    talk(&mut transport).await;
    for _ in 0..3 {
        sleep(Duration::from_secs(100)).await;
        let error = builder.clone().connect_with(connector.clone(), "ws://host/").await.unwrap_err();
        assert!(error.is_closed(), "{error}");
    }
    let mut other = builder.connect_with(connector, "ws://host/").await.unwrap();
    assert!(other.capabilities().is_known());
    talk(&mut other).await;
    assert_eq!(offered(&offers), [true; 5]);
}

#[tokio::test(start_paused = true)]
async fn two_ends_that_know_each_other_need_no_ping_and_no_time() {
    let (offers, connector) = server(&[knows]);
    let since = Instant::now();
    let mut transport = builder().connect_with(connector, "ws://host/").await.unwrap();
    talk(&mut transport).await;
    assert!(transport.capabilities().resume());
    assert_eq!((since.elapsed(), offered(&offers)), (Duration::ZERO, vec![true]));
}

#[tokio::test(start_paused = true)]
async fn an_older_client_that_says_hello_first_is_understood() {
    const HELLO: &[u8] = b"\x01\0\0\0\0\0\x40\0\x01\x07\xf8ttx\x01\xff";
    let (mut old, far) = channel::<Message, Message>(16);
    old.send(Message::binary(HELLO)).await.unwrap();
    let acceptor: OptimizedAcceptor<Channel> = builder().acceptor();
    let mut session = acceptor.accept_over(far, true).await.unwrap().unwrap();
    assert!(old.next().await.unwrap().unwrap().len() == HELLO.len());
    old.send("hello".into()).await.unwrap();
    assert_eq!(session.receive_message().await.unwrap().unwrap(), Message::text("hello"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_offers_the_name_without_knowing_it_is_told_what_is_wrong() {
    let acceptor: OptimizedAcceptor<Channel> = builder().acceptor();
    for (says, code) in [(Some("hi"), CloseCode::PROTOCOL), (None, CloseCode::TRY_AGAIN)] {
        let (mut client, far) = channel::<Message, Message>(16);
        let server = acceptor.clone();
        let accepting = tokio::spawn(async move { server.accept_over(far, true).await.map(|_| ()) });
        if let Some(says) = says {
            client.send(says.into()).await.unwrap();
        }
        assert!(client.next().await.unwrap().unwrap().is_data(), "the server's hello");
        let Message::Close(Some(frame)) = client.next().await.unwrap().unwrap() else { panic!("not told") };
        assert_eq!(frame.code(), code);
        assert!(frame.reason().contains(OURS), "{frame}");
        drop(client);
        assert!(accepting.await.unwrap().is_err());
    }
}

/// Sends back what comes in, and takes no other data than the user's.
async fn echo<T>(mut transport: T)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    while let Some(Ok(message)) = transport.receive_message().await {
        if message.is_data() {
            assert!(message.as_text().is_some(), "a stranger gets what is not the user's: {message:?}");
            if transport.send_message(message).await.is_err() {
                return;
            }
        }
    }
}

async fn is_echoed<T>(mut transport: OptimizedTransport<T>)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
{
    assert_eq!(transport.capabilities(), Capabilities::NONE);
    within(transport.send_message("plain".into())).await.unwrap();
    assert_eq!(within(transport.receive_message()).await.unwrap().unwrap(), Message::text("plain"));
}

#[tokio::test]
async fn over_web_socket_a_server_that_takes_the_first_name_gets_the_users_name_and_plain_messages() {
    let server = serve_http(service_fn(|request: Request<hyper::body::Incoming>| {
        let offered =
            request.headers().get(header::SEC_WEBSOCKET_PROTOCOL).map(|names| names.to_str().unwrap().to_owned());
        let upgrade = WebSocketService::new(|socket, _| echo(socket));
        let upgrade = match offered.as_deref().and_then(|names| names.split(',').next()) {
            Some(first) => upgrade.subprotocol(first.trim()).unwrap(),
            None => upgrade,
        };
        async move { upgrade.oneshot(request).await }
    }))
    .await;
    let url = format!("ws://{server}/");
    is_echoed(within(builder().connect(&url)).await.unwrap()).await;

    let connector = WebSocketConnector::new().subprotocol("chat").unwrap();
    let mut request = Request::get(&url).body(()).unwrap();
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("room"));
    let response = within(connector.clone().oneshot(request.clone())).await.unwrap();
    assert_eq!(response.headers()[header::SEC_WEBSOCKET_PROTOCOL], "room");
    let builder = builder().limits(Limits::new().handshake(Duration::from_secs(3600)));
    is_echoed(within(builder.connect_with(connector, request)).await.unwrap()).await;

    let context = WebSocketContext::new(&url, self::builder());
    within(context.connect()).await.unwrap();
    within(context.send_text("plain")).await.unwrap();
    assert_eq!(within(context.receive()).await.unwrap(), Message::text("plain"));
}

#[tokio::test]
async fn connect_remembers_a_stranger_from_one_call_to_the_next() {
    let offers = Offers::default();
    let seen = offers.clone();
    let server = serve_http(service_fn(move |request: Request<hyper::body::Incoming>| {
        let offer = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL).map(|names| names.to_str().unwrap());
        seen.lock().unwrap().push(offer.unwrap_or_default().to_owned());
        let upgrade = WebSocketService::new(|mut socket: WebSocket, _| async move {
            socket.send(Message::text("welcome")).await.unwrap();
            while socket.next().await.is_some() {}
        });
        async move { upgrade.subprotocol(OURS).unwrap().oneshot(request).await }
    }))
    .await;
    let url = format!("ws://{server}/remembered");
    for _ in 0..3 {
        let mut transport = within(OptimizedTransport::connect(&url)).await.unwrap();
        assert_eq!(within(transport.receive_message()).await.unwrap().unwrap(), Message::text("welcome"));
    }
    assert_eq!(offered(&offers), [true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn a_binary_message_of_a_stranger_that_ends_like_a_heartbeat_is_data_both_ways() {
    fn echoes(mut far: Channel) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            while let Some(Ok(message)) = far.next().await {
                match message {
                    Message::Binary(_) => far.send(message).await.unwrap(),
                    Message::Ping(payload) => far.send(Message::Pong(payload)).await.unwrap(),
                    other => assert!(other.is_close(), "a stranger gets what is not the user's: {other:?}"),
                }
            }
        })
    }
    let (_, connector) = server(&[echoes]);
    let mark = |kind: u8| Message::binary([b"12345678".as_slice(), &[kind, 4], b"\xf8ttx\x01\xff"].concat());
    for heartbeat in [HeartbeatLayer::default(), HeartbeatLayer::default().application_level()] {
        let builder = builder().heartbeat(heartbeat);
        let mut transport = builder.connect_with(connector.clone(), "ws://host/").await.unwrap();
        for message in [mark(0), mark(1), mark(2), mark(9)] {
            transport.send_message(message.clone()).await.unwrap();
            assert_eq!(transport.receive_message().await.unwrap().unwrap(), message);
        }
        // Long enough for pings.
        assert!(timeout(Duration::from_secs(300), transport.receive_message()).await.is_err());
    }
}

#[tokio::test]
async fn over_sse_with_post_a_server_that_echoes_the_name_gets_plain_messages() {
    let sse = SseDuplexServer::new(|duplex, _| echo(duplex)).subprotocol(OURS).unwrap();
    let server = serve_http(sse).await;
    let request = Request::get(format!("http://{server}/")).body(()).unwrap();
    is_echoed(within(builder().connect_with(SseDuplexConnector::new(), request)).await.unwrap()).await;
}

#[tokio::test]
async fn over_web_transport_a_server_that_echoes_the_name_gets_plain_messages() {
    let certificate = Certificate::development(&[]).unwrap();
    let hash = certificate.hash();
    let quic = WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate).unwrap();
    let address = quic.local_addr().unwrap();
    let mut quic = quic.subprotocol(OURS).unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = quic.accept().await {
            tokio::spawn(async move {
                let session = incoming.accept().await.unwrap();
                echo(session.accept().await.unwrap()).await;
            });
        }
    });
    let connector = WebTransportConnector::new().certificate_hashes([hash]);
    let request = Request::get(format!("https://{address}/")).body(()).unwrap();
    is_echoed(within(builder().connect_with(connector, request)).await.unwrap()).await;
}

#[tokio::test]
async fn an_adaptive_connector_goes_on_plain_over_the_transport_that_it_has_found() {
    let server = serve(WebSocketService::new(|socket, _| echo(socket)).subprotocol(OURS).unwrap()).await;
    let endpoints = Endpoints::new(&format!("http://{server}")).unwrap().without(TransportKind::Sse);
    let connector = AdaptiveConnector::new(endpoints.clone());
    is_echoed(within(builder().connect_with(connector.clone(), &endpoints)).await.unwrap()).await;
    let uri = http::Uri::try_from(format!("http://{server}/")).unwrap();
    assert!(!connector.capabilities(&uri).unwrap().is_optimized());
}

#[tokio::test]
async fn an_adaptive_connector_does_not_take_a_name_that_a_server_echoes_for_knowledge() {
    let greet = |mut socket: WebSocket, _| async move {
        let _ = socket.send_message("welcome".into()).await;
        echo(socket).await;
    };
    let server = serve(WebSocketService::new(greet).subprotocol(OURS).unwrap()).await;
    let endpoints = Endpoints::new(&format!("http://{server}")).unwrap().without(TransportKind::Sse);
    let connector = AdaptiveConnector::new(endpoints.clone());
    let mut transport = within(builder().connect_with(connector.clone(), &endpoints)).await.unwrap();
    assert_eq!(within(transport.receive_message()).await.unwrap().unwrap(), Message::text("welcome"));
    let uri = http::Uri::try_from(format!("http://{server}/")).unwrap();
    assert!(!connector.capabilities(&uri).unwrap().is_optimized());
}

#[tokio::test]
async fn over_web_socket_a_client_that_echoes_the_name_is_closed_with_a_reason() {
    let acceptor: OptimizedAcceptor = builder().acceptor();
    let server = serve(acceptor.upgrade(|_, _| async {})).await;
    let connector = WebSocketConnector::new().subprotocol(OURS).unwrap();
    let request = Request::get(format!("ws://{server}/")).body(()).unwrap();
    let mut socket = within(connector.oneshot(request)).await.unwrap().into_body();
    within(socket.send_message("what is this?".into())).await.unwrap();
    within(async { while let Some(Ok(_)) = socket.next().await {} }).await;
    assert_eq!(socket.close_frame().unwrap().code(), CloseCode::PROTOCOL);
    assert!(socket.next().now_or_never().flatten().is_none());
}

/// The answer of a server of raw sockets to an HTTP request that offers the stack's subprotocol.
#[derive(Clone, Copy)]
enum Dislike {
    /// Answers 400.
    Refuse,
    /// Chooses the name, and cuts the connection.
    Cut,
}

const DISLIKES: [Dislike; 2] = [Dislike::Refuse, Dislike::Cut];

#[tokio::test]
async fn over_web_socket_a_server_that_refuses_the_name_or_cuts_the_connection_gets_plain_messages() {
    for dislike in DISLIKES {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(tcp.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let line = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let accept = derive_accept_key(line("sec-websocket-key:").unwrap().as_bytes());
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n"
                );
                match (line("sec-websocket-protocol:"), dislike) {
                    (None, _) => {
                        tcp.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
                        let mut frame = [0; 6 + 5];
                        tcp.read_exact(&mut frame).await.unwrap();
                        // An unmasked echo.
                        let (mask, text) = frame[2..].split_at(4);
                        let text: Vec<u8> =
                            text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
                        tcp.write_all(&[b"\x81\x05", &*text].concat()).await.unwrap();
                        let _ = tcp.read(&mut frame).await;
                    }
                    (Some(_), Dislike::Refuse) => {
                        let refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                        tcp.write_all(refusal).await.unwrap();
                    }
                    (Some(name), Dislike::Cut) => {
                        tcp.write_all(format!("{answer}Sec-WebSocket-Protocol: {name}\r\n\r\n").as_bytes())
                            .await
                            .unwrap();
                    }
                }
            }
        });
        is_echoed(within(builder().connect(&url)).await.unwrap()).await;
    }
}

#[tokio::test]
async fn over_sse_with_post_a_server_that_refuses_the_name_or_cuts_the_connection_gets_plain_messages() {
    for dislike in DISLIKES {
        let plain = SseDuplexServer::new(|duplex, _| echo(duplex));
        let cuts = SseDuplexServer::new(|duplex, _| async { drop(duplex) }).subprotocol(OURS).unwrap();
        let server = serve_http(service_fn(move |request: Request<hyper::body::Incoming>| {
            let offers = request.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL);
            let (plain, cuts) = (plain.clone(), cuts.clone());
            async move {
                Ok::<_, std::convert::Infallible>(match (offers, dislike) {
                    (false, _) => plain.oneshot(request).await.unwrap().map(axum::body::Body::new),
                    (true, Dislike::Cut) => cuts.oneshot(request).await.unwrap().map(axum::body::Body::new),
                    (true, Dislike::Refuse) => {
                        let mut response = Response::new(axum::body::Body::new(Full::<Bytes>::default()));
                        *response.status_mut() = StatusCode::BAD_REQUEST;
                        response
                    }
                })
            }
        }))
        .await;
        let request = Request::get(format!("http://{server}/")).body(()).unwrap();
        is_echoed(within(builder().connect_with(SseDuplexConnector::new(), request)).await.unwrap()).await;
    }
}

#[tokio::test]
async fn over_web_transport_a_server_that_refuses_the_name_or_cuts_the_connection_gets_plain_messages() {
    for dislike in DISLIKES {
        let certificate = Certificate::development(&[]).unwrap();
        let hash = certificate.hash();
        let quic = WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate).unwrap();
        let address = quic.local_addr().unwrap();
        let mut quic = quic.subprotocol(OURS).unwrap();
        tokio::spawn(async move {
            while let Some(incoming) = quic.accept().await {
                tokio::spawn(async move {
                    let offers = incoming.parts().headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL);
                    match (offers, dislike) {
                        (true, Dislike::Refuse) => incoming.reject(StatusCode::BAD_REQUEST).await.unwrap(),
                        (true, Dislike::Cut) => drop(incoming.accept().await.unwrap().accept().await.unwrap()),
                        (false, _) => echo(incoming.accept().await.unwrap().accept().await.unwrap()).await,
                    }
                });
            }
        });
        let connector = WebTransportConnector::new().certificate_hashes([hash]);
        let request = Request::get(format!("https://{address}/")).body(()).unwrap();
        is_echoed(within(builder().connect_with(connector, request)).await.unwrap()).await;
    }
}

#[tokio::test]
async fn an_adaptive_connector_asks_again_when_no_transport_accepts_the_name() {
    let server = serve_http(service_fn(|request: Request<hyper::body::Incoming>| {
        let offers = request.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL);
        async move {
            let refused = |status| {
                let mut response = Response::new(UpgradeBody::default());
                *response.status_mut() = status;
                Ok(response)
            };
            match request.uri().path() {
                "/ws" if offers => refused(StatusCode::BAD_REQUEST),
                "/ws" => WebSocketService::new(|socket, _| echo(socket)).oneshot(request).await,
                _ => refused(StatusCode::NOT_FOUND),
            }
        }
    }))
    .await;
    let endpoints = Endpoints::new(&format!("http://{server}")).unwrap();
    let connector = AdaptiveConnector::new(endpoints.clone());
    is_echoed(within(builder().connect_with(connector, &endpoints)).await.unwrap()).await;
}
