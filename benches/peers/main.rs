//! This crate beside its peers, in one run: `cargo bench -p benches --bench peers [-- [--quick] SCENARIO...]`.
//!
//! A scenario is any part of one of the names that the run prints. `docs/benchmarks.md` says how it is measured.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use crate::{
    contestants::{
        Driven, LAYERED, Layered, OURS, Ours, SmallBuffer, T, TokioTungstenite, TokioTungstenite4k, Tungstenite, all,
    },
    plan::Plan,
    rounds::{Row, Sample},
    scenario::{
        SIZES, Scenario,
        idle::{Connections, Idle, bare_sockets},
        many::Many,
        one_way::OneWay,
        ping_pong::PingPong,
        senders,
    },
};
use harness::{allocator, contestants, goal, plan, rounds, scenario};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

fn main() {
    let plan = Plan::from_arguments((5, 4), (20, 1));
    let run = |name: &str, scenario: fn(&Plan)| {
        if plan.wants(name) {
            scenario(&plan);
        }
    };
    run("ping-pong", ping_pong);
    run("one-way", one_way);
    run("16-connections", connections_16);
    run("500-connections", connections_500);
    run("idle", idle);
    run("64-senders", senders);
    run("driver", driver);
}

fn ping_pong(plan: &Plan) {
    for ((name, size), trips) in SIZES.into_iter().zip([1500, 1500, 1000, 50]) {
        let trips = plan.count(trips);
        let scenario = PingPong { size, trips };
        let mut rows = all(scenario);
        match size {
            32 => rows.push(Row::new(LAYERED, move || scenario.run::<Layered<4>>())),
            1024 => rows.push(Row::new(LAYERED, move || scenario.run::<Layered<128>>())),
            _ => {}
        }
        let table = rounds::run(plan.rounds, &rows);
        table.print(&format!("ping-pong, {name}"), "p50 us");
        if size <= 1 << 10 {
            goal(&format!("peers/ping-pong-with-codec-to-T {name}"), table.ratio(LAYERED, T, wall), 0.85);
            goal(&format!("peers/ping-pong-to-fastest {name}"), table.ratio_to_fastest(OURS, wall), 1.05);
        } else {
            let bound = if size < 1 << 20 { 0.95 } else { 0.65 };
            goal(&format!("peers/ping-pong-to-T {name}"), table.ratio(OURS, T, wall), bound);
        }
    }
}

fn one_way(plan: &Plan) {
    for ((name, size), messages) in SIZES.into_iter().zip([8000, 8000, 4000, 150]) {
        let messages = plan.count(messages);
        let table = rounds::run(plan.rounds, &all(OneWay { size, messages }));
        table.print(&format!("one-way, {name}, a flush for each message"), "us/message");
        goal(&format!("peers/one-way-time-to-T {name}"), table.ratio(OURS, T, wall), 1.05);
    }
}

fn connections_16(plan: &Plan) {
    let table = rounds::run(plan.rounds, &all(Many { connections: 16, trips: plan.count(150) }));
    table.print("16-connections, 32 B ping-pong on all", "us/trip");
}

fn connections_500(plan: &Plan) {
    let connections = plan.count(500);
    let table = rounds::run(plan.rounds.div_ceil(2), &all(Many { connections, trips: 4 }));
    table.print(&format!("500-connections ({connections} now), 32 B ping-pong on all"), "us/trip");
    goal("peers/500-connections-cpu-to-T", table.ratio(OURS, T, cpu), 0.55);
}

fn idle(plan: &Plan) {
    let connections = plan.count(500);
    println!("\nidle, heap bytes per connection over a bare socket with its task ({connections} connections)");
    println!("  {:<28} {:>12} {:>12}", "", "connected", "after echo");
    let print = |name: &str, idle: Idle| println!("  {name:<28} {:>12.0} {:>12.0}", idle.connected, idle.echoed);
    let bare = bare_sockets(connections);
    print("(the bare socket)", bare);
    let mut ours = None;
    for row in all(Connections(connections)) {
        let idle = (row.run)().over(bare);
        print(row.name, idle);
        ours = (row.name == OURS).then_some(idle.connected.max(idle.echoed)).or(ours);
    }
    goal("peers/idle-bytes", ours, 7168.0);
}

fn senders(plan: &Plan) {
    let messages = plan.count(25_600);
    let one_task = OneWay { size: 32, messages };
    let table = rounds::run(
        plan.rounds,
        &[
            Row::new(T, move || one_task.run::<TokioTungstenite>()),
            Row::new("T, mpsc + feed + one flush", move || senders::by_hand::<Tungstenite, TokioTungstenite>(messages)),
            Row::new("T 4 KiB, the same", move || senders::by_hand::<SmallBuffer, TokioTungstenite4k>(messages)),
            Row::new(OURS, move || senders::ours(messages)),
        ],
    );
    table.print("64-senders, 32 B; the first row is one task with a flush for each message", "us/message");
    goal("peers/64-senders-time-to-T", table.ratio(OURS, T, wall), 0.0667);
    goal("peers/64-senders-cpu-to-T", table.ratio(OURS, T, cpu), 0.06);
}

fn driver(plan: &Plan) {
    let lone = PingPong { size: 32, trips: plan.count(1500) };
    let table = rounds::run(
        plan.rounds,
        &[
            Row::new(OURS, move || lone.between::<Ours, Ours>()),
            Row::new("ours, the client driven", move || lone.between::<Driven, Ours>()),
            Row::new("ours, both driven", move || lone.between::<Driven, Driven>()),
        ],
    );
    table.print("driver, a lone message of 32 B there and back", "p50 us");
    goal("peers/driver-lone-message", table.ratio("ours, the client driven", OURS, wall), 1.25);
}

fn wall(sample: &Sample) -> f64 {
    sample.wall
}

fn cpu(sample: &Sample) -> f64 {
    sample.cpu
}

/// A goal of a row that ran; its name becomes one word.
fn goal(name: &str, value: Option<f64>, bound: f64) {
    goal::goal(&name.replace(' ', "-"), value.expect("the row ran"), bound);
}
