//! The value of packing and compression over a real socket, by message size:
//! `cargo bench -p benches --bench throughput [-- [--quick] SCENARIO...]`.
//!
//! A scenario is any part of one of the names that the run prints. The harness is that of the `peers` benchmark, and
//! `docs/benchmarks.md` says how it is measured: both ends in one process, interleaved rounds, medians of ratios.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod batch;
mod compression;
mod fed;

use crate::{
    batch::Batching,
    contestants::{Ours, T, TokioTungstenite, Tungstenite},
    plan::Plan,
    rounds::{Row, Sample, Table},
    scenario::{Scenario, one_way::OneWay, ping_pong::PingPong},
};
use harness::{allocator, contestant, contestants, goal, loopback, plan, rounds, scenario};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// How many messages are on their way at once, or between two flushes.
const IN_FLIGHT: usize = 64;

/// The payload sizes, how they are called, and how many messages a round has. Those that pack many messages into one
/// get ten times as many, to last as long.
const SIZES: [(&str, usize, usize); 4] =
    [("32 B", 32, 40_000), ("256 B", 256, 8000), ("1 KiB", 1 << 10, 6000), ("16 KiB", 16 << 10, 2000)];

const PACKED: &str = "ours + batch, fed";
const SENDERS: &str = "ours + batch, 64 senders";
const LONE: &str = "ours + batch";

fn main() {
    let plan = Plan::from_arguments((7, 1), (21, 1));
    for (name, size, messages) in SIZES {
        if plan.wants(name) {
            throughput(&plan, name, size, plan.count(messages));
        }
    }
    if plan.wants("lone message") {
        lone(&plan);
    }
}

fn throughput(plan: &Plan, name: &str, size: usize, messages: usize) {
    // As many as take about as long as a flush for each.
    let many = if size < 4096 { 2 * messages } else { messages };
    let mut rows = vec![
        Row::new(T, move || OneWay { size, messages }.run::<TokioTungstenite>()),
        Row::new("T, feed, a flush per 64", move || fed::fed::<Tungstenite, TokioTungstenite>(size, many)),
        Row::new("ours, fed", move || fed::fed::<contestants::OursLibrary, Ours>(size, many)),
        Row::new("ours, 64 senders", move || fed::senders::<contestants::OursLibrary, Ours>(size, many)),
    ];
    rows.extend(batch::rows(size, many));
    rows.extend(compression::rows(size, many));
    let table = rounds::run(plan.rounds, &rows);
    table.print(
        &format!("{name}, {IN_FLIGHT} in flight, one way; the first row is a flush for each message"),
        "us/message",
    );
    if size == 32 {
        goal("throughput/batch-32-B-time-to-T", &table, PACKED, T, wall, 0.025);
        goal("throughput/batch-32-B-cpu-to-T", &table, PACKED, T, cpu, 0.025);
    }
}

fn lone(plan: &Plan) {
    let trips = plan.count(4000);
    let scenario = PingPong { size: 32, trips };
    let rows = [
        Row::new(contestants::OURS, move || scenario.run::<Ours>()),
        Row::new(LONE, move || scenario.run::<Batching>()),
    ];
    let table = rounds::run(2 * plan.rounds, &rows);
    table.print("lone message, 32 B there and back", "p50 us");
    goal("throughput/batch-lone-message", &table, LONE, contestants::OURS, wall, 1.02);
}

fn wall(sample: &Sample) -> f64 {
    sample.wall
}

fn cpu(sample: &Sample) -> f64 {
    sample.cpu
}

/// The goal of a ratio between two rows.
fn goal(name: &str, table: &Table, row: &str, base: &str, of: fn(&Sample) -> f64, bound: f64) {
    goal::goal(name, table.ratio(row, base, of).expect("both rows ran"), bound);
}
