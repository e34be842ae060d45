//! This crate beside its peers, in one run: `cargo bench --bench peers [-- [--quick] SCENARIO...]`.
//!
//! A scenario is any part of one of the names that the run prints. `docs/benchmarks.md` says how it is measured.

#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../measure/allocator.rs"]
mod allocator;
#[path = "../measure/goal.rs"]
mod goal;
#[path = "../measure/statistics.rs"]
mod statistics;

mod contestant;
mod contestants;
mod loopback;
mod rounds;
mod scenario;

use crate::{
    contestants::{SmallBuffer, T, TokioTungstenite, Tungstenite, all},
    rounds::Row,
    scenario::{
        SIZES,
        idle::{Connections, Idle, bare_sockets},
        many::Many,
        one_way::OneWay,
        ping_pong::PingPong,
        senders,
    },
};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// How much is run, and of what.
struct Plan {
    rounds: usize,
    /// Shares the number of messages of a round.
    divisor: usize,
    filters: Vec<String>,
}

impl Plan {
    /// Without cargo's `--bench` (so under `cargo test`) it only shows that everything runs.
    fn from_arguments() -> Self {
        let (flags, filters): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|word| word.starts_with('-'));
        let has = |flag| flags.iter().any(|word| word == flag);
        let (rounds, divisor) = match (has("--bench"), has("--quick")) {
            (false, _) => (1, 100),
            (true, true) => (5, 4),
            (true, false) => (20, 1),
        };
        Self { rounds, divisor, filters }
    }

    fn wants(&self, scenario: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| scenario.contains(filter.as_str()))
    }

    fn count(&self, messages: usize) -> usize {
        messages.div_ceil(self.divisor)
    }
}

fn main() {
    let plan = Plan::from_arguments();
    if plan.wants("ping-pong") {
        ping_pongs(&plan);
    }
    if plan.wants("one-way") {
        one_ways(&plan);
    }
    if plan.wants("16-connections") {
        let trips = plan.count(150);
        let table = rounds::run(plan.rounds, &all(Many { connections: 16, trips }));
        table.print("16-connections, 32 B ping-pong on all", "us/trip");
    }
    if plan.wants("500-connections") {
        let connections = plan.count(500);
        let table = rounds::run(plan.rounds.div_ceil(2), &all(Many { connections, trips: 4 }));
        table.print(&format!("500-connections ({connections} now), 32 B ping-pong on all"), "us/trip");
    }
    if plan.wants("idle") {
        idles(plan.count(500));
    }
    if plan.wants("64-senders") {
        many_senders(&plan);
    }
}

fn ping_pongs(plan: &Plan) {
    for ((name, size), trips) in SIZES.into_iter().zip([1500, 1500, 1000, 40]) {
        let trips = plan.count(trips);
        let table = rounds::run(plan.rounds, &all(PingPong { size, trips }));
        table.print(&format!("ping-pong, {name}"), "p50 us");
    }
}

fn one_ways(plan: &Plan) {
    for ((name, size), messages) in SIZES.into_iter().zip([8000, 8000, 4000, 100]) {
        let messages = plan.count(messages);
        let table = rounds::run(plan.rounds, &all(OneWay { size, messages }));
        table.print(&format!("one-way, {name}, a flush for each message"), "us/message");
    }
}

fn idles(connections: usize) {
    println!("\nidle, bytes per connection over a bare socket with its task ({connections} connections)");
    println!("  {:<28} {:>12} {:>12}", "", "connected", "after echo");
    let bare = bare_sockets(connections);
    let row = |name: &str, idle: Idle| {
        println!("  {name:<28} {:>12.0} {:>12.0}", idle.connected, idle.echoed);
    };
    row("(the bare socket)", bare);
    for contestant in all(Connections(connections)) {
        row(contestant.name, (contestant.run)().over(bare));
    }
}

fn many_senders(plan: &Plan) {
    let messages = plan.count(25_600);
    let rows = [
        Row::new(T, move || senders::naive::<TokioTungstenite>(messages)),
        Row::new("T, mpsc, feed, one flush", move || senders::by_hand::<Tungstenite, TokioTungstenite>(messages)),
        Row::new("T 4 KiB, the same", move || senders::by_hand::<SmallBuffer, TokioTungstenite>(messages)),
    ];
    rounds::run(plan.rounds, &rows).print("64-senders, 32 B (the first row: one task, a flush for each)", "us/message");
}
