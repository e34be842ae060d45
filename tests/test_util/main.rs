//! The test kit, tested: what is broken must be found, what is scripted must happen, what is a fault must hurt.
#![cfg(feature = "test-util")]
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod broken;
mod contract;
mod fault;
#[cfg(feature = "websocket")]
mod fault_io;
mod runtime;
mod script;
