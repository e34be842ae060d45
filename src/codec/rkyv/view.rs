use std::{fmt, marker::PhantomData, ops::Deref, sync::Arc};

use bytes::Bytes;
use rkyv::{
    Archive, Deserialize, Portable, Serialize,
    api::high::{HighDeserializer, HighSerializer, HighValidator},
    bytecheck::CheckBytes,
    rancor::BoxedError,
    ser::allocator::ArenaHandle,
    util::AlignedVec,
};

use crate::Error;

/// A value that [`RkyvCodec`](super::RkyvCodec) can send: any type that derives [`rkyv::Archive`] and
/// [`rkyv::Serialize`].
///
/// This trait is an alias. It is implemented for every suitable type and cannot be implemented by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be encoded with rkyv",
    note = "derive it: `#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]`, on every type within too"
)]
pub trait RkyvEncode: for<'a> Serialize<HighSerializer<&'a mut AlignedVec, ArenaHandle<'a>, BoxedError>> {}

impl<T> RkyvEncode for T where T: for<'a> Serialize<HighSerializer<&'a mut AlignedVec, ArenaHandle<'a>, BoxedError>> {}

/// A value whose archive can be validated and therefore read as a [`View`](super::View): any type that derives
/// [`rkyv::Archive`].
///
/// This trait is an alias. It is implemented for every suitable type and cannot be implemented by hand.
#[diagnostic::on_unimplemented(
    message = "archives of `{Self}` cannot be validated, so none is read from a peer",
    note = "derive it: `#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]`, on every type within too"
)]
pub trait ArchiveOf: Archive<Archived: for<'a> CheckBytes<HighValidator<'a, BoxedError>>> {}

impl<T> ArchiveOf for T where T: Archive<Archived: for<'a> CheckBytes<HighValidator<'a, BoxedError>>> {}

/// A value that can be built from its validated archive: any type that derives [`rkyv::Archive`] and
/// [`rkyv::Deserialize`].
///
/// This trait is an alias. It is implemented for every suitable type and cannot be implemented by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be decoded with rkyv",
    note = "derive it: `#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]`, on every type within too",
    note = "for the zero-copy archive in place of the value, take `View<{Self}>`"
)]
pub trait Owned: ArchiveOf + Archive<Archived: Deserialize<Self, HighDeserializer<BoxedError>>> + Sized {}

impl<T> Owned for T where T: ArchiveOf + Archive<Archived: Deserialize<T, HighDeserializer<BoxedError>>> {}

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
