//! A transport that follows a script, for tests of the layers above it.
//!
//! It is to messages what `tokio_test::io::Builder` is to bytes. See [`Script`] for an example.

mod difference;
mod state;
mod steps;
mod transport;

pub use self::{
    steps::Script,
    transport::{ScriptHandle, Scripted},
};
