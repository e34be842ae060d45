//! Fault injection: a layer over any transport, and (for real WebSockets in tests) one over any byte stream.
//!
//! A test holds the controller, and exposes the layer or the transport under test to network faults: a peer that
//! stalls, lost messages, an end without a word, a half-open or a slow connection. Nothing happens by chance: random
//! faults have a seed, and no clock is used.
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use futures_util::FutureExt;
//! use tower_transport::{Message, TransportExt, channel, test_util::fault::{Direction, Faults}};
//!
//! let (here, mut there) = channel::<Message, Message>(8);
//! let faults = Faults::new();
//! let mut here = here.layer(faults.layer());
//!
//! faults.lose(Direction::Outgoing, 1);
//! here.send_message(Message::text("lost")).await?;
//! here.send_message(Message::text("kept")).await?;
//! assert_eq!(there.receive_message().await.unwrap()?, Message::text("kept"));
//!
//! faults.stall(Direction::Outgoing);
//! assert!(here.send_message(Message::text("later")).now_or_never().is_none());
//!
//! faults.cut();
//! assert!(here.receive_message().await.unwrap().unwrap_err().is_closed());
//! assert!(here.receive_message().await.is_none());
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```

#[cfg(all(feature = "websocket", not(target_arch = "wasm32")))]
mod io;
mod transport;

#[cfg(all(feature = "websocket", not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(feature = "websocket")))]
pub use self::io::{Cut, FaultIo, IoFaults};
pub use self::transport::{Direction, Fault, FaultLayer, Faults};
