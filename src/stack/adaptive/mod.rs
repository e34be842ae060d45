//! WebTransport, then WebSocket, then SSE + POST, as one connector and one transport.

mod base;
mod capabilities;
mod connector;
mod decision;
mod dial;
mod endpoints;
mod failures;
mod future;
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
    capabilities::{Standing, TransportCapabilities},
    connector::AdaptiveConnector,
    decision::{Decided, Decision},
    endpoints::Endpoints,
    future::AdaptiveConnecting,
    kind::TransportKind,
    reason::Reason,
    server::SessionServer,
    transport::AdaptiveTransport,
    watch::Decisions,
};
