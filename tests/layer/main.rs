//! What each layer promises, poll by poll.

#[cfg(feature = "rkyv")]
mod codec;
#[cfg(all(feature = "hybrid", feature = "test-util"))]
mod contract;
mod per_connection;
