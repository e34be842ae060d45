//! The codec for rkyv archives.

mod archive;
mod codec;
mod decode;
mod encode;
mod view;

pub use self::{
    archive::{ArchiveOf, Owned, RkyvEncode},
    codec::RkyvCodec,
    decode::Realigned,
    view::View,
};
