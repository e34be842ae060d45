//! WebTransport, then WebSocket, then SSE + POST, as one connector and one transport.

mod base;
mod decision;
mod endpoints;
mod failures;
mod kind;
mod memory;
mod plan;
mod policy;
mod race;
mod reason;
pub mod server;
mod shared;
mod tell;
mod transport;
mod watch;

pub use self::{
    decision::{Decided, Decision},
    endpoints::Endpoints,
    kind::TransportKind,
    reason::Reason,
    server::SessionServer,
    transport::AdaptiveTransport,
    watch::Decisions,
};
