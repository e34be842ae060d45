//! What carries messages: [`Transport`], its extension [`TransportExt`], and the transports themselves.

#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
mod accept;
pub(crate) mod backlog;
mod boxed;
mod channel;
mod coalesce;
mod connect;
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
mod connecting;
#[cfg(all(any(feature = "websocket", feature = "optimized"), not(target_arch = "wasm32")))]
pub(crate) mod detach;
#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
mod dial;
#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
pub(crate) mod drain;
mod drive;
mod ext;
#[cfg(all(any(feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
mod framing;
#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
mod guest;
pub(crate) mod halves;
mod limits;
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
mod origin;
pub(crate) mod parked;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod place;
mod queue;
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
mod race;
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
mod refusal;
pub mod signal;
mod split;
#[cfg(feature = "sse")]
#[cfg_attr(docsrs, doc(cfg(feature = "sse")))]
pub mod sse;
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
pub(crate) mod subprotocol;
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
pub(crate) mod target;
#[cfg(all(feature = "websocket", not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(feature = "websocket")))]
pub mod websocket;
#[cfg(all(feature = "webtransport", not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(feature = "webtransport")))]
pub mod webtransport;

use futures_core::Stream;
use futures_sink::Sink;

use crate::{Error, Message};

#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "websocket", feature = "sse"))))]
pub use self::{
    accept::accept,
    drain::{Drain, Drained, Watched},
};
pub use self::{
    boxed::BoxTransport,
    channel::{Channel, channel},
    connect::{Connect, LostConnection, OutlivesConnection, Resumed},
    drive::{Driven, Driver, Receiver, Send, Sender, TrySendError},
    ext::{CloseWith, ReceiveMessage, SendMessage, TransportExt},
    limits::Limits,
    queue::{CoalesceBy, Queue, WhenFull},
    split::{SplitSink, SplitStream},
};

/// A `Sink` of outgoing and a `Stream` of incoming messages with one error: whatever is both is a transport.
///
/// This is an alias: it is implemented for every fitting type and cannot be implemented by hand. `Out` is what goes out
/// ([`Message`], or the values of a codec), [`In`](Self::In) what comes in.
///
/// The contract, beyond that of the two traits, is what [`test_util`](crate::test_util) checks:
///
/// - `start_send` follows a `poll_ready` that returned `Ready(Ok)`; `poll_ready` is `Pending` while there is no room, and
///   carries the back-pressure of the network to the caller.
/// - A message that `start_send` took is *accepted*: it stands in a bounded buffer. `poll_flush` is ready when all that was
///   accepted before it has been handed to the operating system (or the peer, where there is none in between).
/// - `poll_next` and the sink's methods never wait for each other.
/// - After the end, the stream gives `None` and the sink an error that [`is_closed`](Error::is_closed).
/// - Every `Pending` wakes its task when it may go on.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a transport of `{Out}`",
    label = "not a `Sink<{Out}>` and a `Stream` of results with the same error",
    note = "a transport is `Sink<Out, Error = E> + Stream<Item = Result<In, E>>` where `E: Into<tower_transport::Error>`",
    note = "a connector becomes a transport by calling it: `connector.oneshot(request).await?.into_body()`",
    note = "of a stack with a codec, the values lack the codec's derives: rkyv's Archive, Serialize and Deserialize, or serde's",
    note = "of a foreign transport, turn both errors into ours: `.sink_map_err(..)` and `.map_err(..)` of futures"
)]
pub trait Transport<Out = Message>:
    Sink<Out, Error = <Self as Transport<Out>>::TransportError>
    + Stream<Item = Result<<Self as Transport<Out>>::In, <Self as Transport<Out>>::TransportError>>
{
    /// What comes in.
    type In;

    /// The error of both directions.
    type TransportError: Into<Error>;
}

impl<T, Out, In, E> Transport<Out> for T
where
    T: ?Sized + Sink<Out, Error = E> + Stream<Item = Result<In, E>>,
    E: Into<Error>,
{
    type In = In;
    type TransportError = E;
}
