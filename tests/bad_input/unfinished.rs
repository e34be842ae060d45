//! Messages that are begun, and never ended. Each test is alone on its thread, which is what is measured; a connection
//! is a pipe in memory whose buffer counts, too.

use std::{io::Write, net::TcpStream, time::Duration};

use futures_util::{FutureExt, StreamExt};
use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    time::Instant,
};
use tower::Layer;
use tower_transport::{CloseCode, Limits, Message, layer::limit::LimitLayer, transport::websocket::WebSocket};

use crate::{
    allocator::Growth,
    attack::Victim,
    memory::attack,
    wire::{BINARY, CONTINUATION, FIN, Frame, From, TEXT, frame},
    within,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const PIPE: usize = 8 * KIB;

fn connection() -> (DuplexStream, WebSocket<DuplexStream>) {
    let (attacker, io) = duplex(PIPE);
    (attacker, WebSocket::server(io, Limits::new()))
}

/// Writes while the victim reads, and nothing comes of it.
async fn feed(attacker: &mut DuplexStream, victim: &mut WebSocket<DuplexStream>, frame: &Frame) {
    let bytes = frame.bytes(From::Client);
    tokio::select! {
        biased;
        written = attacker.write_all(&bytes) => written.unwrap(),
        message = victim.next() => panic!("{message:?} of an unfinished message"),
    }
    assert!(victim.next().now_or_never().is_none());
}

#[tokio::test]
async fn fifty_announced_frames_that_do_not_come_hold_64_kib_each_and_those_over_the_limit_nothing() {
    const CONNECTIONS: usize = 50;
    let growth = Growth::start();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let (mut attacker, mut victim) = connection();
        feed(&mut attacker, &mut victim, &frame(FIN | BINARY, "a").announcing(MIB as u64)).await;
        held.push((attacker, victim));
    }
    let each = growth.peak() / CONNECTIONS;
    println!("a frame of 1 MiB that is announced and does not come: {} KiB", each / KIB);
    assert!(each < 96 * KIB, "{each}");
    drop(held);

    let growth = Growth::start();
    for _ in 0..CONNECTIONS {
        let (mut attacker, mut victim) = connection();
        attacker.write_all(&frame(FIN | BINARY, "a").announcing(16 * MIB as u64).bytes(From::Client)).await.unwrap();
        drop(attacker);
        assert!(victim.next().await.unwrap().unwrap_err().is_too_large());
    }
    println!("one of 16 MiB, over the limit: {} KiB", growth.peak() / KIB);
    assert!(growth.peak() < 96 * KIB, "{}", growth.peak());
}

#[tokio::test]
async fn fifty_small_messages_that_stop_in_the_middle_hold_little_more_than_came() {
    const CONNECTIONS: usize = 50;
    let growth = Growth::start();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let (mut attacker, mut victim) = connection();
        feed(&mut attacker, &mut victim, &frame(FIN | BINARY, &[7; 500][..]).announcing(8192)).await;
        held.push((attacker, victim));
    }
    let each = growth.peak() / CONNECTIONS;
    println!("500 bytes of a message of 8 KiB: {} bytes, with the pipe", each);
    assert!(each < PIPE + 8 * KIB, "{each}");
    drop(held);
}

#[tokio::test]
async fn four_unfinished_messages_at_the_limit_hold_no_more_than_they_carry_and_half_again() {
    const CONNECTIONS: usize = 4;
    let limit = Limits::new().message;
    let growth = Growth::start();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let (mut attacker, mut victim) = connection();
        let part = vec![b'x'; 256 * KIB];
        feed(&mut attacker, &mut victim, &frame(BINARY, &part[..])).await;
        for _ in 1..limit / part.len() {
            feed(&mut attacker, &mut victim, &frame(CONTINUATION, &part[..])).await;
        }
        held.push((attacker, victim));
    }
    let each = growth.peak() / CONNECTIONS;
    println!("an unfinished message of 4 MiB: {} KiB", each / KIB);
    assert!(each < limit + limit / 2, "{each}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_end_is_idleness_and_ends_in_bound() {
    // A fragment each second: empty, or of a byte.
    for payload in ["", "x"] {
        let (mut attacker, victim) = connection();
        let mut victim = LimitLayer::new().idle_timeout(Duration::from_secs(60)).layer(victim);
        tokio::spawn(async move {
            let mut first = TEXT;
            while attacker.write_all(&frame(first, payload).bytes(From::Client)).await.is_ok() {
                first = CONTINUATION;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let start = Instant::now();
        let error = victim.next().await.unwrap().unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert_eq!(error.close_frame().unwrap().code(), CloseCode::AWAY);
        // An eighth is the tick of the layer.
        assert!(start.elapsed() <= Duration::from_secs(60 + 8), "{:?} on the paused clock", start.elapsed());
    }
}

/// A message that is begun, a million fragments of it, and its end.
fn fragments(mut tcp: TcpStream, payload: &'static str) -> TcpStream {
    let batch = frame(CONTINUATION, payload).bytes(From::Client).repeat(1000);
    tcp.write_all(&frame(TEXT, "a").bytes(From::Client)).unwrap();
    for _ in 0..1000 {
        // The victim may hang up.
        let _ = tcp.write_all(&batch);
    }
    let _ = tcp.write_all(&frame(FIN | CONTINUATION, "b").bytes(From::Client));
    tcp
}

#[test]
fn a_million_empty_fragments_cost_nothing() {
    attack(
        Victim::Server,
        Limits::new().fragments(usize::MAX),
        |tcp| fragments(tcp, ""),
        async |socket| {
            let growth = Growth::start();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("ab"));
            println!("a million empty fragments: {} KiB at most", growth.peak() / KIB);
            // The chunk of 64 KiB that a busy connection reads by is the thread's, not the peer's.
            assert!(growth.peak() < 256 * KIB, "{}", growth.peak());
        },
    );
}

#[test]
fn a_million_fragments_of_a_byte_cost_twice_what_they_carry() {
    attack(
        Victim::Server,
        Limits::new().fragments(usize::MAX),
        |tcp| fragments(tcp, "x"),
        async |socket| {
            let growth = Growth::start();
            assert_eq!(socket.next().await.unwrap().unwrap().len(), 1_000_002);
            println!("a million fragments of a byte: {} KiB at most", growth.peak() / KIB);
            assert!(growth.peak() < 2 * MIB + 256 * KIB, "{}", growth.peak());
        },
    );
}

#[test]
fn fragments_of_a_byte_end_at_the_limit_of_a_message() {
    let limits = Limits::new().message(256 * KIB).close(Duration::ZERO);
    attack(
        Victim::Server,
        limits,
        |tcp| fragments(tcp, "x"),
        async |socket| {
            let growth = Growth::start();
            let error = within(socket.next()).await.unwrap().unwrap_err();
            assert!(error.is_too_large(), "{error}");
            println!("until the limit of 256 KiB: {} KiB at most", growth.peak() / KIB);
            assert!(growth.peak() < (2 * 256 + 256) * KIB, "{}", growth.peak());
        },
    );
}
