//! The cost of a layer per message, in time, instructions and allocations: `cargo bench -p benches --bench overhead [--
//! --quick]`.
//!
//! `docs/benchmarks.md` says how it is measured.

#![allow(clippy::expect_used)]

mod callgrind;
mod clock;
mod goals;
mod pass_through;
mod rows;

use harness::{allocator, goal, statistics};
use std::env;

use cpu_time::ProcessTime;

use crate::{rows::Row, statistics::median};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// The cost of one row per message.
struct Cost {
    name: &'static str,
    /// Nanoseconds of CPU time, one figure a round.
    times: Vec<f64>,
    allocations: f64,
    /// Of the operating system's clock, where they are counted.
    clock_reads: Option<f64>,
    instructions: Option<f64>,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // tower's Timeout and RateLimit make timers, which want a runtime; nothing is polled by it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _guard = runtime.enter();

    if let [run, name, messages] = arguments.as_slice()
        && run == callgrind::RUN
    {
        let row = rows::all().find(|row| row.name == name);
        return (row.expect("a row of that name").run)(messages.parse().expect("a number of messages"));
    }

    let has = |flag: &str| arguments.iter().any(|word| word == flag);
    // Without cargo's `--bench` (so under `cargo test`) it only shows that everything runs.
    let (rounds, messages) = match (has("--bench"), has("--quick")) {
        (false, _) => (1, 1000),
        (true, true) => (11, 20_000),
        (true, false) => (51, 50_000),
    };
    let count = has("--bench");

    let layers = measure(rows::layers(), rounds, messages, count);
    print("per message: out through the layers at one end of a channel, in through them at the other", &layers);
    let connectors = measure(rows::connectors(), rounds, messages, count);
    print("per connect, of a connector that is ready at once", &connectors);
    let towers = measure(rows::towers(), rounds, messages, count);
    print("per call, for comparison", &towers);
    println!();
    goals::print(&layers);
}

fn measure(rows: Vec<Row>, rounds: usize, messages: usize, count: bool) -> Vec<Cost> {
    let mut times = vec![Vec::with_capacity(rounds); rows.len()];
    // In each round every row runs once, and another one first, so that what else the machine does falls on all of
    // them.
    for round in 0..rounds {
        for turn in 0..rows.len() {
            let index = (round + turn) % rows.len();
            let start = ProcessTime::now();
            (rows[index].run)(messages);
            times[index].push(start.elapsed().as_nanos() as f64 / messages as f64);
        }
    }
    let cost = |(row, times): (Row, Vec<f64>)| Cost {
        name: row.name,
        times,
        allocations: more(&row, allocator::allocations),
        clock_reads: clock::reads().map(|_| more(&row, || clock::reads().unwrap_or_default())),
        instructions: count.then(|| callgrind::instructions(row.name)).flatten(),
    };
    rows.into_iter().zip(times).map(cost).collect()
}

/// The increase of a count per message in steady state: the difference that ten times the messages make.
fn more(row: &Row, count: impl Fn() -> u64) -> f64 {
    let run = |messages| {
        let before = count();
        (row.run)(messages);
        count() - before
    };
    let (few, many) = (run(1000), run(10_000));
    (many as f64 - few as f64) / 9000.0
}

/// The median of the differences within each round.
fn over(cost: &Cost, base: &Cost) -> f64 {
    median(cost.times.iter().zip(&base.times).map(|(time, base)| time - base))
}

/// The median of the ratios within each round.
fn times(cost: &Cost, base: &Cost) -> f64 {
    median(cost.times.iter().zip(&base.times).map(|(time, base)| time / base))
}

fn print(title: &str, costs: &[Cost]) {
    println!("\n{title}");
    println!(
        "  {:<30} {:>9} {:>9} {:>13} {:>9} {:>12} {:>12}",
        "", "CPU ns", "over", "instructions", "over", "allocations", "clock reads"
    );
    for cost in costs {
        let (ns, more) = (median(cost.times.iter().copied()), over(cost, &costs[0]));
        let (count, extra) = match (cost.instructions, costs[0].instructions) {
            (Some(count), Some(base)) => (format!("{count:.1}"), format!("{:.1}", count - base)),
            _ => ("-".to_owned(), "-".to_owned()),
        };
        let reads = cost.clock_reads.map_or_else(|| "-".to_owned(), |reads| format!("{reads:.3}"));
        let (name, allocations) = (cost.name, cost.allocations);
        println!("  {name:<30} {ns:>9.2} {more:>9.2} {count:>13} {extra:>9} {allocations:>12.3} {reads:>12}");
    }
}
