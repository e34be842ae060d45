//! The receive-only client: what a browser's `EventSource` is.

mod answer;
mod connector;
mod memory;
mod messages;
mod redirect;
mod request;
mod transport;

pub use self::{
    connector::{SseConnecting, SseConnector},
    messages::SseMessages,
    transport::Sse,
};
