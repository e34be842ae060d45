//! Transports: the trait [`Transport`], its extension [`TransportExt`], and the implementations that carry messages.

#[cfg(any(feature = "websocket", feature = "sse", feature = "webtransport"))]
#[macro_use]
mod setters;

#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
mod accept;
pub(crate) mod backlog;
mod boxed;
#[cfg(any(feature = "websocket", feature = "sse", feature = "webtransport"))]
mod burst;
#[cfg(feature = "byte-stream")]
mod byte_stream;
mod channel;
pub(crate) mod close_deadline;
#[cfg(any(feature = "websocket", feature = "sse", feature = "webtransport"))]
// Each transport uses some of it.
#[cfg_attr(any(not(feature = "full"), target_arch = "wasm32"), allow(dead_code))]
pub(crate) mod closing;
mod connect;
pub(crate) mod contract;
#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "websocket", feature = "sse"))))]
pub mod dial;
#[cfg(any(feature = "websocket", feature = "sse", feature = "webtransport"))]
#[cfg_attr(not(any(feature = "websocket", feature = "sse")), allow(dead_code, unreachable_pub, unused_imports))]
pub(crate) mod drain;
mod drive;
mod ext;
mod foreign;
#[cfg(any(feature = "sse", feature = "webtransport"))]
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
mod framing;
#[cfg(any(feature = "websocket", feature = "sse", feature = "webtransport"))]
mod idle;
mod limits;
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
mod origin;
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), target_arch = "wasm32"))]
pub(crate) mod page;
pub(crate) mod payload;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod permit;
mod queue;
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
mod race;
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
mod refusal;
#[cfg(any(feature = "optimized", all(feature = "websocket", not(target_arch = "wasm32"))))]
pub(crate) mod shrink;
pub mod signal;
mod split;
#[cfg(feature = "sse")]
#[cfg_attr(docsrs, doc(cfg(feature = "sse")))]
pub mod sse;
#[cfg(any(feature = "websocket", feature = "sse", feature = "webtransport"))]
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "a page offers names, the browser checks the choice"))]
pub(crate) mod subprotocol;
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
pub(crate) mod target;
// Most features use some of it.
#[cfg_attr(not(feature = "full"), allow(dead_code))]
pub(crate) mod wakers;
#[cfg(all(feature = "websocket", not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(feature = "websocket")))]
pub mod websocket;
// The browser's, with the same names.
#[cfg(all(feature = "websocket", target_arch = "wasm32"))]
#[cfg_attr(docsrs, doc(cfg(feature = "websocket")))]
#[path = "websocket/browser/mod.rs"]
pub mod websocket;
#[cfg(feature = "webtransport")]
#[cfg_attr(docsrs, doc(cfg(feature = "webtransport")))]
pub mod webtransport;

#[cfg(feature = "byte-stream")]
#[cfg_attr(docsrs, doc(cfg(feature = "byte-stream")))]
pub use self::byte_stream::ByteStream;
#[cfg(feature = "resume")]
pub(crate) use self::connect::SessionMessages;
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "websocket", feature = "sse", feature = "webtransport"))))]
pub use self::drain::{ConnectionId, Drain, Drained, OpenConnection, Watched};
#[cfg(feature = "optimized")]
pub(crate) use self::drive::QueueDepth;
#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "websocket", feature = "sse"))))]
pub use self::{
    accept::accept,
    drain::{AnswerOrRefusal, DrainLayer, Readiness, ReadinessBody, RefusingWhileDraining},
};
pub use self::{
    boxed::BoxTransport,
    channel::{Channel, channel},
    connect::{Connect, LostConnection, OutlivesConnection, Resumed, SessionLoss, Unacknowledged},
    contract::{MessageStream, Transport},
    drive::{Driven, Driver, Receiver, Sender, Sending, TrySendError},
    ext::{CloseWith, ReceiveMessage, SendMessage, TransportExt},
    foreign::Foreign,
    limits::Limits,
    queue::{CoalesceBy, QueueConfig, WhenFull},
    split::{SplitSink, SplitStream},
};
