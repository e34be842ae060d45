//! `SessionServer`: one handler for the sessions of all three transports.

use crate::raw_webtransport as raw;

mod closing;
mod guards;
mod house;
mod limits;
mod sessions;

use std::time::Duration;

use tower_transport::stack::TransportKind;

/// What hangs has failed.
async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), test).await.expect("it hangs")
}

use TransportKind::{Sse, WebSocket, WebTransport};
