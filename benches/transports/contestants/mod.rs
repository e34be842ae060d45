//! The transports.

mod channel;
mod raw;
mod sse;
mod tcp;
mod websocket;
mod webtransport;

pub(crate) use self::{
    channel::Channels,
    raw::{BufferedRawWebTransport, RawWebTransport},
    sse::SsePosts,
    websocket::{SecureWebSockets, WebSockets},
    webtransport::{Streams, WithDatagrams},
};

pub(crate) const CHANNEL: &str = "channel";
pub(crate) const WEBSOCKET: &str = "WebSocket";
pub(crate) const SECURE: &str = "WebSocket over TLS";
pub(crate) const SSE: &str = "SSE + POST";
pub(crate) const STREAM: &str = "WebTransport stream";
pub(crate) const DATAGRAMS: &str = "WebTransport datagrams";
pub(crate) const RAW: &str = "raw web-transport-quinn";
pub(crate) const BUFFERED: &str = "the same, buffered";
