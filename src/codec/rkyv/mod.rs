//! The codec for rkyv archives.

mod codec;
mod view;

pub use self::{
    codec::{Realigned, RkyvCodec},
    view::{ArchiveOf, Owned, RkyvEncode, View},
};
