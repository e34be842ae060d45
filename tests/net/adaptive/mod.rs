//! One stack over whichever transport there is: over real sockets, with a network between that gets worse.

mod checker;
mod contract;
mod drill;
mod fallback;
mod network;
mod secure;
mod server;
mod world;

use std::time::Duration;

/// How long a test may hang.
const LONG: Duration = Duration::from_secs(60);

async fn within<F: Future>(test: F) -> F::Output {
    tokio::time::timeout(LONG, test).await.expect("it hangs")
}
