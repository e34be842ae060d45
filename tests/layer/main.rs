//! What each layer promises, poll by poll.

#[cfg(all(feature = "auth", feature = "test-util"))]
mod auth;
#[cfg(all(feature = "batch", feature = "test-util"))]
mod batch;
#[cfg(all(feature = "cache", feature = "test-util"))]
mod cache;
#[cfg(feature = "rkyv")]
mod codec;
#[cfg(all(feature = "compression", feature = "test-util"))]
mod compression;
#[cfg(all(feature = "hybrid", feature = "test-util"))]
mod contract;
#[cfg(all(feature = "heartbeat", feature = "test-util"))]
mod custom_heartbeat;
#[cfg(all(feature = "heartbeat", feature = "test-util"))]
mod heartbeat;
#[cfg(all(feature = "limit", feature = "test-util"))]
mod limit;
mod per_connection;
#[cfg(all(feature = "heartbeat", feature = "limit", feature = "reconnect", feature = "websocket"))]
mod progress;
#[cfg(all(feature = "queue", feature = "test-util"))]
mod queue;
#[cfg(all(feature = "rate-limit", feature = "test-util"))]
mod rate_limit;
#[cfg(all(feature = "reconnect", feature = "test-util"))]
mod reconnect;
#[cfg(all(feature = "resume", feature = "test-util"))]
mod resume;
#[cfg(all(feature = "service", feature = "test-util"))]
mod service;
#[cfg(all(feature = "trace", feature = "test-util"))]
mod trace;
