//! The memory that a peer can make a connection hold. Each test runs alone on its thread, whose memory is measured.

use std::{io::Write, net::TcpStream, thread, time::Duration};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tower_transport::{Limits, Message, transport::websocket::WebSocket};

use crate::{
    allocator::Growth,
    attack::Victim,
    wire::{BINARY, FIN, From, PING, TEXT, frame},
};

const KIB: usize = 1024;

/// A thread of its own for the attacker, so that what it holds is not counted; it gets the raw socket.
pub(crate) fn attack<T: Send + 'static>(
    victim: Victim,
    limits: Limits,
    attacker: impl FnOnce(TcpStream) -> T + Send + 'static,
    session: impl AsyncFnOnce(&mut WebSocket),
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (tcp, mut socket) = victim.meet(limits).await;
        let tcp = tcp.into_std().unwrap();
        tcp.set_nonblocking(false).unwrap();
        let attacker = thread::spawn(move || attacker(tcp));
        // Many times what it takes: a debug build on a busy machine is slow.
        tokio::time::timeout(Duration::from_secs(240), session(&mut socket)).await.expect("it hangs");
        drop(socket);
        attacker.join().unwrap()
    })
}

#[test]
fn two_million_unread_pings_cost_less_than_1_mib() {
    const BATCH: usize = 1000;
    let attacker = |mut tcp: TcpStream| {
        let batch = frame(FIN | PING, [7; 125]).bytes(From::Client).repeat(BATCH);
        for _ in 0..2_000_000 / BATCH {
            tcp.write_all(&batch).unwrap();
        }
        tcp.write_all(&frame(FIN | TEXT, "that was it").bytes(From::Client)).unwrap();
        tcp
    };
    attack(Victim::Server, Limits::new(), attacker, async |socket| {
        let growth = Growth::start();
        let mut pings = 0;
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Ping(_) => pings += 1,
                message => break assert_eq!(message, Message::text("that was it")),
            }
        }
        assert_eq!(pings, 2_000_000);
        println!("2,000,000 unread pings: {} KiB at most", growth.peak() / KIB);
        assert!(growth.peak() < 1024 * KIB, "{}", growth.peak());
    });
}

#[test]
fn an_announced_length_over_the_limit_is_not_allocated() {
    for victim in [Victim::Server, Victim::Client] {
        let attacker = move |mut tcp: TcpStream| {
            tcp.write_all(&frame(FIN | TEXT, "first").bytes(victim.attacker())).unwrap();
            tcp.write_all(&frame(FIN | BINARY, "a").announcing(1 << 62).bytes(victim.attacker())).unwrap();
            tcp
        };
        attack(victim, Limits::new().close(Duration::ZERO), attacker, async |socket| {
            // The chunk that the connections of a thread share is there from the first read on.
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("first"));
            let growth = Growth::start();
            assert!(socket.next().await.unwrap().unwrap_err().is_too_large());
            assert!(growth.peak() < 64 * KIB, "{}", growth.peak());
        });
    }
}

#[test]
fn a_peer_that_does_not_read_makes_the_sink_wait_not_grow() {
    let limits = Limits::new();
    // It holds the socket, and reads nothing.
    let attacker = attack(
        Victim::Server,
        limits,
        |tcp| tcp,
        async |socket| {
            let message = || Message::binary(vec![0; 16 * KIB]);
            // Nothing but a full socket makes a message wait that long on a paused clock.
            tokio::time::pause();
            let growth = Growth::start();
            let mut sent = 0;
            while let Ok(fed) = tokio::time::timeout(Duration::from_secs(1), socket.feed(message())).await {
                fed.unwrap();
                sent += 1;
                assert!(sent < 100_000, "the sink is never full");
            }
            assert!(socket.feed(message()).now_or_never().is_none());
            println!("{sent} messages of 16 KiB accepted, {} KiB held at most", growth.peak() / KIB);
            assert!(growth.peak() < limits.write_buffer + 64 * KIB, "{}", growth.peak());
        },
    );
    drop(attacker);
}
