//! Messages that a connection refuses, on the way out and in: told once, never sent again and again.

use std::{
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use http::StatusCode;
use tokio::{
    io::DuplexStream,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::Instant,
};
use tower::{Layer, service_fn, util::ServiceFn};
use tower_transport::{
    Channel, CloseCode, CloseFrame, Error, Limits, Message, Transport, channel,
    layer::{
        compression::{Compressed, CompressionLayer, Deflate},
        resume::{Accepted, Resume, ResumeLayer, ResumedTransport, Session, SessionStore, Verdict},
    },
    transport::websocket::WebSocket,
};

use super::support::{connect, message, quiet, take};

type Dial<T> = ServiceFn<Box<dyn FnMut(http::Request<()>) -> Ready<Result<http::Response<T>, Error>> + Send>>;

/// A client and a server of connections that `pair` makes.
struct World<N, F> {
    client: Resume<Dial<N>>,
    store: SessionStore<F>,
    far: UnboundedReceiver<F>,
}

impl<N, F> World<N, F>
where
    N: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
    F: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
{
    fn new(mut pair: impl FnMut() -> (N, F) + Send + 'static) -> Self {
        let (dialed, far) = unbounded_channel();
        let dial: Dial<N> = service_fn(Box::new(move |_: http::Request<()>| {
            let (near, far) = pair();
            let _ = dialed.send(far);
            ready(Ok(http::Response::new(near)))
        }) as _);
        Self { client: ResumeLayer::new().layer(dial), store: SessionStore::new(), far }
    }

    async fn open(&mut self) -> (ResumedTransport<N>, Session<F>, Verdict) {
        let (connected, accepted) =
            tokio::join!(connect(&mut self.client), async { self.store.accept(self.far.recv().await.unwrap()).await });
        let (near, verdict) = connected.unwrap();
        let Accepted::New(session) = accepted.unwrap() else { panic!("not a new session") };
        (near, session, verdict)
    }

    /// Connects again, while the session is polled.
    async fn reopen(&mut self, session: &mut Session<F>) -> (ResumedTransport<N>, Verdict) {
        let mut both = std::pin::pin!(async {
            tokio::join!(connect(&mut self.client), async { self.store.accept(self.far.recv().await.unwrap()).await })
        });
        loop {
            tokio::select! {
                (connected, accepted) = &mut both => {
                    assert!(matches!(accepted.unwrap(), Accepted::Resumed));
                    return connected.unwrap();
                }
                () = async {
                    let _ = session.flush().now_or_never();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                } => {}
            }
        }
    }
}

/// WebSockets with these message limits at the client and at the server.
fn web_sockets(near: usize, far: usize) -> impl FnMut() -> (WebSocket<DuplexStream>, WebSocket<DuplexStream>) + Send {
    move || {
        let (a, b) = tokio::io::duplex(64 << 10);
        (WebSocket::client(a, Limits::new().message(near)), WebSocket::server(b, Limits::new().message(far)))
    }
}

fn large() -> Message {
    Message::binary(vec![7; 2000])
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_connections_limit_is_the_error_of_its_own_send_and_the_session_goes_on() {
    let mut world = World::new(web_sockets(1 << 20, 1000));
    let (mut near, mut session, _) = world.open().await;
    session.send(message(0)).await.unwrap();
    let error = session.send(large()).await.unwrap_err();
    assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
    assert!(session.send(Message::Ping(vec![7; 126].into())).await.unwrap_err().is_rejection());
    session.send(message(1)).await.unwrap();
    take(&mut near, 0..2).await;
    assert_eq!((session.unacknowledged(), session.resumptions()), (2, 0));
    // Both ends still agree.
    drop(near);
    let (mut near, verdict) = world.reopen(&mut session).await;
    assert_eq!(verdict, Verdict::Resumed { replayed: 0 });
    session.send(message(2)).await.unwrap();
    take(&mut near, 2..3).await;
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_refused_long_after_they_were_accepted_are_told_once_and_never_sent_again() {
    let mut world = World::new(web_sockets(1 << 20, 1000));
    let (near, mut session, _) = world.open().await;
    drop(near);
    assert!(session.next().now_or_never().is_none());
    // Messages around them, among them one that is escaped: numbers and digests have to move up.
    session.feed(message(0)).await.unwrap();
    session.feed(large()).await.unwrap();
    session.feed(Message::binary([&b"x"[..], &[0, 3, 0xf8, b't', b't', b'x', 1, 0xff]].concat())).await.unwrap();
    session.feed(large()).await.unwrap();
    session.feed(message(1)).await.unwrap();
    let (mut near, verdict) = world.reopen(&mut session).await;
    assert_eq!(verdict, Verdict::Resumed { replayed: 0 });
    let error = session.next().await.unwrap().unwrap_err();
    assert!(error.is_too_large() && error.is_rejection() && error.to_string().contains("1 more"), "{error}");
    quiet(&mut session);
    take(&mut near, 0..1).await;
    assert_eq!(near.next().await.unwrap().unwrap().len(), 9);
    take(&mut near, 1..2).await;
    drop(near);
    let (mut near, verdict) = world.reopen(&mut session).await;
    assert_eq!(verdict, Verdict::Resumed { replayed: 0 });
    assert_eq!(session.unacknowledged(), 0);
    quiet(&mut near);
}

fn compressed(keep: bool) -> impl FnMut() -> (Compressed<Channel>, Compressed<Channel>) + Send {
    move || {
        let (near, far) = channel::<Message, Message>(16);
        let deflate = if keep { Deflate::new().keep_context() } else { Deflate::new() };
        (CompressionLayer::new(deflate).layer(near), CompressionLayer::new(deflate.max_inflated(10_000)).layer(far))
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_a_layer_of_the_receiver_rejects_is_an_error_item_there_and_is_not_sent_again() {
    let mut world = World::new(compressed(false));
    let (mut near, mut session, _) = world.open().await;
    near.send(message(0)).await.unwrap();
    near.send(Message::text("again and again ".repeat(6000))).await.unwrap();
    near.send(message(1)).await.unwrap();
    take(&mut session, 0..1).await;
    let error = session.next().await.unwrap().unwrap_err();
    assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
    assert!(session.next().now_or_never().is_none(), "the session goes on");
    // The connection ends, with a code after which a client comes back.
    let Some(Ok(Message::Close(Some(frame)))) = near.next().await else { panic!("not told") };
    assert_eq!(frame.code(), CloseCode::RESTART);
    drop(near);
    let (mut near, verdict) = world.reopen(&mut session).await;
    assert_eq!(verdict, Verdict::Resumed { replayed: 1 });
    near.flush().await.unwrap();
    take(&mut session, 1..2).await;
    quiet(&mut session);
    near.send(message(2)).await.unwrap();
    take(&mut session, 2..3).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_close_to_say_is_polled_until_the_close_is_out() {
    let mut world = World::new(compressed(true));
    let (mut near, mut session, _) = world.open().await;
    // The client's end is full, so the close cannot leave at once.
    for number in 0..16 {
        session.feed(message(number)).await.unwrap();
    }
    assert!(session.flush().now_or_never().is_some());
    near.send(Message::text("again and again ".repeat(6000))).await.unwrap();
    assert!(session.next().now_or_never().is_none());
    take(&mut near, 0..16).await;
    assert!(session.next().now_or_never().is_none());
    let Some(Ok(Message::Close(Some(frame)))) = near.next().await else { panic!("the server vanished") };
    assert_eq!(frame.code(), CloseCode::TOO_BIG);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_peer_closes_for_again_and_again_ends_the_session_with_its_cause() {
    let mut world = World::new(web_sockets(1000, 1 << 20));
    let (mut near, mut session, _) = world.open().await;
    session.send(large()).await.unwrap();
    let mut connections = 1;
    let error = loop {
        let refused = near.next().await.unwrap().unwrap_err();
        assert!(refused.is_too_large(), "{refused}");
        drop(near);
        if let Some(item) = tokio::time::timeout(Duration::from_secs(5), session.next()).await.ok().flatten() {
            break item.unwrap_err();
        }
        connections += 1;
        assert!(connections < 10, "for ever");
        (near, _) = world.reopen(&mut session).await;
        assert!(tokio::time::timeout(Duration::from_secs(1), session.flush()).await.is_ok());
    };
    assert_eq!(connections, 3);
    assert!(error.is_too_large() && !error.is_rejection(), "{error:?}");
    assert_eq!(error.close_frame().unwrap().code(), CloseCode::TOO_BIG);
    assert!(session.next().await.is_none() && session.send(message(0)).await.unwrap_err().is_closed());
    let (_, _, verdict) = world.open().await;
    assert_eq!(verdict, Verdict::Fresh { lost: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_connections_end_again_and_again_without_progress_is_given_up() {
    let mut world = World::new(|| channel::<Message, Message>(16));
    world.client = ResumeLayer::new().max_stalled_connections(4).layer(world.client.into_inner());
    let (mut near, mut session, _) = world.open().await;
    quiet(&mut session);
    near.send(message(0)).await.unwrap();
    for connection in 1..=4 {
        // The server's end is gone before it has read anything.
        drop(std::mem::replace(near.get_mut(), channel::<Message, Message>(1).0));
        let end = near.next().await;
        if connection == 4 {
            let error = end.unwrap().unwrap_err();
            assert!(error.to_string().contains("4 connections in a row"), "{error}");
            assert!(error.is_closed() && !error.is_rejection());
            break;
        }
        assert!(end.is_none(), "{end:?}");
        drop(near);
        (near, _) = world.reopen(&mut session).await;
        quiet(&mut session);
    }
    drop(near);
    let (_, _, verdict) = world.open().await;
    assert_eq!(verdict, Verdict::Fresh { lost: 1 });
}

#[tokio::test(start_paused = true)]
async fn messages_of_the_peer_do_not_keep_a_session_whose_own_message_never_arrives() {
    let mut world = World::new(|| channel::<Message, Message>(16));
    world.client = ResumeLayer::new().max_stalled_connections(4).layer(world.client.into_inner());
    let (mut near, mut session, _) = world.open().await;
    quiet(&mut session);
    near.send(message(0)).await.unwrap();
    let mut connection = 1;
    let error = loop {
        // The server pushes, and the connection is cut before the client's message gets through.
        session.send(message(connection)).await.unwrap();
        take(&mut near, connection..connection + 1).await;
        drop(std::mem::replace(near.get_mut(), channel::<Message, Message>(1).0));
        if let Some(item) = near.next().await {
            break item.unwrap_err();
        }
        drop(near);
        connection += 1;
        assert!(connection < 20, "the message is sent again on every connection");
        (near, _) = world.reopen(&mut session).await;
        quiet(&mut session);
    };
    assert_eq!(connection, 4);
    assert!(error.to_string().contains("4 connections in a row"), "{error}");
    assert!(error.is_closed() && !error.is_rejection());
    drop(near);
    let (_, _, verdict) = world.open().await;
    assert_eq!(verdict, Verdict::Fresh { lost: 1 });
}

#[tokio::test(start_paused = true)]
async fn a_session_that_only_receives_outlives_any_number_of_cut_connections() {
    let mut world = World::new(|| channel::<Message, Message>(16));
    world.client = ResumeLayer::new().max_stalled_connections(1).layer(world.client.into_inner());
    let (mut near, mut session, _) = world.open().await;
    for connection in 0..20 {
        session.send(message(connection)).await.unwrap();
        take(&mut near, connection..connection + 1).await;
        drop(std::mem::replace(near.get_mut(), channel::<Message, Message>(1).0));
        assert!(near.next().await.is_none());
        drop(near);
        let verdict;
        (near, verdict) = world.reopen(&mut session).await;
        assert!(matches!(verdict, Verdict::Resumed { .. }), "{verdict:?}");
    }
}

/// A transport behind a proxy with its own limit: a flush of more than 1000 bytes fails with a 413.
struct Proxied(Channel, bool);

impl Stream for Proxied {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl Sink<Message> for Proxied {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.1 |= message.len() > 1000;
        self.0.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.1 {
            return Poll::Ready(Err(Error::from_refusal(StatusCode::PAYLOAD_TOO_LARGE, Bytes::new())));
        }
        self.0.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_close_unpin(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_413_gives_the_session_up_and_is_not_sent_again() {
    let mut world = World::new(|| {
        let (near, far) = channel::<Message, Message>(16);
        (Proxied(near, false), far)
    });
    let (mut near, _session, _) = world.open().await;
    let error = near.send(large()).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::PAYLOAD_TOO_LARGE));
    assert!(!error.is_rejection(), "{error:?}");
    drop(near);
    let (_, _, verdict) = world.open().await;
    assert_eq!(verdict, Verdict::Fresh { lost: 1 });
}

/// Replaces the connection of a transport by one that the peer closes with this code, or merely drops.
async fn cut(near: &mut ResumedTransport<Channel>, code: Option<u16>) {
    let (connection, mut far) = channel::<Message, Message>(1);
    if let Some(code) = code {
        let frame = CloseFrame::new(CloseCode::new(code).unwrap(), "");
        far.send(Message::Close(Some(frame))).await.unwrap();
    }
    *near.get_mut() = connection;
}

/// Returns the error that ends the stream, if there is one.
async fn last_error(near: &mut ResumedTransport<Channel>) -> Option<Error> {
    while let Some(item) = near.next().await {
        if let Err(error) = item {
            return Some(error);
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn a_message_that_no_connection_gets_through_is_not_replayed_for_hours() {
    let mut world = World::new(|| channel::<Message, Message>(16));
    let (mut near, mut session, _) = world.open().await;
    quiet(&mut session);
    near.send(message(0)).await.unwrap();
    let start = Instant::now();
    let mut connections = 1;
    let error = loop {
        cut(&mut near, None).await;
        if let Some(error) = last_error(&mut near).await {
            break error;
        }
        drop(near);
        assert!(start.elapsed() < Duration::from_secs(3600), "replayed {connections} times in an hour");
        // The delay of a backoff that has reached its cap.
        tokio::time::sleep(Duration::from_secs(30)).await;
        (near, _) = world.reopen(&mut session).await;
        quiet(&mut session);
        connections += 1;
    };
    assert!(start.elapsed() >= Duration::from_secs(600), "{connections} connections in {:?}", start.elapsed());
    assert!(error.to_string().contains("10min") || error.to_string().contains("600s"), "{error}");
    drop(near);
    let (_, _, verdict) = world.open().await;
    assert_eq!(verdict, Verdict::Fresh { lost: 1 });
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_user_does_not_read_for_an_hour_is_given_up_by_neither_end() {
    for is_client_busy in [true, false] {
        let mut world = World::new(|| channel::<Message, Message>(16));
        let (mut near, mut session, _) = world.open().await;
        // Not acknowledged for as long as the other end's user is busy.
        if is_client_busy {
            session.send(message(0)).await.unwrap();
        } else {
            near.send(message(0)).await.unwrap();
        }
        for _ in 0..120 {
            if is_client_busy {
                drop(near);
                quiet(&mut session);
            } else {
                cut(&mut near, None).await;
                assert!(last_error(&mut near).await.is_none());
                drop(near);
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
            let verdict;
            (near, verdict) = world.reopen(&mut session).await;
            assert!(matches!(verdict, Verdict::Resumed { .. }), "{verdict:?}");
        }
        near.flush().await.unwrap();
        session.flush().await.unwrap();
        if is_client_busy { take(&mut near, 0..1).await } else { take(&mut session, 0..1).await }
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_between_two_connections_is_no_reason_to_give_up() {
    let mut world = World::new(|| channel::<Message, Message>(16));
    world.store = SessionStore::new().ttl(Duration::from_secs(86_400));
    let (mut near, mut session, _) = world.open().await;
    near.send(message(0)).await.unwrap();
    for _ in 0..10 {
        cut(&mut near, None).await;
        assert!(last_error(&mut near).await.is_none());
        drop(near);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        (near, _) = world.reopen(&mut session).await;
    }
    near.flush().await.unwrap();
    take(&mut session, 0..1).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_cut_every_few_seconds_and_makes_progress_now_and_then_keeps_its_session() {
    let mut world = World::new(|| channel::<Message, Message>(16));
    let (mut near, mut session, _) = world.open().await;
    near.feed(message(0)).await.unwrap();
    let start = Instant::now();
    let mut arrived = 0;
    for connection in 1.. {
        if start.elapsed() > Duration::from_secs(4 * 3600) {
            break;
        }
        // Each hundredth connection lasts long enough for the message that waits. Then the next one waits.
        if connection % 100 == 0 {
            near.flush().await.unwrap();
            take(&mut session, arrived..arrived + 1).await;
            assert!(tokio::time::timeout(Duration::from_millis(200), session.next()).await.is_err());
            quiet(&mut near);
            arrived += 1;
            near.feed(message(arrived)).await.unwrap();
        }
        cut(&mut near, None).await;
        assert!(last_error(&mut near).await.is_none(), "given up after {connection} connections");
        drop(near);
        tokio::time::sleep(Duration::from_secs(4)).await;
        (near, _) = world.reopen(&mut session).await;
    }
    assert!(arrived >= 30, "{arrived}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_fails_at_a_message_again_and_again_ends_the_session_with_its_cause() {
    // An internal error may have another cause, so it takes more of them than of plain refusals.
    for (code, most) in [(1003, 3), (1007, 3), (1009, 3), (1011, 16)] {
        let mut world = World::new(|| channel::<Message, Message>(16));
        let (mut near, mut session, _) = world.open().await;
        near.send(message(0)).await.unwrap();
        let mut connections = 1;
        let error = loop {
            cut(&mut near, Some(code)).await;
            if let Some(error) = last_error(&mut near).await {
                break error;
            }
            drop(near);
            connections += 1;
            assert!(connections < 100, "replayed without end after {code}");
            (near, _) = world.reopen(&mut session).await;
        };
        assert_eq!(connections, most, "{code}");
        assert_eq!(error.close_frame().unwrap().code().get(), code);
        drop(near);
        let (_, _, verdict) = world.open().await;
        assert_eq!(verdict, Verdict::Fresh { lost: 1 });
    }
}
