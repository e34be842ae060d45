//! The receive-only client, the counterpart of a browser's `EventSource`.

mod answer;
mod connector;
mod memory;
mod messages;
mod redirect;
mod request;
mod transport;

// Requests and checks that the duplex client shares.
pub(super) use self::{answer::check_headers, request::headers};
pub use self::{
    connector::{SseConnecting, SseConnector},
    messages::SseMessages,
    transport::Sse,
};
