//! A peer that asks and asks, and reads no answer. Alone on its thread, which is what is measured.

use std::{io::Write, net::TcpStream, time::Duration};

use futures_util::StreamExt;
use tower::Layer;
use tower_transport::{Limits, Message, layer::heartbeat::HeartbeatLayer};

use crate::{
    allocator::Growth,
    attack::Victim,
    memory::attack,
    wire::{BINARY, FIN, From, PING, TEXT, frame},
};

const KIB: usize = 1024;

#[test]
fn a_million_pings_of_the_application_whose_answers_nobody_reads_cost_less_than_1_mib() {
    const BATCH: usize = 1000;
    let attacker = |mut tcp: TcpStream| {
        // One of each kind: answered by the layer, and by the WebSocket.
        let mut batch = frame(FIN | BINARY, b"12345678\x01\x04\xf8ttx\x01\xff").bytes(From::Client);
        batch.extend(frame(FIN | PING, [7; 125]).bytes(From::Client));
        let batch = batch.repeat(BATCH);
        for _ in 0..500_000 / BATCH {
            tcp.write_all(&batch).unwrap();
        }
        tcp.write_all(&frame(FIN | TEXT, "that was it").bytes(From::Client)).unwrap();
        tcp
    };
    attack(Victim::Server, Limits::new(), attacker, async |socket| {
        let growth = Growth::start();
        let mut socket = HeartbeatLayer::new(Duration::from_secs(600), Duration::from_secs(600))
            .answer_application_level()
            .layer(socket);
        let mut pings = 0;
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Ping(_) => pings += 1,
                message => break assert_eq!(message, Message::text("that was it")),
            }
        }
        assert_eq!(pings, 500_000);
        println!("1,000,000 unread pings of two kinds: {} KiB at most", growth.peak() / KIB);
        assert!(growth.peak() < 1024 * KIB, "{}", growth.peak());
    });
}
