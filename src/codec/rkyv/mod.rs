//! The codec for rkyv archives.

mod archive;
mod codec;
mod view;

pub use self::{
    archive::{ArchiveOf, Owned, RkyvEncode},
    codec::{Realigned, RkyvCodec},
    view::View,
};
