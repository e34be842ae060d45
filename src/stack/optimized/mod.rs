//! The recommended stack as one type.

mod builder;
mod connector;
mod server;
mod shell;
mod status;
mod transport;
mod wire;

pub use self::{
    builder::OptimizedBuilder,
    server::{Handled, OptimizedAcceptor},
    status::OptimizedHandle,
    transport::OptimizedTransport,
};
