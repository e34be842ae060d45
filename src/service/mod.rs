//! The bridges between a transport and `tower::Service`.

mod bell;
mod calls;
mod client;
mod correlate;
mod future;
mod in_flight;
mod list;
mod make;
mod permits;
mod server;
mod shared;
mod state;

pub use self::{
    client::Client,
    correlate::{ByTag, Correlate, InOrder, Respond, Tagged},
    future::{Call, Drive},
    make::{Serve, serve},
    server::{Handle, Server},
};
