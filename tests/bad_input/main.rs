//! Peers that break the rules, on a real socket: each gets a clear error and an end, and costs bounded memory.

mod allocator;
mod attack;
mod endings;
mod frames;
#[cfg(feature = "rate-limit")]
mod keys;
mod memory;
mod requests;
mod responses;
#[path = "../serve/mod.rs"]
mod serve;
mod wire;

use std::time::Duration;

/// What hangs has failed.
async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), test).await.expect("it hangs")
}
