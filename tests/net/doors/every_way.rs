//! One drain for each way of serving: what was accepted is delivered, clients are told when to return, calls finish.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use futures_util::StreamExt;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use support::{echo, within};
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt, service_fn};
use tower_transport::{
    CloseCode, CloseFrame, Error, Message, QueueConfig, TransportExt,
    codec::JsonCodec,
    layer::codec::CodecLayer,
    service::{Client, Server, Tagged},
    stack::{OptimizedTransport, adaptive::SessionServer},
    transport::{
        ConnectionId, Drain,
        sse::{Event, SseDuplexConnector, SseDuplexServer, event_channel},
        websocket::{WebSocket, WebSocketConnector, WebSocketService},
        webtransport::{Certificate, WebTransportConnector, WebTransportServer},
    },
};

const LONG: Duration = Duration::from_secs(20);

async fn connect(address: std::net::SocketAddr) -> Result<WebSocket, Error> {
    let request = Request::get(format!("ws://{address}/")).body(()).unwrap();
    WebSocketConnector::new().oneshot(request).await.map(http::Response::into_body)
}

/// Reads to the close, and returns the texts before it and the close frame.
async fn read_to_close<T>(client: &mut T) -> (Vec<String>, CloseFrame)
where
    T: TransportExt<Message, In = Message, TransportError = Error> + Unpin,
{
    let mut texts = Vec::new();
    loop {
        match client.receive_message().await {
            Some(Ok(Message::Close(Some(frame)))) => return (texts, frame),
            Some(Ok(message)) => texts.extend(message.as_text().map(str::to_owned)),
            other => panic!("the client is not told: {other:?}"),
        }
    }
}

#[track_caller]
fn assert_restart(frame: &CloseFrame) {
    assert_eq!(frame.code(), CloseCode::RESTART);
    assert!(frame.return_after().is_some_and(|time| time < Duration::from_secs(5)), "{frame}");
}

/// Reads as a handler does that loses nothing: to the end, whatever its own sink says. Begins once there is a permit.
async fn count_all<T>(mut session: T, counted: Arc<AtomicUsize>, begins: Arc<Semaphore>)
where
    T: TransportExt<Message, In = Message, TransportError = Error> + Unpin,
{
    let _ = begins.acquire().await.unwrap();
    while let Some(Ok(message)) = session.receive_message().await {
        counted.fetch_add(usize::from(message.is_data()), SeqCst);
    }
}

/// Sends 100 messages that a handler does not read before the drain has started. They count nevertheless.
async fn sends_100_that_are_read_after_the_start<T>(
    mut client: T,
    drain: &Drain,
    (counted, begins): (&AtomicUsize, &Semaphore),
) where
    T: TransportExt<Message, In = Message, TransportError = Error> + Unpin,
{
    for number in 0..100 {
        client.send_message(Message::text(format!("message {number}"))).await.unwrap();
    }
    let (drained, told) = tokio::join!(drain.drain(LONG), async {
        begins.add_permits(1);
        read_to_close(&mut client).await
    });
    assert_restart(&told.1);
    drop(client);
    assert_eq!(counted.load(SeqCst), 100);
    assert_eq!((drained.closed, drained.cut), (1, 0));
}

fn counter() -> (Arc<AtomicUsize>, Arc<Semaphore>) {
    (Arc::default(), Arc::new(Semaphore::new(0)))
}

#[tokio::test]
async fn messages_that_came_in_before_the_drain_are_read_over_a_plain_websocket() {
    let (counted, begins) = counter();
    let (count, begin, drain) = (counted.clone(), begins.clone(), Drain::new());
    let upgrade = WebSocketService::new(move |socket, _| count_all(socket, count, begin)).drain(&drain);
    let address = super::serve(upgrade).await;
    within(sends_100_that_are_read_after_the_start(connect(address).await.unwrap(), &drain, (&counted, &begins))).await;
}

#[tokio::test]
async fn messages_that_came_in_before_the_drain_are_read_over_an_optimized_acceptor() {
    let (counted, begins) = counter();
    let (count, begin, drain) = (counted.clone(), begins.clone(), Drain::new());
    let acceptor = OptimizedTransport::builder().acceptor().with_drain(&drain);
    let address = super::serve(acceptor.upgrade(move |session, _| count_all(session, count, begin))).await;
    within(sends_100_that_are_read_after_the_start(connect(address).await.unwrap(), &drain, (&counted, &begins))).await;
}

#[tokio::test]
async fn messages_that_came_in_before_the_drain_are_read_over_sse_with_post() {
    let (counted, begins) = counter();
    let (count, begin, drain) = (counted.clone(), begins.clone(), Drain::new());
    let server = SseDuplexServer::new(move |session, _| count_all(session, count, begin)).drain(&drain);
    let address = super::serve(server).await;
    let request = Request::get(format!("http://{address}/")).body(()).unwrap();
    let client = SseDuplexConnector::new().oneshot(request).await.unwrap().into_body();
    within(sends_100_that_are_read_after_the_start(client, &drain, (&counted, &begins))).await;
}

