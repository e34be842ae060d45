//! Helpers that several test binaries share: handlers, servers to connect to, proxies that cut, feeds, logs, TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc, missing_docs)] // Helpers of tests may panic.

pub mod against_tungstenite;
pub mod feed;
pub mod fire;
pub mod log;
pub mod proxy;
pub mod raw_webtransport;
pub mod serve;
pub mod tls;

use std::time::Duration;

use tower_transport::{Message, Transport, TransportExt};

/// Fails a test that hangs. No test comes near this time.
pub async fn within<F: Future>(test: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("it hangs")
}

/// A handler that sends data back until its session ends.
pub async fn echo<T>(mut session: T)
where
    T: Transport<Message, In = Message> + Unpin,
{
    while let Some(Ok(message)) = session.receive_message().await {
        if message.is_data() && session.send_message(message).await.is_err() {
            return;
        }
    }
}
