//! What server-sent events cost: `cargo bench --features full --bench sse [-- [--quick] SCENARIO...]`.
//!
//! A scenario is any part of one of the names that the run prints. All rows of a scenario take turns within each round, and a ratio
//! is the median of the ratios of each round.

#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../measure/goal.rs"]
mod goal;
#[path = "../measure/plan.rs"]
mod plan;
#[path = "../measure/statistics.rs"]
mod statistics;

mod parser;
mod rows;
#[cfg(feature = "axum")]
mod server;

use crate::plan::Plan;

fn main() {
    let plan = Plan::from_arguments((7, 4), (31, 1));
    parser::run(&plan);
    #[cfg(feature = "axum")]
    server::run(&plan);
}
