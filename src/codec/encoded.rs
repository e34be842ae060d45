use std::{fmt, marker::PhantomData};

use super::Codec;
use crate::{Error, Message};

/// A value that the codec `C` has encoded, for any number of connections. A clone costs a reference count.
///
/// The codecs of this crate encode many small messages into one buffer of at least 4 KiB, which stays in memory while
/// one of them exists. To keep few of many small values for long, such as the last value of each topic, keep copies: a
/// [`Message`] of `Bytes::copy_from_slice` takes its own length alone.
///
/// An [`EncodeOnce`] sends it as it is.
pub struct Encoded<C> {
    message: Message,
    codec: PhantomData<fn() -> C>,
}

impl<C: Codec> Encoded<C> {
    /// Encodes a value.
    ///
    /// # Errors
    ///
    /// Returns the codec's error if the value has no form on the wire.
    pub fn new(codec: &mut C, value: &C::Out) -> Result<Self, Error> {
        Ok(Self { message: codec.encode(value)?, codec: PhantomData })
    }
}

impl<C> Encoded<C> {
    /// Returns the encoded message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Returns the encoded message.
    #[must_use]
    pub fn into_message(self) -> Message {
        self.message
    }

    /// Changes the representation of the message, not its payload.
    #[cfg(feature = "topic")]
    pub(crate) fn map_message(self, map: impl FnOnce(Message) -> Message) -> Self {
        Self { message: map(self.message), codec: PhantomData }
    }
}

// A derived implementation would require the same trait of `C`.
impl<C> Clone for Encoded<C> {
    fn clone(&self) -> Self {
        Self { message: self.message.clone(), codec: PhantomData }
    }
}

debug_fields!([C] Encoded<C>, |this| { len: this.message.len() });

/// An outgoing item of an [`EncodeOnce`]: a value for this connection alone, or one that was encoded for many.
#[non_exhaustive]
pub enum Outbound<C: Codec> {
    /// A value, which is encoded for this connection.
    Value(C::Out),
    /// A value that is already encoded.
    Encoded(Encoded<C>),
}

impl<C: Codec> From<Encoded<C>> for Outbound<C> {
    fn from(encoded: Encoded<C>) -> Self {
        Self::Encoded(encoded)
    }
}

impl<C: Codec<Out: Clone>> Clone for Outbound<C> {
    fn clone(&self) -> Self {
        match self {
            Self::Value(value) => Self::Value(value.clone()),
            Self::Encoded(encoded) => Self::Encoded(encoded.clone()),
        }
    }
}

impl<C: Codec<Out: fmt::Debug>> fmt::Debug for Outbound<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => f.debug_tuple("Value").field(value).finish(),
            Self::Encoded(encoded) => f.debug_tuple("Encoded").field(encoded).finish(),
        }
    }
}

/// A codec that also sends values [encoded](Encoded) in advance, so that a value for many connections is encoded once.
///
/// Outgoing items are [`Outbound`]: values for this connection alone and encoded values, in one order. Incoming values
/// are those of `C`.
///
/// # Cost
///
/// A broadcast to 10,000 connections costs one encoding and 10,000 reference counts. The message is shared: each queue
/// holds a handle, and the payload lives until the last connection has sent it.
///
/// # Example
///
/// ```
/// # futures_util::FutureExt::now_or_never(async {
/// use tower::ServiceBuilder;
/// use tower_transport::{
///     Message, ServiceBuilderExt, TransportExt, channel,
///     codec::{EncodeOnce, Encoded, JsonCodec, Outbound},
/// };
///
/// let mut codec = JsonCodec::<(String, u32)>::new();
/// let stack = ServiceBuilder::new().codec(EncodeOnce::new(codec.clone()));
/// let mut clients = Vec::new();
/// let mut peers = Vec::new();
/// for _ in 0..3 {
///     let (here, there) = channel::<Message, Message>(8);
///     clients.push(stack.clone().service(here));
///     peers.push(there);
/// }
///
/// let price = Encoded::new(&mut codec, &("XYZ".to_owned(), 101))?;
/// for client in &mut clients {
///     client.send_message(price.clone().into()).await?;
/// }
/// clients[0].send_message(Outbound::Value(("only you".to_owned(), 1))).await?;
///
/// for peer in &mut peers {
///     assert_eq!(peer.receive_message().await.unwrap()?, Message::text(r#"["XYZ",101]"#));
/// }
/// assert_eq!(peers[0].receive_message().await.unwrap()?, Message::text(r#"["only you",1]"#));
/// # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
/// ```
///
/// On a driven transport a broadcast never waits for a slow client: use [`Sender::try_send`](crate::Sender::try_send)
/// or a [policy](crate::WhenFull) of the queue.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # use tower::ServiceBuilder;
/// # use tower_transport::{Message, ServiceBuilderExt, TransportExt, channel, codec::{EncodeOnce, Encoded, JsonCodec}};
/// use tower_transport::{CloseCode, QueueConfig, WhenFull};
///
/// # let mut codec = JsonCodec::<u32>::new();
/// # let (here, mut there) = channel::<Message, Message>(8);
/// # let transport = ServiceBuilder::new().codec(EncodeOnce::new(codec.clone())).service(here);
/// let queue = QueueConfig::outbound().when_full(WhenFull::Close(CloseCode::TRY_AGAIN));
/// let (sender, _receiver, driver) = transport.drive(queue).into_parts();
/// tokio::spawn(driver);
/// let mut senders = vec![sender]; // one for each client
///
/// let price = Encoded::new(&mut codec, &101)?;
/// senders.retain(|sender| sender.try_send(price.clone().into()).is_ok());
/// # assert_eq!(senders.len(), 1);
/// # assert_eq!(there.receive_message().await.unwrap()?, Message::text("101"));
/// # Ok::<(), tower_transport::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct EncodeOnce<C> {
    codec: C,
}

impl<C> EncodeOnce<C> {
    /// Wraps `codec`.
    #[must_use]
    pub const fn new(codec: C) -> Self {
        Self { codec }
    }

    accessors! {
        codec: C, "codec",
        get_mut: "[`Encoded::new`] takes it.",
        into_inner: ".",
    }
}

impl<C: Codec> Codec for EncodeOnce<C> {
    type Out = Outbound<C>;
    type In = C::In;

    fn encode(&mut self, outbound: &Outbound<C>) -> Result<Message, Error> {
        match outbound {
            Outbound::Value(value) => self.codec.encode(value),
            Outbound::Encoded(encoded) => Ok(encoded.message.clone()),
        }
    }

    fn decode(&mut self, message: Message) -> Result<C::In, Error> {
        self.codec.decode(message)
    }
}
