mod bidirectional;
mod open;
mod reader;
mod receive;
mod send;
mod writer;

pub use self::{bidirectional::WebTransportStream, receive::ReceiveStream, send::SendStream};

/// The first byte of a stream, sent by its opener: the version of the framing.
const PREAMBLE: u8 = 0x01;
