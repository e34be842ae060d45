//! WebTransport, then WebSocket, then SSE + POST, as one connector and one transport.

mod kind;
mod transport;

pub use self::{kind::TransportKind, transport::AdaptiveTransport};
