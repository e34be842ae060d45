use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use rkyv::{
    Archive,
    api::access_with_context,
    rancor::BoxedError,
    validation::{Validator, archive::ArchiveValidator, shared::SharedValidator},
};

use super::{archive::ArchiveOf, view::View};
use crate::{
    Error, Message,
    codec::buffer::{ALIGNMENT, KeptBuffer},
};

/// The count of incoming archives that had to be copied to an aligned address before they could be read.
///
/// A payload starts where its frame's header ends, so this is common on a WebSocket. The copy costs some tens of
/// nanoseconds for a chat message and a `memcpy` for a large one. Clones share the count. Take one from
/// [`RkyvCodec::realigned`](super::RkyvCodec::realigned) before the codec goes into a stack.
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
pub(super) struct Decoder {
    max_depth: NonZeroUsize,
    buffer: KeptBuffer,
    realigned: Realigned,
    /// The alignment that an archive is known to need. It starts as the root's own alignment, and grows when an archive
    /// holds a type with a larger alignment behind a pointer.
    alignment: usize,
}

impl Decoder {
    pub(super) fn new(max_depth: NonZeroUsize, realigned: Realigned) -> Self {
        Self { max_depth, buffer: KeptBuffer::default(), realigned, alignment: 1 }
    }

    /// Returns another decoder with the same settings and count, and its own buffer.
    pub(super) fn fresh(&self) -> Self {
        Self::new(self.max_depth, self.realigned.clone())
    }

    pub(super) fn max_depth(&mut self, max_depth: NonZeroUsize) {
        self.max_depth = max_depth;
    }

    pub(super) fn realigned(&self) -> &Realigned {
        &self.realigned
    }

    /// Returns the archive in `message`, copied if necessary, once it has been found valid.
    pub(super) fn view<T: ArchiveOf>(&mut self, message: Message) -> Result<View<T>, Error> {
        let bytes = self.validate::<T>(message)?;
        // SAFETY: `validate` has just found exactly these bytes, at this address, to be an archive of a `T`.
        Ok(unsafe { View::of_validated(bytes) })
    }

    fn validate<T: ArchiveOf>(&mut self, message: Message) -> Result<Bytes, Error> {
        let Message::Binary(bytes) = message else {
            return Err(Error::codec("rkyv archives are binary messages, and this one is text"));
        };
        let fits = is_aligned(&bytes, self.alignment.max(align_of::<T::Archived>()));
        if fits && self.check::<T>(&bytes).is_ok() {
            return Ok(bytes);
        }
        self.validate_elsewhere::<T>(&bytes, fits)
    }

    /// Validates again, at an aligned address, an archive that was misaligned or not valid.
    #[cold]
    fn validate_elsewhere<T: ArchiveOf>(&mut self, bytes: &Bytes, fits: bool) -> Result<Bytes, Error> {
        if fits && is_aligned(bytes, ALIGNMENT) {
            return self.check::<T>(bytes).map(|()| bytes.clone()).map_err(refuse);
        }
        // The archive may be invalid, or hold a type that needs a larger alignment than its root.
        let moved = self.realign(bytes);
        self.check::<T>(&moved).map_err(refuse)?;
        if fits {
            self.alignment = ALIGNMENT;
        }
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
