//! One of many subscribers reads nothing: it costs the bounds of its own queue, and the others miss nothing. The server
//! is alone on its thread, which is what is measured.

use std::{
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tokio::sync::mpsc;
use tower::ServiceExt;
use tower_transport::{
    CloseCode, Error, Limits, Message, QueueConfig, Sender, TransportExt, WhenFull,
    transport::websocket::WebSocketConnector,
};

use crate::{
    allocator::Growth,
    attack::{REQUEST, our_server},
};

const KIB: usize = 1024;
const READERS: usize = 3;
const MESSAGES: u32 = 10_000;
/// How far ahead of the readers the broadcast is.
const AHEAD: u32 = 16;

fn message(number: u32) -> Message {
    let mut payload = vec![0; 4 * KIB];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    Message::binary(payload)
}

/// A thread with the clients that read; each says how far it is.
fn readers(address: SocketAddr, read: mpsc::UnboundedSender<()>) -> std::thread::JoinHandle<Vec<u32>> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let reader = async || {
                let request = http::Request::get(format!("ws://{address}/")).body(()).unwrap();
                let mut socket = WebSocketConnector::new().oneshot(request).await.unwrap().into_body();
                let mut next = 0;
                while next < MESSAGES {
                    let message = socket.receive_message().await.unwrap().unwrap();
                    let number = u32::from_be_bytes(message.as_bytes()[..4].try_into().unwrap());
                    assert_eq!(number, next, "a message is missing, or came twice");
                    next += 1;
                    let _ = read.send(());
                }
                next
            };
            futures_util::future::join_all((0..READERS).map(|_| reader())).await
        })
    })
}

/// Holds the connection, and reads nothing but the answer to its handshake.
fn idler(address: SocketAddr) -> TcpStream {
    use std::io::Write;
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.write_all(REQUEST.as_bytes()).unwrap();
    tcp
}

/// Broadcasts beside a subscriber that reads nothing. Gives its sender, what its sends came to in the end, and what the
/// server held at most.
async fn broadcast(policy: WhenFull<Message>) -> (Sender<Message>, Result<(), Error>, usize) {
    let (address, mut sockets) = our_server(Limits::new().close(Duration::ZERO)).await;
    let (read, mut reads) = mpsc::unbounded_channel();
    let attacker = idler(address);
    let first = sockets.recv().await.unwrap();
    let readers = readers(address, read);
    let mut connections = vec![first];
    for _ in 0..READERS {
        connections.push(sockets.recv().await.unwrap());
    }

    let growth = Growth::start();
    let queue = QueueConfig::messages().max_bytes((512 * KIB).try_into().unwrap()).when_full(policy);
    let mut senders = Vec::new();
    for socket in connections {
        let (sender, receiver, driver) = socket.drive(queue.clone()).into_parts();
        tokio::spawn(driver);
        senders.push((sender, receiver));
    }
    let mut slow = Ok(());
    for number in 0..MESSAGES {
        for (subscriber, (sender, _)) in senders.iter().enumerate() {
            // Neither policy makes a send wait.
            let sent = sender.send(message(number)).await;
            match subscriber {
                0 if slow.is_ok() => slow = sent,
                0 => {}
                _ => sent.unwrap(),
            }
        }
        if number >= AHEAD {
            for _ in 0..READERS {
                reads.recv().await.unwrap();
            }
        }
    }
    let held = growth.peak();
    let read = tokio::task::spawn_blocking(|| readers.join().unwrap()).await.unwrap();
    assert_eq!(read, [MESSAGES; READERS]);
    drop(attacker);
    let (sender, _) = senders.swap_remove(0);
    (sender, slow, held)
}

#[tokio::test]
async fn a_subscriber_that_reads_nothing_loses_its_oldest_messages_and_the_others_none() {
    let (slow, sent, held) = broadcast(WhenFull::DropOldest).await;
    sent.unwrap();
    println!("a subscriber that reads nothing lost {} messages; {} KiB held at most", slow.dropped(), held / KIB);
    assert!(slow.dropped() > u64::from(MESSAGES) / 2, "{}", slow.dropped());
    // Its queue and its write buffer, and what is on its way to the readers.
    assert!(held < 2 * 1024 * KIB, "{held}");
}

#[tokio::test]
async fn a_subscriber_that_reads_nothing_is_let_go_and_the_others_miss_nothing() {
    let (_, sent, held) = broadcast(WhenFull::Close(CloseCode::TRY_AGAIN)).await;
    let error = sent.unwrap_err();
    println!("a subscriber that reads nothing was let go; {} KiB held at most", held / KIB);
    assert!(error.is_full() || error.is_closed(), "{error}");
    assert!(held < 2 * 1024 * KIB, "{held}");
}

#[tokio::test]
async fn an_echo_to_a_peer_that_never_reads_stops_reading_it() {
    let (address, mut sockets) = our_server(Limits::new()).await;
    let attacker = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut tcp = idler(address);
        let mut head = [0; 200];
        assert!(tcp.read(&mut head).unwrap() > 0);
        tcp.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let frame = crate::wire::frame(0x82, vec![7; 16 * KIB]).bytes(crate::wire::From::Client);
        let mut sent = 0_usize;
        loop {
            match tcp.write(&frame[sent % frame.len()..]) {
                Ok(len) => sent += len,
                // Back-pressure: the server has stopped to read.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => panic!("{error}"),
            }
            assert!(sent < 1 << 30, "the server takes all");
        }
        (tcp, sent)
    });
    let mut socket = sockets.recv().await.unwrap();
    let growth = Growth::start();
    let echo = async {
        while let Some(Ok(message)) = socket.receive_message().await {
            socket.send_message(message).await.unwrap();
        }
    };
    let (_tcp, sent) = tokio::select! {
        attacked = attacker => attacked.unwrap(),
        () = echo => panic!("the echo ended"),
    };
    println!("an echo that nobody reads: {} KiB sent until it waits, {} KiB held", sent / KIB, growth.peak() / KIB);
    assert!(growth.peak() < 512 * KIB, "{}", growth.peak());
}
