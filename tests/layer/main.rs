//! What each layer promises, poll by poll.

#[cfg(feature = "rkyv")]
mod codec;
mod per_connection;
