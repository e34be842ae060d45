#![cfg_attr(docsrs, feature(doc_cfg))]
// No peer may be able to cause a panic; tests may.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]
//! Middleware for messages.

pub mod builder;
pub mod codec;
pub mod error;
pub mod layer;
pub mod message;
#[cfg(all(feature = "websocket", not(target_arch = "wasm32")))]
mod rt;
#[cfg(feature = "service")]
#[cfg_attr(docsrs, doc(cfg(feature = "service")))]
pub mod service;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod test_util;
pub mod transport;

#[doc(no_inline)]
pub use self::{
    error::{BoxError, Error},
    message::{CloseCode, CloseFrame, Message, Text},
    transport::{
        BoxTransport, Channel, Connect, Driver, Limits, Queue, Receiver, Sender, Transport, TransportExt, WhenFull,
        channel,
    },
};
