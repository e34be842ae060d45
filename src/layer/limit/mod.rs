//! Message sizes, idle time, lifetime and unflushed messages, each within bounds.
mod layer;
mod transport;
mod watch;

pub use self::{layer::LimitLayer, transport::Limited};