#[tokio::test]
async fn messages_that_came_in_before_the_drain_are_read_over_webtransport_and_a_new_session_gets_503() {
    let (counted, begins) = counter();
    let (count, begin, drain) = (counted.clone(), begins.clone(), Drain::new());
    let certificate = Certificate::development(&[]).unwrap();
    let connector = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
    let mut server = WebTransportServer::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap().drain(&drain);
    let address = server.local_addr().unwrap();
    tokio::spawn(async move { server.serve(move |stream, _| count_all(stream, count, begin)).await });
    let request = || Request::get(format!("https://{address}/")).body(()).unwrap();
    let client = connector.clone().oneshot(request()).await.unwrap().into_body();
    within(sends_100_that_are_read_after_the_start(client, &drain, (&counted, &begins))).await;
    let late = within(connector.oneshot(request())).await.unwrap_err();
    assert_eq!(late.status(), Some(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(drain.drain(LONG).await.refused, 1);
}

#[tokio::test]
async fn messages_that_came_in_before_a_session_server_closes_are_read() {
    let (counted, begins) = counter();
    let (count, begin) = (counted.clone(), begins.clone());
    let acceptor = OptimizedTransport::builder().acceptor();
    let server = SessionServer::new(acceptor, move |session, _| count_all(session, count.clone(), begin.clone()));
    let address = super::serve(server.web_socket()).await;
    let mut client = connect(address).await.unwrap();
    for number in 0..100 {
        client.send_message(Message::text(format!("message {number}"))).await.unwrap();
    }
    let (closed, told) = within(async {
        tokio::join!(server.close(LONG), async {
            begins.add_permits(1);
            read_to_close(&mut client).await.1
        })
    })
    .await;
    closed.unwrap();
    assert_eq!((told.code(), counted.load(SeqCst)), (CloseCode::AWAY, 100));
    assert!(told.return_after().is_some(), "{told}");
}

#[tokio::test]
async fn an_event_stream_sends_what_is_ready_then_the_time_to_return_and_its_route_refuses() {
    let drain = Drain::new();
    let draining = drain.clone();
    let stream = move || async move {
        let (sender, events) = event_channel(QueueConfig::events());
        for number in 0..10 {
            sender.send(Event::new(format!("event {number}"))).await.unwrap();
        }
        // Lives until the stream is gone.
        tokio::spawn(async move { while sender.send(Event::new("more")).await.is_ok() {} });
        events.drain(&draining)
    };
    let app = Router::new().route("/", get(stream)).layer(drain.layer());
    let request = || Request::get("/").body(Body::empty()).unwrap();
    let mut body = app.clone().oneshot(request()).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"data: event 0\n\n"), "{first:?}");
    assert_eq!((drain.sessions(), drain.broadcast(&Message::text("soon"))), (1, 1));
    drain.start(CloseFrame::new(CloseCode::RESTART, ""));
    let rest = within(body.collect()).await.unwrap().to_bytes();
    let rest = String::from_utf8(rest.to_vec()).unwrap();
    assert!(rest.contains("data: soon\n\n"), "{rest}");
    let (_, retry) = rest.trim_end().rsplit_once("\n\nretry: ").unwrap();
    assert!(retry.parse::<u64>().unwrap() < 5000, "{rest}");

    let late = app.oneshot(request()).await.unwrap();
    assert_eq!(
        (late.status(), &late.headers()[header::RETRY_AFTER]),
        (StatusCode::SERVICE_UNAVAILABLE, &"5".parse().unwrap())
    );
    let drained = drain.drain(LONG).await;
    assert_eq!((drained.closed, drained.cut, drained.refused), (1, 0, 1));
}

#[tokio::test]
async fn calls_in_flight_are_answered_before_the_transport_closes() {
    for is_optimized in [false, true] {
        let drain = Drain::new();
        let (going, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (started, gate) = (going.clone(), go.clone());
        let double = service_fn(move |number: u64| {
            let (started, gate) = (started.clone(), gate.clone());
            async move {
                started.add_permits(1);
                let _ = gate.acquire().await.unwrap();
                Ok::<_, Error>(2 * number)
            }
        });
        let codec = || CodecLayer::new(JsonCodec::<Tagged<u64>>::new());
        let address = if is_optimized {
            let acceptor = OptimizedTransport::builder().acceptor().with_drain(&drain);
            let upgrade = acceptor.upgrade(move |session, _| async move {
                Server::as_they_finish(codec().layer(session), double).await.unwrap();
            });
            super::serve(upgrade).await
        } else {
            let upgrade = WebSocketService::new(move |socket, _| async move {
                Server::as_they_finish(codec().layer(socket), double).await.unwrap();
            });
            super::serve(upgrade.drain(&drain)).await
        };
        let client = Client::by_tag(codec().layer(connect(address).await.unwrap()));
        tokio::spawn(client.drive());
        let calls = (0..20).map(|number| tokio::spawn(client.clone().oneshot(number)));
        let calls: Vec<_> = calls.collect();
        let _ = within(going.acquire_many(20)).await.unwrap();
        let draining = tokio::spawn({
            let drain = drain.clone();
            async move { drain.drain(LONG).await }
        });
        drain.started().await;
        // Longer than any close takes that does not wait for the calls.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(drain.sessions(), 1);
        go.add_permits(20);
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(within(call).await.unwrap().unwrap(), 2 * number as u64);
        }
        let drained = within(draining).await.unwrap();
        assert_eq!((drained.closed, drained.cut), (1, 0), "optimized: {is_optimized}");
        let end = within(client.oneshot(1)).await.unwrap_err();
        assert!(end.is_closed(), "{end:?}");
    }
}

