//! The receive-only client: what a browser's `EventSource` is.

mod answer;
mod connector;
mod memory;
mod messages;
mod redirect;
mod request;
mod transport;

// What the duplex client asks and checks alike.
pub(super) use self::{answer::check_headers, request::headers};
pub use self::{
    connector::{SseConnecting, SseConnector},
    messages::SseMessages,
    transport::Sse,
};
