//! The full `OptimizedTransport` stack beside raw sockets: `cargo bench -p benches --bench optimized [-- [--quick]
//! SCENARIO...]`.
//!
//! The harness is that of the `peers` benchmark; `docs/benchmarks.md` says how it is measured.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod idle;
mod latency;
mod stack;

use crate::{
    contestants::{OURS, Ours, T, TokioTungstenite},
    idle::{Bare, Idle},
    latency::Latency,
    plan::Plan,
    rounds::Row,
    scenario::{Scenario, many::Many},
    stack::{Compressing, Optimized},
};
use harness::{allocator, contestant, contestants, goal, loopback, plan, rounds, scenario, statistics};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

const STACK: &str = "the stack";
const BARE: &str = "(the bare socket)";
const COMPRESSING: &str = "the stack, compressing";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, name, port, connections] = arguments.as_slice()
        && word == idle::CLIENTS
    {
        return clients(name, port.parse().expect("a port"), connections.parse().expect("a number"));
    }
    let plan = Plan::from_arguments((5, 4), (20, 1));
    let run = |name: &str, scenario: fn(&Plan)| {
        if plan.wants(name) {
            scenario(&plan);
        }
    };
    run("latency", latency);
    run("500-connections", connections_500);
    run("idle", idle);
}

/// One message at a time, there and back: the median, and the 99th percentile.
fn latency(plan: &Plan) {
    for (name, size) in [("32 B", 32), ("1 KiB", 1 << 10)] {
        let scenario = Latency { size, trips: plan.count(1500) };
        let rows = [
            Row::new(T, move || scenario.run::<TokioTungstenite>()),
            Row::new(OURS, move || scenario.run::<Ours>()),
            Row::new(STACK, move || scenario.run::<Optimized>()),
            Row::new(COMPRESSING, move || scenario.run::<Compressing>()),
        ];
        let table = rounds::run(plan.rounds, &rows);
        table.print_columns(&format!("latency, {name}"), "p50 us", "p99 us");
        goal(&format!("optimized/p50-to-T {name}"), table.ratio(STACK, T, |sample| sample.wall), 0.85);
        goal(&format!("optimized/p99-to-T {name}"), table.ratio(STACK, T, |sample| sample.cpu), 2.0);
    }
}

fn connections_500(plan: &Plan) {
    let many = Many { connections: plan.count(500), trips: 4 };
    let rows = [
        Row::new(T, move || many.run::<TokioTungstenite>()),
        Row::new(OURS, move || many.run::<Ours>()),
        Row::new(STACK, move || many.run::<Optimized>()),
    ];
    let table = rounds::run(plan.rounds.div_ceil(2), &rows);
    table.print(&format!("500-connections ({} now), 32 B ping-pong on all", many.connections), "us/trip");
    goal("optimized/500-connections-cpu-to-T", table.ratio(STACK, T, |sample| sample.cpu), 0.58);
}

fn idle(plan: &Plan) {
    let connections = plan.count(500);
    println!("\nidle, heap bytes per connection over a bare socket with its task ({connections} connections)");
    println!("  {:<28} {:>12} {:>12}", "", "server", "client");
    let print = |name: &str, idle: Idle| println!("  {name:<28} {:>12.0} {:>12.0}", idle.server, idle.client);
    let bare = idle::measure::<Bare>(BARE, connections);
    print(BARE, bare);
    print(T, idle::measure::<TokioTungstenite>(T, connections).over(bare));
    print(OURS, idle::measure::<Ours>(OURS, connections).over(bare));
    let stack = idle::measure::<Optimized>(STACK, connections).over(bare);
    print(STACK, stack);
    goal("optimized/idle-bytes", Some(stack.server), 7168.0);
}

/// The other process of [`idle`].
fn clients(name: &str, port: u16, connections: usize) {
    match name {
        BARE => idle::clients::<Bare>(port, connections),
        T => idle::clients::<TokioTungstenite>(port, connections),
        OURS => idle::clients::<Ours>(port, connections),
        _ => idle::clients::<Optimized>(port, connections),
    }
}

/// A goal of a row that ran; its name becomes one word.
fn goal(name: &str, value: Option<f64>, bound: f64) {
    goal::goal(&name.replace(' ', "-"), value.expect("the row ran"), bound);
}
