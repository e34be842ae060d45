//! The transports side by side, in one run: `cargo bench -p benches --bench transports [-- [--quick] SCENARIO...]`.
//!
//! A scenario is any part of one of the names that the run prints. Both ends are in one process, on one thread, over
//! loopback; `docs/benchmarks.md` says how it is measured.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod connect;
mod contestant;
mod contestants;
mod idle;
mod one_way;
mod round_trip;

use crate::{
    connect::connect,
    contestant::Address,
    contestants::{
        BUFFERED, BufferedRawWebTransport, CHANNEL, Channels, DATAGRAMS, RAW, RawWebTransport, SECURE, SSE, STREAM,
        SecureWebSockets, SsePosts, Streams, WEBSOCKET, WebSockets, WithDatagrams,
    },
    goal::goal,
    one_way::OneWay,
    plan::Plan,
    round_trip::RoundTrip,
    rounds::{Row, Sample, Table},
};
use harness::{allocator, goal, loopback, plan, rounds, statistics};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// How near to the library that it stands on WebTransport must be.
const TO_RAW: f64 = 1.1;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, name, url, trust, sessions] = arguments.as_slice()
        && word == idle::CLIENTS
    {
        let address = Address { url: url.clone(), trust: trust.clone() };
        return clients(name, &address, sessions.parse().expect("a number"));
    }
    let plan = Plan::from_arguments((3, 4), (9, 1));
    let run = |name: &str, scenario: fn(&Plan)| {
        if plan.wants(name) {
            scenario(&plan);
        }
    };
    run("connect", connects);
    run("round-trip", round_trips);
    run("one-way", one_way);
    run("idle", idle);
}

fn connects(plan: &Plan) {
    let count = plan.count(60);
    let rows = [
        Row::new(WEBSOCKET, move || connect::<WebSockets>(count)),
        Row::new(SECURE, move || connect::<SecureWebSockets>(count)),
        Row::new(SSE, move || connect::<SsePosts>(count)),
        Row::new(STREAM, move || connect::<Streams>(count)),
        Row::new(DATAGRAMS, move || connect::<WithDatagrams>(count)),
        Row::new(RAW, move || connect::<RawWebTransport>(count)),
    ];
    rounds::run(plan.rounds, &rows).against(WEBSOCKET).print_columns("connect, both ends up", "p50 us", "p99 us");
}

fn round_trips(plan: &Plan) {
    for (name, size) in [("32 B", 32), ("1 KiB", 1 << 10)] {
        let scenario = RoundTrip { size, trips: plan.count(600) };
        let rows = [
            Row::new(CHANNEL, move || scenario.run::<Channels>()),
            Row::new(WEBSOCKET, move || scenario.run::<WebSockets>()),
            Row::new(SECURE, move || scenario.run::<SecureWebSockets>()),
            Row::new(SSE, move || scenario.run::<SsePosts>()),
            Row::new(STREAM, move || scenario.run::<Streams>()),
            Row::new(DATAGRAMS, move || scenario.run::<WithDatagrams>()),
            Row::new(RAW, move || scenario.run::<RawWebTransport>()),
            Row::new(BUFFERED, move || scenario.run::<BufferedRawWebTransport>()),
        ];
        let table = rounds::run(plan.rounds, &rows).against(WEBSOCKET);
        table.print_columns(&format!("round-trip, {name}"), "p50 us", "p99 us");
        goal(&named("webtransport_round_trip", name), to_raw(&table, |sample| sample.wall), TO_RAW);
    }
}

fn one_way(plan: &Plan) {
    for (name, size, messages) in [("32 B", 32, 30_000), ("1 KiB", 1 << 10, 10_000), ("64 KiB", 64 << 10, 400)] {
        let scenario = OneWay { size, messages: plan.count(messages) };
        let mut rows = vec![
            Row::new(WEBSOCKET, move || scenario.run::<WebSockets>()),
            Row::new(SECURE, move || scenario.run::<SecureWebSockets>()),
            Row::new(SSE, move || scenario.run::<SsePosts>()),
            Row::new(STREAM, move || scenario.run::<Streams>()),
            Row::new(RAW, move || scenario.run::<RawWebTransport>()),
            Row::new(BUFFERED, move || scenario.run::<BufferedRawWebTransport>()),
        ];
        // No message is larger than a datagram, and a channel carries any size equally.
        if size <= 1 << 10 {
            rows.insert(0, Row::new(CHANNEL, move || scenario.run::<Channels>()));
            rows.push(Row::new(DATAGRAMS, move || scenario.run::<WithDatagrams>()));
        }
        let table = rounds::run(plan.rounds, &rows).against(WEBSOCKET);
        table.print(&format!("one-way, {name}, a flush for every 64"), "us/message");
        println!("  {:<28} {:>12} {:>12}", "", "messages/s", "MiB/s");
        for row in &rows {
            let each = table.middle(row.name, |sample| sample.wall).expect("it ran");
            let mib = size as f64 * 1e9 / each / f64::from(1 << 20);
            println!("  {:<28} {:>12.0} {mib:>12.1}", row.name, 1e9 / each);
        }
        if size <= 1 << 10 {
            println!("  {:.1} % of the datagrams arrived", one_way::arrived() * 100.0);
        }
        // Of one thread that never waits the CPU time is the time, whatever else the machine does.
        goal(&named("webtransport_throughput", name), to_raw(&table, |sample| sample.cpu), TO_RAW);
    }
}

fn idle(plan: &Plan) {
    let sessions = plan.count(200);
    println!("\nidle, heap bytes of the server per session, its task included ({sessions} sessions)");
    let print = |name: &str, bytes: f64| println!("  {name:<28} {bytes:>12.0}");
    print(WEBSOCKET, idle::measure::<WebSockets>(WEBSOCKET, sessions));
    print(SECURE, idle::measure::<SecureWebSockets>(SECURE, sessions));
    print(SSE, idle::measure::<SsePosts>(SSE, sessions));
    print(STREAM, idle::measure::<Streams>(STREAM, sessions));
    print(DATAGRAMS, idle::measure::<WithDatagrams>(DATAGRAMS, sessions));
    print(RAW, idle::measure::<RawWebTransport>(RAW, sessions));
}

/// The other process of [`idle`].
fn clients(name: &str, address: &Address, sessions: usize) {
    match name {
        WEBSOCKET => idle::clients::<WebSockets>(address, sessions),
        SECURE => idle::clients::<SecureWebSockets>(address, sessions),
        SSE => idle::clients::<SsePosts>(address, sessions),
        STREAM => idle::clients::<Streams>(address, sessions),
        DATAGRAMS => idle::clients::<WithDatagrams>(address, sessions),
        _ => idle::clients::<RawWebTransport>(address, sessions),
    }
}

/// Our stream beside the library below, used in whichever way is the faster.
fn to_raw(table: &Table, of: fn(&Sample) -> f64) -> f64 {
    let to = |row| table.ratio(STREAM, row, of).expect("both ran");
    to(RAW).max(to(BUFFERED))
}

/// The name of a goal is one word.
fn named(goal: &str, size: &str) -> String {
    format!("transports/{goal} {size}").replace(' ', "-")
}
