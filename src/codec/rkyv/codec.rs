use std::{fmt, marker::PhantomData, num::NonZeroUsize};

use rkyv::Archive;

use super::{
    archive::{ArchiveOf, Owned, RkyvEncode},
    decode::{Decoder, Realigned},
    encode::Encoder,
    view::{View, deserialize},
};
use crate::{Error, Message, codec::Codec};

/// Values as rkyv archives, in binary messages.
///
/// `Out` derives [`rkyv::Archive`] and [`rkyv::Serialize`]. What comes in is, by the type `In`:
///
/// - an owned value, where `In` derives [`rkyv::Archive`] and [`rkyv::Deserialize`]: `RkyvCodec::<Order, Fill>::new()`;
/// - a zero-copy [`View<T>`] over the received bytes: `RkyvCodec::<Order, View<Fill>>::new()`, or the same by
///   [`views`](Self::views). For a chat message this takes an eighth of the time of JSON, and no allocation.
///
/// Every archive is validated in full before the first access, since it comes from a peer. What stands at an address that
/// the archive cannot be read at is copied to one where it can, in a kept buffer; [`realigned`](Self::realigned) counts
/// those.
///
/// Both ends must hold the same definition of the type, and the same of rkyv's format features: an archive does not describe
/// itself.
///
/// # Cost
///
/// An archive under 16 KiB goes to a kept buffer, which is written to again once earlier messages are dropped: no allocation.
/// A larger one becomes the message as it is, without a copy, and its memory is allocated anew for the next.
///
/// # Errors
///
/// Each [`is_codec`](Error::is_codec): a text message, a payload that is not a valid archive of the type, or one that nests
/// deeper than [`max_depth`](Self::max_depth). The source is rkyv's own error; it may name addresses and numbers of the
/// archive, so it belongs into logs and not into answers.
///
/// # Limits
///
/// How large a message may be is the transport's to say: see [`Limits`](crate::Limits). No two lists or strings of an archive
/// can claim the same bytes, so an owned value takes memory in proportion to its message. The exception is a list whose
/// elements archive to nothing at all (`Vec<()>`, or a struct with every field skipped): a few bytes can claim any length of
/// it. Do not take one from a peer.
///
/// # Example
///
/// ```
/// use tower_transport::codec::{Codec, RkyvCodec};
///
/// #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// struct Fill {
///     symbol: String,
///     price: u64,
/// }
///
/// let mut codec = RkyvCodec::<Fill>::views();
/// let message = codec.encode(&Fill { symbol: "XYZ".to_owned(), price: 101 })?;
///
/// let fill = codec.decode(message)?;
/// assert_eq!(fill.symbol, "XYZ"); // a slice of the message
/// assert_eq!(fill.price.to_native(), 101);
/// # Ok::<(), tower_transport::Error>(())
/// ```
pub struct RkyvCodec<Out, In = Out> {
    encoder: Encoder,
    decoder: Decoder,
    values: PhantomData<fn(Out) -> In>,
}

impl<Out, In> RkyvCodec<Out, In> {
    /// How deep pointers of an archive may nest, unless [`max_depth`](Self::max_depth) says otherwise.
    pub const DEFAULT_MAX_DEPTH: NonZeroUsize = NonZeroUsize::MIN.saturating_add(127);

    /// The codec; its buffers are allocated on first use.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Decoder::new(Self::DEFAULT_MAX_DEPTH, Realigned::default()))
    }

    /// The codec that gives each incoming `In` as a [`View`].
    #[must_use]
    pub fn views() -> RkyvCodec<Out, View<In>>
    where
        In: Archive,
    {
        RkyvCodec::new()
    }

    fn with(decoder: Decoder) -> Self {
        Self { encoder: Encoder::default(), decoder, values: PhantomData }
    }

    /// Sets how deep pointers of an incoming archive may nest (a `Box` in a `Box`, a list in a list; the root counts one).
    /// Deeper ones are refused, so that no peer can exhaust the stack. The default is 128.
    #[must_use]
    pub fn max_depth(mut self, depth: NonZeroUsize) -> Self {
        self.decoder.max_depth(depth);
        self
    }

    /// The count of archives that had to be moved before they could be read, of this codec and all its clones.
    #[must_use]
    pub fn realigned(&self) -> Realigned {
        self.decoder.realigned().clone()
    }
}

impl<Out: RkyvEncode, In: Owned> Codec for RkyvCodec<Out, In> {
    type Out = Out;
    type In = In;

    fn encode(&mut self, value: &Out) -> Result<Message, Error> {
        self.encoder.encode(value)
    }

    fn decode(&mut self, message: Message) -> Result<In, Error> {
        deserialize(&*self.decoder.view::<In>(message)?)
    }
}

impl<Out: RkyvEncode, T: ArchiveOf> Codec for RkyvCodec<Out, View<T>> {
    type Out = Out;
    type In = View<T>;

    fn encode(&mut self, value: &Out) -> Result<Message, Error> {
        self.encoder.encode(value)
    }

    fn decode(&mut self, message: Message) -> Result<View<T>, Error> {
        self.decoder.view(message)
    }
}

impl<Out, In> Default for RkyvCodec<Out, In> {
    fn default() -> Self {
        Self::new()
    }
}

/// A codec of its own for another connection: the settings and the count are shared, no buffer is.
impl<Out, In> Clone for RkyvCodec<Out, In> {
    fn clone(&self) -> Self {
        Self::with(self.decoder.fresh())
    }
}

impl<Out, In> fmt::Debug for RkyvCodec<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RkyvCodec").field("encoder", &self.encoder).field("decoder", &self.decoder).finish()
    }
}
