use std::{fmt, marker::PhantomData, num::NonZeroUsize};

use rkyv::Archive;

use super::{
    archive::{ArchiveOf, Owned, RkyvEncode},
    decode::{Decoder, Realigned},
    encode::Encoder,
    view::{View, deserialize},
};
use crate::{Error, Message, codec::Codec};

/// A codec for rkyv archives in binary messages.
///
/// `Out` derives [`rkyv::Archive`] and [`rkyv::Serialize`]. The type `In` selects the form of incoming values:
///
/// - An owned value, if `In` derives [`rkyv::Archive`] and [`rkyv::Deserialize`]: `RkyvCodec::<Order, Fill>::new()`.
/// - A zero-copy [`View<T>`] over the received bytes: `RkyvCodec::<Order, View<Fill>>::new()`, or equivalently
///   [`views`](Self::views). For a chat message this takes an eighth of the time of JSON, and no allocation.
///
/// Every archive is validated in full before the first access, since it comes from a peer. An archive at an unsuitable
/// address is copied to an aligned one in a kept buffer; [`realigned`](Self::realigned) counts these copies.
///
/// Both ends must have the same definition of the type and the same rkyv format features: an archive does not describe
/// itself.
///
/// # Cost
///
/// An archive smaller than 16 KiB is written to a kept buffer, which is reused once earlier messages are dropped: no
/// allocation. A larger one becomes the message without a copy, and memory for the next one is allocated again.
///
/// # Errors
///
/// Returns errors for which [`is_codec`](Error::is_codec) is true: for a text message, for a payload that is not a
/// valid archive of the type, and for an archive that nests deeper than [`max_depth`](Self::max_depth). The source is
/// rkyv's own error. It may contain addresses and numbers from the archive, so write it to logs and not to responses.
///
/// # Limits
///
/// The transport limits the message size: see [`Limits`](crate::Limits). No two lists or strings of an archive can
/// claim the same bytes, so the memory of an owned value is proportional to its message. The exception is a list whose
/// elements archive to zero bytes (`Vec<()>`, or a struct with every field skipped): a few bytes can claim any length.
/// Do not accept such a list from a peer.
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
    /// The default of [`max_depth`](Self::max_depth): how deep pointers of an archive may nest.
    pub const DEFAULT_MAX_DEPTH: NonZeroUsize = NonZeroUsize::MIN.saturating_add(127);

    /// Creates a codec. Its buffers are allocated on first use.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Decoder::new(Self::DEFAULT_MAX_DEPTH, Realigned::default()))
    }

    /// Creates a codec that yields each incoming `In` as a [`View`].
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

    /// Sets how deep pointers of an incoming archive may nest (a `Box` in a `Box`, a list in a list; the root counts
    /// one). Defaults to 128. Deeper archives are rejected, so that no peer can exhaust the stack.
    #[must_use]
    pub fn max_depth(mut self, depth: NonZeroUsize) -> Self {
        self.decoder.max_depth(depth);
        self
    }

    /// Returns the count of archives that had to be copied before they could be read, over this codec and all its
    /// clones.
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

/// Returns a codec for another connection. The settings and the count are shared; buffers are not.
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
