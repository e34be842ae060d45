//! The bridges between a transport and `tower::Service`.

mod cancel;
mod client;
mod json_rpc;
mod kept;
mod model;
mod peer;
mod reconnect;
mod server;
mod stack;
mod stress;
mod support;
