//! Bytes that move are life: long messages on slow lines, and those who only seem to send one. All on a paused clock.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, Stream, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split},
    time::{Instant, interval, sleep, timeout},
};
use tower::{Layer, service_fn};
use tower_transport::{
    Error, Limits, Message, QueueConfig, Receiver, TransportExt,
    layer::{
        heartbeat::{Heartbeat, HeartbeatLayer},
        limit::LimitLayer,
        reconnect::{Backoff, Keep, ReconnectLayer, WhenLost},
    },
    transport::websocket::WebSocket,
};

type Socket = WebSocket<DuplexStream>;

/// On a line of 34 KB a second it takes 103 seconds, more than the heartbeat's interval and timeout together.
const LARGE: usize = 3_500_000;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn large() -> Message {
    Message::binary(vec![7; LARGE])
}

async fn relay(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut chunk = [0; 3400];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if to.write_all(&chunk[..length]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let _ = to.shutdown().await;
}

/// Two ends of a line that carries 34 KB a second each way.
fn slow_line() -> (DuplexStream, DuplexStream) {
    slow_line_behind(16 * 1024)
}

/// The same, if the operating system takes this many bytes of each end at once.
fn slow_line_behind(room: usize) -> (DuplexStream, DuplexStream) {
    let ((near, a), (b, far)) = (duplex(room), duplex(room));
    let ((from_a, to_a), (from_b, to_b)) = (split(a), split(b));
    tokio::spawn(relay(from_a, to_b));
    tokio::spawn(relay(from_b, to_a));
    (near, far)
}

/// In one frame, in frames of 1 MiB, and in small ones.
fn framings() -> [Limits; 3] {
    [4 << 20, 1 << 20, 16 << 10].map(|frame| Limits::new().frame(frame))
}

fn queue() -> QueueConfig<Message, Message> {
    QueueConfig::messages().max_bytes((8 << 20).try_into().unwrap())
}

/// The length of the next message that is not a ping of the peer's heartbeat.
async fn length(receiver: &mut Receiver<Message>) -> usize {
    loop {
        let message = receiver.receive().await.unwrap().unwrap();
        if message.is_data() {
            return message.len();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_message_on_a_slow_line_lives_in_both_directions_with_the_defaults() {
    for limits in framings() {
        let (near, far) = slow_line();
        let ends = (WebSocket::client(near, limits), WebSocket::server(far, limits));
        let layer = HeartbeatLayer::default();
        let (client, mut from_server, driver) = layer.layer(ends.0).drive(queue()).into_parts();
        let (server, mut from_client, other) = layer.layer(ends.1).drive(queue()).into_parts();
        let drivers = [tokio::spawn(driver), tokio::spawn(other)];
        let start = Instant::now();
        for _ in 0..2 {
            client.send(large()).await.unwrap();
            assert_eq!(length(&mut from_client).await, LARGE);
            server.send(large()).await.unwrap();
            assert_eq!(length(&mut from_server).await, LARGE);
        }
        assert!(start.elapsed() > 4 * seconds(100), "{:?}", start.elapsed());
        assert!(drivers.iter().all(|driver| !driver.is_finished()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_message_that_the_operating_system_took_at_once_lives_by_the_pings_of_its_receiver() {
    let (near, far) = slow_line_behind(8 << 20);
    let layer = HeartbeatLayer::default();
    let (client, mut from_server) = layer.layer(WebSocket::client(near, Limits::default())).drive(queue()).spawn();
    let (server, mut from_client) = layer.layer(WebSocket::server(far, Limits::default())).drive(queue()).spawn();
    let start = Instant::now();
    client.send(large()).await.unwrap();
    assert_eq!(length(&mut from_client).await, LARGE);
    server.send(large()).await.unwrap();
    assert_eq!(length(&mut from_server).await, LARGE);
    assert!(start.elapsed() > 2 * seconds(100), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_long_message_that_is_kept_for_a_reconnect_is_sent_once() {
    let connects = Arc::new(AtomicUsize::new(0));
    let counted = connects.clone();
    let (ends, mut servers) = tokio::sync::mpsc::unbounded_channel();
    let connector = service_fn(move |_: http::Request<()>| {
        counted.fetch_add(1, Ordering::Relaxed);
        let (near, far) = slow_line();
        ends.send(HeartbeatLayer::default().layer(WebSocket::server(far, Limits::default()))).unwrap();
        let socket = WebSocket::client(near, Limits::default());
        std::future::ready(Ok::<_, Infallible>(http::Response::new(HeartbeatLayer::default().layer(socket))))
    });
    let layer = ReconnectLayer::new("ws://example.com", Backoff::exponential())
        .when_lost(WhenLost::Keep(Keep::messages().max_bytes((8 << 20).try_into().unwrap())));
    let (sender, _receiver, driver) = layer.layer(connector).drive(queue()).into_parts();
    tokio::spawn(driver);
    sender.send(large()).await.unwrap();
    let mut server: Heartbeat<Socket> = servers.recv().await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap().len(), LARGE);
    let rest = async { while server.next().await.is_some_and(|item| item.unwrap().is_control()) {} };
    assert!(timeout(seconds(600), rest).await.is_err(), "neither again nor the end");
    assert_eq!(connects.load(Ordering::Relaxed), 1);
}

/// Reads until the peer is given up; says when that was.
async fn given_up<T: Stream<Item = Result<Message, Error>> + Unpin>(stream: &mut T) -> Duration {
    let start = Instant::now();
    while let Some(item) = stream.next().await {
        if let Err(error) = item {
            assert!(error.is_timeout(), "{error:?}");
            return start.elapsed();
        }
    }
    panic!("an error comes before the end");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_found_though_the_socket_took_bytes_of_a_message() {
    for room in [1024, 1 << 20] {
        let (near, _far) = duplex(room);
        let (sender, mut receiver, driver) =
            HeartbeatLayer::default().layer(WebSocket::client(near, Limits::default())).drive(queue()).into_parts();
        tokio::spawn(driver);
        sender.send(large()).await.unwrap();
        assert_eq!(given_up(&mut receiver).await, seconds(40));
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_a_dead_peers_socket_still_takes_are_no_sign_of_life() {
    // The operating system would take them for hours.
    let (near, _far) = duplex(1 << 30);
    let (sender, mut receiver, driver) =
        HeartbeatLayer::default().layer(WebSocket::client(near, Limits::default())).drive(queue()).into_parts();
    tokio::spawn(driver);
    tokio::spawn(async move {
        let mut ticks = interval(seconds(1));
        while sender.send(Message::binary(vec![0; 10_000])).await.is_ok() {
            ticks.tick().await;
        }
    });
    assert_eq!(given_up(&mut receiver).await, seconds(40));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_within_a_message_is_given_up_in_time() {
    let (near, far) = slow_line();
    let mut server = HeartbeatLayer::default().layer(WebSocket::server(near, Limits::default()));
    let mut client = WebSocket::client(far, Limits::default());
    tokio::spawn(async move {
        // It vanishes after half of the message, and its socket stays.
        let _ = timeout(seconds(50), client.send(large())).await;
        std::future::pending::<()>().await;
    });
    let after = given_up(&mut server).await;
    // Its last bytes are on the line for half a second.
    assert!(after > seconds(70) && after <= seconds(50 + 40 + 2), "{after:?}");
}

/// A peer that sends `bytes` each second, of a message that announces 1 MiB.
fn drip(bytes: usize) -> Socket {
    let (near, mut far) = duplex(1024);
    tokio::spawn(async move {
        far.write_all(&[0x82, 127, 0, 0, 0, 0, 0, 16, 0, 0]).await.unwrap();
        let mut ticks = interval(seconds(1));
        while far.write_all(&vec![0; bytes]).await.is_ok() {
            ticks.tick().await;
        }
    });
    WebSocket::client(near, Limits::default())
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_drips_bytes_of_a_message_is_given_up_as_one_that_is_silent() {
    assert_eq!(given_up(&mut HeartbeatLayer::default().layer(drip(1))).await, seconds(40));
    assert_eq!(given_up(&mut HeartbeatLayer::default().layer(drip(90))).await, seconds(40));
    // Slow, but of use.
    let mut slow = HeartbeatLayer::default().layer(drip(1000));
    assert_eq!(slow.next().await.unwrap().unwrap().len(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_long_message_on_a_slow_line_is_not_idleness() {
    let limit = LimitLayer::new().idle_timeout(seconds(30));
    for limits in framings() {
        let (near, far) = slow_line();
        let client = limit.layer(WebSocket::client(near, limits));
        let server = limit.layer(WebSocket::server(far, Limits::new().frame(4 << 20)));
        let (sender, mut inbox, driver) = client.drive(queue()).into_parts();
        let (_answers, mut receiver, other) = server.drive(queue()).into_parts();
        tokio::spawn(driver);
        tokio::spawn(other);
        sender.send(large()).await.unwrap();
        assert_eq!(receiver.receive().await.unwrap().unwrap().len(), LARGE);
        // Then both are idle.
        let start = Instant::now();
        assert!(receiver.receive().await.unwrap().unwrap_err().is_timeout());
        assert!(start.elapsed() <= seconds(34), "{:?}", start.elapsed());
        drop(inbox.receive().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_drips_bytes_of_a_message_is_idle() {
    let limit = LimitLayer::new().idle_timeout(seconds(32));
    for bytes in [1, 100, 1000] {
        let after = given_up(&mut limit.layer(drip(bytes))).await;
        assert!(after <= seconds(36), "{after:?}");
    }
    // Limits::frame of 1 MiB at 2 KB a second: it ends in 524 s, and lives that long.
    let mut slow = limit.layer(drip(2000));
    assert_eq!(slow.next().await.unwrap().unwrap().len(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_never_ends_is_idle_once_more_bytes_have_moved_than_it_may_have() {
    let (near, mut far) = duplex(8 * 1024);
    tokio::spawn(async move {
        // Empty fragments: 4 KB a second of them, and not a byte of payload.
        far.write_all(&[0x02, 0]).await.unwrap();
        let mut ticks = interval(seconds(1));
        while far.write_all(&[0; 4096]).await.is_ok() {
            ticks.tick().await;
        }
    });
    let limit = LimitLayer::new().max_message(64 << 10).idle_timeout(seconds(32));
    let after = given_up(&mut limit.layer(WebSocket::client(near, Limits::default()))).await;
    // 128 KiB are 32 s of these, and then the idle time begins.
    assert!(after >= seconds(60) && after <= seconds(32 + 36), "{after:?}");
}
