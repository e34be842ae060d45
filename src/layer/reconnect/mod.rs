//! A connector goes in, a transport that reconnects comes out.

mod backoff;
mod buffer;
mod class;
mod core;
mod drive;
mod layer;
mod sink;
mod state;
mod target;
mod transport;
mod watch;

pub use self::{
    backoff::{Backoff, Delays},
    buffer::{Keep, WhenLost},
    class::{Class, classify},
    layer::ReconnectLayer,
    target::Target,
    transport::Reconnect,
    watch::{ReconnectHandle, State, States},
};
