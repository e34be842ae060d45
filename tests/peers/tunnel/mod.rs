//! Clients and servers that know only byte streams, unmodified, on sessions whose connections are cut 1,000 times: gRPC
//! by tonic, and MQTT by rumqttc with the broker mosquitto. They notice nothing.

#[allow(dead_code, reason = "its `main` is not needed")]
#[path = "../../../examples/tunnel.rs"]
mod example;

mod grpc;
mod mqtt;

use std::{
    net::SocketAddr,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use support::proxy::Proxy;
use tower_transport::{
    layer::reconnect::Backoff,
    stack::{OptimizedBuilder, OptimizedTransport},
};

#[test]
fn the_guide_shows_the_code_of_the_examples() {
    let guide = include_str!("../../../docs/guide/tunnels.md");
    let example = include_str!("../../../examples/grpc/main.rs");
    let shown: Vec<_> = guide.split("```rust,ignore\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(shown.len(), 2);
    for code in shown {
        assert!(example.contains(code), "the example has other code than the guide: {code}");
    }
}

const CUTS: usize = 1_000;

fn builder() -> OptimizedBuilder {
    OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_millis(1)))
}

/// A line to `server` whose connections are cut after 1.5 to 40 KB each, both directions together. A message of 8 KB,
/// as `copy_bidirectional` makes them, must fit into some of them: it is sent again from its beginning.
async fn cutting(server: SocketAddr) -> Proxy {
    let budgets = random(0x5eed).map(|number| 1_500 + number % 38_500);
    // The first attempt of a client is not repeated.
    Proxy::start(server, std::iter::once(5_000).chain(budgets).take(CUTS).collect()).await
}

/// Whether the line was cut often enough. Fails instead of waiting forever.
fn is_over(proxy: &Proxy, started: Instant) -> bool {
    let cuts = proxy.cuts.load(Relaxed);
    assert!(started.elapsed() < Duration::from_secs(300), "only {cuts} cuts in 300 s");
    cuts >= CUTS
}

/// Knuth's generator: the same numbers each time.
fn random(seed: u64) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(seed), |state| {
        Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    })
    .skip(1)
    .map(|state| (state >> 33) as usize)
}

/// The bytes of message `number`, which compress badly, of a length that a cut falls into.
fn payload(number: u32) -> Vec<u8> {
    let length = (number as usize * 37) % 2_000;
    number.to_be_bytes().into_iter().chain(random(number.into()).map(|byte| byte as u8)).take(4 + length).collect()
}
