//! Conversion between values and messages: [`Codec`] and the codecs of this crate.
//!
//! | codec | feature | sends | accepts | incoming values |
//! |---|---|---|---|---|
//! | [`JsonCodec`] | `json` | text | text and binary | owned |
//! | [`RkyvCodec`] | `rkyv` | binary | binary | owned, or zero-copy [`View`]s of the received bytes |
//! | [`MessagePackCodec`] | `messagepack` | binary | binary | owned |
//! | [`CborCodec`] | `cbor` | binary | binary | owned |
//! | [`HybridCodec`] | `hybrid` | text (JSON) or binary (rkyv), by a policy | both | owned |
//!
//! [`EncodeOnce`] around any of them sends one value to many connections and encodes it once.
//!
//! A codec is pure: it knows no transport, no clock and no task. [`CodecLayer`](crate::layer::codec::CodecLayer)
//! applies a codec to a transport. Each codec keeps its write buffer and reuses the memory once the messages written
//! there are dropped, so nothing is allocated per message in steady state. A clone of a codec has the same settings and
//! its own buffers.

#[cfg(any(feature = "json", feature = "rkyv", feature = "messagepack", feature = "cbor"))]
mod buffer;
#[cfg(feature = "cbor")]
mod cbor;
mod codec_trait;
mod encoded;
#[cfg(feature = "hybrid")]
mod hybrid;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "messagepack")]
mod messagepack;
#[cfg(feature = "rkyv")]
mod rkyv;
#[cfg(any(feature = "json", feature = "messagepack", feature = "cbor"))]
mod serde_codec;

#[cfg(feature = "cbor")]
#[cfg_attr(docsrs, doc(cfg(feature = "cbor")))]
pub use self::cbor::CborCodec;
#[cfg(feature = "hybrid")]
#[cfg_attr(docsrs, doc(cfg(feature = "hybrid")))]
pub use self::hybrid::{Always, ByValue, Format, HybridCodec, Mirror, Policy};
#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub use self::json::JsonCodec;
#[cfg(feature = "messagepack")]
#[cfg_attr(docsrs, doc(cfg(feature = "messagepack")))]
pub use self::messagepack::MessagePackCodec;
#[cfg(feature = "rkyv")]
#[cfg_attr(docsrs, doc(cfg(feature = "rkyv")))]
pub use self::rkyv::{ArchiveOf, Owned, Realigned, RkyvCodec, RkyvEncode, View};
pub use self::{
    codec_trait::Codec,
    encoded::{EncodeOnce, Encoded, Outbound},
};
