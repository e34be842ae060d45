//! What a layer costs per message, in time, instructions and allocations: `cargo bench --bench overhead [-- --quick]`.
//!
//! `docs/benchmarks.md` says how it is measured.

#![allow(clippy::expect_used)]

#[path = "../measure/allocator.rs"]
mod allocator;
mod callgrind;
#[path = "../measure/goal.rs"]
mod goal;
mod pass_through;
mod rows;
#[path = "../measure/statistics.rs"]
mod statistics;

use std::env;

use cpu_time::ProcessTime;

use crate::{
    goal::goal,
    rows::{BARE, ONE, Row, TEN},
    statistics::median,
};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// What one row costs per message.
struct Cost {
    name: &'static str,
    /// Nanoseconds of CPU time, one figure a round.
    times: Vec<f64>,
    allocations: f64,
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
    goals(&layers);
}

fn measure(rows: Vec<Row>, rounds: usize, messages: usize, count: bool) -> Vec<Cost> {
    let mut times = vec![Vec::with_capacity(rounds); rows.len()];
    // In each round every row runs once, and another one first, so that what else the machine does falls on all of them.
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
        allocations: allocations(&row),
        instructions: count.then(|| callgrind::instructions(row.name)).flatten(),
    };
    rows.into_iter().zip(times).map(cost).collect()
}

/// Allocations per message in steady state: what ten times the messages allocate more.
fn allocations(row: &Row) -> f64 {
    let run = |messages| {
        let before = allocator::allocations();
        (row.run)(messages);
        allocator::allocations() - before
    };
    let (few, many) = (run(1000), run(10_000));
    (many as f64 - few as f64) / 9000.0
}

/// The median of the differences within each round.
fn over(cost: &Cost, base: &Cost) -> f64 {
    median(cost.times.iter().zip(&base.times).map(|(time, base)| time - base))
}

/// The median of the ratios within each round.
#[cfg(feature = "compression")]
fn times(cost: &Cost, base: &Cost) -> f64 {
    median(cost.times.iter().zip(&base.times).map(|(time, base)| time / base))
}

fn print(title: &str, costs: &[Cost]) {
    println!("\n{title}");
    println!("  {:<28} {:>9} {:>9} {:>13} {:>9} {:>12}", "", "CPU ns", "over", "instructions", "over", "allocations");
    for cost in costs {
        let (ns, more) = (median(cost.times.iter().copied()), over(cost, &costs[0]));
        let (count, extra) = match (cost.instructions, costs[0].instructions) {
            (Some(count), Some(base)) => (format!("{count:.1}"), format!("{:.1}", count - base)),
            _ => ("-".to_owned(), "-".to_owned()),
        };
        println!("  {:<28} {ns:>9.2} {more:>9.2} {count:>13} {extra:>9} {:>12.3}", cost.name, cost.allocations);
    }
}

fn goals(costs: &[Cost]) {
    let find = |name| costs.iter().find(|cost| cost.name == name).expect("the row ran");
    let (bare, one, ten) = (find(BARE), find(ONE), find(TEN));
    match (bare.instructions, one.instructions) {
        (Some(bare), Some(one)) => goal("overhead/pass-through-layer-instructions", one - bare, 20.0),
        _ => println!("instructions were not counted: that needs `cargo bench` and valgrind"),
    }
    goal("overhead/pass-through-layer-allocations", one.allocations - bare.allocations, 0.0);
    goal("overhead/10-pass-through-layers-ns", over(ten, bare), 25.0);
    #[cfg(feature = "auth")]
    {
        // An end of a stack has one such layer; the row has it at both ends of the channel.
        let expiry = find(rows::auth::EXPIRY);
        goal("overhead/auth-expiry-ns", over(expiry, bare) / 2.0, 2.0);
        goal("overhead/auth-expiry-allocations", expiry.allocations - bare.allocations, 0.0);
    }
    #[cfg(feature = "trace")]
    {
        let trace = find(rows::TRACE);
        goal("overhead/trace-allocations", trace.allocations - bare.allocations, 0.0);
        goal("overhead/trace-without-a-recorder-ns", over(trace, one), 2.0);
    }
    #[cfg(feature = "heartbeat")]
    {
        let heartbeat = find(rows::HEARTBEAT);
        goal("overhead/heartbeat-ns-over-pass-through", over(heartbeat, one), 2.0);
        goal("overhead/heartbeat-allocations", heartbeat.allocations, 0.0);
    }
    #[cfg(feature = "queue")]
    {
        let queue = find(rows::QUEUE);
        goal("overhead/queue-ns-over-pass-through", over(queue, one), 2.0);
        goal("overhead/queue-allocations", queue.allocations, 0.0);
    }
    #[cfg(feature = "compression")]
    {
        let (bare, layer) = (find(rows::COMPRESSION_BARE), find(rows::COMPRESSION));
        goal("overhead/compression-vs-flate2-reset", times(layer, bare), 1.05);
        // The payload itself, once on each end.
        goal("overhead/compression-allocations", layer.allocations, 2.0);
    }
    #[cfg(feature = "batch")]
    {
        let (lone, packed) = (find(rows::batch::LONE), find(rows::batch::PACKED));
        goal("overhead/batch-lone-message-allocations", lone.allocations - bare.allocations, 0.0);
        goal("overhead/batch-of-64-allocations-per-message", packed.allocations, 2.0 / 64.0);
    }
    #[cfg(feature = "rate-limit")]
    {
        use rows::rate_limit::{BY_HAND, BY_HAND_KEYED, CHECK, GOVERNOR_KEYED, KEYED, PER_CONNECTION};

        let alone = |name| median(find(name).times.iter().copied());
        let ratio = |layer, by_hand| over(find(layer), bare) / over(find(by_hand), bare);
        goal("overhead/rate-limit-vs-governor", ratio(PER_CONNECTION, BY_HAND), 1.2);
        goal("overhead/rate-limit-keyed-vs-governor", ratio(KEYED, BY_HAND_KEYED), 1.2);
        goal("overhead/rate-limit-check-key-vs-governor", alone(CHECK) / alone(GOVERNOR_KEYED), 1.2);
        goal("overhead/rate-limit-allocations", find(PER_CONNECTION).allocations - bare.allocations, 0.0);
    }
    #[cfg(feature = "limit")]
    for (name, row) in [("limit", find(rows::limit::SIZES)), ("limit-with-times", find(rows::limit::TIMES))] {
        goal(&format!("overhead/{name}-ns"), over(row, bare), 2.0);
        goal(&format!("overhead/{name}-allocations"), row.allocations - bare.allocations, 0.0);
    }
    #[cfg(feature = "reconnect")]
    {
        let (reconnect, keep) = (find("+ reconnect"), find("+ reconnect, keep"));
        goal("overhead/reconnect-over-pass-through-ns", over(reconnect, one), 2.0);
        goal("overhead/reconnect-allocations", reconnect.allocations - bare.allocations, 0.0);
        goal("overhead/reconnect-keep-allocations", keep.allocations - bare.allocations, 0.0);
    }
}
