//! Peers that break the rules, on a real socket: each gets a clear error and an end, and costs bounded memory.

mod allocator;
mod attack;
#[cfg(feature = "auth")]
mod auth;
#[cfg(feature = "batch")]
mod batch;
mod broadcast;
#[cfg(feature = "compression")]
mod compression;
mod endings;
#[cfg(feature = "rate-limit")]
mod flood;
mod frames;
#[cfg(feature = "heartbeat")]
mod heartbeat;
#[cfg(feature = "rate-limit")]
mod keys;
mod memory;
#[cfg(feature = "queue")]
mod queue;
mod requests;
mod responses;
#[cfg(feature = "resume")]
mod resume;
#[path = "../serve/mod.rs"]
mod serve;
mod slow;
#[cfg(feature = "sse")]
mod sse;
mod sse_duplex;
#[cfg(feature = "sse")]
mod sse_server;
#[cfg(feature = "limit")]
mod unfinished;
#[cfg(feature = "dev-certificate")]
mod webtransport;
mod wire;

use std::time::Duration;

/// What hangs has failed.
async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), test).await.expect("it hangs")
}
