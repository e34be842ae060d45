mod bidirectional;
mod open;
#[cfg(target_arch = "wasm32")]
mod page;
#[cfg(not(target_arch = "wasm32"))]
mod quic;
mod reader;
mod receive;
mod send;
mod writer;

#[cfg(target_arch = "wasm32")]
pub(super) use self::page::{RawReceive, RawSend};
#[cfg(not(target_arch = "wasm32"))]
pub(super) use self::quic::{RawReceive, RawSend};
pub use self::{bidirectional::WebTransportStream, receive::ReceiveStream, send::SendStream};

/// The first byte of a stream, sent by its opener: the version of the framing.
const PREAMBLE: u8 = 0x01;
