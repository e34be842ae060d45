//! Tools for your own layers and transports: contract checks, a scripted transport, fault injection.
//!
//! A custom layer is an `impl Layer` and a type that is a `Sink` and a `Stream`. Three questions remain, and each has a
//! tool here:
//!
//! | question | tool |
//! |---|---|
//! | Does it keep the contract that everything above it relies on? | [`contract`]: one line, one named test per rule |
//! | Does it do its own work, message by message? | [`script`]: a transport that plays the messages of a test |
//! | What does it do when the network fails? | [`fault`]: stalls, losses, cuts, half-open and slow connections |
//!
//! None of them requires a runtime, uses a clock or sleeps.
//!
//! # Example
//!
//! A layer that upper-cases outgoing text.
//! ([`examples/custom_layer.rs`](https://github.com/tower-transport/tower-transport/blob/main/examples/custom_layer.rs)
//! does the same with a hand-written type.)
//!
//! ```
//! use std::future::ready;
//!
//! use futures_util::SinkExt;
//! use tower::{ServiceBuilder, layer::layer_fn};
//! use tower_transport::{Error, Message, Transport, TransportExt, channel};
//! use tower_transport::test_util::{contract::{Contract, block_on}, fault::Faults, script::Script};
//!
//! // The layer's wrapper, over any transport of messages.
//! fn loud<T>(inner: T) -> impl Transport<In = Message, TransportError = Error>
//! where
//!     T: Transport<In = Message, TransportError = Error>,
//! {
//!     inner.with(|message: Message| ready(Ok(message.as_text().unwrap_or("").to_uppercase().into())))
//! }
//!
//! // 1. It keeps the contract. The bare end receives the changed i-th message.
//! let pair = async || {
//!     let (here, there) = channel(1);
//!     (loud(here), there)
//! };
//! let contract = Contract::new(pair, |i| Message::text(format!("n{i}")))
//!     .outgoing(|i| Message::text(format!("n{i}")), |i| Message::text(format!("N{i}")));
//! block_on(contract.all());
//!
//! // 2. It does its work, message by message.
//! let (scripted, script) = Script::new()
//!     .expect(Message::text("HELLO"))
//!     .give(Message::text("not so loud"))
//!     .end()
//!     .build();
//! let mut transport = loud(scripted);
//! block_on(async {
//!     transport.send_message(Message::text("hello")).await?;
//!     assert_eq!(transport.receive_message().await.unwrap()?, Message::text("not so loud"));
//!     assert!(transport.receive_message().await.is_none());
//!     Ok::<_, Error>(())
//! })?;
//! assert!(script.is_done());
//!
//! // 3. It passes a cut connection on.
//! let faults = Faults::new();
//! let (here, _there) = channel(1);
//! let stack = ServiceBuilder::new().layer(layer_fn(loud)).layer(faults.layer());
//! let mut transport = stack.service(here);
//! faults.cut();
//! assert!(block_on(transport.send_message(Message::text("hello"))).unwrap_err().is_closed());
//! # Ok::<(), Error>(())
//! ```
// A failure here fails a test by a panic.
#![cfg_attr(not(test), allow(clippy::panic))]

pub mod contract;
pub mod fault;
pub mod script;
mod wake_count;

pub use self::wake_count::WakeCount;
