//! Whether what is late in one place makes the rest wait: `cargo bench -p benches --bench head_of_line [-- [--quick]
//! stalled|loss]`.
//!
//! `stalled`: one stream of a WebTransport session has a reader that never reads; the others' latency with it, and
//! without. `loss`: 8 flows as 8 streams of one session, and as messages of one WebSocket, while 2 of 100 packets are
//! lost each way. That runs in a network namespace of its own, by `unshare` and `nft`, and needs root; elsewhere it
//! says so and is passed over.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod flows;
mod loss;
mod namespace;
mod session;
mod stalled;

use crate::plan::Plan;
use harness::{goal, plan, statistics};

fn main() {
    let plan = Plan::from_arguments((4, 4), (10, 1));
    if namespace::is_inside() {
        return loss::measure(&plan);
    }
    if plan.wants("stalled") {
        stalled::measure(&plan);
    }
    if plan.wants("loss") {
        match namespace::run_inside() {
            Ok(()) => {}
            Err(why) => println!("\nloss: passed over, {why}"),
        }
    }
}

/// Runs a scenario on one thread: that repeats best on a busy machine.
fn on_one_thread<F: Future<Output: Send> + Send + 'static>(scenario: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::spawn(scenario).await.expect("the scenario ran to its end") })
}
