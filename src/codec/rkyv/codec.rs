use std::{
    fmt,
    marker::PhantomData,
    mem,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use rkyv::{
    Archive, SerializeUnsized,
    api::{access_with_context, high::HighSerializer},
    primitive::{ArchivedU32, ArchivedUsize},
    rancor::{BoxedError, Strategy},
    rend::u32_le,
    ser::{Serializer, allocator::Arena, sharing::Share},
    util::AlignedVec,
    validation::{Validator, archive::ArchiveValidator, shared::SharedValidator},
};

use super::view::{ArchiveOf, Owned, RkyvEncode, View, deserialize};
use crate::{
    Error, Message,
    codec::{
        Codec,
        buffer::{ALIGNMENT, KeptBuffer},
    },
    sync::Mutex,
};

// The features of rkyv decide its format, and any crate of a build can enable them. An archive does not describe its
// format, so a peer would read other values, or refuse every message.
const _: () = {
    assert!(
        size_of::<ArchivedUsize>() == 4,
        "a crate of this build enables rkyv's feature `pointer_width_16` or `_64`"
    );
    assert!(align_of::<ArchivedU32>() == 4, "a crate of this build enables rkyv's feature `unaligned`");
    // Does not compile if a crate of this build enables rkyv's feature `big_endian`.
    let _little_endian: fn(u32_le) -> ArchivedU32 = |number| number;
};

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
/// Both ends must have the same definition of the type: an archive does not describe itself. A build in which a crate
/// enables a feature of rkyv that changes the format (`big_endian`, `unaligned`, `pointer_width_*`) does not compile.
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

/// Archives of this size or more are not copied: the vector becomes the message, and another one is allocated for the
/// next.
const NOT_COPIED: usize = 16 * 1024;

/// The encoding half: the vector that archives are written to, the buffer they are copied to, and an arena for rkyv's
/// scratch space. All of them are kept.
#[derive(Default)]
struct Encoder {
    archive: AlignedVec,
    buffer: KeptBuffer,
    /// Created on first use. An `Arena` is `Send` and not `Sync`; the mutex, which is never locked, makes the codec
    /// `Sync`.
    arena: Mutex<Option<Arena>>,
}

impl Encoder {
    fn encode<T: RkyvEncode>(&mut self, value: &T) -> Result<Message, Error> {
        let arena = self.arena.get_mut();
        let scratch = arena.get_or_insert_default().acquire();
        self.archive.clear();
        let mut serializer = Serializer::new(&mut self.archive, scratch, Share::new());
        let strategy: &mut HighSerializer<_, _, BoxedError> = Strategy::wrap(&mut serializer);
        SerializeUnsized::serialize_unsized(value, strategy)
            .map_err(|error| Error::codec("the value has no rkyv archive").with_source(error))?;
        if self.archive.len() < NOT_COPIED {
            return Ok(Message::Binary(self.buffer.copy(&self.archive)));
        }
        // A value that needed much room also needed much scratch space.
        *arena = None;
        Ok(Message::Binary(Bytes::from_owner(mem::take(&mut self.archive))))
    }
}

debug_fields!(Encoder { buffer });

/// The count of incoming archives that had to be copied to an aligned address before they could be read.
///
/// A WebSocket aligns payloads of up to 8 KiB, and those that do not fit its buffer of 64 KiB. Others start where their
/// frame's header ends, and messages of a batch where the one before them ends. The copy costs some tens of nanoseconds
/// for a chat message and a `memcpy` for a large one. Clones share the count. Take one from
/// [`RkyvCodec::realigned`](RkyvCodec::realigned) before the codec goes into a stack.
#[derive(Clone, Debug, Default)]
pub struct Realigned(Arc<AtomicU64>);

impl Realigned {
    /// Returns the current count over all clones of the codec.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The decoding half: validation, and a kept buffer for archives that must be copied first.
#[derive(Debug)]
struct Decoder {
    max_depth: NonZeroUsize,
    buffer: KeptBuffer,
    realigned: Realigned,
    /// The alignment that an archive is known to need. It starts as the root's own alignment, and grows when an archive
    /// holds a type with a larger alignment behind a pointer.
    alignment: usize,
}

impl Decoder {
    fn new(max_depth: NonZeroUsize, realigned: Realigned) -> Self {
        Self { max_depth, buffer: KeptBuffer::default(), realigned, alignment: 1 }
    }

    /// Returns another decoder with the same settings and count, and its own buffer.
    fn fresh(&self) -> Self {
        Self::new(self.max_depth, self.realigned.clone())
    }

    fn max_depth(&mut self, max_depth: NonZeroUsize) {
        self.max_depth = max_depth;
    }

    fn realigned(&self) -> &Realigned {
        &self.realigned
    }

    /// Returns the archive in `message`, copied if necessary, once it has been found valid.
    fn view<T: ArchiveOf>(&mut self, message: Message) -> Result<View<T>, Error> {
        let bytes = self.validate::<T>(message)?;
        // SAFETY: `validate` has just found exactly these bytes, at this address, to be an archive of a `T`.
        Ok(unsafe { View::of_validated(bytes) })
    }

    fn validate<T: ArchiveOf>(&mut self, message: Message) -> Result<Bytes, Error> {
        let Message::Binary(bytes) = message else {
            return Err(Error::codec("rkyv archives are binary messages, and this one is text"));
        };
        // Validation reads at this address, so the address is part of what is valid.
        let bytes = match is_aligned(&bytes, self.alignment.max(align_of::<T::Archived>())) {
            true => bytes,
            false => self.realign(&bytes),
        };
        match self.check::<T>(&bytes) {
            Ok(()) => Ok(bytes),
            Err(error) if is_aligned(&bytes, ALIGNMENT) => Err(refuse(error)),
            Err(_) => self.validate_realigned::<T>(&bytes),
        }
    }

    /// Validates again, at an aligned address, an archive that is invalid or holds a type that needs a larger alignment
    /// than its root.
    #[cold]
    fn validate_realigned<T: ArchiveOf>(&mut self, bytes: &Bytes) -> Result<Bytes, Error> {
        let moved = self.realign(bytes);
        self.check::<T>(&moved).map_err(refuse)?;
        // Valid here and not there: from now on such archives are moved before the first attempt.
        self.alignment = ALIGNMENT;
        Ok(moved)
    }

    #[inline]
    fn check<T: ArchiveOf>(&self, bytes: &[u8]) -> Result<(), BoxedError> {
        let archive = ArchiveValidator::with_max_depth(bytes, Some(self.max_depth));
        let mut validator = Validator::new(archive, SharedValidator::new());
        access_with_context::<<T as Archive>::Archived, _, BoxedError>(bytes, &mut validator).map(drop)
    }

    fn realign(&mut self, bytes: &Bytes) -> Bytes {
        self.realigned.0.fetch_add(1, Ordering::Relaxed);
        self.buffer.copy(bytes)
    }
}

/// `alignment` is a power of two. The compiler cannot know that, and would divide.
fn is_aligned(bytes: &[u8], alignment: usize) -> bool {
    bytes.as_ptr().addr() & (alignment - 1) == 0
}

#[cold]
fn refuse(error: BoxedError) -> Error {
    Error::codec("not a valid rkyv archive of the type that is expected").with_source(error)
}
