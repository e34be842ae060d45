//! WebTransport, then WebSocket, then SSE + POST, as one connector and one transport.

mod kind;
pub mod server;
mod transport;

pub use self::{kind::TransportKind, server::SessionServer, transport::AdaptiveTransport};
