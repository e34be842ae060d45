//! Calls in both directions: `service::peer` next to tarpc, jsonrpsee, tonic, and a map of pending calls that was written
//! by hand.
//!
//! `cargo bench -p benches --bench rpc [-- --quick] [SCENARIO..]`. All run in one process on a current-thread runtime,
//! from spawned tasks, with 32 bytes each way; the contestants take turns within each round. The figures are wall time
//! and process CPU time per call or item (both ends), and the median of the ratios of each round.
//! `docs/benchmarks.md` says how it is measured.

#![allow(clippy::expect_used, clippy::unwrap_used)] // What fails here ends the bench.

mod both_ways;
mod hand;
mod items;
mod json;
mod load;
mod ours;
mod tarpc_tcp;
mod tonic_tcp;

use harness::{goal::goal, plan::Plan, rounds};

use self::load::{PAYLOAD, Payload, row};

const DEPTHS: [usize; 2] = [1, 64];

fn main() {
    let plan = Plan::from_arguments((3, 4), (15, 1));
    for depth in DEPTHS {
        if plan.wants("peers") {
            peers(&plan, depth);
        }
        if plan.wants("hand") {
            by_hand(&plan, depth);
        }
    }
    if plan.wants("items") {
        items::run(&plan);
    }
    if plan.wants("both") {
        both_ways::run(&plan);
    }
}

/// Over TCP on the loopback interface, each on the transport that it has: ours and jsonrpsee over a WebSocket.
fn peers(plan: &Plan, depth: usize) {
    let calls = plan.count(20_000);
    let rows = [
        row("ours, Frames", depth, calls, ours::web_socket),
        row("ours, JSON-RPC", depth, calls, json::ours),
        row("tarpc", depth, calls, tarpc_tcp::start),
        row("jsonrpsee", depth, calls, json::jsonrpsee),
        row("tonic", depth, calls, tonic_tcp::start),
        row("hand-written map", depth, calls, hand::web_socket),
    ];
    let table = rounds::run(plan.rounds, &rows).against("ours, Frames");
    table.print(&format!("calls over TCP, depth {depth}, {calls} a round: per call, both ends"), "wall us");
    for row in ["ours, Frames", "ours, JSON-RPC", "tarpc", "jsonrpsee", "tonic", "hand-written map"] {
        if let Some(wall) = table.middle(row, |sample| sample.wall) {
            println!("  {row:<28} {:>12.0} calls a second", 1e9 / wall);
        }
    }
    for (name, base) in [("ours, Frames", "tarpc"), ("ours, JSON-RPC", "jsonrpsee"), ("ours, Frames", "tonic")] {
        for (of, pick) in [("wall", (|sample| sample.wall) as fn(&rounds::Sample) -> f64), ("cpu", |sample| sample.cpu)]
        {
            if let Some(ratio) = table.ratio(name, base, pick) {
                goal(&format!("rpc/depth{depth}-vs-{base}-{of}"), ratio, 1.0);
            }
        }
    }
}

/// In memory, where the transport costs least: all of the cost is that of calls.
fn by_hand(plan: &Plan, depth: usize) {
    let calls = plan.count(50_000);
    let rows = [
        row("hand-written map", depth, calls, hand::channel),
        row("hand-written, no tasks", depth, calls, hand::channel_inline),
        row("ours", depth, calls, ours::channel),
    ];
    let table = rounds::run(plan.rounds, &rows).against("hand-written map");
    table.print(&format!("calls over a channel, depth {depth}, {calls} a round: per call, both ends"), "wall us");
    if let Some(ratio) = table.ratio("ours", "hand-written map", |sample| sample.cpu) {
        goal(&format!("rpc/depth{depth}-vs-hand"), ratio, if depth == 1 { 0.75 } else { 0.85 });
    }
}
