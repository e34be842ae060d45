//! The receive-only client, the counterpart of a browser's `EventSource`.

mod connector;
mod redirect;
mod transport;

pub use self::{
    connector::{SseConnecting, SseConnector},
    transport::{Sse, SseMessages},
};
