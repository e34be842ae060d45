//! The bridges between a transport and `tower::Service`.

mod cancel;
mod client;
mod kept;
mod model;
mod reconnect;
mod server;
mod stack;
mod stress;
mod support;
