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

/// How many incoming archives had to be copied to an aligned address before they could be read.
///
/// A payload stands where its frame's header ended, so this is common on a WebSocket. The copy costs some tens of nanoseconds for a chat
/// message and a `memcpy` for a large one. Clones share the count; take one from
/// [`RkyvCodec::realigned`](super::RkyvCodec::realigned) before the codec goes into a stack.
#[derive(Clone, Debug, Default)]
pub struct Realigned(Arc<AtomicU64>);

impl Realigned {
    /// The count so far, over all clones of the codec.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The reading half: validation, and a kept buffer for what must be moved first.
#[derive(Debug)]
pub(super) struct Decoder {
    max_depth: NonZeroUsize,
    buffer: KeptBuffer,
    realigned: Realigned,
    /// What an archive's address is known to need. The root's own alignment, until one turns up that holds something with a
    /// larger one behind a pointer.
    alignment: usize,
}

impl Decoder {
    pub(super) fn new(max_depth: NonZeroUsize, realigned: Realigned) -> Self {
        Self { max_depth, buffer: KeptBuffer::default(), realigned, alignment: 1 }
    }

    /// Another decoder with the same settings and count, and a buffer of its own.
    pub(super) fn fresh(&self) -> Self {
        Self::new(self.max_depth, self.realigned.clone())
    }

    pub(super) fn max_depth(&mut self, max_depth: NonZeroUsize) {
        self.max_depth = max_depth;
    }

    pub(super) fn realigned(&self) -> &Realigned {
        &self.realigned
    }

    /// The archive in `message`, moved if need be, once it has been found valid.
    pub(super) fn view<T: ArchiveOf>(&mut self, message: Message) -> Result<View<T>, Error> {
        let bytes = self.validate::<T>(message)?;
        // SAFETY: `validate` has just found exactly these bytes, where they stand, to be an archive of a `T`.
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

    /// Of what did not stand well, or is not valid: a second look tells.
    #[cold]
    fn validate_elsewhere<T: ArchiveOf>(&mut self, bytes: &Bytes, fits: bool) -> Result<Bytes, Error> {
        if fits && is_aligned(bytes, ALIGNMENT) {
            return self.check::<T>(bytes).map(|()| bytes.clone()).map_err(refuse);
        }
        // It may be bad, or hold something that needs a larger alignment than its root.
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

/// `alignment` is a power of two; the compiler cannot know, and would divide.
fn is_aligned(bytes: &[u8], alignment: usize) -> bool {
    bytes.as_ptr().addr() & (alignment - 1) == 0
}

#[cold]
fn refuse(error: BoxedError) -> Error {
    Error::codec("not a valid rkyv archive of the type that is expected").with_source(error)
}
