//! One stream of nine is full; the other eight go on.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::SinkExt;
use tower_transport::{
    Message, TransportExt,
    transport::webtransport::{Session, WebTransportStream},
};

use crate::{
    goal::goal,
    on_one_thread,
    plan::Plan,
    session::{STALL, connect},
    statistics::{median, percentile},
};

const FLOWS: usize = 8;

/// Microseconds.
struct Latency {
    p50: f64,
    p99: f64,
}

pub(crate) fn measure(plan: &Plan) {
    let (rounds, trips) = (plan.rounds, plan.count(2_000));
    let pairs = on_one_thread(async move {
        let mut pairs = Vec::new();
        for _ in 0..rounds {
            pairs.extend(round(trips).await);
        }
        pairs
    });
    println!(
        "\nstalled: {FLOWS} streams of one session, {trips} round trips of 1 KiB in each, us; median of {} turns in {rounds} rounds",
        pairs.len()
    );
    println!("  {:<28} {:>10} {:>10}", "", "p50", "p99");
    let print = |name: &str, of: fn(&(Latency, Latency)) -> &Latency| {
        let column = |value: fn(&Latency) -> f64| median(pairs.iter().map(|pair| value(of(pair))));
        println!("  {name:<28} {:>10.1} {:>10.1}", column(|latency| latency.p50), column(|latency| latency.p99));
    };
    print("alone", |pair| &pair.0);
    print("beside a stalled stream", |pair| &pair.1);
    let ratio = |value: fn(&Latency) -> f64| median(pairs.iter().map(|(alone, beside)| value(beside) / value(alone)));
    goal("head_of_line/stalled-p50", ratio(|latency| latency.p50), 1.2);
    goal("head_of_line/stalled-p99", ratio(|latency| latency.p99), 1.2);
}

/// How many times in a round the two sessions take turns.
const TURNS: usize = 10;

/// The latency without a stalled stream, and with one, in two sessions that take turns, so that a busy machine is busy
/// for both: one pair for each turn.
async fn round(trips: usize) -> Vec<(Latency, Latency)> {
    let (alone, beside) = (connect().await, connect().await);
    let stalled = tokio::spawn(stall(beside.open().await.expect("a stream")));
    let mut alone = open(&alone).await;
    let mut beside = open(&beside).await;
    let trips = trips.div_ceil(TURNS);
    // The first is to warm up.
    ping_pong(&mut alone, trips).await;
    ping_pong(&mut beside, trips).await;
    let mut pairs = Vec::new();
    for _ in 0..TURNS {
        pairs.push((ping_pong(&mut alone, trips).await, ping_pong(&mut beside, trips).await));
    }
    assert!(!stalled.is_finished(), "the stalled stream goes on");
    stalled.abort();
    pairs
}

async fn open(session: &Session) -> Vec<WebTransportStream> {
    session.create_multiplexed_streams(FLOWS).await.expect("streams")
}

/// Sends until nothing more is accepted, and then waits forever.
async fn stall(mut stream: WebTransportStream) {
    stream.send(Message::text(STALL)).await.expect("an open stream");
    let message = Message::binary(Bytes::from(vec![7; 16 << 10]));
    loop {
        stream.send(message.clone()).await.expect("an open stream");
    }
}

/// Round trips in all streams at once.
async fn ping_pong(streams: &mut [WebTransportStream], trips: usize) -> Latency {
    let message = Message::binary(Bytes::from(vec![7; 1 << 10]));
    let flows = streams.iter_mut().map(async |stream| {
        let mut micros = Vec::with_capacity(trips);
        for _ in 0..trips {
            let start = Instant::now();
            stream.send(message.clone()).await.expect("an open stream");
            stream.receive_message().await.expect("an echo").expect("an echo");
            micros.push(start.elapsed().as_secs_f64() * 1e6);
        }
        micros
    });
    let all = futures_util::future::join_all(flows);
    let micros = tokio::time::timeout(Duration::from_secs(60), all).await.expect("it hangs").concat();
    Latency { p50: percentile(micros.clone(), 0.5), p99: percentile(micros, 0.99) }
}
