//! The receive-only client, the counterpart of a browser's `EventSource`.

#[cfg(not(target_arch = "wasm32"))]
mod connector;
// The browser's, with the same names.
#[cfg(target_arch = "wasm32")]
#[path = "page.rs"]
mod connector;
#[cfg(not(target_arch = "wasm32"))]
mod redirect;
mod transport;

pub use self::{
    connector::{SseConnecting, SseConnector},
    transport::{Sse, SseMessages},
};
