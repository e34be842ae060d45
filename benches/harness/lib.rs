//! The parts that the benchmarks share: contestants behind one trait, scenarios, interleaved rounds, statistics and
//! printed goals.

#![allow(clippy::expect_used, clippy::unwrap_used)] // A benchmark that fails ends.

pub mod allocator;
pub mod contestant;
pub mod contestants;
pub mod goal;
pub mod loopback;
pub mod plan;
pub mod rounds;
pub mod scenario;
pub mod statistics;
