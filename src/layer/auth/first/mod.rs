//! The token as the first message, for clients whose token neither a header nor a subprotocol can carry.

#[cfg(not(target_arch = "wasm32"))]
mod accept;
mod form;
mod layer;
mod transport;

#[cfg(not(target_arch = "wasm32"))]
pub use self::accept::FirstMessageGuard;
pub use self::{form::Form, layer::FirstMessageLayer, transport::FirstMessage};
