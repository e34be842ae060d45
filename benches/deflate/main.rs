//! permessage-deflate compared with other libraries, and messages that are compressed once for many receivers:
//! `cargo bench -p benches --bench deflate [-- [--quick] SCENARIO...]`.
//!
//! A scenario is any part of one of the names that the run prints. `docs/benchmarks.md` says how it is measured.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod contestants;
mod fan_out;
mod feed;
mod held;

use harness::{
    allocator,
    goal::goal,
    plan::Plan,
    rounds::{self, Row, Sample},
    scenario::Scenario,
};

use self::{
    contestants::{Ours, SockudoWs, Yawc},
    fan_out::{FanOut, Sending},
    feed::Feed,
    held::Held,
};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

const YAWC: &str = "yawc";
const SOCKUDO: &str = "sockudo-ws";
const OURS: &str = "ours";

/// The payload sizes, and the number of messages of a round.
const SIZES: [(&str, usize, usize); 3] =
    [("256 B", 256, 20_000), ("1 KiB", 1 << 10, 10_000), ("16 KiB", 16 << 10, 1000)];

fn main() {
    let plan = Plan::from_arguments((3, 10), (11, 1));
    if plan.wants("one-way") {
        one_way::<true>(&plan, "context takeover");
        one_way::<false>(&plan, "no context takeover");
    }
    if plan.wants("memory") {
        memory::<true>(&plan, "context takeover");
        memory::<false>(&plan, "no context takeover");
    }
    if plan.wants("fan-out") {
        fan_out(&plan);
    }
}

/// A row for each library, all in the same scenario.
fn all<S: Scenario, const TAKEOVER: bool>(scenario: S) -> Vec<Row<S::Measured>> {
    vec![
        Row::new(YAWC, move || scenario.run::<Yawc<TAKEOVER>>()),
        Row::new(SOCKUDO, move || scenario.run::<SockudoWs<TAKEOVER>>()),
        Row::new(OURS, move || scenario.run::<Ours<TAKEOVER>>()),
    ]
}

fn one_way<const TAKEOVER: bool>(plan: &Plan, settings: &str) {
    for (name, size, messages) in SIZES {
        let rows = all::<_, TAKEOVER>(Feed { size, messages: plan.count(messages) });
        let table = rounds::run(plan.rounds, &rows).against(YAWC);
        table.print(&format!("one-way, {name}, {settings}"), "us/message");
        for row in [YAWC, SOCKUDO, OURS] {
            let each = table.middle(row, |sample| sample.wall).expect("the row ran");
            println!("  {row:<28} {:>12.0} messages a second", 1e9 / each);
        }
    }
}

fn memory<const TAKEOVER: bool>(plan: &Plan, settings: &str) {
    let connections = plan.count(200);
    println!("\nmemory, heap bytes of one end after an exchange of 1 KiB, {settings} ({connections} connections)");
    for row in all::<_, TAKEOVER>(Held { connections }) {
        println!("  {:<28} {:>12.0}", row.name, (row.run)());
    }
}

fn fan_out(plan: &Plan) {
    const EACH: &str = "compressed for each";
    const PREPARED: &str = "prepared";
    for (name, size, messages) in [("1 KiB", 1 << 10, 400), ("16 KiB", 16 << 10, 40)] {
        let fan_out = FanOut { size, messages: plan.count(messages), receivers: 64 };
        let row = |name, sending| Row::new(name, move || fan_out.run(sending));
        let rows = [row(EACH, Sending::Compressed), row(PREPARED, Sending::Prepared), row("plain", Sending::Plain)];
        let table = rounds::run(plan.rounds, &rows).against(EACH);
        table.print(&format!("fan-out, {name} to 64 connections"), "us/receiver");
        let ratio = table.ratio(PREPARED, EACH, |sample: &Sample| sample.wall).expect("the rows ran");
        goal(&format!("deflate/prepared-fan-out-{}", name.replace(' ', "-")), ratio, 0.25);
    }
}
