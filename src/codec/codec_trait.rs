use crate::{Error, Message};

/// Converts values to messages and messages to values.
///
/// ```
/// use tower_transport::{Error, Message, codec::Codec};
///
/// /// Numbers as decimal text.
/// #[derive(Clone, Debug)]
/// struct Decimal;
///
/// impl Codec for Decimal {
///     type Out = u64;
///     type In = u64;
///
///     fn encode(&mut self, value: &u64) -> Result<Message, Error> {
///         Ok(Message::text(value.to_string()))
///     }
///
///     fn decode(&mut self, message: Message) -> Result<u64, Error> {
///         let text = message.as_text().ok_or_else(|| Error::codec("a number is a text message"))?;
///         text.parse().map_err(|error| Error::codec("not a decimal number").with_source(error))
///     }
/// }
///
/// let message = Decimal.encode(&17)?;
/// assert_eq!(Decimal.decode(message)?, 17);
/// # Ok::<(), Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a codec for these values",
    label = "not a `Codec`",
    note = "`JsonCodec<Out, In>` needs `Out: serde::Serialize` and `In: serde::de::DeserializeOwned`",
    note = "`RkyvCodec<Out, In>` needs `#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]` on both",
    note = "`HybridCodec<Out, In>` needs all of these"
)]
pub trait Codec {
    /// The type of outgoing values.
    type Out;

    /// The type of incoming values.
    type In;

    /// Encodes a value into a message. It takes a reference, and the message is cheap to clone: see
    /// [`EncodeOnce`](super::EncodeOnce) for a value that goes to many connections.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_codec`](Error::is_codec) is true if the value has no form on the wire (for
    /// example, a JSON map whose keys are not strings). The codec can continue with the next value.
    fn encode(&mut self, value: &Self::Out) -> Result<Message, Error>;

    /// Decodes a data message into a value. Control messages never reach the codec: transports and
    /// [`Coded`](crate::layer::codec::Coded) handle them.
    ///
    /// The bytes come from a peer. For any input, the result is a value or an error, and the memory used is bounded by
    /// a multiple of the message size.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_codec`](Error::is_codec) is true if the payload is not a valid value. Its text
    /// says what is wrong and never quotes the payload, which may contain secrets. The codec can continue with the next
    /// message.
    fn decode(&mut self, message: Message) -> Result<Self::In, Error>;
}
