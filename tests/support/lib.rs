//! What the tests of more than one binary share: servers to connect to, proxies to cut, feeds to read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc, missing_docs)] // Helpers of tests may panic.

pub mod feed;
pub mod proxy;
pub mod raw_webtransport;
pub mod serve;
