//! The codec for rkyv archives.

mod codec;
mod view;

pub use self::{
    codec::{ArchiveOf, Owned, Realigned, RkyvCodec, RkyvEncode},
    view::View,
};
