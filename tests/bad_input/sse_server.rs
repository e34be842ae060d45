//! Clients of an event stream that do not read, or that lie about what they have read. The measured end is alone on its
//! thread.

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use futures_util::FutureExt;
use http::Request;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::mpsc};
use tower_transport::{
    CloseCode, QueueConfig, WhenFull,
    transport::sse::{Event, EventSender, LastEventId, event_channel},
};

use crate::allocator::Growth;

const KIB: usize = 1024;

/// The part of a response that hyper holds while the socket does not take it: 16 frames, each of them up to 16 KiB and
/// one event.
const HYPER: usize = 16 * 32 * KIB;

/// A connection of a client, on a thread of its own, to an event stream of ours on this one, where what it makes the
/// server hold is measured. Each stream begins with the last event id that the server was told.
fn attack<T: Send + 'static>(
    queue: QueueConfig<Event, Infallible>,
    attacker: impl FnOnce(TcpStream) -> T + Send + 'static,
    session: impl AsyncFnOnce(&mut mpsc::Receiver<EventSender>),
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let attacker = thread::spawn(move || attacker(TcpStream::connect(address).unwrap()));
        let (tcp, _) = listener.accept().await.unwrap();
        let (opened, mut senders) = mpsc::channel(1);
        let service = service_fn(move |request: Request<_>| {
            let (sender, events) = event_channel(queue.clone());
            let seen = LastEventId::of(request.headers()).map_or("none".to_owned(), |id| id.to_string());
            sender.send(Event::new(seen)).now_or_never().unwrap().unwrap();
            opened.try_send(sender).unwrap();
            async { Ok::<_, Infallible>(events.into_response()) }
        });
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(tcp), service);
        let connection = tokio::spawn(connection);
        tokio::time::timeout(Duration::from_secs(240), session(&mut senders)).await.expect("it hangs");
        connection.abort();
        let _ = connection.await;
        attacker.join().unwrap()
    })
}

fn ask(mut tcp: &TcpStream, last_event_id: &str) {
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nlast-event-id: {last_event_id}\r\n\r\n");
    // A server that has seen enough may have closed already.
    let _ = tcp.write_all(head.as_bytes());
}

/// It asks, holds the connection, and reads nothing.
fn ask_and_sit(tcp: TcpStream) -> TcpStream {
    ask(&tcp, "");
    tcp
}

#[test]
fn a_client_that_does_not_read_makes_the_producer_wait_and_holds_the_queue_and_16_frames() {
    for (name, size) in [("16 KiB", 16 * KIB), ("64 B", 64)] {
        let held = attack(QueueConfig::events(), ask_and_sit, async |senders| {
            let sender = senders.recv().await.unwrap();
            let data = "x".repeat(size);
            // Nothing but a full socket makes an event wait that long on a paused clock.
            tokio::time::pause();
            let growth = Growth::start();
            let mut sent = 0;
            while let Ok(result) =
                tokio::time::timeout(Duration::from_secs(1), sender.send(Event::new(data.as_str()))).await
            {
                result.unwrap();
                sent += 1;
                assert!(sent < 1_000_000, "the producer never waits");
            }
            println!("{sent} events of {name} accepted, {} KiB held at most", growth.peak() / KIB);
            assert!(growth.peak() < 1024 * KIB + HYPER + 128 * KIB, "{}", growth.peak());
        });
        drop(held);
    }
}

#[test]
fn a_client_that_does_not_read_is_given_up_where_the_queue_closes() {
    let queue = QueueConfig::events().when_full(WhenFull::Close(CloseCode::TRY_AGAIN));
    let held = attack(queue, ask_and_sit, async |senders| {
        let sender = senders.recv().await.unwrap();
        let growth = Growth::start();
        let mut sent = 0;
        let error = loop {
            match sender.send(Event::new("x".repeat(16 * KIB))).await {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            // Lets the connection have its turn.
            tokio::task::yield_now().await;
            assert!(sent < 100_000, "the queue is never full");
        };
        assert!(error.is_full(), "{error}");
        println!("{sent} events of 16 KiB until the cut, {} KiB held at most", growth.peak() / KIB);
        assert!(growth.peak() < 1024 * KIB + HYPER + 128 * KIB, "{}", growth.peak());
        // Waiting events are dropped then, though the connection lasts until the socket fails or takes more.
        assert_eq!(sender.queued_bytes(), 0);
        assert!(sender.dropped() > 50 && sender.closed().await.is_closed());
    });
    drop(held);
}

#[test]
fn a_last_event_id_that_no_server_gave_is_none_however_long() {
    let ids = ["a".repeat(KIB), "a".repeat(KIB + 1), "a".repeat(300 * KIB), "\u{ff}\u{fffe}".into(), "-1".into()];
    let seen = ["a".repeat(KIB), "none".into(), "none".into(), "\u{ff}\u{fffe}".into(), "-1".into()];
    for (id, seen) in ids.into_iter().zip(seen) {
        let attacker = move |mut tcp: TcpStream| {
            ask(&tcp, &id);
            let mut came = String::new();
            while !came.contains("data: ") || !came.ends_with("\n\n\r\n") {
                let mut buffer = [0; 4096];
                let count = tcp.read(&mut buffer).unwrap();
                assert!(count > 0, "{came:?}");
                came.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
            }
            came
        };
        let came = attack(QueueConfig::events(), attacker, async |senders| {
            let growth = Growth::start();
            let sender = senders.recv().await.unwrap();
            // hyper reads a head into one buffer, and keeps nothing of bytes that are not a head.
            assert!(growth.peak() < 1024 * KIB, "{}", growth.peak());
            tokio::time::timeout(Duration::from_secs(20), sender.closed()).await.expect("the client hangs");
        });
        assert!(came.contains(&format!("data: {seen}\n\n")), "{came}");
    }
}
