//! The graceful end of a server: one handle for every door.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::any};
use futures_util::StreamExt;
use http::{Request, StatusCode, header, request};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use support::echo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::{Layer, ServiceExt};
use tower_transport::{
    CloseCode, CloseFrame, Limits, Message, QueueConfig, TransportExt,
    codec::JsonCodec,
    layer::codec::CodecLayer,
    stack::{OptimizedAcceptor, OptimizedTransport},
    transport::{
        Drain,
        sse::{SseDuplexConnector, SseDuplexServer},
        websocket::{WebSocket, WebSocketConnector, WebSocketHandshake, WebSocketService},
    },
};

const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const PATIENCE: Duration = Duration::from_secs(60);

fn restart() -> CloseFrame {
    CloseFrame::new(CloseCode::RESTART, "new version")
}

/// A connection in memory, with room for `room` bytes each way, that hyper serves.
fn connect<H, F>(upgrade: &WebSocketService<H>, drain: &Drain, room: usize) -> DuplexStream
where
    H: FnOnce(WebSocket, request::Parts) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(room);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(far), TowerToHyperService::new(upgrade.clone()))
        .with_upgrades();
    tokio::spawn(drain.watch(connection, |connection| connection.graceful_shutdown()));
    near
}

/// Sends the handshake, and reads the head of the answer.
async fn shake_hands(stream: &mut DuplexStream) -> String {
    stream.write_all(HANDSHAKE).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn open<H, F>(upgrade: &WebSocketService<H>, drain: &Drain, room: usize) -> WebSocket<DuplexStream>
where
    H: FnOnce(WebSocket, request::Parts) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut stream = connect(upgrade, drain, room);
    assert!(shake_hands(&mut stream).await.starts_with("HTTP/1.1 101"));
    WebSocket::client(stream, Limits::default())
}

#[track_caller]
fn assert_told(message: Option<Result<Message, tower_transport::Error>>) {
    match message {
        Some(Ok(Message::Close(Some(frame)))) => {
            assert_eq!(frame.code(), CloseCode::RESTART);
            // The time to return is a different one for each client.
            assert!(frame.reason().starts_with("new version; return-after-ms="), "{frame}");
            assert!(frame.return_after().is_some_and(|time| time < Duration::from_secs(5)), "{frame}");
        }
        other => panic!("the client is not told: {other:?}"),
    }
}

/// Counts as true once it is dropped.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn gone() -> (impl Fn() -> Gone + Clone + Send + 'static, Arc<AtomicBool>) {
    let is_gone = Arc::new(AtomicBool::new(false));
    let flag = is_gone.clone();
    (move || Gone(flag.clone()), is_gone)
}

#[tokio::test(start_paused = true)]
async fn a_session_is_told_with_the_code_of_the_caller_and_its_handler_ends_without_code_of_its_own() {
    let drain = Drain::new();
    let (guard, ended) = gone();
    let upgrade = WebSocketService::new(move |socket, _| {
        let guard = guard();
        async move {
            echo(socket).await;
            drop(guard);
        }
    })
    .drain(&drain);
    let mut client = open(&upgrade, &drain, 4096).await;
    client.send_message(Message::text("hello")).await.unwrap();
    assert_eq!(client.receive_message().await.unwrap().unwrap(), Message::text("hello"));
    assert_eq!(drain.connections(), 1);

    let draining = tokio::spawn({
        let drain = drain.clone();
        async move { drain.close(restart(), PATIENCE).await }
    });
    assert_told(client.receive_message().await);
    assert!(client.receive_message().await.is_none());
    let drained = draining.await.unwrap();
    assert_eq!((drained.closed, drained.cut), (1, 0));
    assert!(ended.load(Ordering::Relaxed));
    assert_eq!(drain.connections(), 0);
    assert_eq!(drained.to_string(), "1 connection closed, 0 cut");
}