#[tokio::test]
async fn calls_that_take_longer_than_the_deadline_are_cut() {
    let drain = Drain::new();
    let upgrade = WebSocketService::new(|socket, _| async move {
        let never = service_fn(|_: Message| std::future::pending::<Result<Message, Infallible>>());
        let never = never.map_err(|never: Infallible| -> Error { match never {} });
        let _ = Server::in_order(socket, never).await;
    });
    let address = super::serve(upgrade.drain(&drain)).await;
    let mut client = connect(address).await.unwrap();
    client.send_message(Message::text("call")).await.unwrap();
    let drained = within(drain.drain(Duration::from_millis(100))).await;
    assert_eq!((drained.closed, drained.cut), (0, 1));
}

#[tokio::test]
async fn sessions_are_listed_closed_one_by_one_and_told_all_at_once() {
    let drain = Drain::new();
    let ids = Arc::new(Mutex::new(Vec::new()));
    let seen = ids.clone();
    let upgrade = WebSocketService::new(move |socket: WebSocket, parts: http::request::Parts| {
        seen.lock().unwrap().push(*parts.extensions.get::<ConnectionId>().unwrap());
        echo(socket)
    });
    let plain = super::serve(upgrade.drain(&drain)).await;
    let acceptor = OptimizedTransport::builder().acceptor().with_drain(&drain);
    let optimized = acceptor.upgrade(|mut session, _| async move { while let Some(Ok(_)) = session.next().await {} });
    let optimized = super::serve(optimized).await;
    let duplex = super::serve(SseDuplexServer::new(|session, _| echo(session)).drain(&drain)).await;

    let mut first = connect(plain).await.unwrap();
    let mut second = connect(plain).await.unwrap();
    let mut third = connect(optimized).await.unwrap();
    let request = Request::get(format!("http://{duplex}/")).body(()).unwrap();
    let mut fourth = SseDuplexConnector::new().oneshot(request).await.unwrap().into_body();
    within(async {
        while drain.sessions() < 4 || ids.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let list = drain.list();
    assert!(list.iter().all(|connection| connection.is_session && !connection.is_closing), "{list:?}");

    assert_eq!(drain.broadcast(&Message::text("a restart in a minute")), 4);
    let text = Some("a restart in a minute");
    for client in [&mut first, &mut second, &mut third] {
        assert_eq!(within(client.receive_message()).await.unwrap().unwrap().as_text(), text);
    }
    assert_eq!(within(fourth.receive_message()).await.unwrap().unwrap().as_text(), text);

    let id = ids.lock().unwrap()[1];
    let enough = CloseFrame::new(CloseCode::POLICY, "enough");
    assert!(drain.close_one(id, enough.clone()));
    let told = [
        within(first_close(&mut first, Duration::from_millis(50))).await,
        within(first_close(&mut second, LONG)).await,
    ];
    assert_eq!(told, [None, Some(enough)]);
    within(async {
        while drain.sessions() > 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!drain.is_started());
    assert!(drain.list().iter().all(|connection| connection.id != id));
}

/// Returns the close frame that comes within this time.
async fn first_close(client: &mut WebSocket, time: Duration) -> Option<CloseFrame> {
    match tokio::time::timeout(time, client.receive_message()).await.ok()?? {
        Ok(Message::Close(frame)) => {
            while client.receive_message().await.is_some() {}
            frame
        }
        other => panic!("not a close: {other:?}"),
    }
}

#[tokio::test]
async fn readiness_fails_once_the_drain_has_started() {
    let drain = Drain::new();
    let app: Router = Router::new().route_service("/ready", drain.readiness());
    let probe = || app.clone().oneshot(Request::get("/ready").body(Body::empty()).unwrap());
    assert_eq!(probe().await.unwrap().status(), StatusCode::OK);
    drain.start(CloseFrame::new(CloseCode::RESTART, ""));
    let answer = probe().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "draining");
}
