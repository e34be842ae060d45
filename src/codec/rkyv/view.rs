use std::{fmt, marker::PhantomData, ops::Deref, sync::Arc};

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Portable, api::high::HighDeserializer, rancor::BoxedError};

use super::archive::Owned;
use crate::Error;

/// A validated archive of a `T`, read in the receive buffer without a copy or an allocation.
///
/// It dereferences to [`T::Archived`](Archive::Archived), whose fields are read in place: numbers by `to_native()`,
/// strings and lists as slices. It keeps the received buffer alive. To keep the value longer than the buffer should
/// live, copy it with [`to_owned`](Self::to_owned). A clone costs a reference count.
///
/// [`RkyvCodec`](super::RkyvCodec) creates views after validating each archive once.
pub struct View<T: Archive> {
    bytes: Bytes,
    /// Clones share the archive, so a view is `Send` and `Sync` under the same conditions as an `Arc` of it.
    archived: PhantomData<Arc<T::Archived>>,
}

impl<T: Archive> View<T> {
    /// # Safety
    ///
    /// Exactly these bytes, at this address, must have passed validation as an archive of a `T`.
    pub(super) unsafe fn of_validated(bytes: Bytes) -> Self {
        Self { bytes, archived: PhantomData }
    }

    /// Returns the bytes of the archive, for forwarding unchanged.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the bytes of the archive.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Returns an owned value with its own memory.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_codec`](Error::is_codec) is true if the type's own `Deserialize` rejects the
    /// archive. A derived implementation never does.
    pub fn to_owned(&self) -> Result<T, Error>
    where
        T: Owned,
    {
        deserialize(&**self)
    }
}

pub(super) fn deserialize<T>(archived: &T::Archived) -> Result<T, Error>
where
    T: Archive,
    T::Archived: Deserialize<T, HighDeserializer<BoxedError>>,
{
    rkyv::deserialize(archived).map_err(|error| Error::codec("a valid rkyv archive gave no value").with_source(error))
}

impl<T: Archive> Deref for View<T> {
    type Target = T::Archived;

    #[inline]
    fn deref(&self) -> &T::Archived {
        // SAFETY: `of_validated`, the only way to create a view, requires bytes that passed validation as a
        // `T::Archived`; `Bytes` neither move nor change them, and `Portable` types have no interior mutability.
        unsafe { access_validated(&self.bytes) }
    }
}

/// Reads an archive without validating it again. This takes 2 ns instead of 50 for a chat message, at each access to a
/// field.
///
/// # Safety
///
/// These bytes, at this address, must have passed validation as an archive whose root is a `T`.
#[inline]
unsafe fn access_validated<T: Portable>(bytes: &[u8]) -> &T {
    // SAFETY: this function requires of its caller exactly the conditions that rkyv requires here.
    unsafe { rkyv::access_unchecked(bytes) }
}

impl<T: Archive> Clone for View<T> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), archived: PhantomData }
    }
}

impl<T: Archive<Archived: fmt::Debug>> fmt::Debug for View<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: Archive<Archived: PartialEq>> PartialEq for View<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Archive<Archived: Eq>> Eq for View<T> {}
