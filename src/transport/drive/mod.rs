//! A task that owns the stack, with any number of writers: see [`Driver`].

mod driven;
mod driver;
mod outbox;
#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
mod pull;
mod queues;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;
mod try_send_error;
mod waiters;
mod watch;

#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
pub(crate) use self::pull::{Pull, pull};
#[cfg(feature = "optimized")]
pub(crate) use self::sender::QueueDepth;
pub use self::{
    driven::Driven,
    driver::Driver,
    receiver::Receiver,
    sender::{Sender, Sending},
    try_send_error::TrySendError,
};
