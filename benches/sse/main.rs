//! The cost of server-sent events: `cargo bench -p benches --bench sse [-- [--quick] SCENARIO...]`.
//!
//! A scenario is any part of one of the names that the run prints. All rows of a scenario take turns within each round,
//! and a ratio is the median of the ratios of each round.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod parser;
mod rows;
mod server;

use crate::plan::Plan;
use harness::{goal, plan, statistics};

fn main() {
    let plan = Plan::from_arguments((7, 4), (31, 1));
    parser::run(&plan);
    server::run(&plan);
}