#[tokio::test(start_paused = true)]
async fn a_driven_session_above_a_codec_sends_all_that_was_accepted_before_it_closes() {
    const VALUES: u32 = 1000;
    let drain = Drain::new();
    let (queued, all_queued) = tokio::sync::oneshot::channel();
    let queued = Arc::new(std::sync::Mutex::new(Some(queued)));
    let upgrade = WebSocketService::new(move |socket: WebSocket, _| async move {
        let socket = CodecLayer::new(JsonCodec::<u32>::new()).layer(socket);
        let (sender, mut receiver, driver) = socket.drive(QueueConfig::values()).into_parts();
        tokio::spawn(driver);
        for value in 0..VALUES {
            sender.send(value).await.unwrap();
        }
        queued.lock().unwrap().take().unwrap().send(()).unwrap();
        while let Some(Ok(_)) = receiver.receive().await {}
        assert!(sender.send(0).await.unwrap_err().is_closed());
    })
    .limits(Limits::new().write_buffer(64))
    .drain(&drain);
    // Hardly any of it fits below the queue.
    let mut client = open(&upgrade, &drain, 128).await;
    all_queued.await.unwrap();

    let draining = tokio::spawn({
        let drain = drain.clone();
        async move { drain.close(restart(), PATIENCE).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    for value in 0..VALUES {
        assert_eq!(client.receive_message().await.unwrap().unwrap().as_text(), Some(&*value.to_string()));
    }
    assert_told(client.receive_message().await);
    assert!(client.receive_message().await.is_none());
    assert_eq!(draining.await.unwrap().cut, 0);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_never_stops_does_not_put_the_close_off() {
    let drain = Drain::new();
    let upgrade = WebSocketService::new(|socket: WebSocket, _| async move {
        let (sender, mut receiver, driver) = socket.drive(QueueConfig::messages()).into_parts();
        tokio::spawn(driver);
        let writing = tokio::spawn(async move {
            while sender.send(Message::text("tick")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        while let Some(Ok(_)) = receiver.receive().await {}
        writing.await.unwrap();
    })
    .drain(&drain);
    let mut client = open(&upgrade, &drain, 4096).await;
    assert_eq!(client.receive_message().await.unwrap().unwrap(), Message::text("tick"));
    let reading = tokio::spawn(async move {
        loop {
            match client.receive_message().await {
                Some(Ok(Message::Text(_))) => {}
                other => return other,
            }
        }
    });
    let drained = drain.close(restart(), PATIENCE).await;
    assert_eq!((drained.closed, drained.cut), (1, 0));
    assert_told(reading.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_only_writes_is_told_at_its_next_message() {
    let drain = Drain::new();
    let upgrade = WebSocketService::new(|mut socket: WebSocket, _| async move {
        loop {
            if let Err(error) = socket.send_message(Message::text("tick")).await {
                assert!(error.is_closed(), "{error:?}");
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .drain(&drain);
    let mut client = open(&upgrade, &drain, 4096).await;
    assert_eq!(client.receive_message().await.unwrap().unwrap(), Message::text("tick"));
    let (drained, told) = tokio::join!(drain.close(restart(), PATIENCE), client.receive_message());
    assert_told(told);
    assert_eq!((drained.closed, drained.cut), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_finish_its_work_until_the_time_is_over() {
    let drain = Drain::new();
    let (guard, ended) = gone();
    let upgrade = WebSocketService::new(move |socket, _| {
        let guard = guard();
        async move {
            echo(socket).await;
            tokio::time::sleep(PATIENCE / 2).await;
            drop(guard);
        }
    })
    .drain(&drain);
    let mut client = open(&upgrade, &drain, 4096).await;
    let reading = tokio::spawn(async move { while client.receive_message().await.is_some() {} });
    let start = tokio::time::Instant::now();
    let drained = drain.close(restart(), PATIENCE).await;
    assert_eq!((drained.closed, drained.cut), (1, 0));
    assert!(ended.load(Ordering::Relaxed));
    assert_eq!(start.elapsed().as_secs(), (PATIENCE / 2).as_secs());
    reading.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_in_time_is_cut_handler_and_driven_transport_alike() {
    let drain = Drain::new();
    let (guard, dropped) = gone();
    let (driver_guard, driver_gone) = gone();
    let upgrade = WebSocketService::new(move |socket: WebSocket, _| {
        let (guard, driver_guard) = (guard(), driver_guard());
        async move {
            let (_sender, _receiver, driver) = socket.drive(QueueConfig::messages()).into_parts();
            tokio::spawn(async move {
                let ended = driver.await;
                drop(driver_guard);
                ended
            });
            std::future::pending::<()>().await;
            drop(guard);
        }
    })
    // A close that would take longer than the drain has.
    .limits(Limits::new().close(10 * PATIENCE))
    .drain(&drain);
    // This client says nothing, not even to a close.
    let mut stuck = connect(&upgrade, &drain, 4096);
    shake_hands(&mut stuck).await;
    let drained = drain.close(restart(), PATIENCE).await;
    assert_eq!((drained.closed, drained.cut), (0, 1));
    assert!(dropped.load(Ordering::Relaxed) && driver_gone.load(Ordering::Relaxed));
    let mut rest = Vec::new();
    stuck.read_to_end(&mut rest).await.unwrap();
    assert_eq!(&rest[2..4], &1012_u16.to_be_bytes(), "it was told before it was cut");
}

#[tokio::test(start_paused = true)]
async fn many_sessions_are_told_at_once_and_each_is_counted() {
    let drain = Drain::new();
    let upgrade = WebSocketService::new(|socket, _| echo(socket)).drain(&drain);
    let mut clients = Vec::new();
    for number in 0..50 {
        let mut client = open(&upgrade, &drain, 1024).await;
        // One in ten does not answer.
        clients.push(tokio::spawn(async move {
            if number % 10 == 0 {
                std::future::pending::<()>().await;
            }
            assert_told(client.receive_message().await);
            while client.receive_message().await.is_some() {}
        }));
    }
    // Less than the time of a close.
    let within = Duration::from_secs(5);
    let drained = drain.close(restart(), within).await;
    assert_eq!((drained.closed, drained.cut), (45, 5));
    for (number, client) in clients.into_iter().enumerate() {
        if number % 10 != 0 {
            client.await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_handshake_is_refused_and_an_idle_connection_of_http_ends() {
    let drain = Drain::new();
    let upgrade = WebSocketService::new(|socket, _| echo(socket)).drain(&drain);
    let mut idle = connect(&upgrade, &drain, 1024);
    tokio::task::yield_now().await;
    assert_eq!(drain.connections(), 1);
    drain.start(restart());
    assert!(drain.is_started());
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);

    let (mut late, far) = tokio::io::duplex(1024);
    let service = TowerToHyperService::new(upgrade.clone());
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades());
    let head = shake_hands(&mut late).await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 503") && head.contains("retry-after: 5"), "{head}");
    // Only the first frame counts.
    drain.start(CloseFrame::new(CloseCode::AWAY, ""));
    assert_eq!(drain.started().await, restart());
    assert_eq!(drain.close(restart(), PATIENCE).await.cut, 0);
}

#[tokio::test]
async fn the_axum_extractor_drains() {
    let drain = Drain::new();
    let state = drain.clone();
    let handler = move |handshake: WebSocketHandshake| {
        let drain = state.clone();
        async move { handshake.drain(&drain).on_upgrade(echo) }
    };
    let app = Router::new().route("/", any(handler));
    let address = super::serve_axum(app).await;
    let connect = || WebSocketConnector::new().oneshot(Request::get(format!("ws://{address}/")).body(()).unwrap());
    let mut client = connect().await.unwrap().into_body();
    let (drained, told) = tokio::join!(drain.close(restart(), PATIENCE), async {
        let told = client.receive_message().await;
        assert!(client.receive_message().await.is_none());
        told
    });
    assert_told(told);
    assert_eq!((drained.closed, drained.cut), (1, 0));
    let late = connect().await.unwrap_err();
    assert_eq!(late.status(), Some(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(late.retry_after(), Some(Duration::from_secs(5)));
}

#[tokio::test]
async fn sessions_of_sse_with_post_drain() {
    let drain = Drain::new();
    let server = SseDuplexServer::new(|mut session, _| async move {
        while let Some(Ok(message)) = session.receive_message().await {
            if message.is_data() && session.send_message(message).await.is_err() {
                return;
            }
        }
    })
    .drain(&drain);
    let address = super::serve(server.clone()).await;
    let request = Request::get(format!("http://{address}/")).body(()).unwrap();
    let mut client = SseDuplexConnector::new().oneshot(request).await.unwrap().into_body();
    client.send_message(Message::text("hello")).await.unwrap();
    assert_eq!(client.receive_message().await.unwrap().unwrap(), Message::text("hello"));
    let (drained, told) = tokio::join!(drain.close(restart(), PATIENCE), async {
        let told = client.receive_message().await;
        while client.receive_message().await.is_some() {}
        told
    });
    assert_told(told);
    assert_eq!((drained.closed, drained.cut), (1, 0));
    let late = Request::get("/")
        .header(header::HOST, "a")
        .header(header::ACCEPT, "text/event-stream")
        .body(Body::empty())
        .unwrap();
    assert_eq!(server.oneshot(late).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn an_optimized_acceptor_drains_and_counts_a_session_and_its_handler_once() {
    let acceptor: OptimizedAcceptor = OptimizedTransport::builder().acceptor();
    let upgrade = acceptor.upgrade(|mut session, _| async move { while let Some(Ok(_)) = session.next().await {} });
    let address = super::serve(upgrade).await;
    let connect = || WebSocketConnector::new().oneshot(Request::get(format!("ws://{address}/")).body(()).unwrap());
    let mut client = connect().await.unwrap().into_body();
    while acceptor.drain().connections() == 0 {
        tokio::task::yield_now().await;
    }
    let (drained, told) = tokio::join!(acceptor.drain().close(restart(), PATIENCE), async {
        let told = client.receive_message().await;
        while client.receive_message().await.is_some() {}
        told
    });
    assert_told(told);
    assert_eq!((drained.closed, drained.cut), (1, 0));
    assert!(acceptor.is_closed());
    assert_eq!(connect().await.unwrap_err().status(), Some(StatusCode::SERVICE_UNAVAILABLE));
}

#[tokio::test]
async fn a_signal_starts_the_drain_and_a_future_dropped_before_it_does_not() {
    let drain = Drain::new();
    drop(drain.start_on(std::future::ready(()), restart()));
    assert!(!drain.is_started());
    let (signal, signalled) = tokio::sync::oneshot::channel::<()>();
    let starting = tokio::spawn(drain.start_on(signalled, restart()));
    tokio::task::yield_now().await;
    assert!(!drain.is_started());
    signal.send(()).unwrap();
    starting.await.unwrap();
    assert_eq!(drain.started().await, restart());
}
