use rkyv::{
    Archive, Deserialize, Serialize,
    api::high::{HighDeserializer, HighSerializer, HighValidator},
    bytecheck::CheckBytes,
    rancor::BoxedError,
    ser::allocator::ArenaHandle,
    util::AlignedVec,
};

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
