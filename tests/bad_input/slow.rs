//! Clients that never complete their handshake. The server's thread is measured; the attacker has another.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, time::Instant};
use tower::ServiceExt;
use tower_transport::{
    Limits, Message, TransportExt,
    transport::websocket::{WebSocket, WebSocketConnector, WebSocketService},
};

use crate::{
    allocator::Growth,
    attack::{REQUEST, our_server},
    serve::serve,
    within,
};

const KIB: usize = 1024;

/// hyper's own limit for a request's head (`header_read_timeout`).
const HEAD: Duration = Duration::from_secs(30);

async fn echo_server() -> SocketAddr {
    serve(WebSocketService::new(|mut socket: WebSocket, _| async move {
        while let Some(Ok(message)) = socket.receive_message().await {
            if message.is_data() && socket.send_message(message).await.is_err() {
                return;
            }
        }
    }))
    .await
}

/// How long a connect and an echo take.
async fn good_client(address: SocketAddr) -> Duration {
    let start = std::time::Instant::now();
    let request = http::Request::get(format!("ws://{address}/")).body(()).unwrap();
    let mut socket = WebSocketConnector::new().oneshot(request).await.unwrap().into_body();
    socket.send_message(Message::text("hello")).await.unwrap();
    assert_eq!(socket.receive_message().await.unwrap().unwrap(), Message::text("hello"));
    start.elapsed()
}

#[tokio::test]
async fn two_hundred_half_sent_handshakes_hold_little_while_others_are_served_and_are_cut_in_time() {
    const HALVES: usize = 200;
    let address = echo_server().await;
    let alone = good_client(address).await.min(good_client(address).await);

    let growth = Growth::start();
    let halves = tokio::task::spawn_blocking(move || {
        let half = |_| {
            let mut tcp = TcpStream::connect(address).unwrap();
            tcp.write_all(&REQUEST.as_bytes()[..40]).unwrap();
            tcp
        };
        (0..HALVES).map(half).collect::<Vec<_>>()
    });
    let halves = within(halves).await.unwrap();
    let beside = within(good_client(address)).await.min(within(good_client(address)).await);
    let each = growth.peak() / HALVES;
    println!("{HALVES} half-sent handshakes: {each} bytes each; a good client takes {beside:?}, alone {alone:?}");
    assert!(each < 32 * KIB, "{each}");

    // From here on nothing but the server's clock can end them.
    tokio::time::pause();
    let start = Instant::now();
    for half in halves {
        half.set_nonblocking(true).unwrap();
        let half = tokio::net::TcpStream::from_std(half).unwrap();
        half.readable().await.unwrap();
        match half.try_read(&mut [0; 1000]) {
            Ok(0) => {}
            Ok(len) => panic!("{len} bytes of an answer to half a question"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert!(start.elapsed() <= HEAD, "{:?} on the paused clock", start.elapsed());
}

#[tokio::test]
async fn a_handshake_of_a_byte_a_second_is_cut_in_time() {
    let (address, mut sockets) = our_server(Limits::new()).await;
    let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    tcp.write_all(&REQUEST.as_bytes()[..1]).await.unwrap();
    tokio::time::pause();
    let start = Instant::now();
    for byte in REQUEST.bytes().skip(1) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if tcp.write_all(&[byte]).await.is_err() || tcp.try_read(&mut [0; 100]).is_ok_and(|len| len == 0) {
            break;
        }
    }
    // The clock is read a little after the event on the network.
    assert!(start.elapsed() <= 2 * HEAD, "{:?} on the paused clock", start.elapsed());
    assert!(sockets.try_recv().is_err(), "a session began");
}

/// The server's peak memory while `attacker` runs.
async fn held(attacker: impl FnOnce(SocketAddr) + Send + 'static) -> usize {
    let (address, _sockets) = our_server(Limits::new()).await;
    let growth = Growth::start();
    within(tokio::task::spawn_blocking(move || attacker(address))).await.unwrap();
    growth.peak()
}

fn answer(mut tcp: TcpStream) -> String {
    let mut answer = [0; 1000];
    let len = tcp.read(&mut answer).unwrap_or(0);
    String::from_utf8(answer[..len].to_vec()).unwrap()
}

#[tokio::test]
async fn a_header_of_8_mib_is_held_to_no_more_than_hypers_buffer() {
    let held = held(|address| {
        let mut tcp = TcpStream::connect(address).unwrap();
        let head = REQUEST.replace("\r\n\r\n", &format!("\r\nx: {}\r\n\r\n", "x".repeat(8 << 20)));
        // The server hangs up before it has read all.
        let _ = tcp.write_all(head.as_bytes());
    })
    .await;
    println!("a header of 8 MiB: {} KiB held at most", held / KIB);
    // 400 KiB and a little are hyper's `max_buf_size`; its buffer grows by doubling.
    assert!(held < 1024 * KIB, "{held}");
}

#[tokio::test]
async fn a_head_of_16_kib_in_single_bytes_is_taken_and_costs_little() {
    let held = held(|address| {
        let mut tcp = TcpStream::connect(address).unwrap();
        tcp.set_nodelay(true).unwrap();
        let head = REQUEST.replace("\r\n\r\n", &format!("\r\nx: {}\r\n\r\n", "x".repeat(16 * KIB)));
        for byte in head.bytes() {
            tcp.write_all(&[byte]).unwrap();
        }
        assert!(answer(tcp).starts_with("HTTP/1.1 101"));
    })
    .await;
    println!("a head of 16 KiB in single bytes: {} KiB held at most", held / KIB);
    assert!(held < 128 * KIB, "{held}");
}
