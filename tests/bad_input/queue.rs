//! A peer that reads nothing, where the queue drops. Alone on its thread, which is what is measured.

use futures_util::SinkExt;
use tower::Layer;
use tower_transport::{CloseCode, Limits, Message, QueueConfig, WhenFull, layer::queue::QueueLayer};

use crate::{allocator::Growth, attack::Victim, memory::attack};

const KIB: usize = 1024;
const MESSAGES: u64 = 50_000;

#[test]
fn a_peer_that_reads_nothing_costs_the_bounds_of_the_queue_and_every_drop_is_counted() {
    for policy in [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::coalesce_by(|_: &Message| Some(()))] {
        let name = format!("{policy:?}");
        let limits = Limits::new();
        let queue = QueueConfig::messages().max_bytes((512 * KIB).try_into().unwrap()).when_full(policy);
        // It holds the socket, and reads nothing.
        let attacker = attack(
            Victim::Server,
            limits,
            |tcp| tcp,
            async |socket| {
                let growth = Growth::start();
                let mut socket = QueueLayer::new(queue.clone()).layer(socket);
                for _ in 0..MESSAGES {
                    socket.feed(Message::binary(vec![0; 4 * KIB])).await.unwrap();
                }
                let (queued, dropped) = (socket.queued(), socket.dropped());
                println!("{name}: {queued} wait, {dropped} were dropped, {} KiB held at most", growth.peak() / KIB);
                assert!(dropped > MESSAGES / 2, "{dropped}");
                assert!(growth.peak() < limits.write_buffer + (512 + 128) * KIB, "{}", growth.peak());
            },
        );
        drop(attacker);
    }
}

#[test]
fn a_peer_that_reads_nothing_is_let_go_where_the_policy_is_to_close() {
    let limits = Limits::new();
    let queue = QueueConfig::messages().when_full(WhenFull::Close(CloseCode::TRY_AGAIN));
    let attacker = attack(
        Victim::Server,
        limits,
        |tcp| tcp,
        async |socket| {
            let growth = Growth::start();
            let mut socket = QueueLayer::new(queue.clone()).layer(socket);
            let mut sent = 0;
            let error = loop {
                match socket.feed(Message::binary(vec![0; 4 * KIB])).await {
                    Ok(()) => sent += 1,
                    Err(error) => break error,
                }
                assert!(sent < MESSAGES, "the queue is never full");
            };
            assert!(error.is_full(), "{error}");
            println!("{sent} messages of 4 KiB until the close, {} KiB held at most", growth.peak() / KIB);
            assert!(growth.peak() < limits.write_buffer + (1024 + 128) * KIB, "{}", growth.peak());
        },
    );
    drop(attacker);
}
