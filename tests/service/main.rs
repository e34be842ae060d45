//! The bridges between a transport and `tower::Service`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // Also in what the tests share.

mod cancel;
mod client;
#[cfg(feature = "reconnect")]
mod reconnect;
mod server;
mod stack;
mod stress;
mod support;
