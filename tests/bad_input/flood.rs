//! A peer that sends nothing, again and again. Each test is alone on its thread, which is what is measured.

use std::{
    io::{Read, Write},
    net::TcpStream,
    num::NonZeroU32,
};

use futures_util::StreamExt;
use tower::Layer;
use tower_transport::{
    Limits, Message,
    layer::rate_limit::{Quota, RateLimitLayer},
};

use crate::{
    allocator::Growth,
    attack::Victim,
    memory::attack,
    wire::{CLOSE, FIN, From, TEXT, close_code, frame},
};

const KIB: usize = 1024;
const MESSAGES: usize = 200_000;

/// Gives what the victim answered.
fn flood(mut tcp: TcpStream) -> Vec<u8> {
    let batch = frame(FIN | TEXT, "").bytes(From::Client).repeat(1000);
    for _ in 0..MESSAGES / 1000 {
        // The victim may hang up.
        let _ = tcp.write_all(&batch);
    }
    let _ = tcp.write_all(&frame(FIN | CLOSE, "").bytes(From::Client));
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer);
    answer
}

#[test]
fn two_hundred_thousand_empty_messages_cost_nothing() {
    attack(Victim::Server, Limits::new(), flood, async |socket| {
        let growth = Growth::start();
        for _ in 0..MESSAGES {
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(""));
        }
        assert!(socket.next().await.unwrap().unwrap().is_close());
        assert!(socket.next().await.is_none());
        println!("200,000 empty messages: {} KiB at most", growth.peak() / KIB);
        assert!(growth.peak() < 256 * KIB, "{}", growth.peak());
    });
}

#[test]
fn empty_messages_count_for_a_rate_limit_which_closes_with_1008() {
    let answer = attack(Victim::Server, Limits::new(), flood, async |socket| {
        let quota = Quota::per_hour(NonZeroU32::new(100).unwrap());
        let mut limited = RateLimitLayer::per_connection(quota).inbound().close().layer(socket);
        let growth = Growth::start();
        let mut taken = 0;
        let error = loop {
            match limited.next().await.unwrap() {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
        };
        assert!(error.is_rate_limited(), "{error}");
        assert_eq!(taken, 100);
        assert!(growth.peak() < 256 * KIB, "{}", growth.peak());
        while limited.next().await.is_some() {}
    });
    assert_eq!(close_code(&answer), Some(1008));
}
