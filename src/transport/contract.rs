use std::task::Poll;

use futures_core::Stream;
use futures_sink::Sink;

use crate::{Error, Message};

/// A `Sink` of outgoing messages and a `Stream` of incoming ones with the same error. Every type that is both is a
/// transport.
///
/// This trait is an alias: it is implemented for every type that fits and cannot be implemented by hand. `Out` is the
/// type that is sent ([`Message`], or the values of a codec); [`In`](Self::In) is the type that is received.
///
/// The contract goes beyond that of the two traits. [`test_util`](crate::test_util) checks it:
///
/// - Call `start_send` only after `poll_ready` returned `Ready(Ok)`. `poll_ready` is `Pending` while there is no room,
///   which carries the backpressure of the network to the caller.
/// - A message that `start_send` took is *accepted*: it is in a bounded buffer. `poll_flush` is ready when everything
///   accepted before it has been handed to the operating system, or to the peer if there is no operating system in
///   between.
/// - `poll_next` and the sink's methods never wait for each other.
/// - After the end, the stream returns `None` and the sink returns an error for which [`is_closed`](Error::is_closed)
///   is true.
/// - A method that returns `Pending` wakes its task when it can make progress. The streams of this crate's network
///   transports do so at once after 1,024 items in a row, so that a flood does not keep other tasks from running.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a transport of `{Out}`",
    label = "not a `Sink<{Out}>` and a `Stream` of results with the same error",
    note = "a transport is `Sink<Out, Error = E> + Stream<Item = Result<In, E>>`, `E: Into<tower_transport::Error>`",
    note = "a connector becomes a transport by calling it: `connector.oneshot(request).await?.into_body()`",
    note = "with a codec, the values may lack its derives: rkyv's Archive, Serialize and Deserialize, or serde's",
    note = "for a foreign sink and stream, convert the errors: `tower_transport::transport::Foreign::new(..)`",
    note = "layers of tower and tower-http go on a connector or a service; for an optional layer, use `.optional(..)`"
)]
pub trait Transport<Out = Message>:
    Sink<Out, Error = <Self as Transport<Out>>::TransportError>
    + Stream<Item = Result<<Self as Transport<Out>>::In, <Self as Transport<Out>>::TransportError>>
{
    /// The type of incoming messages.
    type In;

    /// The error type of both directions.
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

/// A type whose stream yields [`Message`]s: every [`Transport`] of `Message`s is one.
///
/// A layer of `Message`s, such as the heartbeat, is a `Layer` of these types only. If it is in the wrong place of a
/// stack, above a codec or on a connector, the compiler says so where the stack is built.
#[diagnostic::on_unimplemented(
    message = "this layer goes on a transport of `Message`s, and `{Self}` is not one",
    label = "not a transport of `Message`s",
    note = "in a stack with a codec, add this layer after the codec: above it are values in place of `Message`s",
    note = "on a connector, put layers of a transport into `.per_connection(..)`"
)]
pub trait MessageStream {}

// Only the stream is looked at: it needs no inference of what the sink takes, so the compiler finds the one wrong type.
impl<T, In, E> MessageStream for T
where
    T: ?Sized + Stream<Item = Result<In, E>>,
    In: sealed::LayersOfMessagesGoBelowTheCodec,
{
}

/// The compiler shows the name of this trait, and nothing of its diagnostics, where a layer of `Message`s is above a
/// codec: the builder's method `service` is then missing. So the name is the sentence.
mod sealed {
    #[diagnostic::on_unimplemented(
        message = "this layer goes on a transport of `Message`s, and the layer below it carries `{Self}`",
        label = "the layers of this stack are in the wrong order",
        note = "add this layer after the codec: above the codec are values in place of `Message`s"
    )]
    #[expect(unnameable_types, reason = "that is what seals")]
    pub trait LayersOfMessagesGoBelowTheCodec {}

    impl LayersOfMessagesGoBelowTheCodec for crate::Message {}
}

/// The result of polling the stream of a transport.
#[cfg_attr(not(feature = "full"), allow(dead_code, reason = "for layers, which are features"))]
pub(crate) type Polled<T, Out = Message> =
    Poll<Option<Result<<T as Transport<Out>>::In, <T as Transport<Out>>::TransportError>>>;
