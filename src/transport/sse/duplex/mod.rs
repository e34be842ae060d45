//! Messages both ways over plain HTTP: events come down, POSTs go up.

mod body;
mod called;
mod connector;
mod courier;
mod downlink;
mod event;
mod head;
mod inbox;
mod line;
mod outbox;
mod phase;
mod receive;
mod served;
mod server;
mod session;
mod sessions;
mod token;
mod transport;
mod uplink;

pub use self::{
    body::SseDuplexBody,
    connector::{SseDuplexConnecting, SseDuplexConnector},
    receive::SseDuplexAnswer,
    server::SseDuplexServer,
    transport::SseDuplex,
};
