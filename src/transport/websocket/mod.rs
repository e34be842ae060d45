//! WebSocket (RFC 6455), client and server.

mod engine;
mod native;
mod read_buffer;
mod socket;
mod write_buffer;

pub use self::{native::WebSocket, socket::Socket};
