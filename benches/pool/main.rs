//! The savings of a pool: 1,000 short exchanges, each on its own connection or over a [`Pool`], with ws and wss.
//! `cargo bench -p benches --bench pool [-- --quick]`.
//!
//! `docs/benchmarks.md` says how it is measured.

#![allow(clippy::expect_used)]

mod server;

use harness::{goal, statistics};
use std::{env, future::Future, time::Instant};

use tower::{Service, ServiceExt};
use tower_transport::{Message, service::Client, stack::pool::PoolBuilder, transport::websocket::WebSocketConnector};

use crate::{goal::goal, server::Target, statistics::median};

/// Microseconds per exchange.
struct Cost {
    bare: f64,
    fresh: f64,
    pooled: f64,
}

fn main() {
    let has = |flag: &str| env::args().any(|word| word == flag);
    // Without cargo's `--bench` (so under `cargo test`) it only shows that everything runs.
    let (rounds, exchanges) = match (has("--bench"), has("--quick")) {
        (false, _) => (1, 3),
        (true, true) => (3, 300),
        (true, false) => (7, 1000),
    };
    println!(
        "\n{exchanges} exchanges of 32 B, one after the other; us per exchange, median of {rounds} interleaved rounds"
    );
    println!("  {:<6} {:>16} {:>16} {:>16}   overhead left", "", "one connection", "connect each", "pool");
    for (scheme, bound) in [("ws", 0.1), ("wss", 0.05)] {
        let rounds: Vec<Cost> = on_one_thread(async move {
            let target = Target::start(scheme == "wss").await;
            let mut costs = Vec::new();
            for _ in 0..rounds {
                costs.push(round(&target, exchanges).await);
            }
            costs
        });
        // The share of connecting in an exchange, without and with a pool.
        let left = median(rounds.iter().map(|cost| (cost.pooled - cost.bare).max(0.0) / (cost.fresh - cost.bare)));
        let column = |cost: fn(&Cost) -> f64| median(rounds.iter().map(cost));
        let (bare, fresh, pooled) = (column(|cost| cost.bare), column(|cost| cost.fresh), column(|cost| cost.pooled));
        println!("  {scheme:<6} {bare:>16.1} {fresh:>16.1} {pooled:>16.1}   {left:.3}");
        goal(&format!("pool/connection-overhead-left-{scheme}"), left, bound);
    }
}

async fn round(target: &Target, exchanges: usize) -> Cost {
    let connector = target.connector();
    let mut one = Client::in_order(connect(&connector, target).await);
    let bare = time(exchanges, async || exchange(&mut one).await).await;
    let fresh = time(exchanges, async || {
        exchange(&mut Client::in_order(connect(&connector, target).await)).await;
    })
    .await;
    let mut pool = PoolBuilder::new(connector.clone(), target.request()).in_order::<Message, Message>();
    let pooled = time(exchanges, async || exchange(&mut pool).await).await;
    assert_eq!(pool.connects(), 1);
    Cost { bare, fresh, pooled }
}

async fn connect(connector: &WebSocketConnector, target: &Target) -> tower_transport::transport::websocket::WebSocket {
    connector.clone().oneshot(target.request()).await.expect("the server accepts").into_body()
}

async fn exchange<S>(service: &mut S)
where
    S: Service<Message, Response = Message, Error = tower_transport::Error>,
{
    let question = Message::binary(&[7; 32][..]);
    let answer = service.ready().await.expect("a place").call(question.clone()).await;
    assert_eq!(answer.expect("an answer"), question);
}

async fn time(exchanges: usize, mut exchange: impl AsyncFnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..exchanges {
        exchange().await;
    }
    start.elapsed().as_secs_f64() * 1e6 / exchanges as f64
}

/// As a task of a runtime with one thread: the variant whose figures repeat on a busy machine.
fn on_one_thread<F: Future + 'static>(scenario: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let scenario = async { tokio::task::spawn_local(scenario).await.expect("the scenario ran to its end") };
    tokio::task::LocalSet::new().block_on(&runtime, scenario)
}
